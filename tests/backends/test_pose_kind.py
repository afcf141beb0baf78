"""The kind of a pose network, read from its own file."""

import re

import numpy as np
import onnx
import pytest
from onnx import helper

from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.onnx_files import read_outputs
from recognizer.backends.pose_kind import describe_files, read_form, read_kind
from recognizer.config.models import OnnxPoseConfig, PoseEstimationConfig
from recognizer.openmmlab import SHIPPED, find_pose_config
from recognizer.pose.estimator import build_pose_model
from tests import detectors, movenets, networks

TOPDOWN = "body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py"
RTMO = "body_2d_keypoint/rtmo/body7/rtmo-s_8xb32-600e_body7-640x640.py"
BOTTOM_UP = "body_2d_keypoint/dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512.py"


def asking(kind="auto", mode="onnx"):
    return PoseEstimationConfig.model_validate({"kind": kind, "inference_mode": mode})


def yolox(path):
    return networks.constant_yolox(path, {})


@pytest.mark.parametrize("batch", ["B", 1])
@pytest.mark.parametrize("write", [networks.rtmo, networks.heatmap, yolox])
def test_outputs_are_read_as_onnx_runtime_reads_them(tmp_path, write, batch):
    path = write(tmp_path / "n.onnx") if write is yolox else write(tmp_path / "n.onnx", batch=batch)
    opened = OnnxNetwork(path, OnnxPoseConfig())
    assert [(s.name, s.shape) for s in read_outputs(path)] == [
        (s.name, s.shape) for s in opened.outputs
    ]


@pytest.mark.parametrize(
    ("write", "kind"), [(networks.rtmo, "rtmo"), (networks.heatmap, "topdown")]
)
def test_an_onnx_file_says_its_kind(tmp_path, write, kind):
    path = write(tmp_path / "n.onnx")
    other = {"rtmo": "topdown", "topdown": "rtmo"}[kind]
    for mode in ("onnx", "tensorrt"):
        assert read_kind(asking(mode=mode), {"pose": path}) == kind
        assert read_kind(asking(kind, mode), {"pose": path}) == kind
        with pytest.raises(
            ModelError, match=f"says {other}, .*n.onnx is a network of kind: {kind}"
        ):
            read_kind(asking(other, mode), {"pose": path})


def test_heatmaps_of_any_number_of_channels_are_top_down(tmp_path):
    path = networks.heatmap(tmp_path / "n.onnx")
    model = onnx.load(str(path))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("heatmaps", 1, ["a", "b", "c", "d"])
    )
    onnx.save(model, str(path))
    assert read_kind(asking(), {"pose": path}) == "topdown"


@pytest.mark.parametrize("kind", ["auto", "rtmo", "topdown"])
@pytest.mark.parametrize("write", [yolox, lambda path: networks.heatmap(path, channels=5)])
def test_a_network_of_neither_kind_is_refused_with_its_outputs(tmp_path, write, kind):
    path = write(tmp_path / "n.onnx")
    name = str(read_outputs(path)[0]).replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(ModelError, match=f"expected a pose network.*outputs {name}"):
        read_kind(asking(kind), {"pose": path})


@pytest.mark.parametrize(("shipped", "kind"), [(RTMO, "rtmo"), (TOPDOWN, "topdown")])
def test_a_config_of_mmpose_says_its_kind(tmp_path, shipped, kind):
    pytest.importorskip("mmpose")
    files = {"config": find_pose_config(SHIPPED + shipped), "pose": tmp_path / "w.pth"}
    assert read_kind(asking(mode="pth"), files) == kind
    other = {"rtmo": "topdown", "topdown": "rtmo"}[kind]
    with pytest.raises(ModelError, match=f"says {other}, .* kind: {kind}"):
        read_kind(asking(other, "pth"), files)


@pytest.mark.parametrize("shipped", [BOTTOM_UP])
def test_another_network_of_mmpose_is_refused_by_name(tmp_path, shipped):
    pytest.importorskip("mmpose")
    files = {"config": find_pose_config(SHIPPED + shipped), "pose": tmp_path / "w.pth"}
    with pytest.raises(ModelError, match="got BottomupPoseEstimator with DEKRHead"):
        read_kind(asking(mode="pth"), files)


def detector(path):
    dets = np.zeros((1, 5), np.float32)
    return detectors.end2end(path, dets, [0], weight="bbox_head.rtm_cls.0.weight")


