"""Track a video backward too, which gives ids to weak detections before a track's start.

ByteTrack starts a track at a confident detection and uses weak ones only to continue a track.
Backward in time, the weak detections before that start continue one.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from recognizer.config.schema import TrackingConfig
from recognizer.tracking.tracker import Tracker
from recognizer.types import UNTRACKED, BoolArray, IntArray, PoseSequence

Progress: TypeAlias = Callable[[Iterable[Any]], Iterable[Any]]


def track_forward(
    sequence: PoseSequence, settings: TrackingConfig, progress: Progress = iter
) -> IntArray:
    """Return the id (N,) of every row, -1 for none; ``progress`` sees each frame."""
    tracker = Tracker(settings)
    frames = progress(zip(sequence.frames(), sequence.time_s, strict=True))
    ids = [tracker.update(poses, float(time_s)).track_ids for poses, time_s in frames]
    return np.concatenate([np.zeros(0, np.int64), *ids])


def track_backward(
    sequence: PoseSequence, settings: TrackingConfig, progress: Progress = iter
) -> IntArray:
    """Return the id (N,) of every row when time runs from the end to the start."""
    tracker, ids = Tracker(settings), np.full(len(sequence.poses), UNTRACKED, np.int64)
    end_s = float(sequence.time_s[-1]) if len(sequence) else 0.0
    for t in progress(range(len(sequence) - 1, -1, -1)):
        rows = slice(int(sequence.frame_offsets[t]), int(sequence.frame_offsets[t + 1]))
        ids[rows] = tracker.update(sequence.frame(t), end_s - float(sequence.time_s[t])).track_ids
    return ids


def adopt_backward(forward: IntArray, backward: IntArray, frames: IntArray) -> IntArray:
    """Give rows without an id the nearest one in time of their backward track.

    People known to the backward run alone stay without one.

    Args:
        forward: (N,) ids of the forward run, -1 for none.
        backward: (N,) ids of the backward run.
        frames: (N,) the frame of each row, rising.

    Returns:
        (N,) ids, those of ``forward`` unchanged; each id at most once in a frame.

    """
    rows = np.flatnonzero(backward >= 0)
    rows = rows[np.argsort(backward[rows], kind="stable")]  # rows come frame by frame
    known = forward[rows] >= 0
    before, after = _nearest_known(known, backward[rows])
    gap_before = _distance(frames[rows], before)
    gap_after = _distance(frames[rows], after)
    nearest = np.where(gap_before <= gap_after, before, after)
    gap = np.minimum(gap_before, gap_after)
    free = np.flatnonzero(~known & (nearest >= 0))
    forward_ids = forward[rows[nearest[free]]]
    # The row nearest in time to the track gets its id in a frame.
    taken = set(zip(frames[forward >= 0].tolist(), forward[forward >= 0].tolist(), strict=True))
    ids = forward.copy()
    for n in np.lexsort((frames[rows[free]], gap[free])):
        row = rows[free[n]]
        place = (int(frames[row]), int(forward_ids[n]))
        if place not in taken:
            taken.add(place)
            ids[row] = forward_ids[n]
    return ids


def _nearest_known(known: BoolArray, group: IntArray) -> tuple[IntArray, IntArray]:
    """Return the index of the nearest known entry before and after each, -1 for none."""
    index = np.arange(len(known))
    before = np.maximum.accumulate(np.where(known, index, -1)) if len(known) else index
    backwards = np.where(known, index, len(known))[::-1]
    after = np.minimum.accumulate(backwards)[::-1] if len(known) else index
    after = np.where(after == len(known), -1, after)
    before = np.where((before >= 0) & (group[before] == group), before, -1)
    return before, np.where((after >= 0) & (group[after] == group), after, -1)


def _distance(frames: IntArray, other: IntArray) -> IntArray:
    far = np.iinfo(np.int64).max
    return np.where(other >= 0, np.abs(frames[other] - frames), far)
