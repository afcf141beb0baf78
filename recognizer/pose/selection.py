"""Selection of person boxes for pose estimation, by a light association of boxes alone.

The detector's threshold is low, as ByteTrack continues a track by a box of low score near it, but
most boxes of low score are not used. Here a box gets a pose if its score can start a track or if it
overlaps a known person: any box of middle score that does, and one box of low score for each person
detected in the frame before without a better box now. This is the rule of ByteTrack (Zhang et al.
2022) on boxes alone, and so looser than a tracker that compares keypoints, too.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from recognizer.geometry import box_iou
from recognizer.types import BoolArray, Float64Array, FloatArray, IntArray

_MIN_OVERLAP = 0.2  # IoU of a known person with a box of middle score
_MIN_OVERLAP_LOW = 0.3  # and with one of low score
NEW_PERSON_MARGIN = 0.05  # above the middle score: starts a new person, as in the tracker
_ROUNDING_S = 1e-6
# At low frame rates people leave their own boxes from one frame to the next: boxes grow with the
# time between frames beyond 1/15 s, as they do in the tracker.
_NO_GROWTH_S, _GROWTH_PER_S, _MAX_GROWTH = 1 / 15, 2.2, 0.6  # s, heights per s, heights
_CONFIRMED = 2  # frames
_LOST_S = 3.0  # seconds that a lost person's place is remembered, for the turned search


@dataclass(slots=True)
class _TrackedBoxes:
    """The n known people: last box and time, number of frames, and orientation."""

    boxes: FloatArray  # (n, 4)
    last_s: Float64Array  # (n,)
    frames: IntArray  # (n,)
    turns: IntArray  # (n,) quarter turns of the picture that show them upright
    lying: FloatArray  # (n,) score of lying people, 0 of the others

    def __getitem__(self, rows: BoolArray) -> "_TrackedBoxes":
        return _TrackedBoxes(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Selection:
    """Of N boxes: (N,) which need a pose, (N,) row of the known person or -1."""

    needed: BoolArray
    person: IntArray


class KeptPeople:
    """The people of one video, frame after frame.

    Args:
        sure_score: boxes scored at least this continue a known person; a little more starts one.
        keep_s: how long undetected people are kept, seconds; at most 3.

    """

    def __init__(self, sure_score: float, keep_s: float) -> None:
        self._sure, self._keep_s = sure_score, keep_s
        none, score = np.zeros(0, np.int64), np.zeros(0, np.float32)
        self._people = _TrackedBoxes(np.zeros((0, 4), np.float32), np.zeros(0), none, none, score)
        self._time_s: float | None = None

    @property
    def boxes(self) -> FloatArray:
        """Last boxes (n, 4) of the people kept."""
        return self._people.boxes

    @property
    def turns(self) -> IntArray:
        """Quarter turns (n,) in which the people kept are posed best."""
        return self._people.turns

    @property
    def lying(self) -> FloatArray:
        """Scores (n,) of the people kept who lie; 0 of the others."""
        return self._people.lying

    def select(self, boxes: FloatArray, scores: FloatArray, time_s: float) -> Selection:
        """Take the boxes of the next frame and return which of them need a pose.

        Args:
            boxes: (N, 4) pixels.
            scores: (N,).
            time_s: when the frame was taken, seconds; not before the last one.

        """
        step_s = self._advance(time_s)
        people, first = self._people, self._time_s is None
        overlaps = self._overlaps(boxes, step_s)
        overlaps[time_s - people.last_s > self._keep_s + _ROUNDING_S] = 0
        sure, starts = scores >= self._sure, scores >= self._sure + NEW_PERSON_MARGIN
        person = np.full(len(scores), -1, np.int64)
        needed = starts | (sure & (overlaps > _MIN_OVERLAP).any(axis=0))
        _match(person, overlaps, np.ones(len(people.last_s), bool), sure, _MIN_OVERLAP)

        waiting = self._waiting(time_s - step_s)
        waiting[person[person >= 0]] = False
        _match(person, overlaps, waiting, ~sure, _MIN_OVERLAP_LOW)
        needed |= person >= 0
        self._update_matched(boxes, person, time_s)
        new = np.flatnonzero(starts & (person < 0))
        person[new] = len(self._people.last_s) + np.arange(len(new))
        # As in the tracker, people in the first frame are confirmed at once.
        none = np.zeros(len(new))
        self._add(boxes[new], none, none, time_s, _CONFIRMED if first else 1)
        self._time_s = time_s
        return Selection(needed, person)

    def unseen(self, time_s: float) -> BoolArray:
        """Tell which known people (n,) have no box in the frame at ``time_s``."""
        return np.asarray(self._people.last_s < time_s, np.bool_)

    def lying_unseen(self, time_s: float) -> IntArray:
        """Return the known people who lie and have no box in the frame at ``time_s``."""
        people = self._people
        recent = time_s - people.last_s <= self._keep_s + _ROUNDING_S
        return np.flatnonzero((people.lying > 0) & self.unseen(time_s) & recent)

    def turn(self, person: IntArray, turns: IntArray, lying: FloatArray) -> None:
        """Set the best turns of people, and the score of those who lie."""
        self._people.turns[person], self._people.lying[person] = turns, lying

    def place(
        self, boxes: FloatArray, turns: IntArray, scores: FloatArray, taken: IntArray, time_s: float
    ) -> None:
        """Match boxes (n, 4) of lying people with known people but ``taken``, or add new ones."""
        people = self._people
        free = np.ones(len(people.last_s), np.bool_)
        free[taken] = False
        person = np.full(len(boxes), -1, np.int64)
        all_boxes = np.ones(len(boxes), np.bool_)
        _match(person, self._overlaps(boxes, 0.0), free, all_boxes, _MIN_OVERLAP)
        self._update_matched(boxes, person, time_s)
        known = person >= 0
        self.turn(person[known], turns[known], scores[known])
        self._add(boxes[~known], turns[~known], scores[~known], time_s, _CONFIRMED)

    def _advance(self, time_s: float) -> float:
        """Remove people undetected for long; return the seconds since the last frame."""
        people, before = self._people, self._time_s
        step_s = 0.0 if before is None else time_s - before
        away_s = time_s - people.last_s
        brief = (people.frames < _CONFIRMED) & (away_s > step_s + _ROUNDING_S)
        self._people = people[(away_s <= _LOST_S + _ROUNDING_S) & ~brief]
        return step_s

    def _overlaps(self, boxes: FloatArray, step_s: float) -> Float64Array:
        share = min(max(step_s - _NO_GROWTH_S, 0.0) * _GROWTH_PER_S, _MAX_GROWTH)
        overlaps = box_iou(_grown(self._people.boxes, share), _grown(boxes, share))
        return np.asarray(overlaps, np.float64)

    def _waiting(self, before_s: float) -> BoolArray:
        """Tell which people lie, or were detected in the frame before and in more than one."""
        people = self._people
        before = (people.last_s >= before_s - _ROUNDING_S) & (people.frames >= _CONFIRMED)
        return np.asarray(before | (people.lying > 0), np.bool_)

    def _update_matched(self, boxes: FloatArray, person: IntArray, time_s: float) -> None:
        rows = np.flatnonzero(person >= 0)
        seen, people = person[rows], self._people
        people.boxes[seen] = boxes[rows]
        people.last_s[seen] = time_s
        people.frames[seen] += 1

    def _add(
        self,
        boxes: FloatArray,
        turns: NDArray[np.number[Any]],
        lying: NDArray[np.number[Any]],
        time_s: float,
        frames: int,
    ) -> None:
        people, count = self._people, len(boxes)
        self._people = _TrackedBoxes(
            np.concatenate([people.boxes, boxes]),
            np.concatenate([people.last_s, np.full(count, time_s)]),
            np.concatenate([people.frames, np.full(count, frames)]),
            np.concatenate([people.turns, turns.astype(np.int64)]),
            np.concatenate([people.lying, lying.astype(np.float32)]),
        )


def _grown(boxes: FloatArray, share: float) -> FloatArray:
    margin = share * (boxes[:, 3:] - boxes[:, 1:2])
    return np.asarray(boxes + margin * np.array([-1, -1, 1, 1], np.float32), np.float32)


def _match(
    person: IntArray, overlaps: Float64Array, people: BoolArray, boxes: BoolArray, threshold: float
) -> None:
    """Give each box of a mask (N,) its person among those of a mask (n,), in place."""
    rows, columns = np.flatnonzero(people), np.flatnonzero(boxes)
    worth = np.maximum(overlaps[rows[:, None], columns] - threshold, 0)
    i, j = linear_sum_assignment(worth, maximize=True)
    useful = worth[i, j] > 0
    person[columns[j[useful]]] = rows[i[useful]]
