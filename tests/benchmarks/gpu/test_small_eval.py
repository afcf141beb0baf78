"""Our keypoint AP beside pycocotools' on the same people."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.gpu.small_choice import CROWD, PERSON, Labels
from benchmarks.gpu.small_data import Data
from benchmarks.gpu.small_eval import Seen, average_precision, turned

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
        found.append(Seen(boxes, everyone, random.uniform(0.1, 1, len(everyone))))
    return found


def _reference(labels, found):
    """Return pycocotools' AP and AR."""
    annotations, rows = [], []
    for i, seen in enumerate(found):
        for m in np.flatnonzero(labels.kinds[i]):
            box, keypoints = labels.boxes[i, m], labels.keypoints[i, m].copy()
            keypoints[:, 2] *= 2
            annotations.append({
                "id": len(annotations) + 1, "image_id": i + 1, "category_id": 1,
                "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
                "area": float(labels.areas[i, m]), "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                "iscrowd": int(labels.kinds[i, m] == CROWD),
            })  # fmt: skip
        for keypoints, score in zip(seen.keypoints, seen.scores, strict=True):
            rank, flat = float(score * keypoints[:, 2].mean()), keypoints.ravel().tolist()
            rows.append({"image_id": i + 1, "category_id": 1, "keypoints": flat, "score": rank})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i + 1} for i in range(len(found))], "info": {},
        "categories": [{"id": 1, "name": "person"}], "annotations": annotations,
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[5]


@pytest.mark.parametrize("noise", [[0.5, 2], [2, 5, 20], [1, 3, 8]])
def test_ap_is_that_of_pycocotools(noise):
    random = np.random.default_rng(len(noise))
    labels = _people(random, 12)
    found = _seen(random, labels, noise)
    ours = average_precision(found, labels)
    precision, recall = _reference(labels, found)
    assert 0.05 < precision < 0.95
    assert ours["AP"] == pytest.approx(precision, abs=1e-6)
    assert ours["AR"] == pytest.approx(recall, abs=1e-6)


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
