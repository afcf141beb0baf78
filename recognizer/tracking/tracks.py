"""Tracks of single people, and gap filling."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from recognizer.checks import check_number, check_type
from recognizer.types import FloatArray, IntArray, Poses, PoseSequence, Track

_ROUNDING_S = 1e-6


def split_tracks(sequence: PoseSequence) -> list[Track]:
    """Return one track per id, in order of the ids; rows without an id are left out.

    Raises:
        TypeError: no pose sequence.
        ValueError: an id stands twice in one frame.

    """
    check_type("sequence", sequence, PoseSequence)
    rows, frames = rows_by_person(sequence)
    ids = sequence.poses.track_ids[rows]
    ordered = sequence.poses[rows]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return [
        Track(int(ids[start]), frames[start:stop], ordered[start:stop])
        for start, stop in pairwise([*starts.tolist(), len(ids)])
    ]


def fill_gaps(sequence: PoseSequence, max_gap_s: float) -> PoseSequence:
    """Add rows where detections are missing for a short time.

    Between two detections of an id at most ``max_gap_s`` apart, every frame gets a row with
    box and keypoints on the straight line between them. Its ``box_scores`` and
    ``keypoint_scores`` are 0, which marks them as not detected. A keypoint
    missing at either end (score 0) is missing in between, with coordinates 0. New rows come
    after the rows of their frame.

    Args:
        sequence: tracked people; rows without an id are never joined.
        max_gap_s: longest time between the detections on both sides, seconds.

    Raises:
        TypeError: an argument of another type.
        ValueError: an id stands twice in one frame, or ``max_gap_s`` is negative or NaN.

    """
    check_type("sequence", sequence, PoseSequence)
    check_number("max_gap_s", max_gap_s)
    if not max_gap_s >= 0:
        raise ValueError(f"max_gap_s: expected 0 or more seconds, got {max_gap_s}")
    gaps = _find_gaps(sequence, max_gap_s)
    if not len(gaps.frames):
        return sequence
    return add_rows(sequence, _between(sequence.poses, gaps), gaps.frames)


def add_rows(sequence: PoseSequence, added: Poses, frames: IntArray) -> PoseSequence:
    """Return the sequence with more rows, ``added[i]`` after the rows of frame ``frames[i]``."""
    poses = Poses.concatenate([sequence.poses, added])
    frames = np.concatenate([sequence.frame_of_row, frames])
    counts = np.bincount(frames, minlength=len(sequence))
    return replace(
        sequence,
        poses=poses[np.argsort(frames, kind="stable")],
        frame_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def interpolated(keypoints: FloatArray, boxes: FloatArray, track_ids: IntArray) -> Poses:
    """Return rows (n,) of people who are not seen: ``box_scores`` and ``keypoint_scores`` 0."""
    count, points = keypoints.shape[:2]
    scores = np.zeros((count, points), np.float32)
    return Poses(keypoints, scores, boxes, np.zeros(count, np.float32), track_ids)


@dataclass(frozen=True, slots=True)
class _Gaps:
    """One entry per row to add: its frame, the rows around it, how near it is to the later."""

    frames: IntArray
    before: IntArray
    after: IntArray
    weight: FloatArray


def rows_by_person(sequence: PoseSequence) -> tuple[IntArray, IntArray]:
    """Return the rows that have an id, sorted by id and frame, and their frames."""
    ids = sequence.poses.track_ids
    rows = np.argsort(ids, kind="stable")  # rows come frame by frame
    rows = rows[np.searchsorted(ids[rows], 0) :]
    frames = sequence.frame_of_row[rows]
    twice = np.flatnonzero((np.diff(frames) == 0) & (np.diff(ids[rows]) == 0))
    if len(twice):
        row = rows[twice[0]]
        raise ValueError(
            f"track_ids: expected each id once per frame, got id {ids[row]} twice in frame "
            f"{frames[twice[0]]}; ids must come from one tracker"
        )
    return rows, frames


def _find_gaps(sequence: PoseSequence, max_gap_s: float) -> _Gaps:
    rows, frames = rows_by_person(sequence)
    ids, time_s = sequence.poses.track_ids[rows], sequence.time_s
    missing = np.diff(frames) - 1
    short = np.diff(time_s[frames]) <= max_gap_s + _ROUNDING_S
    ends = np.flatnonzero((np.diff(ids) == 0) & (missing > 0) & short)
    lengths = missing[ends]
    gap = np.repeat(ends, lengths)
    nth = np.arange(len(gap)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    added = frames[gap] + nth
    elapsed = time_s[added] - time_s[frames[gap]]
    whole = time_s[frames[gap + 1]] - time_s[frames[gap]]
    # Frames that share one time are spread by their number.
    weight = np.where(whole > 0, elapsed / np.where(whole > 0, whole, 1), nth / (missing[gap] + 1))
    return _Gaps(added, rows[gap], rows[gap + 1], weight.astype(np.float32))


def _between(poses: Poses, gaps: _Gaps) -> Poses:
    scores = poses.keypoint_scores
    known = (scores[gaps.before] > 0) & (scores[gaps.after] > 0)
    keypoints = _mix(poses.keypoints, gaps) * known[..., None].astype(np.float32)
    return interpolated(keypoints, _mix(poses.boxes, gaps), poses.track_ids[gaps.before])


def _mix(values: FloatArray, gaps: _Gaps) -> FloatArray:
    """Return ``values`` (N, ...) in the gaps, on the straight line between their ends."""
    weight = gaps.weight.reshape(-1, *[1] * (values.ndim - 1))
    mixed = values[gaps.before] * (1 - weight) + values[gaps.after] * weight
    return mixed.astype(np.float32, copy=False)
