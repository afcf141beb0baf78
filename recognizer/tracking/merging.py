"""Keep people whose box the detector has merged with another person's.

In a clinch two boxes become one that covers both, and one of the two tracks ends inside the
picture. While the other's box stays that large, the lost person is in it: the person's part of
the merged box continues as rows without scores, up to a limit, forward from where a track ends
and backward from where one starts. A person is not kept where no detection covers the place,
nor if never seen apart from the other: that is one person detected twice.
"""

from dataclasses import dataclass

import numpy as np

from recognizer.geometry import box_iou
from recognizer.tracking.tracks import add_rows, interpolated, split_tracks
from recognizer.types import BoolArray, Float64Array, FloatArray, IntArray, PoseSequence, Track

_BEFORE_S = 1.0  # before the merge, in which the two are compared
_APART_S = 0.3  # how long both must have been seen apart in it
_SHARED = 0.5  # apart: no more than this of the smaller box lies in the other
_COLUMN = 0.7, 0.3  # halves of one body share this much of their width, and this of their height
_MAX_WAIT_S = 0.3  # between the last sight of the lost person and the merged box
_COVERED = 0.85  # of the lost person's box by the merged one
_GROWN, _STILL_GROWN = 1.4, 1.2  # area of the merged box over the other's alone: to begin, to go on
_NEAR = 0.1  # heights between boxes that may merge
_TWIN = 0.5  # overlap of a kept box with another: the same person
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class _Kept:
    """Rows to add for one track."""

    track_id: int
    frames: IntArray
    boxes: FloatArray
    keypoints: FloatArray


@dataclass(frozen=True, slots=True)
class _TrackEnd:
    """Where a track is lost: frame and box; ``step`` 1 at its end or a gap, -1 at its start."""

    track: Track
    frame: int
    box: Float64Array
    step: int


def keep_merged(sequence: PoseSequence, limit_s: float, least_score: float = 0.0) -> PoseSequence:
    """Add rows for people inside another person's box.

    Args:
        sequence: tracked people, gaps filled.
        limit_s: longest time a person is kept that way, seconds; 0: none is kept.
        least_score: mean ``box_scores`` that a person must have had before.

    Returns:
        The same rows and the kept ones: ``box_scores`` and ``keypoint_scores`` 0, keypoints
        those of the last sight, moved and scaled with the box.

    Raises:
        ValueError: an id stands twice in one frame, or ``limit_s`` is negative or NaN.

    """
    if not limit_s >= 0:
        raise ValueError(f"limit_s: expected 0 or more seconds, got {limit_s}")
    tracks = split_tracks(sequence)
    if not limit_s or len(tracks) < 2:
        return sequence
    scene = _Scene(sequence, tracks, limit_s, least_score)
    kept = [found for end in scene.ends() if (found := scene.keep(end)) is not None]
    if not kept:
        return sequence
    ids = np.concatenate([np.full(len(k.frames), k.track_id, np.int64) for k in kept])
    keypoints = np.concatenate([k.keypoints for k in kept])
    added = interpolated(keypoints, np.concatenate([k.boxes for k in kept]), ids)
    return add_rows(sequence, added, np.concatenate([k.frames for k in kept]))


