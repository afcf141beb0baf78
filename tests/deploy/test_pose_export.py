"""Pose networks as ONNX files: compared, described, whole, and the same bytes again."""

import json
import re

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from deploy import pose_export, pose_parity  # noqa: E402
from deploy.export import export  # noqa: E402
from deploy.pose_graph import write_graph  # noqa: E402
from deploy.pose_parity import Parity, compare  # noqa: E402
from deploy.tensorrt import read_onnx  # noqa: E402
from recognizer.backends.engine_shapes import profile  # noqa: E402
from recognizer.backends.metadata import PoseModelMetadata, Thresholds  # noqa: E402
from recognizer.backends.network import ModelError  # noqa: E402
from recognizer.backends.onnx import OnnxNetwork  # noqa: E402
from recognizer.backends.torch import load_pose, open_graph, open_pose, with_options  # noqa: E402
from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.models import (  # noqa: E402
    OnnxPoseConfig,
    PoseEstimationConfig,
    TensorRTPoseConfig,
    TorchPoseConfig,
)
from recognizer.config.schema import Config  # noqa: E402
from recognizer.pose.estimator import build_pose_model  # noqa: E402
from recognizer.pose.rtmo import RtmoPose  # noqa: E402
from recognizer.runs.progress import silent  # noqa: E402
from recognizer.storage.artifacts import sha256_file  # noqa: E402
from recognizer.types import Poses  # noqa: E402
from tests.backends import pose_models, rtmpose_models  # noqa: E402

RULE = Thresholds(0.1, 0.45, 100)
SECTION = OnnxPoseConfig(score_threshold=0.1, keypoint_threshold=0.0)


@pytest.fixture(scope="module")
def rtmo(tmp_path_factory):
    shown = [*pose_models.pictures(3, (400, 250)), *pose_parity.frames_of(None, 4)]
    return pose_models.save_rtmo(tmp_path_factory.mktemp("rtmo"), shown=shown)


@pytest.fixture(scope="module")
def sdpose(tmp_path_factory):
    return pose_models.save_sdpose(tmp_path_factory.mktemp("sdpose"))


def config_of(files, kind, *, pth=None, **deploy):
    config, checkpoint = files
    return Config.model_validate(
        {
            "models": {
                "pose_estimation": {
                    "kind": kind,
                    "pth": {
                        "config_file": str(config),
                        "checkpoint_path": str(checkpoint),
                        **(pth or {}),
                    },
                    "onnx": {"score_threshold": 0.1},
                    "topdown": {"detector": {"model_path": "none.onnx"}},
                }
            },
            # Untrained networks multiply rounding from layer to layer.
            "deploy": {
                "model": "pose",
                "fp16_tolerance_px": 100.0,
                "tolerance_missed": 0.9,
                **deploy,
            },
        }
    )


@pytest.mark.parametrize(
    ("uint8", "batch", "any_size"), [(False, None, True), (True, None, True), (False, 2, False)]
)
def test_every_way_of_writing_rtmo_says_what_torch_says(tmp_path, rtmo, uint8, batch, any_size):
    pose = load_pose(*rtmo)
    metadata = with_options(pose.metadata, RULE, uint8=uint8)
    write_graph(tmp_path / "x.onnx", pose, metadata, batch=batch, any_size=any_size)
    network = OnnxNetwork(tmp_path / "x.onnx", OnnxPoseConfig())
    own = None if any_size else 416
    assert network.inputs[0].shape == ((batch, own, own, 3) if uint8 else (batch, 3, own, own))
    shown = pose_models.pictures(3, (400, 250))
    for size in [(416, 416), (416, 288)] if any_size else [(416, 416)]:
        reference = RtmoPose(
            open_graph(pose, pose_export.replace(metadata, input_size=size)), SECTION
        )(shown)
        parity = compare(reference, RtmoPose(network, SECTION, size)(shown), threshold=0.1)
        assert parity.people > 3
        assert parity.only_one == 0
        assert parity.median_px <= 0.01
        assert parity.worst_px <= 0.5
    with pytest.raises(ModelError):
        RtmoPose(network, SECTION, (400, 416))


