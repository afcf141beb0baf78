"""The torch backend: configs found, weights that fit, devices that are there, no code run."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.backends import torch as backend  # noqa: E402
from recognizer.backends.metadata import PoseModelMetadata, Thresholds, check  # noqa: E402
from recognizer.backends.network import ModelError, TensorSpec  # noqa: E402
from recognizer.backends.torch import TorchNetwork, load_pose, open_pose  # noqa: E402
from recognizer.config.models import PoseEstimationConfig, TorchPoseConfig  # noqa: E402
from recognizer.openmmlab import find_pose_config, read_pose_config  # noqa: E402
from recognizer.pose.estimator import build_pose_model  # noqa: E402
from recognizer.runner.checkpoints import CheckpointError  # noqa: E402
from tests.backends import hostile, pose_models  # noqa: E402

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def sdpose(tmp_path_factory):
    return pose_models.save_sdpose(tmp_path_factory.mktemp("sdpose"))


@pytest.fixture(scope="module")
def weights(sdpose):
    return torch.load(sdpose[1], weights_only=True)["state_dict"]


def saved(path, weights):
    torch.save({"state_dict": weights}, path)
    return path


# --- configs -----------------------------------------------------------------------


def test_a_config_is_a_path_or_one_that_mmpose_ships(tmp_path):
    shipped = find_pose_config(f"mmpose::{pose_models.RTMO_T}")
    assert shipped.is_file()
    assert find_pose_config(str(shipped)) == shipped
    for away in ("mmpose::../../../os.py", "mmpose::/etc/passwd", "mmpose::none.py"):
        with pytest.raises(FileNotFoundError, match=r"^models\.pose_estimation\.pth\.config_file"):
            find_pose_config(away)
    with pytest.raises(FileNotFoundError, match=f"mmpose::{pose_models.RTMO_T}"):
        find_pose_config(f"mmpose::{pose_models.RTMO_T.rpartition('/')[2]}")


def test_a_config_that_is_not_there_is_answered_with_the_shipped_one_of_its_name():
    guide = "/workspace/mmpose/configs/x/rtmo-l_16xb16-600e_body7-640x640.py"
    expected = "mmpose::body_2d_keypoint/rtmo/body7/rtmo-l_16xb16-600e_body7-640x640.py"
    with pytest.raises(FileNotFoundError, match=expected):
        find_pose_config(guide)
    with pytest.raises(FileNotFoundError) as error:
        find_pose_config("/nowhere/mine.py")
    assert "ships" not in str(error.value)


def test_configs_of_something_else_are_refused(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("model = dict(type='NoSuchModel')\n")
    (tmp_path / "c.py").write_text("x = 1 / 0\n")
    for name, text in (("a", "expected model"), ("c", "not a config")):
        with pytest.raises(ValueError, match=text):
            read_pose_config(tmp_path / f"{name}.py")
    torch.save({"state_dict": hostile.WEIGHTS}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="NoSuchModel"):
        load_pose(tmp_path / "b.py", tmp_path / "w.pth")


def test_nothing_is_fetched_for_weights_that_come_from_the_checkpoint(tmp_path, sdpose):
    config = tmp_path / "pretrained.py"
    config.write_text(
        f"_base_ = {str(sdpose[0])!r}\n"
        "model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='http://127.0.0.1:9/x')))\n"
    )
    pose = load_pose(config, sdpose[1])
    assert "Pretrained" not in str(pose.model.backbone.init_cfg)
    assert pose.metadata.input_size == (192, 256)


# --- weights -----------------------------------------------------------------------


def test_weights_must_fit_one_by_one(tmp_path, sdpose, weights, caplog):
    config = sdpose[0]
    names = [name for name in weights if name.endswith("weight")]
    lacking = {k: v for k, v in weights.items() if k != names[3]}
    with pytest.raises(CheckpointError, match=rf"fit 1 of .* such as {names[3]}"):
        load_pose(config, saved(tmp_path / "lacking.pth", lacking))
    bent = {**weights, names[2]: weights[names[2]][:1]}
    with pytest.raises(CheckpointError, match=rf"fit 1 of .* such as {names[2]}: expected \("):
        load_pose(config, saved(tmp_path / "bent.pth", bent))
    statistics = next(name for name in weights if name.endswith("running_mean"))
    without = {k: v for k, v in weights.items() if k != statistics}
    with pytest.raises(CheckpointError, match=statistics):
        load_pose(config, saved(tmp_path / "without.pth", without))
    with caplog.at_level(logging.WARNING):
        load_pose(config, saved(tmp_path / "more.pth", {**weights, "ema.x": torch.ones(1)}))
    assert "ema.x" in caplog.text


def test_weights_of_a_wrapped_model_and_missing_counters_are_taken(tmp_path, sdpose, weights):
    wrapped = {f"module.{k}": v for k, v in weights.items() if "num_batches" not in k}
    pose = load_pose(sdpose[0], saved(tmp_path / "wrapped.pth", wrapped))
    for name, value in pose.model.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, weights[name]), name


# --- running -----------------------------------------------------------------------


def test_precision_and_memory_format_change_little(sdpose):
    crops = np.random.default_rng(0).normal(size=(1, 3, 256, 192)).astype(np.float32)
    found = {}
    for precision, last in (("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True)):
        section = TorchPoseConfig(**CPU, precision=precision, channels_last=last)
        network = open_pose(*sdpose, section)
        assert json.loads(network.metadata["recognizer"])["precision"] == precision
        (spec,) = network.outputs
        assert spec == TensorSpec("heatmaps", (None, 17, 64, 48), "tensor(float)")
        found[precision, last] = network.run({"input": crops})["heatmaps"]
    reference = found["fp32", False]
    scale = np.abs(reference).max()
    assert reference.dtype == np.float32
    assert np.abs(found["fp32", True] - reference).max() < 1e-3 * scale
    for last in (False, True):
        error = np.abs(found["bf16", last] - reference)
        assert 0 < np.median(error) < 0.05 * scale


def test_what_cannot_run_here_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    nothing = tmp_path / "none.py", tmp_path / "none.pth"
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match=r"cuda:0: torch .* sees 0 GPUs here; (run|install)"):
            open_pose(*nothing, TorchPoseConfig())
    with pytest.raises(ModelError, match="cuda:97"):
        open_pose(*nothing, TorchPoseConfig(device="cuda:97"))
    with pytest.raises(ModelError, match="fp16 takes a GPU"):
        open_pose(*nothing, TorchPoseConfig(**CPU, precision="fp16"))


def test_inputs_that_do_not_fit_are_refused(sdpose):
    network = open_pose(*sdpose, TorchPoseConfig(**CPU))
    for feeds in (
        {},
        {"other": np.zeros((1, 3, 256, 192), np.float32)},
        {"input": np.zeros((1, 3, 192, 256), np.float32)},
        {"input": np.zeros((1, 3, 256, 192), np.float64)},
        {"input": np.zeros((3, 256, 192), np.float32)},
    ):
        with pytest.raises(ModelError, match=r"expected input \(\?,3,256,192\)"):
            network.run(feeds)


def test_a_run_that_fails_is_a_model_error():
    class Fails(torch.nn.Module):
        def forward(self, pixels):
            return pixels @ pixels

    spec = TensorSpec("input", (None, 3, 4), "tensor(float)")
    with pytest.raises(ModelError, match="the run failed"):
        TorchNetwork(Fails(), (spec,), (spec,)).run({"input": np.zeros((1, 3, 4), np.float32)})


@pytest.mark.parametrize("size", [(256, 192), (192, 288)])
def test_a_size_that_a_top_down_network_cannot_take_is_refused(sdpose, size):
    with pytest.raises(ModelError, match=r"takes \[192, 256\]"):
        open_pose(*sdpose, TorchPoseConfig(**CPU, input_size=size))
    assert backend.check_input_size(load_pose(*sdpose).metadata, (192, 256)) == (192, 256)


# --- what a network says of itself -------------------------------------------------

RTMO = PoseModelMetadata(
    "rtmo",
    (640, 640),
    "NCHW float32",
    True,
    (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0),
    Thresholds(0.3, 0.45, 100),
    "fp32",
    17,
    "c.py",
    "c.pth",
    "0" * 64,
    "test",
)


def asking(**thresholds):
    return PoseEstimationConfig.model_validate({"kind": "rtmo", "onnx": thresholds})


def test_metadata_come_back_and_damaged_ones_are_refused():
    assert PoseModelMetadata.of({"recognizer": RTMO.to_text()}) == RTMO
    assert PoseModelMetadata.of({}) is None
    value = json.loads(RTMO.to_text())
    for change in (
        {"schema_version": 2},
        {"kind": "face"},
        {"thresholds": None},
        {"input_size": [0, 1]},
        {"mean_rgb": [1]},
        {"extra": 1},
        {"input_size": "ab"},
        {"input_size": [10**7, 10**7]},
        {"input_size": [1e400, 1]},
        {"std_rgb": [float("nan")] * 3},
        {"precision": ["fp32"]},
        {"thresholds": {**value["thresholds"], "nms_threshold": float("nan")}},
        {"thresholds": {**value["thresholds"], "score_threshold": -0.1}},
        {"thresholds": {**value["thresholds"], "nms_threshold": 1.5}},
        {"thresholds": {**value["thresholds"], "max_detections": 0}},
        {"thresholds": {**value["thresholds"], "max_detections": 10**9}},
    ):
        with pytest.raises(ModelError, match=r"deploy\.export"):
            PoseModelMetadata.of({"recognizer": json.dumps({**value, **change})})
    for text in ("", "[]", "null", "{", "[" * 10_000, '{"schema": "recognizer.classifier"}'):
        with pytest.raises(ModelError):
            PoseModelMetadata.of({"recognizer": text})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [0.3]}, "thresholds: expected an object, got a list"),
        ({"thresholds": None}, "thresholds: expected an object .* got null for kind rtmo"),
        ({"input_size": [9000, 8]}, r"input_size\.0: expected at most 8192, got 9000"),
        ({"input_size": None}, "input_size: expected a list of numbers.* got null"),
        ({"opset": "x"}, "opset: expected a whole number, got 'x'"),
        ({"extra": 1}, "extra: unknown key"),
        ({"schema": None}, "got no schema"),
        (None, "expected an object, got null"),
        ([], "expected an object, got a list"),
    ],
)
def test_what_is_wrong_with_metadata_is_told_in_plain_words(change, message):
    value = change if not isinstance(change, dict) else {**json.loads(RTMO.to_text()), **change}
    with pytest.raises(ModelError, match=message) as caught:
        PoseModelMetadata.of({"recognizer": json.dumps(value)})
    for word in ("NoneType", "Input should", "dataclass", "dict"):
        assert word not in str(caught.value)


def test_a_missing_key_of_metadata_is_named():
    value = json.loads(RTMO.to_text())
    del value["layout"]
    with pytest.raises(ModelError, match="layout: the key is missing"):
        PoseModelMetadata.of({"recognizer": json.dumps(value)})


def test_a_classifier_in_the_place_of_a_pose_network_is_named_as_one():
    section = PoseEstimationConfig(kind="rtmo")
    path = pose_models.ROOT / "samples/models/fight.onnx"
    with pytest.raises(ModelError, match=r"fight\.onnx: .* got 'recognizer\.classifier'"):
        build_pose_model(section, {"pose": path})


def test_thresholds_that_the_file_has_cut_off_already_are_refused():
    check(RTMO, asking())
    check(RTMO, asking(score_threshold=0.5, max_detections=10))
    check(None, asking(nms_threshold=0.9))
    for thresholds in (
        {"nms_threshold": 0.65},
        {"nms_threshold": 0.3},
        {"score_threshold": 0.2},
        {"max_detections": 101},
    ):
        (name,) = thresholds
        with pytest.raises(ModelError, match=rf"onnx\.{name}.*deploy\.export"):
            check(RTMO, asking(**thresholds))
    with pytest.raises(ModelError, match="kind"):
        check(RTMO, PoseEstimationConfig(kind="topdown"))


# --- code in a checkpoint ----------------------------------------------------------

KINDS = sorted(hostile.payloads(Path("exploded")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forced", [False, True])
def test_code_in_a_checkpoint_never_runs(tmp_path, sdpose, kind, forced, monkeypatch):
    if forced:  # torch's own switch back to unsafe loading
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "exploded"
    path = tmp_path / "bad.pth"
    path.write_bytes(hostile.payloads(target)[kind])
    with pytest.raises((CheckpointError, ModelError), match=r"bad\.pth") as error:
        open_pose(sdpose[0], path, TorchPoseConfig(**CPU))
    assert "weights_only=False" not in str(error.value)
    assert not target.exists()


def test_the_payloads_are_live(tmp_path):
    """What is refused above would run if it were unpickled the ordinary way."""
    import pickle

    target = tmp_path / "exploded"
    pickle.loads(hostile.payloads(target)["a bare pickle"])
    assert target.exists()
    assert len(KINDS) >= 20