class _Scene:
    """The tracks of a video and the people of each frame, those kept so far included."""

    def __init__(
        self, sequence: PoseSequence, tracks: list[Track], limit_s: float, least_score: float
    ) -> None:
        self._sequence, self._limit_s, self._least_score = sequence, limit_s, least_score
        self._tracks = {track.track_id: track for track in tracks}
        self._kept: dict[int, list[tuple[int, Float64Array]]] = {}  # by frame: ids and boxes

    def ends(self) -> list[_TrackEnd]:
        """Return where people are lost: ends of tracks and gaps in time's order, then starts."""
        lost = []
        for track in self._tracks.values():
            gaps = np.flatnonzero(np.diff(track.frame_indices, append=np.iinfo(np.int64).max) > 1)
            lost += [_end(track, at, 1) for at in gaps.tolist()] + [_end(track, 0, -1)]
        last = len(self._sequence) - 1
        inside = [e for e in lost if 0 <= e.frame + e.step <= last and self._inside(e.box)]
        return sorted(inside, key=lambda e: (-e.step, e.step * e.frame, *e.box.tolist()))

    def keep(self, end: _TrackEnd) -> _Kept | None:
        """Return the rows that carry a track on beyond an end, None without evidence."""
        frames, boxes = np.zeros(0, np.int64), np.zeros((0, 4))
        for host in self._neighbours(end):
            found, places = self._carry(end, self._tracks[host])
            if len(found) > len(frames):
                frames, boxes = found, places
        if not len(frames):
            return None
        at = int(np.searchsorted(end.track.frame_indices, end.frame))
        keypoints = _moved(end.track.poses.keypoints[at], end.box, boxes)
        for frame, box in zip(frames.tolist(), boxes, strict=True):
            self._kept.setdefault(frame, []).append((end.track.track_id, box))
        return _Kept(end.track.track_id, frames, boxes.astype(np.float32), keypoints)

    def _inside(self, box: Float64Array) -> bool:
        centre = (box[:2] + box[2:]) / 2
        return bool((centre > 0).all() and (centre < self._sequence.size_wh).all())

    def _people(self, frame: int) -> tuple[IntArray, Float64Array]:
        """Return ids (n,) and boxes (n, 4) of a frame, those kept so far among them."""
        rows = slice(*self._sequence.frame_offsets[frame : frame + 2].tolist())
        poses = self._sequence.poses
        ids, boxes = poses.track_ids[rows], _double(poses.boxes[rows])
        kept = self._kept.get(frame, [])
        if not kept:
            return ids, boxes
        return np.append(ids, [n for n, _ in kept]), np.vstack([boxes, *(box for _, box in kept)])

    def _neighbours(self, end: _TrackEnd) -> list[int]:
        """Return the ids of people who touch the lost person, in a fixed order."""
        ids, boxes = self._people(end.frame)
        margin = _NEAR * (end.box[3] - end.box[1])
        touching = (ids >= 0) & (ids != end.track.track_id)
        touching &= (boxes[:, :2] < end.box[2:] + margin).all(1)
        touching &= (boxes[:, 2:] > end.box[:2] - margin).all(1)
        near = np.flatnonzero(touching)
        return [int(n) for n in ids[near[np.lexsort(boxes[near].T)]]]

    def _carry(self, end: _TrackEnd, host: Track) -> tuple[IntArray, Float64Array]:
        """Return the frames (n,) in which the lost person is in the box of ``host``, and where."""
        nothing = np.zeros(0, np.int64), np.zeros((0, 4))
        ahead = self._window(host, end.frame, end.step * self._limit_s)
        ahead = ahead[host.frame_indices[ahead] != end.frame][:: end.step]
        alone = self._alone(end, host) if len(ahead) else None
        if alone is None:
            return nothing
        frames, merged = host.frame_indices[ahead], _double(host.poses.boxes[ahead])
        grown = _areas(merged) / alone
        wait_s = np.abs(self._sequence.time_s[frames] - self._sequence.time_s[end.frame])
        begins = (grown >= _GROWN) & (_shares(end.box[None], merged) >= _COVERED)
        begins &= (host.poses.box_scores[ahead] > 0) & (wait_s <= _MAX_WAIT_S + _ROUNDING_S)
        if not begins.any():
            return nothing
        first = int(np.argmax(begins))
        over = np.flatnonzero(grown[first:] < _STILL_GROWN)
        stop = first + int(over[0]) if len(over) else len(frames)
        places = np.tile(end.box, (stop, 1))
        places[first:] = _parts(end.box, merged[first], merged[first:stop])
        free = self._free(end, host, frames[:stop], places)
        return (frames[:free], places[:free]) if free > first else nothing

    def _window(self, track: Track, frame: int, seconds: float) -> IntArray:
        """Return the rows of a track from ``frame`` to ``seconds`` after (or, below 0, before)."""
        time_s = self._sequence.time_s
        limit_s = time_s[frame] + seconds
        if seconds > 0:
            low, high = frame, int(np.searchsorted(time_s, limit_s + _ROUNDING_S, "right"))
        else:
            low, high = int(np.searchsorted(time_s, limit_s - _ROUNDING_S, "left")), frame + 1
        return np.arange(*np.searchsorted(track.frame_indices, [low, high]))

    def _alone(self, end: _TrackEnd, host: Track) -> float | None:
        """Return the area of ``host`` before the merge; None where they are one person."""
        mine = self._window(end.track, end.frame, -end.step * _BEFORE_S)
        others = self._window(host, end.frame, -end.step * _BEFORE_S)
        mine = mine[end.track.poses.box_scores[mine] > 0]
        others = others[host.poses.box_scores[others] > 0]
        a, b = end.track.frame_indices[mine], host.frame_indices[others]
        _, i, j = np.intersect1d(a, b, assume_unique=True, return_indices=True)
        if not len(i) or end.track.poses.box_scores[mine].mean() < self._least_score:
            return None
        x, y = _double(end.track.poses.boxes[mine[i]]), _double(host.poses.boxes[others[j]])
        apart = (np.maximum(_shares(x, y), _shares(y, x)) <= _SHARED) & ~_stacked(x, y)
        if apart.sum() * self._sequence.frame_period_s < _APART_S - _ROUNDING_S:
            return None
        return max(float(np.median(_areas(y[apart]))), 1.0)

    def _free(self, end: _TrackEnd, host: Track, frames: IntArray, places: Float64Array) -> int:
        """Return how many of the frames pass before another track, or the person's, is there."""
        for n, (frame, place) in enumerate(zip(frames.tolist(), places, strict=True)):
            ids, boxes = self._people(frame)
            others = (ids >= 0) & (ids != host.track_id)
            again = bool((ids == end.track.track_id).any())
            if again or (box_iou(place[None], boxes[others]) >= _TWIN).any():
                return n
        return len(frames)


