"""Recall and precision of boxes, matched one to one by the rule of COCO's evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from annotation.teacher_labels import CROWD, PERSON, Labels
from recognizer.geometry import box_area, box_iou
from recognizer.types import FloatArray

IOU_THRESHOLD = 0.5
"""IoU from which a box is on a person."""


@dataclass(frozen=True, slots=True)
class BoxCounts:
    """Matches of boxes.

    Attributes:
        true_positives: boxes on a person; each person takes one.
        false_positives: boxes on nothing.
        people: to be found; doubts and crowds are not.

    """

    true_positives: int
    false_positives: int
    people: int

    @property
    def recall(self) -> float:
        """Share of the people who are found; 0 without people."""
        return self.true_positives / max(self.people, 1)

    @property
    def precision(self) -> float:
        """Share of the boxes that are people; 0 without boxes."""
        return self.true_positives / max(self.true_positives + self.false_positives, 1)


def total(counts: Iterable[BoxCounts]) -> BoxCounts:
    """Return the sum over pictures."""
    rows = [(one.true_positives, one.false_positives, one.people) for one in counts]
    right, wrong, people = np.array(rows, np.int64).reshape(-1, 3).sum(0).tolist()
    return BoxCounts(right, wrong, people)


def count_boxes(boxes: FloatArray, scores: FloatArray, labels: Labels) -> BoxCounts:
    """Return the matches of one picture.

    In the order of their scores, each box takes the person with the highest IoU who is still
    free, else a free doubt or any crowd; a box on these counts neither way. The overlap with a
    crowd is the share of the box that lies inside it.

    Args:
        boxes: (N, 4) x1 y1 x2 y2, pixels.
        scores: (N,).
        labels: who is in the picture.

    """
    overlaps = _overlaps(boxes, labels)
    free = np.ones(len(labels.kinds), np.bool_)
    people = labels.kinds == PERSON
    right = wrong = 0
    for row in np.argsort(-scores, kind="stable"):
        near = free & (overlaps[row] >= IOU_THRESHOLD)
        if not near.any():
            wrong += 1
            continue
        among = near & people if (near & people).any() else near
        best = int(np.where(among, overlaps[row], -1).argmax())
        right += bool(people[best])
        free[best] = labels.kinds[best] == CROWD
    return BoxCounts(right, wrong, int(people.sum()))


def _overlaps(boxes: FloatArray, labels: Labels) -> FloatArray:
    """Return (N, M): IoU with people and doubts, the share of the box inside a crowd."""
    iou = box_iou(boxes, labels.boxes)
    own, others = box_area(boxes)[:, None], box_area(labels.boxes)[None]
    shared = iou * (own + others) / (1 + iou)  # as IoU = shared / (own + others - shared)
    inside = shared / np.maximum(own, 1e-9)
    return np.asarray(np.where(labels.kinds == CROWD, inside, iou), np.float32)
