"""ByteTrack: give the people of successive frames ids that stay with them.

Confident detections are matched first, then the others to tracks that are left, so that a
half-hidden person, who scores low, keeps the id. A new track is confirmed when it is matched
once more. Unmatched tracks stay lost for a while and may come back.

With ``keypoint_weight`` 0 and 30 frames/s this gives the ids of the original, except that a
score equal to a threshold counts as above it. Beyond it:

- Similarity is a weighted mean of box overlap and keypoint similarity (OKS).
- Time is in seconds. At low frame rates a walking person leaves their own box from one frame to
  the next, and no new track would ever be confirmed; so boxes are buffered for matching, in
  proportion to the time between frames beyond 1/15 s (buffered IoU). The time since a track was
  last seen does not count: the original has nothing of that kind for lost tracks.

Source: Zhang et al. 2022, ByteTrack: Multi-Object Tracking by Associating Every Detection
Box; Yang et al. 2023, Hard to Track Objects with Irregular Motions and Similar Appearances?
"""

import math
from dataclasses import dataclass, fields
from types import NoneType
from typing import Self

import numpy as np

from recognizer.checks import check_number, check_type
from recognizer.config.schema import TrackingConfig
from recognizer.config.types import PoseKind
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.tracking import matching, motion
from recognizer.types import UNTRACKED, BoolArray, Float64Array, FloatArray, IntArray, Poses

# ByteTrack's own constants.
_MIN_GAIN_LOW = 0.5  # second match, of low scores
_MIN_GAIN_NEW = 0.3  # third match, of unconfirmed tracks
_DUPLICATE_OVERLAP = 0.85
# The original forgets a track two frames after its buffer has run out; half a frame for rounding.
_GRACE_S = 2.5 / motion.REFERENCE_FPS
_ROUNDING_S = 1e-6

_LEAST_STEP = 1e-3  # reference frames, for two frames of the same time
_PAUSE_S = 1.0  # all tracks end in a break longer than this and the buffer
# How far from the prediction a person may be. A brisk walker covers 1.5 heights/s, and the
# direction of a new track is unknown; 2.2 lost the fewest at 3, 5 and 10 frames/s (synthetic
# people).
_DISPLACEMENT_PER_S = 2.2  # heights
_MAX_DISPLACEMENT = 0.6  # heights; more would join neighbours
_NO_BUFFER_S = 1 / 15
_KEYPOINT_SEEN = 0.2  # keypoint score from which its position is used


@dataclass(slots=True)
class _Detections:
    """The m detections to match: the confident ones first, then those of low score."""

    rows: IntArray  # (m,) rows of the frame's Poses
    confident: int
    corners: Float64Array  # (4, m) x1 y1 x2 y2
    scores: FloatArray  # (m,)
    keypoints_rel: FloatArray | None  # (m, 17, 3) x, y, 1 where the keypoint was seen


