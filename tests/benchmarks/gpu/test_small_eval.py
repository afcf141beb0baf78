"""Keypoint AP of made people, and turned pictures."""

import numpy as np
import pytest

from annotation.teacher_labels import CROWD, DOUBT, PERSON, Labels
from benchmarks.gpu.small_data import Data
from benchmarks.gpu.small_eval import Detections, average_precision, turned

SLOTS = 6


def _people(random, pictures):
    """Return labels with people, people without keypoints, crowds and empty slots."""
    corner = random.uniform(0, 250, (pictures, SLOTS, 2))
    boxes = np.concatenate([corner, corner + random.uniform(40, 160, corner.shape)], -1)
    inside = random.uniform(0, 1, (pictures, SLOTS, 17, 2))
    places = corner[:, :, None] + inside * (boxes[..., 2:] - corner)[:, :, None]
    known = (random.random((pictures, SLOTS, 17)) < 0.8).astype(float)
    known[:, 1] = 0  # nobody labelled the keypoints
    kinds = np.full((pictures, SLOTS), PERSON, np.uint8)
    kinds[::3, 2] = CROWD
    kinds[1::2, 4:] = 0
    areas = (boxes[..., 2:] - corner).prod(-1) * 0.6
    keypoints = np.concatenate([places, known[..., None]], -1)
    arrays = [a.astype(np.float32) for a in (boxes, keypoints, known)]
    return Labels(*arrays, kinds, areas.astype(np.float32))


def _seen(random, labels, noise):
    """Return the people, each a little off, and some who are not there."""
    found = []
    for i in range(len(labels.kinds)):
        rows = np.flatnonzero(labels.kinds[i])
        rows = rows[random.random(len(rows)) < 0.8]
        keypoints = labels.keypoints[i][rows].copy()
        keypoints[..., :2] += random.normal(0, 1, keypoints[..., :2].shape) * random.choice(
            noise, (len(rows), 1, 1)
        )
        keypoints[..., 2] = random.uniform(0.3, 1, keypoints[..., 2].shape)
        ghost = random.uniform(0, 400, (2, 17, 3))
        ghost[..., 2] = 0.5
        everyone = np.concatenate([keypoints, ghost]).astype(np.float32)
        boxes = np.concatenate([everyone[..., :2].min(1), everyone[..., :2].max(1)], 1)
        found.append(Detections(boxes, everyone, random.uniform(0.1, 1, len(everyone))))
    return found


@pytest.mark.parametrize(
    ("noise", "doubts", "ap", "ap50", "ar", "found", "people"),
    [
        ([0.5, 2], 0, 0.6625872016, 0.7126007344, 0.8068181818, 0.6785714286, 44),
        ([0.5, 2], 1, 0.5930243678, 0.6511177679, 0.7756097561, 0.5849056604, 41),
        ([2, 5, 20], 0, 0.1992878315, 0.4102578483, 0.4045454545, 0.5892857143, 44),
        ([2, 5, 20], 1, 0.3235220048, 0.4286369523, 0.4804878049, 0.5471698113, 41),
        ([1, 3, 8], 0, 0.3627496467, 0.6444126108, 0.5977272727, 0.6428571429, 44),
        ([1, 3, 8], 1, 0.4569948895, 0.6282738640, 0.6268292683, 0.5849056604, 41),
    ],
)
def test_ap_and_people_found(noise, doubts, ap, ap50, ar, found, people):
    random = np.random.default_rng(7 if doubts else len(noise))
    labels = _people(random, 12)
    if doubts:
        labels.kinds[2::4, 3] = DOUBT
        labels.keypoints[2::4, 3, :, 2] = 0
    expected = {"AP": ap, "AP50": ap50, "AR": ar, "found": found, "people": people}
    assert average_precision(_seen(random, labels, noise), labels) == pytest.approx(
        expected, abs=1e-6
    )


def test_nobody_seen_is_zero():
    labels = _people(np.random.default_rng(0), 2)
    empty = Detections(np.zeros((0, 4)), np.zeros((0, 17, 3)), np.zeros(0))
    found = average_precision([empty, empty], labels)
    assert (found["AP"], found["AR"], found["found"]) == (0, 0, 0)


def test_a_turned_picture_carries_its_people():
    random = np.random.default_rng(0)
    labels = _people(random, 2)
    pictures = random.integers(0, 256, (2, 416, 416, 3)).astype(np.uint8)
    data = Data(pictures, labels, np.zeros(2, np.uint8), np.array(["a", "a"]))
    there = turned(data)
    x, y = labels.keypoints[0, 0, 3, :2]
    u, v = there.labels.keypoints[0, 0, 3, :2]
    assert (there.pictures[0, int(v), int(u)] == pictures[0, int(y), int(x)]).all()
    extent = there.labels.boxes[0, 0, 2:] - there.labels.boxes[0, 0, :2]
    before = labels.boxes[0, 0, 2:] - labels.boxes[0, 0, :2]
    assert extent == pytest.approx(before[::-1], abs=1e-3)
