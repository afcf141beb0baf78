"""deploy.verify on real files: what is the same passes, what is not is named and fails."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploy import verify as module
from deploy.backends import candidates
from deploy.pose_parity import compare
from deploy.verify import Tolerance, compare_rectangle, over_tolerance, run_backends, verify
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.runs.progress import silent
from recognizer.types import Poses
from tests import networks

TRAINED = 64


def moved(source, target, by_px=0.0, *, empty=False):
    """Save a network that sees every keypoint so many network pixels further right."""
    model = onnx.load(str(source))
    shift = np.zeros((1, 1, 1, 3), np.float32)
    shift[..., 0] = by_px
    for node in model.graph.node:
        if node.output[0] == "keypoints":
            node.output[0] = "still"
    model.graph.node.append(helper.make_node("Add", ["still", "shift"], ["keypoints"]))
    model.graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    if empty:
        for weight in model.graph.initializer:
            if weight.name == "score":
                weight.CopyFrom(numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "score"))
    onnx.save(model, str(target))


def config_of(folder, **pose):
    return Config.model_validate(
        {
            "deploy": {"model": "pose", "output_dir": str(folder / "report"), "frames": 6},
            "annotation": {"input": str(folder / "no videos")},
            "models": {
                "pose_estimation": {
                    "kind": "rtmo",
                    **pose,
                    "onnx": {"model_path": str(folder / "m.onnx"), **pose.get("onnx", {})},
                }
            },
        }
    )


@pytest.fixture
def folder(tmp_path):
    networks.rtmo(tmp_path / "m.onnx")
    return tmp_path


def report(folder):
    return json.loads((folder / "report" / "verify.json").read_bytes())


def test_backends_that_agree_pass_and_are_reported_in_a_table(folder):
    moved(folder / "m.onnx", folder / "m_fp16.onnx", 0.01)
    assert verify(config_of(folder), silent) == 0
    (row,) = report(folder)["rows"]
    assert (row["name"], row["against"]) == ("onnx cpu fp16", "onnx cpu fp32")
    parity = row["parity"]
    assert (parity["frames"], parity["people"], parity["only_one"]) == (6, 6, 0)
    # 0.01 network pixels in pictures that are shown at 0.2 of their size.
    assert parity["median_px"] == pytest.approx(0.05, rel=1e-2)
    assert parity["worst_box_px"] == parity["worst_score"] == 0
    text = (folder / "report" / "verify.md").read_text()
    assert "| onnx cpu fp16 | onnx cpu fp32 | 6 | 6 | 0 |" in text
    assert "left out: not configured: set models.pose_estimation.pth.config_file" in text


@pytest.mark.parametrize(("by_px", "limit", "code"), [(0.2, 0.5, 1), (0.2, 1.5, 0)])
def test_keypoints_over_the_tolerance_fail(folder, by_px, limit, code):
    moved(folder / "m.onnx", folder / "m_fp16.onnx", by_px)
    config = config_of(folder)
    deploy = config.deploy.model_copy(update={"fp16_tolerance_px": limit})
    assert verify(config.model_copy(update={"deploy": deploy}), silent) == code
    written = report(folder)
    assert written["ok"] is (code == 0)
    assert bool(written["rows"][0]["wrong"]) is (code == 1)


def test_numbers_that_are_not_finite_fail(folder):
    moved(folder / "m.onnx", folder / "m_fp16.onnx", float("nan"))
    assert verify(config_of(folder), silent) == 1
    written = report(folder)
    assert (written["ok"], written["rows"]) == (False, [])
    (broken,) = [one for one in written["left_out"] if one["broken"]]
    assert broken["name"] == "onnx cpu fp16" and "not finite" in broken["reason"]  # noqa: PT018


def test_another_number_of_people_fails(folder):
    moved(folder / "m.onnx", folder / "m_int8.onnx", empty=True)
    assert verify(config_of(folder), silent) == 1
    assert report(folder)["rows"][0]["parity"]["only_one"] == 6


def test_nobody_anywhere_proves_nothing(folder):
    networks.rtmo(folder / "m.onnx", score=0.1)
    moved(folder / "m.onnx", folder / "m_fp16.onnx")
    assert verify(config_of(folder), silent) == 1


def test_one_backend_alone_is_refused_with_what_is_missing(folder):
    with pytest.raises(ConfigError, match=r"(?s)two backends or more.*pth: not configured"):
        verify(config_of(folder), silent)


def test_a_backend_that_cannot_run_here_is_left_out_by_name(folder):
    moved(folder / "m.onnx", folder / "m_fp16.onnx")
    config = config_of(folder, onnx={"device": "cuda:0"})
    if "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers():
        pytest.skip("has CUDA")
    assert verify(config, silent) == 0
    left_out = {one["name"]: one["reason"] for one in report(folder)["left_out"]}
    assert "requirements/gpu.txt" in left_out["onnx cuda:0 fp32"]
    assert [row["name"] for row in report(folder)["rows"]] == ["onnx cpu fp16"]


def test_every_block_is_reported_the_same(folder):
    config = config_of(folder, onnx={"score_threshold": 0.4, "max_detections": 7})
    found, skipped = candidates(config)
    assert [one.name for one in found] == ["onnx cpu fp32"]
    assert {one.name for one in skipped} == {"pth", "tensorrt"}
    pose = found[0].settings
    for block in (pose.pth, pose.onnx, pose.tensorrt):
        assert (block.score_threshold, block.nms_threshold) == (0.4, 0.45)
        assert (block.max_detections, block.keypoint_threshold) == (7, 0.0)


def test_a_candidate_knows_the_keys_that_run_it(folder):
    moved(folder / "m.onnx", folder / "m_fp16.onnx")
    config = config_of(folder, onnx={"device": "cuda:0", "score_threshold": 0.4})
    found, _ = candidates(config)
    key, mode = "models.pose_estimation", {"models.pose_estimation.inference_mode": "onnx"}
    twin = {f"{key}.onnx.model_path": str(folder / "m_fp16.onnx")}
    cpu = {f"{key}.onnx.device": "cpu"}
    assert {one.name: one.changes(config) for one in found} == {
        "onnx cpu fp32": mode | cpu,
        "onnx cuda:0 fp32": mode,
        "onnx cpu fp16": mode | twin | cpu,
        "onnx cuda:0 fp16": mode | twin,
    }


def test_another_shape_is_compared_with_the_square(folder):
    """A network of free size that looks for a dot sees it at either size; a broken one does not."""
    free_size(folder / "m.onnx")
    config = config_of(folder, onnx={"model_input_size": [128, 96]})
    found, _ = candidates(config)
    pictures, source = module.frames(config)
    assert source == "made pictures"
    seen, _ = run_backends(found, pictures)
    (row,) = compare_rectangle(config, found, pictures, seen)
    assert (row.name, row.against) == ("onnx cpu fp32 128x96", "onnx cpu fp32 128x128")
    assert row.parity.people == len(pictures)
    assert row.wrong == "" and row.parity.median_px == 0  # noqa: PT018
    assert verify(config, silent) == 0
    square = config_of(folder, onnx={"model_input_size": [128, 128]})
    assert compare_rectangle(square, found, pictures, seen) == []


def test_a_shape_that_follows_the_picture_is_compared_with_the_square(tmp_path):
    """The shipped network needs no other file to be verified."""
    small = Path(__file__).resolve().parents[2] / "samples" / "models" / "small_pose.onnx"
    (tmp_path / "m.onnx").write_bytes(small.read_bytes())
    config = config_of(tmp_path)
    found, _ = candidates(config)
    pictures, _ = module.frames(config)
    seen, _ = run_backends(found, pictures)
    (row,) = compare_rectangle(config, found, pictures, seen)
    assert row.name == "onnx cpu fp32 shape of the picture"
    assert row.against == "onnx cpu fp32 640x640"
    assert row.parity.frames == len(pictures)
    square = config_of(tmp_path, onnx={"model_input_size": [640, 640]})
    assert compare_rectangle(square, found, pictures, seen) == []


def free_size(path):
    """Save the dot network for inputs of any height and width: the width comes from the input."""
    model = onnx.load(str(networks.rtmo(path)))
    weights = [w for w in model.graph.initializer if w.name != "w"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [
            *weights,
            numpy_helper.from_array(np.array([3]), "last"),
            numpy_helper.from_array(np.array(0), "zeroth"),
        ]
    )
    before = [
        helper.make_node("Shape", ["input"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "last"], ["w1"]),
        helper.make_node("Squeeze", ["w1"], ["w"]),
    ]
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def one_person(x=10.0, score=0.9):
    points = np.full((1, 17, 2), x, np.float32)
    box = np.array([[x, x, x + 20, x + 40]], np.float32)
    return Poses.untracked(
        points, np.full((1, 17), 0.8, np.float32), box, np.array([score], np.float32)
    )


def test_what_is_over_a_tolerance():
    strict = Tolerance(0.01, 0.5, 0.0, 1e-3)
    same = compare([one_person()], [one_person()])
    assert over_tolerance(same, strict) == ""
    far = compare([one_person()], [one_person(10.25)])
    assert "median 0.354 px > 0.01" in over_tolerance(far, strict)
    assert over_tolerance(far, Tolerance(0.4, None, 0.0, 1e-3)) == ""
    assert "worst" in over_tolerance(replace(same, worst_px=0.6), strict)
    assert "median" in over_tolerance(replace(same, median_px=float("nan")), strict)
    alone = replace(same, people=49, only_one=1)
    assert "1 people seen by one alone > 0" in over_tolerance(alone, strict)
    assert over_tolerance(alone, replace(strict, missed=0.02)) == ""


# --- the classifiers ---------------------------------------------------------------


def test_a_classifier_against_its_checkpoint_and_against_another(tmp_path):
    pytest.importorskip("mmaction", reason="needs the training set")
    from deploy.export import export
    from tests.action.checkpoints import save, train_config

    files = {}
    for name in ("a", "b"):
        files[name] = save(tmp_path / f"{name}.pth", train_config(), seed=ord(name))
    deploy = {"checkpoint": str(files["a"]), "output_dir": str(tmp_path / "report")}
    export(
        Config.model_validate({"deploy": {**deploy, "output": str(tmp_path / "a.onnx")}}), silent
    )
    config = {"deploy": deploy, "inference": {"fight": {"model_path": str(tmp_path / "a.onnx")}}}
    assert verify(Config.model_validate(config), silent) == 0
    written = json.loads((tmp_path / "report" / "verify_fight.json").read_bytes())
    assert written["ok"] and 0 <= written["largest"] <= 1e-4  # noqa: PT018
    config["deploy"] = {**deploy, "checkpoint": str(files["b"])}
    assert verify(Config.model_validate(config), silent) == 1