def test_rtmo_is_exported_in_both_precisions_and_runs(tmp_path, rtmo):
    config = config_of(rtmo, "rtmo", output=tmp_path / "out" / "r.onnx", frames=4)
    assert export(config, None) == 0
    single, half = tmp_path / "out" / "r.onnx", tmp_path / "out" / "r_fp16.onnx"
    assert sorted(p.name for p in single.parent.iterdir()) == ["r.onnx", "r_fp16.onnx"]
    assert half.stat().st_size < 0.6 * single.stat().st_size
    for path, precision in ((single, "fp32"), (half, "fp16")):
        model = onnx.load(str(path))
        metadata = PoseModelMetadata.of({p.key: p.value for p in model.metadata_props})
        assert metadata is not None
        assert (metadata.kind, metadata.precision, metadata.opset) == ("rtmo", precision, 17)
        assert metadata.input_size == (416, 416)
        assert metadata.thresholds == RULE
        assert metadata.checkpoint_sha256 == sha256_file(rtmo[1])
        assert str(tmp_path).encode() not in path.read_bytes()
    # The file's own size is taken where it leaves it free; other thresholds are refused.
    settings = PoseEstimationConfig.model_validate(
        {"kind": "rtmo", "onnx": {"score_threshold": 0.1}}
    )
    assert len(build_pose_model(settings, {"pose": single})(pose_models.pictures(2))) == 2
    for onnx_block in ({"score_threshold": 0.1, "nms_threshold": 0.65}, {"score_threshold": 0.05}):
        settings = PoseEstimationConfig.model_validate({"kind": "rtmo", "onnx": onnx_block})
        with pytest.raises(ModelError, match=r"deploy\.export"):
            build_pose_model(settings, {"pose": single})


def test_the_same_export_gives_the_same_bytes(tmp_path, sdpose):
    for name in ("a", "b"):
        output = tmp_path / name / "s.onnx"
        export(config_of(sdpose, "topdown", output=output, frames=2, precision="fp32"), None)
    assert (tmp_path / "a/s.onnx").read_bytes() == (tmp_path / "b/s.onnx").read_bytes()


@pytest.mark.parametrize("uint8", [False, True])
def test_sdpose_is_exported_also_with_8_bit_input(tmp_path, sdpose, uint8):
    output = tmp_path / "s.onnx"
    export(config_of(sdpose, "topdown", output=output, frames=3, uint8_input=uint8), None)
    network = OnnxNetwork(output, OnnxPoseConfig())
    (spec,) = network.inputs
    assert spec.shape == ((None, 256, 192, 3) if uint8 else (None, 3, 256, 192))
    assert network.outputs[0].shape == (None, 17, 64, 48)
    metadata = json.loads(network.metadata["recognizer"])
    assert metadata["normalised_inside"] == uint8
    assert metadata["mean_rgb"] == [123.675, 116.28, 103.53]
    if uint8:
        _check_first_step_is_a_cast(output)


def _check_first_step_is_a_cast(path):
    """TensorRT takes an 8-bit input only where it is converted first (its DataType.UINT8)."""
    graph = onnx.load(str(path)).graph
    (given,) = graph.input
    assert {node.op_type for node in graph.node if given.name in node.input} == {"Cast"}
    (span,) = profile(
        read_onnx(path).inputs,
        TensorRTPoseConfig(model_input_size=(192, 256), max_batch=4, opt_batch=4),
    )
    assert (span.smallest, span.largest) == ((1, 256, 192, 3), (4, 256, 192, 3))


