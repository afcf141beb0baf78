"""Detection of lying people in the picture turned to either side.

A detector trained on people who stand misses most of those who lie; turned by a quarter they
stand. Of 30 frames a second few need the two further runs: ``topdown.turned_period_s``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recognizer.geometry import box_iou, nms
from recognizer.pose.detector import Boxes, Detector
from recognizer.types import FloatArray, Image, ImageArray, IntArray

# Of the search for people who lie, raised when its rules change: poses of two revisions are not
# mixed in one folder. 2: poses of people seen upright are dropped.
TURNED_REVISION = 2
TURNS = (1, -1)  # quarter turns, counterclockwise as np.rot90
_TURNED_WEIGHT = 0.9  # of a turned score: the same person upright wins
SAME_PERSON = 0.5  # IoU
_UPRIGHT_BONUS = 1.1  # of the mean keypoint score: most people are upright


@dataclass(frozen=True, slots=True)
class TurnedImage:
    """An image turned by a quarter, made only when its pixels are read."""

    image: Image
    turn: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, after the turn."""
        width, height = self.image.size_wh
        return height, width

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled to ``size_wh`` if given."""
        before = None if size_wh is None else (size_wh[1], size_wh[0])
        return np.rot90(self.image.bgr(before), self.turn)


def find_turned(detector: Detector, image: Image, found: Boxes) -> Boxes:
    """Return people found in the image turned both ways, in pixels of the image as it is.

    Turned scores count 0.9 of their own. Of two boxes with an IoU above 0.5 the better stays;
    what was found in the image as it is, is not returned again.
    """
    views = detector([TurnedImage(image, turn) for turn in TURNS])
    boxes = np.concatenate(
        [turned_back(v.xyxy, t, image.size_wh) for v, t in zip(views, TURNS, strict=True)]
    ).astype(np.float32)
    scores = np.concatenate([view.scores for view in views]) * np.float32(_TURNED_WEIGHT)
    best = nms(boxes, scores, SAME_PERSON)
    boxes, scores = boxes[best], scores[best]
    same = box_iou(boxes, found.xyxy) > SAME_PERSON
    new = ~(same & (found.scores >= scores[:, None])).any(axis=1)
    return Boxes(boxes[new], scores[new])


def best_turns(people: IntArray, turns: IntArray, scores: FloatArray) -> IntArray:
    """Return the row of each person's best turn, in the order of the people.

    Args:
        people: (N,) person of each row, from 0 on without a gap.
        turns: (N,) quarter turns of the picture.
        scores: (N, 17) keypoint scores; their mean decides, 1.1 times where nothing is turned.

    """
    worth = scores.mean(axis=1) * np.where(turns == 0, _UPRIGHT_BONUS, 1.0)
    order = np.lexsort([-worth, people])  # by person, the best turn first
    best: IntArray = order[np.flatnonzero(np.diff(people[order], prepend=-1))]
    return best


def turned_back(boxes: FloatArray, turn: int, size_wh: tuple[int, int]) -> FloatArray:
    """Map boxes (N, 4) of an image turned by ``turn`` to the image of size ``size_wh``."""
    width, height = size_wh
    x1, y1, x2, y2 = boxes.T
    sides: Sequence[FloatArray] = (
        (width - y2, x1, width - y1, x2) if turn == 1 else (y1, height - x2, y2, height - x1)
    )
    return np.stack(sides, axis=1)
