import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import benchmarks.after_fall as after_fall
from benchmarks._falls_data import Fall, falls_of
from benchmarks.after_fall import Counts, Reference, count
from recognizer.backends.network import ModelError
from recognizer.config.file import load_config
from recognizer.installation import SHIPPED_CONFIG
from recognizer.pose.detector import Boxes
from recognizer.pose.turned import TurnedImage
from recognizer.types import Poses, PoseSequenceBuilder
from recognizer.video.array_image import ArrayImage
from tests import networks
from tests.benchmarks.one_line import refusal

SEGMENTS = Path(__file__).parents[2] / "samples" / "falls_segments.csv"
PERSON = np.array([100, 50, 140, 150], np.float32)
AWAY = (300, 50, 340, 150)
ASIDE = (120, 50, 160, 150)  # IoU 1/3 with the person
BESIDE = (130, 50, 170, 150)  # IoU 1/7
# The person's box in the image as it is, turned counterclockwise, and turned clockwise.
BOX_IN = {0: PERSON, 1: (50, 260, 150, 300), -1: (50, 100, 150, 140)}
IMAGE = ArrayImage(np.full((200, 400, 3), 9, np.uint8))


class MoveNet:
    """Sees one person in a box x1 y1 x2 y2 of the image above."""

    inputs = (SimpleNamespace(name="input"),)

    def __init__(self, score):
        self._score = score

    def run(self, feeds):
        pixels = feeds["input"]
        assert (pixels.shape, pixels.dtype) == ((1, 256, 512, 3), np.int32)
        found = np.zeros((1, 12, 56), np.float32)
        x1, y1, x2, y2 = PERSON * 512 / 400
        found[0, 7, -5:] = y1 / 256, x1 / 512, y2 / 256, x2 / 512, self._score
        return {"output": found}


def detector(score, turn):
    """Return a detector that sees the person in one turn of the image."""

    def see(images):
        return [
            Boxes(np.array([BOX_IN[turn]], np.float32), np.array([score], np.float32))
            if (image.turn if isinstance(image, TurnedImage) else 0) == turn
            else Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
            for image in images
        ]

    return see


def tracked(*frames):
    """Return a sequence, a frame a second: per frame the boxes of rows with an id."""
    builder = PoseSequenceBuilder()
    for second, boxes in enumerate(frames):
        n = len(boxes)
        poses = Poses.untracked(
            np.zeros((n, 17, 2), np.float32),
            np.zeros((n, 17), np.float32),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.ones(n, np.float32),
        )
        builder.append(poses.with_ids(np.arange(1, n + 1)), float(second))
    return builder.build((400, 200))


def test_falls_are_11_clips_and_4_views():
    falls = falls_of(SEGMENTS)
    assert [name.split("/")[0] for name in falls] == ["falls"] * 11 + ["multiview"] * 4
    assert falls["falls/Subject_2/Fall/14.mp4"].start_s == 3.4
    view = falls["multiview/fall/05_vertical_fall_faint_view2.mp4"]
    assert view.source == "multiview_falls/fall/05_vertical_fall_faint.mp4"
    assert (view.view, view.start_s, view.stop_s) == ((854, 0, 1280, 320), 2.3, 15.1)


@pytest.mark.parametrize("turn", BOX_IN)
def test_the_detector_is_asked_in_every_turn_where_movenet_is_not_sure(turn):
    found = Reference(MoveNet(0.13), detector(0.25, turn))(IMAGE)
    np.testing.assert_allclose(found, PERSON)


def test_movenet_comes_first():
    found = Reference(MoveNet(0.14), lambda images: pytest.fail("not needed"))(IMAGE)
    np.testing.assert_allclose(found, PERSON, rtol=1e-6)


def test_nobody_is_where_both_are_unsure():
    assert Reference(MoveNet(0.13), detector(0.24, 1))(IMAGE) is None


def test_counts_from_the_fall_on_and_rows_on_nobody_throughout():
    sequence = tracked([AWAY], [PERSON], [ASIDE], [BESIDE], [PERSON, AWAY], [], [PERSON])
    fall = Fall("x.mp4", None, 1.0, 6.0)
    assert count(sequence, [PERSON] * 7, fall) == Counts(5, 3, 7, 3)
    assert count(sequence, [PERSON] * 7, Fall("x.mp4", None, 1.0, math.inf)).after == 6


def test_without_a_reference_any_row_with_an_id_is_the_person():
    sequence = tracked([AWAY], [])
    assert count(sequence, [None, None], Fall("x.mp4", None, 0.0, 2.0)) == Counts(2, 1, 2, 0)


def test_rows_without_an_id_are_nobody():
    sequence = tracked([PERSON])
    sequence.poses.track_ids[:] = -1
    assert count(sequence, [PERSON], Fall("x.mp4", None, 0.0, 2.0)) == Counts(1, 0, 1, 0)


@pytest.fixture
def assets(tmp_path):
    """Return a folder with files of the names of all clips."""
    for fall in falls_of(SEGMENTS).values():
        (tmp_path / fall.source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / fall.source).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "0"], "--clips: expected a whole number of at least 1, got '0'"),
        (["--clips=-1"], "--clips: expected a whole number of at least 1, got '-1'"),
        (["--assets", "{assets}/absent"], "--assets: expected a folder, found none at"),
        (["--assets", "{assets}/falls"], "found no falls/Subject_1/Fall/13.mp4 (15 of 15"),
        (["--movenet", "{assets}/absent.onnx"], "--movenet: expected a file, found none at"),
        (["--config", "absent.yaml"], "expected a YAML file, found none at absent.yaml"),
        (["--set", "nope=1"], "nope: unknown key"),
    ],
)
def test_bad_arguments_are_refused_before_any_stage(
    arguments, message, assets, monkeypatch, capsys
):
    monkeypatch.setattr(after_fall, "run_stage1", lambda *_: pytest.fail("run"))
    given = ["--assets", "{assets}", "--movenet", str(SEGMENTS), *arguments]
    given = [text.format(assets=assets) for text in given]
    assert message in refusal(monkeypatch, capsys, after_fall.main, given)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (SEGMENTS, "falls_segments.csv: expected an ONNX network"),
        (SEGMENTS.parent / "models" / "fight.onnx", "expected MoveNet MultiPose, got "),
    ],
)
def test_another_file_than_movenet_is_refused(file, message, tmp_path, monkeypatch):
    networks.constant_yolox(tmp_path / "yolox.onnx", {})
    files = {"detector": tmp_path / "yolox.onnx"}
    monkeypatch.setattr(after_fall, "pose_model_files", lambda _: files)
    with pytest.raises(ModelError, match=message):
        after_fall.open_reference(load_config(SHIPPED_CONFIG), file)