def vitpose(path):
    """Save heatmaps (1, 17, 96, 72), as ViTPose and HRNet 384x288 give them."""
    return networks.heatmap(path, crop_wh=(288, 384), batch=1)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (networks.rtmo, "a one-stage network of RTMO's form (64x64)"),
        (networks.heatmap, "a top-down network (heatmaps, 192x256)"),
        (vitpose, "a top-down network (heatmaps, 288x384)"),
        (detectors.simcc, "a top-down network (SimCC, 192x256)"),
        (movenets.single, "a top-down network (MoveNet single pose, 256x256)"),
        (movenets.multipose, "MoveNet MultiPose (any size)"),
        (detector, "a person detector (RTMDet, end2end, 64x64)"),
        (yolox, "a person detector (YOLOX without NMS, 64x64)"),
    ],
)
def test_a_file_is_described_in_words(tmp_path, write, text):
    assert read_form(write(tmp_path / "n.onnx")).text == text


def test_both_files_are_described_in_one_line(tmp_path):
    files = {"pose": detectors.simcc(tmp_path / "p.onnx"), "detector": yolox(tmp_path / "d.onnx")}
    assert read_kind(asking(), files) == "topdown"
    assert describe_files(files) == (
        "p.onnx is a top-down network (SimCC, 192x256), "
        "d.onnx is a person detector (YOLOX without NMS, 64x64)"
    )


@pytest.mark.parametrize(
    ("pose", "other", "remedy"),
    [
        (detector, detectors.simcc, "swap the two"),
        (yolox, networks.heatmap, "swap the two"),
        (yolox, detector, "name a file that fits"),
        (detectors.simcc, networks.rtmo, "name a file that fits"),
        (networks.heatmap, detectors.simcc, "name a file that fits"),
        (movenets.single, movenets.multipose, "name a file that fits"),
        (yolox, movenets.single, "swap the two"),
        (yolox, movenets.multipose, "name a file that fits"),
        (movenets.multipose, detector, "leave out that key, or name a top-down network"),
    ],
)
def test_a_wrong_pair_is_refused_with_both_files(tmp_path, pose, other, remedy):
    files = {"pose": pose(tmp_path / "p.onnx"), "detector": other(tmp_path / "d.onnx")}
    texts = [re.escape(f"{file}, {read_form(file).text}") for file in files.values()]
    with pytest.raises(ModelError, match=f"{texts[0]}, (and|which) .*{texts[1]}; {remedy}"):
        read_kind(asking(), files)
    with pytest.raises(ModelError, match=f"{texts[0]}, (and|which) .*{texts[1]}; {remedy}"):
        build_pose_model(asking(), files)


def test_rtmo_needs_no_detector(tmp_path):
    files = {"pose": networks.rtmo(tmp_path / "p.onnx"), "detector": tmp_path / "none.onnx"}
    assert read_kind(asking(), files) == "rtmo"


def test_multipose_needs_no_detector_and_the_default_one_may_lie_there(tmp_path):
    files = {"pose": movenets.multipose(tmp_path / "p.onnx")}
    assert read_kind(asking(), files) == read_kind(asking("movenet"), files) == "movenet"
    files["detector"] = yolox(tmp_path / "yolox_nano.onnx")
    assert read_kind(asking(), files) == build_pose_model(asking(), files).kind == "movenet"
    for kind in ("rtmo", "topdown"):
        with pytest.raises(ModelError, match=f"says {kind}, .* network of kind: movenet"):
            read_kind(asking(kind), files)


def test_multipose_runs_in_onnx_runtime_alone(tmp_path):
    files = {"pose": movenets.multipose(tmp_path / "p.onnx")}
    with pytest.raises(ModelError, match=r"expected onnx with .*p.onnx, MoveNet .* got tensorrt"):
        read_kind(asking(mode="tensorrt"), files)
    with pytest.raises(ModelError, match=r"expected onnx with .*p.engine.* got tensorrt"):
        read_kind(asking("movenet", "tensorrt"), {"pose": tmp_path / "p.engine"})


def test_thresholds_that_are_null_go_by_the_kind():
    for kind, scores in (("rtmo", (0.3, 0.3)), ("topdown", (0.3, 0.0)), ("movenet", (0.1, 0.1))):
        block = asking().for_kind(kind).onnx
        assert (block.score_threshold, block.keypoint_threshold) == scores
    own = PoseEstimationConfig(onnx=OnnxPoseConfig(score_threshold=0.25)).for_kind("movenet")
    assert own.onnx.score_threshold == 0.25