@dataclass(slots=True)
class _Tracks:
    """All n tracks: the ``confirmed`` ones first, then those seen once."""

    confirmed: int
    motion: Float64Array  # (5, 4, n)
    ids: IntArray
    first_s: Float64Array
    last_s: Float64Array  # when last seen
    lost: BoolArray
    expired: BoolArray  # lost for too long: removed in the next frame
    keypoints_rel: FloatArray  # (n, 17, 3) x, y in heights from the box's centre, 1 where seen

    @classmethod
    def none(cls) -> Self:
        return cls(
            0,
            motion.no_motion(),
            np.zeros(0, np.int64),
            np.zeros(0),
            np.zeros(0),
            np.zeros(0, np.bool_),
            np.zeros(0, np.bool_),
            np.zeros((0, NUM_KEYPOINTS, 3), np.float32),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def remove(self, gone: BoolArray) -> None:
        """Remove the tracks of a mask (n,); the others keep their order."""
        stay = np.flatnonzero(~gone)
        self.confirmed = int(np.searchsorted(stay, self.confirmed))
        self.motion = self.motion[..., stay]
        for name in _PER_TRACK:
            setattr(self, name, getattr(self, name)[stay])

    def add(self, new_tracks: "_Tracks") -> None:
        """Append new tracks."""
        self.motion = np.concatenate([self.motion, new_tracks.motion], axis=-1)
        for name in _PER_TRACK:
            joined = np.concatenate([getattr(self, name), getattr(new_tracks, name)])
            setattr(self, name, joined)


_PER_TRACK = [f.name for f in fields(_Tracks) if f.name not in ("confirmed", "motion")]


class Tracker:
    """Ids for the people of one camera, frame after frame; they start at 1.

    Args:
        config: the config's section; None: the defaults.
        kind: of pose network, whose thresholds replace those that are null in ``config``; those
            of ByteTrack fit ``rtmo``.

    Raises:
        TypeError, ValueError: a config of another type, or an unknown kind.

    """

    def __init__(self, config: TrackingConfig | None = None, *, kind: PoseKind = "rtmo") -> None:
        check_type("config", config, TrackingConfig, NoneType)
        self._config = config = (config or TrackingConfig()).for_kind(kind)
        self._high_thresh = config.track_high_thresh or 0.0
        self._new_thresh = config.new_track_thresh or 0.0
        self._uses_keypoints = config.keypoint_weight > 0
        self.reset()

    def reset(self) -> None:
        """Remove all tracks and restart the ids, as for another video."""
        self._tracks = _Tracks.none()
        self._time_s: float | None = None
        self._next_id = 1

    def update(self, poses: Poses, time_s: float) -> Poses:
        """Return the same people in the same order with their ids.

        Args:
            poses: the people of the next frame; ids in them are ignored.
            time_s: when the frame was taken; later than the frame before.

        Returns:
            ``poses`` with ``track_ids``; -1 without a track: new people before they are seen
            twice (except in the very first frame), unmatched low scores, boxes below
            ``min_box_area``.

        Raises:
            TypeError: an argument of another type.
            ValueError: the time falls or is not finite, or a row holds NaN or infinity.

        """
        check_type("poses", poses, Poses)
        check_number("time_s", time_s)
        _require_finite(poses)
        first = self._time_s is None
        step_s = self._advance(time_s)
        detections = self._select(poses)
        tracks = self._tracks
        self._predict(step_s, time_s)
        seen, by = self._match(self._similarity(detections, step_s), detections)

        track_ids = np.full(len(poses), UNTRACKED, np.int64)
        track_ids[detections.rows[by]] = tracks.ids[seen]
        self._update_matched(seen, detections, by, time_s)
        self._mark_lost(seen, time_s)
        new = self._unmatched_high(detections, by)
        if len(new):
            new_ids = self._start_tracks(detections, new, time_s)
            if first:
                tracks.confirmed = len(tracks)
                track_ids[detections.rows[new]] = new_ids
        if tracks.lost.any():
            duplicates = self._remove_duplicates()
            track_ids[np.isin(track_ids, duplicates)] = UNTRACKED
        return poses.with_ids(track_ids)

    def _advance(self, time_s: float) -> float:
        """Take the time of the next frame and return the seconds since the last one."""
        before = self._time_s
        if not math.isfinite(time_s) or (before is not None and time_s < before):
            raise ValueError(
                f"time_s: expected a time not before the last frame's ({before}), got {time_s}; "
                "call reset() before another video"
            )
        self._time_s = time_s
        return 0.0 if before is None else time_s - before

    def _select(self, poses: Poses) -> _Detections:
        config = self._config
        corners = np.ascontiguousarray(poses.boxes.T, dtype=np.float64)
        scores = poses.box_scores
        width, height = corners[2:] - corners[:2]
        usable = (height > 0) & (width * height >= max(config.min_box_area, 1e-12))
        high = usable & (scores >= self._high_thresh)
        rows = np.flatnonzero(high)
        confident = len(rows)
        if confident < len(scores):
            low = usable & ~high & (scores >= config.track_low_thresh)
            rows = np.concatenate([rows, np.flatnonzero(low)])
            corners, scores = corners[:, rows], scores[rows]
        keypoints_rel = None
        if self._uses_keypoints:
            visible = poses.keypoint_scores[rows] >= _KEYPOINT_SEEN
            keypoints_rel = np.dstack([poses.keypoints[rows], visible.astype(np.float32)])
        return _Detections(rows, confident, corners, scores, keypoints_rel)

    def _predict(self, step_s: float, time_s: float) -> None:
        """Move all tracks on to ``time_s``; remove those lost for too long."""
        tracks, buffer_s = self._tracks, self._config.track_buffer_s
        if step_s > max(buffer_s, _PAUSE_S):
            tracks.remove(np.ones(len(tracks), np.bool_))
        elif tracks.lost.any():
            gone = tracks.lost & (time_s - tracks.last_s > buffer_s + _GRACE_S)
            if gone.any():
                tracks.remove(gone)
        elapsed = max(step_s * motion.REFERENCE_FPS, _LEAST_STEP)
        motion.predict(tracks.motion[..., : tracks.confirmed], elapsed)
        # The original does not predict new tracks, one frame old: here, one reference frame.
        if elapsed > 1 and tracks.confirmed < len(tracks):
            motion.predict(tracks.motion[..., tracks.confirmed :], elapsed - 1)

    def _similarity(self, detections: _Detections, step_s: float) -> Float64Array:
        """Return the similarity of each track and each detection, (n, m) in [0, 1]."""
        expected, found = motion.corners_of(self._tracks.motion), detections.corners
        if step_s > _NO_BUFFER_S:
            heights = _max_displacement(step_s - _NO_BUFFER_S)
            expected = matching.buffered(expected, heights)
            found = matching.buffered(found, heights)
        similarity = matching.overlaps(expected, found)
        if detections.keypoints_rel is not None:
            self._mix_in_keypoints(
                similarity, detections, detections.keypoints_rel, _max_displacement(step_s)
            )
        return similarity

    def _mix_in_keypoints(
        self,
        similarity: Float64Array,
        detections: _Detections,
        found: FloatArray,
        max_displacement: float,
    ) -> None:
        """Replace overlaps by the mean of overlap and OKS where keypoints are visible, in place."""
        tracks, config = self._tracks, self._config
        # Bodies in boxes that do not touch keep a similarity of 0.
        rows, columns = np.nonzero(similarity)
        centres, heights = tracks.motion[0, :2].T[:, None], tracks.motion[0, motion.HEIGHT]
        expected = tracks.keypoints_rel.copy()
        expected[..., :2] = expected[..., :2] * heights[:, None, None] + centres
        x1, y1, x2, y2 = detections.corners[:, columns]
        bodies, meaningful = matching.keypoint_similarity(
            expected[rows], found[columns], (x2 - x1) * (y2 - y1), max_displacement * heights[rows]
        )
        rows, columns = rows[meaningful], columns[meaningful]
        mixed = config.iou_weight * similarity[rows, columns]
        mixed += config.keypoint_weight * bodies[meaningful]
        similarity[rows, columns] = mixed / (config.iou_weight + config.keypoint_weight)

    def _match(
        self, similarity: Float64Array, detections: _Detections
    ) -> tuple[IntArray, IntArray]:
        """Return tracks and the detections they are matched with, in three rounds."""
        tracks, old, sure = self._tracks, self._tracks.confirmed, detections.confident
        threshold = 1 - self._config.match_thresh
        by_score = similarity[:, :sure]
        if self._config.fuse_score:
            by_score = by_score * detections.scores[:sure]
        seen, by = matching.assign(by_score[:old], threshold)
        rounds = [(seen, by)]
        if sure < len(detections.rows):
            waiting = ~tracks.lost[:old]
            waiting[seen] = False
            rows = np.flatnonzero(waiting)
            i, j = matching.assign(similarity[rows, sure:], _MIN_GAIN_LOW)
            rounds.append((rows[i], sure + j))
        if old < len(tracks) and len(by) < sure:
            free = _others(by, sure)
            i, j = matching.assign(by_score[old:, free], _MIN_GAIN_NEW)
            rounds.append((old + i, free[j]))
        if len(rounds) == 1:
            return seen, by
        return np.concatenate([r for r, _ in rounds]), np.concatenate([c for _, c in rounds])

    def _update_matched(
        self, seen: IntArray, detections: _Detections, by: IntArray, time_s: float
    ) -> None:
        tracks = self._tracks
        measured = motion.measure(detections.corners[:, by])
        state = motion.correct(tracks.motion[..., seen], measured)
        tracks.motion[..., seen] = state
        tracks.last_s[seen] = time_s
        tracks.lost[seen] = False
        if detections.keypoints_rel is not None:
            tracks.keypoints_rel[seen] = _relative(detections.keypoints_rel[by], state)

    def _mark_lost(self, seen: IntArray, time_s: float) -> None:
        """Mark unmatched tracks as lost; remove unconfirmed ones and those lost for long."""
        tracks = self._tracks
        if len(seen) == len(tracks):
            tracks.confirmed = len(tracks)
            return
        lost_since = time_s - tracks.last_s
        late = tracks.lost & (lost_since > self._config.track_buffer_s + _ROUNDING_S)
        unseen = _others(seen, len(tracks))
        tracks.lost[unseen] = True
        tracks.motion[motion.SPEED, motion.HEIGHT, unseen] = 0
        gone = tracks.lost & tracks.expired
        gone[tracks.confirmed :] |= tracks.lost[tracks.confirmed :]
        tracks.expired |= late
        if gone.any():
            tracks.remove(gone)
        tracks.confirmed = len(tracks)

    def _unmatched_high(self, detections: _Detections, by: IntArray) -> IntArray:
        if len(by) == len(detections.rows):
            return by[:0]
        free = _others(by, len(detections.rows))
        free = free[free < detections.confident]
        return free[detections.scores[free] >= self._new_thresh]

    def _start_tracks(self, detections: _Detections, new: IntArray, time_s: float) -> IntArray:
        """Start tracks of the detections ``new`` and return their ids."""
        count = len(new)
        ids = np.arange(self._next_id, self._next_id + count, dtype=np.int64)
        self._next_id += count
        state = motion.start(motion.measure(detections.corners[:, new]))
        if detections.keypoints_rel is None:
            keypoints_rel = np.zeros((count, NUM_KEYPOINTS, 3), np.float32)
        else:
            keypoints_rel = _relative(detections.keypoints_rel[new], state)
        now, no = np.full(count, time_s), np.zeros(count, np.bool_)
        self._tracks.add(_Tracks(0, state, ids, now, now, no, no, keypoints_rel))
        return ids

    def _remove_duplicates(self) -> IntArray:
        """Remove the shorter-lived of a seen and a lost track that overlap; return their ids."""
        tracks = self._tracks
        corners = motion.corners_of(tracks.motion)
        seen, lost = np.flatnonzero(~tracks.lost), np.flatnonzero(tracks.lost)
        i, j = np.nonzero(
            matching.overlaps(corners[:, seen], corners[:, lost]) > _DUPLICATE_OVERLAP
        )
        if not len(i):
            return tracks.ids[:0]
        lived = tracks.last_s - tracks.first_s
        longer = lived[seen[i]] > lived[lost[j]] + _ROUNDING_S
        gone = np.zeros(len(tracks), np.bool_)
        gone[np.where(longer, lost[j], seen[i])] = True
        ids: IntArray = tracks.ids[gone]
        tracks.remove(gone)
        return ids


def _max_displacement(seconds: float) -> float:
    return min(_DISPLACEMENT_PER_S * seconds, _MAX_DISPLACEMENT)


def _others(numbers: IntArray, stop: int) -> IntArray:
    """Return the numbers in ``range(stop)`` that are not among ``numbers``."""
    others = np.ones(stop, np.bool_)
    others[numbers[numbers < stop]] = False
    return np.flatnonzero(others)


def _relative(keypoints_rel: FloatArray, state: Float64Array) -> FloatArray:
    """Return keypoints (n, 17, 3) from pixels to heights from the box's centre."""
    relative = keypoints_rel.copy()
    relative[..., :2] -= state[0, :2].T[:, None]
    relative[..., :2] /= state[0, motion.HEIGHT][:, None, None]
    return relative


def _require_finite(poses: Poses) -> None:
    arrays = {
        "keypoints": poses.keypoints,
        "keypoint_scores": poses.keypoint_scores,
        "boxes": poses.boxes,
        "box_scores": poses.box_scores,
    }
    for name, array in arrays.items():
        # The sum of squares is the quickest test that all numbers are finite.
        if not math.isfinite(np.vdot(array, array)):
            finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            if not finite.all():
                row = int(np.flatnonzero(~finite)[0])
                raise ValueError(
                    f"{name}: expected finite numbers, got NaN or infinity in row {row} of "
                    f"{len(array)}; the pose model or the file they come from is at fault"
                )
