"""Boxes and poses measured apart, on people whose errors are known."""

import numpy as np
import pytest

from annotation.teacher_labels import DOUBT, PERSON, Labels
from benchmarks.gpu.small_diagnosis import found, placed
from benchmarks.gpu.small_eval import Detections


def _labels():
    """Return a picture with a person, one whose pose nobody labelled, and a doubt."""
    boxes = np.array([[[0, 0, 50, 100], [100, 0, 150, 100], [200, 0, 250, 100]]], np.float32)
    inside = np.random.default_rng(0).uniform(0.2, 0.8, (1, 3, 17, 2))
    places = boxes[:, :, None, :2] + inside * (boxes[..., 2:] - boxes[..., :2])[:, :, None]
    known = np.ones((1, 3, 17, 1))
    known[0, 1] = 0
    keypoints = np.concatenate([places, known], -1).astype(np.float32)
    kinds = np.array([[PERSON, PERSON, DOUBT]], np.uint8)
    areas = np.full((1, 3), 3000, np.float32)
    return Labels(boxes, keypoints, np.ones((1, 3, 17), np.float32), kinds, areas)


def _seen(labels, shift):
    """Return the person and the doubt, shifted, and a ghost."""
    ghost = np.array([[300, 300, 340, 380]], np.float32)
    keypoints = labels.keypoints[0][[0, 2, 2]].copy()
    keypoints[..., :2] += shift
    scores = np.array([0.9, 0.6, 0.35], np.float32)
    return [Detections(np.concatenate([labels.boxes[0][[0, 2]], ghost]), keypoints, scores)]


@pytest.mark.parametrize(
    ("score", "recall", "precision"),
    [
        (0.3, 0.5, 0.5),
        (0.4, 0.5, 1.0),
        (0.95, 0.0, 0.0),
    ],
)
def test_ghosts_and_missed_people_count_and_doubts_do_not(score, recall, precision):
    labels = _labels()
    seen = found(_seen(labels, 0), labels, score)
    assert (seen["recall"], seen["precision"]) == (recall, precision)


@pytest.mark.parametrize(("shift", "pck", "near"), [(0, 1, 1), (12, 1, 0), (25, 0, 0)])
def test_a_shift_shows_as_offset_and_in_pck(shift, pck, near):
    labels = _labels()
    seen = placed(_seen(labels, np.array([shift, 0])), labels)
    assert seen["matched"] == 1
    assert (seen["pck@0.2"], seen["pck@0.1"]) == (pck, near)
    assert seen["keypoints"]["nose"]["offset"] == pytest.approx([shift / 100, 0], abs=1e-6)
    assert (seen["oks"] > 0.99) == (shift == 0)


def test_nobody_matched_is_reported():
    labels = _labels()
    seen = _seen(labels, 0)
    empty = [Detections(seen[0].boxes + 1000, seen[0].keypoints, seen[0].scores)]
    assert placed(empty, labels) == {"matched": 0}