def test_8_bit_weights_are_calibrated_on_videos(tmp_path, sdpose):
    videos = tmp_path / "videos"
    videos.mkdir()
    _write_video(videos / "a.mp4")
    output = tmp_path / "s.onnx"
    deploy = {"output": output, "frames": 3, "precision": "fp32", "int8": True}
    with pytest.raises(ConfigError, match="frames_dir"):
        export(config_of(sdpose, "topdown", **deploy), None)
    deploy |= {"frames_dir": videos, "int8_tolerance_px": 500.0}
    export(config_of(sdpose, "topdown", **deploy), None)
    nodes = {node.op_type for node in onnx.load(str(tmp_path / "s_int8.onnx")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= nodes
    small, whole = (tmp_path / name for name in ("s_int8.onnx", "s.onnx"))
    assert small.stat().st_size < whole.stat().st_size


def _write_video(path):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 2, (160, 120))
    for seed in range(4):
        writer.write(pose_models.picture(seed, (160, 120)))
    writer.release()


@pytest.mark.parametrize(
    ("deploy", "kind", "text"),
    [
        ({"output": "x_fp16.onnx"}, "rtmo", "_fp16"),
        ({"output": "x.pt"}, "rtmo", r"\.onnx"),
        ({"checkpoint": ["a.pth", "b.pth"]}, "rtmo", "expected one"),
        ({"checkpoint": ["a.pth"]}, "rtmo", "deploy.checkpoint: expected a file"),
        ({}, "topdown", "kind: expected rtmo"),
        ({"int8": True, "precision": "fp16"}, "rtmo", "precision"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, rtmo, deploy, kind, text):
    paths = {
        key: [str(tmp_path / v) for v in value] if key == "checkpoint" else value
        for key, value in deploy.items()
    }
    if "output" in paths:
        paths["output"] = tmp_path / paths["output"]
    with pytest.raises(ConfigError, match=text):
        export(config_of(rtmo, kind, **paths), None)


def test_a_file_that_is_too_far_off_is_not_kept(tmp_path):
    good = Parity(10, 100, 0, 0.001, 0.1, 1e-5, 0.01)
    pose_export.check_parity(tmp_path / "x.onnx", "fp32", good, 0.01)
    for change in (
        {"people": 0},
        {"only_one": 1},
        {"median_px": 0.02},
        {"worst_px": 0.6},
        {"median_px": float("nan")},
        {"worst_px": float("nan")},
    ):
        with pytest.raises(ModelError, match="not written"):
            pose_export.check_parity(
                tmp_path / "x.onnx", "fp32", pose_export.replace(good, **change), 0.01
            )


@pytest.mark.parametrize(
    ("precision", "limits"),
    [
        ("fp32", "median, 0.5 px at worst, 0 seen"),
        ("fp16", "median (deploy.fp16_tolerance_px; deploy.precision=fp32 makes none), 5 seen"),
        ("int8", "median (deploy.int8_tolerance_px; deploy.int8=false makes none), 5 seen"),
    ],
)
def test_a_refused_file_names_its_limits_and_how_to_do_without_it(tmp_path, precision, limits):
    far = Parity(10, 100, 0, 9.0, 9.0, 1e-5, 0.01)
    with pytest.raises(ModelError, match=re.escape(f"at most 2 px in the {limits}")):
        pose_export.check_parity(tmp_path / "x.onnx", precision, far, 2, 0.05)


def people(*places, score=0.9):
    count = len(places)
    points = np.zeros((count, 17, 2), np.float32) + np.float32(places).reshape(-1, 1, 2)
    boxes = np.concatenate([points[:, 0] - 10, points[:, 0] + 10], 1)
    scores = np.full(count, score, np.float32)
    return Poses.untracked(points, np.ones((count, 17), np.float32), boxes, scores)


def test_people_are_paired_before_they_are_compared():
    parity = compare([people((50, 50), (200, 80))], [people((200, 83), (50, 50))])
    assert (parity.people, parity.only_one) == (2, 0)
    assert parity.worst_px == pytest.approx(3)
    assert parity.median_px == pytest.approx(1.5)
    parity = compare([people((50, 50)), Poses.empty()], [people((90, 50)), people((5, 5))])
    assert (parity.people, parity.only_one) == (0, 3)
    edge = [people((5, 5), score=0.3005)]
    assert compare(edge, [Poses.empty()], threshold=0.3).only_one == 0
    assert compare(edge, [Poses.empty()], threshold=0.2).only_one == 1


def test_frames_come_from_videos_or_are_made(tmp_path):
    assert len(pose_parity.frames_of(None, 5)) == 5
    with pytest.raises(FileNotFoundError, match="expected videos"):
        pose_parity.frames_of(tmp_path, 5)
    _write_video(tmp_path / "a.mp4")
    _write_video(tmp_path / "b.mp4")
    assert len(pose_parity.frames_of(tmp_path, 5)) == 5


def test_rtmpose_runs_in_torch_and_exports_to_the_file_that_others_write(tmp_path):
    files = rtmpose_models.save_rtmpose_checkpoint(tmp_path)
    others = rtmpose_models.save_rtmpose(tmp_path / "others.onnx")
    output = tmp_path / "ours.onnx"
    config = config_of(files, "topdown", model="pose", output=str(output), precision="both")
    assert export(config, silent) == 0
    networks = [
        open_pose(*files, TorchPoseConfig(device="cpu")),
        *(OnnxNetwork(path, OnnxPoseConfig()) for path in (output, others)),
    ]
    crops = np.random.default_rng(0).normal(size=(3, 3, 256, 192)).astype(np.float32)
    seen = [network.run({"input": crops}) for network in networks]
    for one in seen:
        assert {name: array.shape for name, array in one.items()} == {
            "simcc_x": (3, 17, 384),
            "simcc_y": (3, 17, 512),
        }
        for name, array in one.items():
            spread = np.ptp(seen[-1][name])
            np.testing.assert_allclose(array, seen[-1][name], atol=2e-4 * spread)
    half = OnnxNetwork(output.with_name("ours_fp16.onnx"), OnnxPoseConfig())
    assert {spec.name for spec in half.outputs} == {"simcc_x", "simcc_y"}
