"""Join tracks of one person whom the tracker lost and found again under another id.

Works offline on summaries of the tracks (their two ends), not on frames: memory and time grow
with the number of tracks and of pairs that meet within the limit, so that a day of video is
no harder than its busiest second.

Source: tracklet linking by two-sided motion prediction and one assignment for all, as in
Huang et al. 2008, Robust Object Tracking by Hierarchical Association of Detection Responses.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.tracking import matching
from recognizer.tracking.tracks import rows_by_person
from recognizer.types import Float64Array, FloatArray, IntArray, PoseSequence

_SPEED_S = 0.3  # of a track's end, from which its speed is taken
_MIN_SPEED_S = 0.1  # a shorter piece has no speed worth using
# Allowed distance from the prediction, in heights: at once, per second, at most.
_REACH, _REACH_PER_S, _MAX_REACH = 0.25, 1.0, 0.75
_MAX_GROWTH = 3.0  # ratio of areas: half a body against a whole one, one box against two
_BLUR = 0.1  # heights: how far limbs move in a gap
_KEYPOINT_SEEN = 0.2
_WEIGHTS = 0.6, 0.2, 0.2  # place, size, keypoints
_MIN_GAIN = 0.3


@dataclass(frozen=True, slots=True)
class _Ends:
    """One end of n tracks: the box there and how it moves."""

    time_s: Float64Array  # (n,)
    frames: IntArray  # (n,)
    centres: Float64Array  # (n, 2) pixels
    sizes: Float64Array  # (n, 2) pixels
    speeds: Float64Array  # (n, 2) pixels per second, forward in time
    keypoints: FloatArray  # (n, 17, 3) pixels from the centre, 1 where seen

    def __getitem__(self, rows: IntArray) -> "_Ends":
        """Return some of the ends."""
        return _Ends(*(getattr(self, name)[rows] for name in _Ends.__slots__))


def join_tracks(sequence: PoseSequence, max_gap_s: float) -> PoseSequence:
    """Give tracks that follow each other in time and place one id, the earliest one's.

    A track is joined to one that starts at most ``max_gap_s`` after its end, where motion
    predicted from both ends, size and keypoints agree; all pairs are chosen at once.

    Args:
        sequence: tracked people, without interpolated rows.
        max_gap_s: longest time between the end of one and the start of the next, seconds.

    Returns:
        The same rows; ids are a subset of those before.

    Raises:
        ValueError: an id stands twice in one frame, or ``max_gap_s`` is negative or NaN.

    """
    if not max_gap_s >= 0:
        raise ValueError(f"max_gap_s: expected 0 or more seconds, got {max_gap_s}")
    rows, frames = rows_by_person(sequence)
    ids = sequence.poses.track_ids[rows]
    bounds = np.append(np.flatnonzero(np.diff(ids, prepend=-1)), len(ids))
    if len(bounds) < 3 or not max_gap_s:
        return sequence
    first, last = bounds[:-1], bounds[1:] - 1
    starts = _ends(sequence, rows, frames, first, _inner(sequence, frames, bounds, +1))
    stops = _ends(sequence, rows, frames, last, _inner(sequence, frames, bounds, -1))
    before, after = _links(stops, starts, max_gap_s)
    renamed = _chains(ids[first], starts.time_s, before, after)
    poses = sequence.poses
    track_ids = poses.track_ids.copy()
    track_ids[rows] = np.repeat(renamed, np.diff(bounds))
    return replace(sequence, poses=poses.with_ids(track_ids))


def _inner(sequence: PoseSequence, frames: IntArray, bounds: IntArray, step: int) -> IntArray:
    """Return the entry of each track about ``_SPEED_S`` inside its start (+1) or its end (-1)."""
    inner = []
    for begin, stop in pairwise(bounds.tolist()):
        time_s = sequence.time_s[frames[begin:stop]]
        if step > 0:
            at = int(np.searchsorted(time_s, time_s[0] + _SPEED_S, "right")) - 1
        else:
            at = int(np.searchsorted(time_s, time_s[-1] - _SPEED_S, "left"))
        inner.append(begin + at)
    return np.array(inner, np.int64)


def _ends(
    sequence: PoseSequence, rows: IntArray, frames: IntArray, at: IntArray, inner: IntArray
) -> _Ends:
    """Return the ends of the tracks at ``at``, with the speeds since ``inner``."""
    poses = sequence.poses
    boxes = poses.boxes.astype(np.float64)
    time_s = sequence.time_s[frames[at]]
    centres = (boxes[rows[at], :2] + boxes[rows[at], 2:]) / 2
    earlier = (boxes[rows[inner], :2] + boxes[rows[inner], 2:]) / 2
    elapsed = time_s - sequence.time_s[frames[inner]]
    known = np.abs(elapsed) >= _MIN_SPEED_S
    speeds = np.where(known[:, None], (centres - earlier) / np.where(known, elapsed, 1)[:, None], 0)
    keypoints = np.zeros((len(at), NUM_KEYPOINTS, 3), np.float32)
    keypoints[..., :2] = poses.keypoints[rows[at]] - centres[:, None]
    keypoints[..., 2] = poses.keypoint_scores[rows[at]] >= _KEYPOINT_SEEN
    sizes = np.maximum(boxes[rows[at], 2:] - boxes[rows[at], :2], 1)
    return _Ends(time_s, frames[at], centres, sizes, speeds, keypoints)


def _links(stops: _Ends, starts: _Ends, max_gap_s: float) -> tuple[IntArray, IntArray]:
    """Return the tracks that continue, and the tracks that continue them."""
    by_time = np.argsort(starts.time_s, kind="stable")
    times = starts.time_s[by_time]
    low = np.searchsorted(times, stops.time_s, "right")
    high = np.searchsorted(times, stops.time_s + max_gap_s + 1e-6, "right")
    counts = np.maximum(high - low, 0)
    i = np.repeat(np.arange(len(stops.time_s)), counts)
    nth = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    j = by_time[low[i] + nth]
    gain = _gains(stops, starts, i, j)
    good = gain > _MIN_GAIN
    return _assign_sparse(i[good], j[good], gain[good])


def _gains(stops: _Ends, starts: _Ends, i: IntArray, j: IntArray) -> Float64Array:
    """Return how well the starts ``j`` continue the stops ``i``, (p,); 0 where not at all."""
    place, size = _place(stops, starts, i, j), _size(stops, starts, i, j)
    gain = np.zeros(len(i))
    near = np.flatnonzero((place > 0) & (size > 0))
    a, b = stops[i[near]], starts[j[near]]
    areas = np.sqrt(a.sizes.prod(1) * b.sizes.prod(1))
    scale = np.sqrt(b.sizes[:, 1] / a.sizes[:, 1])[:, None, None].astype(np.float32)
    grown, shrunk = a.keypoints.copy(), b.keypoints.copy()
    grown[..., :2] *= scale
    shrunk[..., :2] /= scale
    blur = _BLUR * np.sqrt(a.sizes[:, 1] * b.sizes[:, 1])
    similarity, comparable = matching.keypoint_similarity(grown, shrunk, areas, blur)
    by_place, by_size, by_keypoints = _WEIGHTS
    sure = by_place * place[near] + by_size * size[near]
    with_keypoints = sure + by_keypoints * similarity
    gain[near] = np.where(comparable, with_keypoints, sure / (by_place + by_size))
    return gain


def _place(stops: _Ends, starts: _Ends, i: IntArray, j: IntArray) -> Float64Array:
    gap_s = (starts.time_s[j] - stops.time_s[i])[:, None]
    apart = starts.centres[j] - stops.centres[i]
    still = np.hypot(*apart.T)
    forward = np.hypot(*(apart - stops.speeds[i] * gap_s).T)
    backward = np.hypot(*(apart - starts.speeds[j] * gap_s).T)
    heights = np.sqrt(stops.sizes[i, 1] * starts.sizes[j, 1])
    off = np.minimum(still, (forward + backward) / 2) / heights
    reach = np.minimum(_REACH + _REACH_PER_S * gap_s[:, 0], _MAX_REACH)
    nearness: Float64Array = 1 - off / reach
    return nearness


def _size(stops: _Ends, starts: _Ends, i: IntArray, j: IntArray) -> Float64Array:
    ratio = stops.sizes[i].prod(1) / starts.sizes[j].prod(1)
    similarity: Float64Array = 1 - np.abs(np.log(ratio)) / np.log(_MAX_GROWTH)
    return similarity


def _assign_sparse(i: IntArray, j: IntArray, gain: Float64Array) -> tuple[IntArray, IntArray]:
    """Choose pairs so that the sum of gains is greatest, each i and each j at most once.

    Tracks that compete with each other directly or through others form a group; each group
    is one small assignment.
    """
    if not len(i):
        return i, j
    stop = int(max(i.max(), j.max())) + 1
    graph = coo_array((np.ones(len(i)), (i, stop + j)), shape=(2 * stop, 2 * stop))
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group[i], kind="stable")
    bounds = np.append(np.flatnonzero(np.diff(group[i][order], prepend=-1)), len(i))
    before, after = [], []
    for begin, end in pairwise(bounds.tolist()):
        part = order[begin:end]
        rows, row_of = np.unique(i[part], return_inverse=True)
        columns, column_of = np.unique(j[part], return_inverse=True)
        table = np.zeros((len(rows), len(columns)))
        table[row_of, column_of] = gain[part]
        a, b = matching.assign(table, _MIN_GAIN)
        before.append(rows[a])
        after.append(columns[b])
    return np.concatenate(before), np.concatenate(after)


def _chains(ids: IntArray, times: Float64Array, before: IntArray, after: IntArray) -> IntArray:
    """Return the id (n,) of each track after joining: that of the first in its chain."""
    follows = np.full(len(ids), -1, np.int64)
    follows[after] = before
    renamed = ids.copy()
    for n in after[np.argsort(times[after], kind="stable")]:  # its predecessor has its id by then
        renamed[n] = renamed[follows[n]]
    return renamed
