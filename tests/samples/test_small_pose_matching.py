"""Recall and precision of boxes: known matches, and COCO's own evaluation of the same boxes."""

import contextlib
import io

import numpy as np
import pytest

from annotation.teacher_labels import CROWD, DOUBT, PERSON, Labels
from samples.small_pose.matching import BoxCounts, count_boxes, total

A, B = (0, 0, 100, 100), (200, 0, 300, 100)


def labels_of(boxes, kinds):
    count = len(kinds)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    keypoints, scores = np.zeros((count, 17, 3), np.float32), np.zeros((count, 17), np.float32)
    areas = np.full(count, 1000, np.float32)
    return Labels(boxes, keypoints, scores, np.array(kinds, np.uint8), areas)


def counted(boxes, people, kinds, scores=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.1, len(boxes)) if scores is None else np.array(scores)
    found = count_boxes(boxes, scores.astype(np.float32), labels_of(people, kinds))
    return found.true_positives, found.false_positives, found.people


@pytest.mark.parametrize(
    ("boxes", "people", "kinds", "expected"),
    [
        ([], [], [], (0, 0, 0)),
        ([], [A], [PERSON], (0, 0, 1)),
        ([A], [], [], (0, 1, 0)),
        ([A, B], [A, B], [PERSON, PERSON], (2, 0, 2)),
        ([A, A], [A], [PERSON], (1, 1, 1)),  # found twice: once right, once wrong
        ([A], [A, (5, 0, 105, 100)], [PERSON, PERSON], (1, 0, 2)),  # one box, two people
        ([A, A], [A], [DOUBT], (0, 1, 0)),  # a doubt takes one box
        ([(0, 0, 50, 50), (50, 50, 90, 90)], [A], [CROWD], (0, 0, 0)),  # a crowd takes any
        ([(60, 0, 160, 100)], [A], [CROWD], (0, 1, 0)),  # 0.4 of it is inside
        ([A, A], [A, A], [DOUBT, PERSON], (1, 0, 1)),  # people come before doubts
    ],
)
def test_known_matches(boxes, people, kinds, expected):
    assert counted(boxes, people, kinds) == expected


def test_the_best_scored_box_chooses_first():
    near, exact = (10, 0, 110, 100), (0, 0, 100, 100)
    people = [(0, 0, 100, 100), (22, 0, 122, 100)]
    assert counted([near, exact], people, [PERSON] * 2, [0.2, 0.9]) == (2, 0, 2)


def test_shares_of_all_pictures():
    both = total([BoxCounts(3, 1, 4), BoxCounts(0, 2, 2)])
    assert (both.recall, both.precision) == (pytest.approx(0.5), pytest.approx(0.5))
    none = total([])
    assert (none.recall, none.precision) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_matches_are_those_of_coco(seed):
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(seed)
    people, boxes = random_boxes(rng, 12), random_boxes(rng, 15)
    boxes[:8] = people[:8] + rng.normal(0, 6, (8, 4))  # near, some twice
    boxes[8:11] = people[:3] + rng.normal(0, 6, (3, 4))
    kinds = rng.choice([PERSON, PERSON, DOUBT, CROWD], 12)
    scores = rng.permutation(15) / 15
    assert counted(boxes, people, kinds, scores) == by_coco(boxes, scores, people, kinds)


def random_boxes(rng, count):
    corner, size = rng.uniform(0, 150, (count, 2)), rng.uniform(40, 90, (count, 2))
    return np.concatenate([corner, corner + size], 1)


def by_coco(boxes, scores, people, kinds):
    """Return right and wrong boxes and people, by the matches of COCOeval at an IoU of 0.5."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def row(index, box):
        corner, size = box[:2], box[2:] - box[:2]
        bbox = [*map(float, corner), *map(float, size)]
        return {"id": index + 1, "image_id": 1, "category_id": 1, "bbox": bbox, "area": size.prod()}

    truth = [
        {**row(i, box), "iscrowd": int(kind == CROWD), "ignore": int(kind != PERSON)}
        for i, (box, kind) in enumerate(zip(people, kinds, strict=True))
    ]
    found = [
        {**row(i, box), "iscrowd": 0, "score": float(score)}
        for i, (box, score) in enumerate(zip(boxes, scores, strict=True))
    ]
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for rows in (truth, found):
            coco = COCO()
            coco.dataset = {
                "images": [{"id": 1}],
                "categories": [{"id": 1}],
                "annotations": rows,
            }
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation._prepare()
        # _prepare reads iscrowd alone: a doubt is ignored without being a crowd.
        for one in evaluation._gts[1, 1]:
            one["ignore"] = int(kinds[one["id"] - 1] != PERSON)
        evaluation.ious = {(1, 1): evaluation.computeIoU(1, 1)}
        image = evaluation.evaluateImg(1, 1, [0, 1e10], 100)
    matched, ignored = image["dtMatches"][0] > 0, image["dtIgnore"][0].astype(bool)
    right, wrong = int((matched & ~ignored).sum()), int((~matched & ~ignored).sum())
    return right, wrong, int((np.asarray(kinds) == PERSON).sum())
