"""One YAML switch: the same people whatever runs the network."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from deploy.pose_graph import write_graph  # noqa: E402
from deploy.pose_parity import compare  # noqa: E402
from recognizer.backends.metadata import Thresholds  # noqa: E402
from recognizer.backends.network import ModelError  # noqa: E402
from recognizer.backends.torch import load_pose, with_options  # noqa: E402
from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.models import PoseEstimationConfig  # noqa: E402
from recognizer.config.schema import Config  # noqa: E402
from recognizer.pose.estimator import build_pose_model  # noqa: E402
from recognizer.runs.stage_folders import pose_model_files, stage1_settings  # noqa: E402
from tests import networks  # noqa: E402
from tests.backends import pose_models  # noqa: E402

SAME = {"score_threshold": 0.5, "nms_threshold": 0.45, "keypoint_threshold": 0.3}


@pytest.fixture(scope="module")
def rtmo(tmp_path_factory):
    shown = pose_models.pictures(3, (400, 240))
    return pose_models.save_rtmo(tmp_path_factory.mktemp("rtmo"), shown=shown)


@pytest.fixture(scope="module")
def sdpose(tmp_path_factory):
    return pose_models.save_sdpose(tmp_path_factory.mktemp("sdpose"))


def settings(kind, mode, **block):
    if mode == "pth":
        block = {"device": "cpu", **block}
    return PoseEstimationConfig.model_validate({"kind": kind, "inference_mode": mode, mode: block})


@pytest.mark.parametrize("size", [(416, 416), (416, 256)])
def test_rtmo_sees_the_same_people_in_torch_and_onnx(tmp_path, rtmo, size):
    pose = load_pose(*rtmo)
    path = tmp_path / "r.onnx"
    metadata = with_options(pose.metadata, Thresholds(0.5, 0.45, 100))
    write_graph(path, pose, metadata, batch=None, any_size=True)
    files = {"config": rtmo[0], "pose": rtmo[1]}
    shown = pose_models.pictures(3, (400, 240))
    ours = build_pose_model(settings("rtmo", "pth", input_size=size, **SAME), files)(shown)
    other = build_pose_model(
        settings("rtmo", "onnx", model_input_size=size, **SAME), {"pose": path}
    )
    parity = compare(ours, other(shown), threshold=0.5)
    assert parity.people > 3
    assert (parity.only_one, parity.median_px <= 0.01, parity.worst_px <= 0.5) == (0, True, True)
    strict = settings("rtmo", "pth", input_size=size, **{**SAME, "keypoint_threshold": 1.1 / 1.2})
    for loose, poses in zip(ours, build_pose_model(strict, files)(shown), strict=True):
        np.testing.assert_allclose(loose.boxes, poses.boxes, atol=1e-3)
        missing = poses.keypoint_scores == 0
        assert (poses.keypoints[missing] == 0).all()
        assert (missing >= (loose.keypoint_scores == 0)).all()


@pytest.mark.parametrize("size", [(400, 416), (640, 100)])
def test_rtmo_takes_multiples_of_32(rtmo, size):
    files = {"config": rtmo[0], "pose": rtmo[1]}
    with pytest.raises(ModelError, match="multiples of 32"):
        build_pose_model(settings("rtmo", "pth", input_size=size), files)


def test_the_kind_must_be_that_of_the_network(tmp_path, rtmo, sdpose):
    detector = networks.constant_yolox(tmp_path / "d.onnx", {})
    with pytest.raises(ModelError, match="kind"):
        build_pose_model(settings("rtmo", "pth"), {"config": sdpose[0], "pose": sdpose[1]})
    files = {"config": rtmo[0], "pose": rtmo[1], "detector": detector}
    with pytest.raises(ModelError, match="kind"):
        build_pose_model(settings("topdown", "pth"), files)


def test_another_normalisation_is_refused(tmp_path, sdpose):
    detector = networks.constant_yolox(tmp_path / "d.onnx", {})
    files = {"config": sdpose[0], "pose": sdpose[1], "detector": detector}
    section = settings("topdown", "pth")
    assert build_pose_model(section, files)(pose_models.pictures(1)) is not None
    topdown = section.topdown.model_copy(update={"mean_rgb": (0.0, 0.0, 0.0)})
    with pytest.raises(ModelError, match="mean_rgb"):
        build_pose_model(section.model_copy(update={"topdown": topdown}), files)


def test_another_size_of_a_persons_crop_is_refused(tmp_path):
    files = {
        "detector": networks.constant_yolox(tmp_path / "d.onnx", {}),
        "pose": networks.heatmap(tmp_path / "p.onnx"),
    }
    width, height = 192, 256
    own = settings("topdown", "onnx", model_input_size=(width, height))
    assert build_pose_model(own, files) is not None
    with pytest.raises(ModelError, match=rf"p\.onnx takes \[{width}, {height}\]"):
        build_pose_model(settings("topdown", "onnx", model_input_size=(640, 640)), files)


def config(config_file, checkpoint, folder):
    section = {"config_file": str(config_file), "checkpoint_path": str(checkpoint)}
    pose = {"inference_mode": "pth", "pth": section}
    return Config.model_validate({"models": {"weights_dirs": [folder], "pose_estimation": pose}})


def test_stage_1_finds_the_files_and_their_digest_covers_config_and_weights(tmp_path, sdpose):
    first = config(*sdpose, tmp_path)
    with pytest.raises(ConfigError, match=r"needs a person detector(.|\n)*yolox_nano"):
        pose_model_files(first)
    detector = networks.constant_yolox(tmp_path / "yolox_nano.onnx", {})
    files = {"config": sdpose[0], "pose": sdpose[1], "detector": detector}
    assert pose_model_files(first) == files
    models = stage1_settings(first)["models"]
    child = tmp_path / sdpose[0].name
    child.write_text(f"_base_ = {str(sdpose[0])!r}\n")
    assert stage1_settings(config(child, sdpose[1], tmp_path))["models"] == models, (
        "it comes to the same"
    )
    child.write_text(f"_base_ = {str(sdpose[0])!r}\nmodel = dict(head=dict(cycles=2))\n")
    changed = stage1_settings(config(child, sdpose[1], tmp_path))["models"]
    assert changed["config"]["sha256"] != models["config"]["sha256"]
    assert changed["pose"] == models["pose"]
    with pytest.raises(ConfigError, match="mmpose::body_2d_keypoint"):
        pose_model_files(config("/x/rtmo-s_8xb32-600e_body7-640x640.py", sdpose[1], tmp_path))
    with pytest.raises(ConfigError, match="checkpoint_path"):
        pose_model_files(config(sdpose[0], "none.pth", tmp_path))
