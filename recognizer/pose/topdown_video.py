"""Top-down pose estimation of one video, with a memory of the people in earlier frames.

Only people usable for the tracker get a pose (``selection``), and every few tenths of a second
the picture is searched for people who lie, turned both ways (``turned``). Between two searches
a lying person is posed again in the last box if the detector finds no new one; the mean keypoint
score decides whether the person is still there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from recognizer.config.models import TopDownConfig
from recognizer.geometry import box_iou
from recognizer.pose.detector import Boxes, Detector
from recognizer.pose.selection import KeptPeople
from recognizer.pose.turned import SAME_PERSON, TURNS, best_turns, find_turned
from recognizer.types import BoolArray, FloatArray, Image, IntArray, Poses

KeypointsOf = Callable[
    [Sequence[Image], IntArray, FloatArray, IntArray | None], tuple[FloatArray, FloatArray]
]

# IoU with a known person, more with a lying one. Chosen on clips of falls (share of frames tracked
# after the fall) against fights (false boxes).
_NEAR, _NEAR_LYING = 0.2, 0.3
_SCORE_NEAR = 0.18  # box score, 0.2 of the detector, that needs no pose near a known person
_SCORE_ELSEWHERE = 0.2  # box score from which a new person is posed
_UPRIGHT_SCORE = 0.6  # box score of a sure detection in the picture as it is
_SURE_KEYPOINT = 0.3  # keypoint score
_SAME_POSE = 0.7  # share of sure keypoints in such a box: the same person
# Seconds that undetected people are kept: the default of tracking.track_buffer_s, but fixed, so
# that a change of the tracking leaves poses valid. After that only a box that could start a track
# gets a pose.
_KEEP_S = 1.0
_ROUNDING_S = 1e-3


@dataclass(frozen=True, eq=False, slots=True)
class _PeopleToPose:
    """People of one frame to be posed: boxes (N, 4), scores (N,), known turns (N,)."""

    boxes: FloatArray
    scores: FloatArray
    turns: IntArray

    @classmethod
    def joined(cls, *parts: tuple[FloatArray, FloatArray, IntArray]) -> Self:
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, IntArray]:
        return self.boxes, self.scores, self.turns

    def __len__(self) -> int:
        return len(self.scores)


class TopDownVideo:
    """Batches of successive frames of one video -> Poses; the size of a batch changes nothing.

    Args:
        detector: images to person boxes.
        keypoints_of: ``TopDownPose.keypoints_of``.
        settings: the config's section.

    """

    def __init__(
        self, detector: Detector, keypoints_of: KeypointsOf, settings: TopDownConfig
    ) -> None:
        self._detector, self._keypoints_of, self._settings = detector, keypoints_of, settings
        self._kept = KeptPeople(settings.sure_score, _KEEP_S)
        self._searched_s: float | None = None

    def __call__(self, images: Sequence[Image], times_s: Sequence[float]) -> list[Poses]:
        """Return the people of each image, in image pixels.

        Args:
            images: the next frames.
            times_s: when they were taken, seconds; never falling.

        """
        poses = [Poses.empty() for _ in images]
        pending: dict[int, _PeopleToPose] = {}
        detections = self._detector(images)
        for i, (image, found, time_s) in enumerate(zip(images, detections, times_s, strict=True)):
            if self._is_search_due(time_s):
                self._searched_s = time_s
                poses[i] = self._search(image, found, time_s)
            else:
                pending[i], _ = self._select(found, time_s)
        return self._pose_together(images, pending, poses)

    def _is_search_due(self, time_s: float) -> bool:
        if not self._settings.turned:
            return False
        before = self._searched_s
        return before is None or time_s - before >= self._settings.turned_period_s - _ROUNDING_S

    def _select(self, found: Boxes, time_s: float) -> tuple[_PeopleToPose, IntArray]:
        """Return the boxes of a frame to be posed, and (N,) the known person of each, or -1.

        Lying people without a box in the frame come last, in their last boxes.
        """
        kept = self._kept
        chosen = kept.select(found.xyxy, found.scores, time_s)
        needed = chosen.needed | (not self._settings.selective)
        person = chosen.person[needed]
        lying = kept.lying_unseen(time_s)
        to_pose = _PeopleToPose.joined(
            (found.xyxy[needed], found.scores[needed], np.append(kept.turns, 0)[person]),
            (kept.boxes[lying], kept.lying[lying], kept.turns[lying]),
        )
        return to_pose, np.concatenate([person, lying])

    def _pose_together(
        self, images: Sequence[Image], pending: dict[int, _PeopleToPose], poses: list[Poses]
    ) -> list[Poses]:
        """Fill in the poses of the pending frames, all people in one go."""
        counts = [len(people) for people in pending.values()]
        if not sum(counts):
            return poses
        owners = np.repeat(list(pending), counts)
        everyone = _PeopleToPose.joined(*(people.arrays for people in pending.values()))
        keypoints, scores = self._keypoints_of(images, owners, everyone.boxes, everyone.turns)
        people = Poses.untracked(keypoints, scores, everyone.boxes, everyone.scores)
        stops = np.cumsum(counts)
        for i, count, stop in zip(pending, counts, stops, strict=True):
            poses[i] = people[stop - count : stop]
        return poses

    def _search(self, image: Image, found: Boxes, time_s: float) -> Poses:
        """Pose the people of a frame that is also searched turned, each in the best turn.

        People found only turned, or not at all, need a high enough mean keypoint score or box
        score; others are left out.
        """
        to_pose, person = self._select(found, time_s)
        doubtful = self._kept.unseen(time_s)
        doubtful[person[(to_pose.scores < self._settings.sure_score) & (person >= 0)]] = True
        turned, enough = self._plausible_turned(find_turned(self._detector, image, found), doubtful)
        lying = np.isin(person, self._kept.lying_unseen(time_s))
        count = len(to_pose)
        to_pose = _PeopleToPose.joined(
            (to_pose.boxes, to_pose.scores, to_pose.turns),
            (turned.xyxy, turned.scores, np.full(len(turned.scores), TURNS[0])),
        )
        if not len(to_pose):
            return Poses.empty()
        keypoints, keypoint_scores, turns = self._best_turns(image, to_pose)
        mean = keypoint_scores.mean(axis=1)
        posed = mean >= self._settings.turned_min_keypoint_score
        good = posed | np.concatenate([~lying, turned.scores >= enough])
        again = _is_seen_upright(keypoints[count:], keypoint_scores[count:], found)
        good[count:] &= (enough == 0) | ~again  # a person known to lie there is kept
        found_turned = good & (np.arange(len(to_pose)) >= count)
        same = box_iou(to_pose.boxes, to_pose.boxes[found_turned]) > SAME_PERSON
        good &= found_turned | ~same.any(axis=1)

        unsure = found_turned | np.append(lying, np.zeros(len(turned.scores), np.bool_))
        lowest = np.maximum(mean, np.float32(self._settings.sure_score))
        scores = np.where(unsure, np.maximum(to_pose.scores, lowest), to_pose.scores)
        known = person >= 0
        held = np.where(posed[:count] & good[:count] & (turns[:count] != 0), scores[:count], 0)
        self._kept.turn(person[known], turns[:count][known], held[known])
        self._kept.place(
            to_pose.boxes[found_turned],
            turns[found_turned],
            scores[found_turned],
            person[good[:count] & known],
            time_s,
        )
        return Poses.untracked(keypoints, keypoint_scores, to_pose.boxes, scores)[good]

    def _plausible_turned(self, turned: Boxes, doubtful: BoolArray) -> tuple[Boxes, FloatArray]:
        """Return the boxes found turned that may be people, and the scores that need no pose (N,).

        That score is low near a person lost a moment ago or of low score (``doubtful``, of those
        known), 0 near a lying person, infinite elsewhere.
        """
        overlaps = box_iou(turned.xyxy, self._kept.boxes)
        lay = (overlaps[:, self._kept.lying > 0] > _NEAR_LYING).any(axis=1)
        near = lay | (overlaps[:, doubtful] > _NEAR).any(axis=1)
        rows = near | (turned.scores >= _SCORE_ELSEWHERE)
        enough = np.where(lay, 0.0, np.where(near, _SCORE_NEAR, np.inf)).astype(np.float32)
        return Boxes(turned.xyxy[rows], turned.scores[rows]), enough[rows]

    def _best_turns(
        self, image: Image, to_pose: _PeopleToPose
    ) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return keypoints and scores of people in the turn of the best mean score, and the turn.

        A person in a box higher than wide, and not known to lie, is only posed upright.
        """
        width, height = (to_pose.boxes[:, 2:] - to_pose.boxes[:, :2]).T
        both = np.flatnonzero((width > height) | (to_pose.turns != 0))
        people = np.concatenate([np.arange(len(to_pose)), np.repeat(both, len(TURNS))])
        turns = np.concatenate([np.zeros(len(to_pose), np.int64), np.tile(TURNS, len(both))])
        keypoints, scores = self._keypoints_of(
            [image], np.zeros(len(people), np.int64), to_pose.boxes[people], turns
        )
        best = best_turns(people, turns, scores)
        return keypoints[best], scores[best], turns[best]


def _is_seen_upright(keypoints: FloatArray, scores: FloatArray, found: Boxes) -> BoolArray:
    """Tell which poses (N, 17, 2) belong to sure detections in the picture as it is, (N,).

    In a turned picture of a person sitting on a bed, the detector draws boxes around the bed or
    across the lap; the pose in them is that of the sitting person.
    """
    left, top, right, bottom = found.xyxy[found.scores >= _UPRIGHT_SCORE].T
    x, y = keypoints[:, :, None, 0], keypoints[:, :, None, 1]  # (N, 17, 1)
    sure = scores >= _SURE_KEYPOINT
    inside = (left <= x) & (x <= right) & (top <= y) & (y <= bottom) & sure[:, :, None]
    required = np.maximum(_SAME_POSE * sure.sum(axis=1), 1)
    seen: BoolArray = (inside.sum(axis=1) >= required[:, None]).any(axis=1)
    return seen