def _end(track: Track, at: int, step: int) -> _TrackEnd:
    return _TrackEnd(track, int(track.frame_indices[at]), _double(track.poses.boxes[at]), step)


def _double(boxes: FloatArray) -> Float64Array:
    return boxes.astype(np.float64)


def _areas(boxes: Float64Array) -> Float64Array:
    areas: Float64Array = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)
    return areas


def _shares(inner: Float64Array, outer: Float64Array) -> Float64Array:
    """Return the share of each box (n or 1, 4) that lies in its partner (n, 4)."""
    low, high = np.maximum(inner[:, :2], outer[:, :2]), np.minimum(inner[:, 2:], outer[:, 2:])
    shares: Float64Array = np.maximum(high - low, 0).prod(1) / np.maximum(_areas(inner), 1e-9)
    return shares


def _stacked(a: Float64Array, b: Float64Array) -> BoolArray:
    """Tell which pairs (n, 4) are one above the other, as the two halves of one body are."""
    common = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    smaller = np.minimum(a[:, 2:] - a[:, :2], b[:, 2:] - b[:, :2])
    across, down = (common / np.maximum(smaller, 1e-9)).T
    stacked: BoolArray = (across >= _COLUMN[0]) & (down <= _COLUMN[1])
    return stacked


def _parts(box: Float64Array, whole: Float64Array, boxes: Float64Array) -> Float64Array:
    """Return where ``box``, cut at ``whole``, lies as ``whole`` becomes each of ``boxes``."""
    size = np.maximum(whole[2:] - whole[:2], 1e-9)
    part = np.clip((box.reshape(2, 2) - whole[:2]) / size, 0, 1)
    origins, sizes = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    places: Float64Array = (origins + part * sizes).reshape(-1, 4)
    return places


def _moved(keypoints: FloatArray, box: Float64Array, boxes: Float64Array) -> FloatArray:
    """Return keypoints (17, 2) of ``box`` moved along to ``boxes`` (n, 4): (n, 17, 2)."""
    inside = (keypoints - box[:2]) / np.maximum(box[2:] - box[:2], 1)
    moved: Float64Array = boxes[:, None, :2] + inside * (boxes[:, None, 2:] - boxes[:, None, :2])
    moved[:, (keypoints == 0).all(1)] = 0
    return moved.astype(np.float32)
