"""Which of the teacher's opinions make a label: people, people without a pose, doubts.

A doubt is neither a person nor background: nothing is learnt there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.geometry import box_area, box_iou, oks
from recognizer.types import FloatArray

PERSON, DOUBT, CROWD = 1, 2, 3
_KEYPOINT = 0.3  # score from which a keypoint's place is learnt
AREA = 0.6
"""Of a person's box that COCO's mean person covers, about."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Who is in a picture.

    Attributes:
        boxes: (N, 4) x1 y1 x2 y2, pixels.
        keypoints: (N, 17, 3): x, y and the weight of the place, 0 where it is not known.
        scores: (N, 17) target score of each keypoint, -1 without a target.
        kinds: (N,) PERSON, DOUBT or CROWD.
        areas: (N,) square pixels, the scale of OKS.

    """

    boxes: FloatArray
    keypoints: FloatArray
    scores: FloatArray
    kinds: NDArray[np.uint8]
    areas: FloatArray

    def __getitem__(self, rows: NDArray[np.int64]) -> "Labels":
        """Return some rows."""
        return Labels(
            self.boxes[rows],
            self.keypoints[rows],
            self.scores[rows],
            self.kinds[rows],
            self.areas[rows],
        )


def is_there(scores: FloatArray) -> NDArray[np.bool_]:
    """Return (N,) whether opinions on a box are enough for a person.

    Args:
        scores: (N, 3) of the detector upright, of the detector's best view, of MoveNet.

    """
    detector, movenet = scores[:, 1], scores[:, 2]
    both = (detector >= 0.15) & (movenet > 0)
    there: NDArray[np.bool_] = (detector >= 0.35) | (movenet >= 0.2) | both
    return there


def choose(seen: Mapping[str, NDArray[Any]]) -> Labels:
    """Return the labels of a picture from a teacher's candidates (``annotation.teacher``)."""
    boxes, keypoints = seen["boxes"].astype(np.float32), seen["keypoints"].astype(np.float32)
    detector, movenet = seen["scores"][:, 1], seen["scores"][:, 2]
    upright = seen["scores"][:, 0]
    points = keypoints[..., 2]
    mean, good = points.mean(1), (points >= 0.35).sum(1)
    # A box that only a turned view has is often a piece of furniture.
    least = np.where((upright < 0.15) & (movenet == 0), 0.42, 0.28)
    posed = is_there(seen["scores"]) & (good >= 5) & (mean >= least)
    plain = (upright >= 0.5) & ~posed
    doubtful = ~posed & ~plain & ((detector >= 0.12) | (movenet >= 0.12) | (mean >= 0.2))
    confidence = np.maximum(detector, 2 * movenet) * np.maximum(mean, 0.05) + posed
    kept = _without_duplicates(boxes, keypoints, confidence, posed | plain)
    rows = np.flatnonzero(kept | doubtful)
    kinds = np.where(kept, PERSON, DOUBT).astype(np.uint8)
    weights = np.where((points >= _KEYPOINT) & posed[:, None], points, 0)
    weights *= _agreement(keypoints, seen["movenet"], boxes)
    scores = np.where(posed[:, None], points, -1).astype(np.float32)
    located = np.concatenate([keypoints[..., :2], weights[..., None]], -1).astype(np.float32)
    boxes = around_keypoints(boxes, located)
    areas = (box_area(boxes) * AREA).astype(np.float32)
    return Labels(boxes[rows], located[rows], scores[rows], kinds[rows], areas[rows])


def _without_duplicates(
    boxes: FloatArray, keypoints: FloatArray, confidence: FloatArray, people: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which people stay when of two that are one the less trusted goes."""
    kept = people.copy()
    if not len(boxes):
        return kept
    visible = (keypoints[:, None, :, 2] > 0.2) & (keypoints[None, :, :, 2] > 0.2)
    areas = np.minimum(box_area(boxes)[:, None], box_area(boxes)[None]) * AREA
    alike = oks(keypoints[..., :2], keypoints[..., :2], visible, areas)
    duplicates = (alike > 0.5) | (box_iou(boxes, boxes) > 0.65)
    order = np.argsort(-confidence, kind="stable")
    for place, i in enumerate(order):
        if kept[i]:
            for j in order[place + 1 :]:
                kept[j] &= not duplicates[i, j]
    return kept


def _agreement(keypoints: FloatArray, other: FloatArray, boxes: FloatArray) -> FloatArray:
    """Return (N, 17): 1, or 0.4 where another network is as sure of another place."""
    size = np.sqrt(np.maximum(box_area(boxes), 1))[:, None]
    far = np.linalg.norm(keypoints[..., :2] - other[..., :2], axis=-1) > 0.12 * size
    return np.where(far & (other[..., 2] > 0.4), 0.4, 1.0).astype(np.float32)


def around_keypoints(boxes: FloatArray, keypoints: FloatArray) -> FloatArray:
    """Return boxes (N, 4) widened to hold their keypoints (N, 17, 3) of a weight above 0.4."""
    sure = keypoints[..., 2:] > 0.4
    low = np.where(sure, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(sure, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    corners = [np.minimum(boxes[:, :2], low), np.maximum(boxes[:, 2:], high)]
    return np.concatenate(corners, axis=1, dtype=np.float32)
