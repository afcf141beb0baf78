"""Shared by the scorers: rows of people, smoothed speeds, body sizes, sums per person.

All data are flat rows, person after person, so that memory grows with the detections and
not with people x frames. Lengths are in body sizes of the person and rates in
seconds, so that picture size and frame rate do not matter.
"""

from dataclasses import dataclass, field

import numpy as np

from recognizer.skeleton import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER
from recognizer.types import Float64Array, IntArray, PoseSequence

SMOOTHING_S = 0.2  # half-width of the window of a speed
_TIME_TOLERANCE_S = 0.002  # time bases round to a millisecond
_SIZE_WINDOW_S = 1.0
_RELIABLE_AFTER_S = 0.5
_TORSO = [LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP]
_POINTS_AT_ONCE = 50_000  # rows x points worked out together; bounds what long videos take
_BOX_CONFIDENCE = 0.1  # of a box's centre beside keypoints
_TORSO_PER_BODY = 0.3  # shoulders to hips, as a part of a standing person's height


@dataclass(frozen=True, eq=False, slots=True)
class PersonFrames:
    """The detections of tracked people, person after person, each in order of time.

    Attributes:
        people: number of people (K), those without rows included.
        person: (N,) int64, 0 to K - 1, rising.
        frame: (N,) int64.
        time_s: (N,), from the start of the sequence.
        duration_s: (N,), how much time a row stands for.
        clip_s: length of the sequence.
        keypoints: (N, 17, 2) pixels.
        confidence: (N, 17) in [0, 1]; 0 for keypoints that are not used.
        boxes: (N, 4) pixels.
        size: (N,) pixels, the person's body size around that time.
        torso: (N, 2) pixels, the middle of the trunk.
        size_wh: width and height of the picture.

    """

    people: int
    person: IntArray
    frame: IntArray
    time_s: Float64Array
    duration_s: Float64Array
    clip_s: float
    keypoints: Float64Array
    confidence: Float64Array
    boxes: Float64Array
    size_wh: tuple[int, int]
    size: Float64Array = field(init=False)
    torso: Float64Array = field(init=False)
    _key: Float64Array = field(init=False)
    _before: tuple[IntArray, IntArray] = field(init=False)
    _after: tuple[IntArray, IntArray] = field(init=False)

    def __post_init__(self) -> None:
        """Derive what all measures need."""
        # One rising number per row lets one binary search serve all people at once.
        stride = (
            self.clip_s + 10 * (SMOOTHING_S + _SIZE_WINDOW_S) + float(self.time_s.max(initial=0))
        )
        object.__setattr__(self, "_key", self.person * stride + self.time_s)
        object.__setattr__(self, "torso", _torso_centre(self))
        object.__setattr__(self, "size", _body_size(self))
        before, after = _halves(self)
        object.__setattr__(self, "_before", before)
        object.__setattr__(self, "_after", after)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.person)

    def window(self, before_s: float, after_s: float) -> tuple[IntArray, IntArray]:
        """Return, per row, the first and past-last row of its person in a span of time.

        The span is ``[time - before_s, time + after_s]``. It may hold no row.
        """
        tolerance = _TIME_TOLERANCE_S
        first = np.searchsorted(self._key, self._key - (before_s + tolerance))
        last = np.searchsorted(self._key, self._key + (after_s + tolerance))
        return first.astype(np.int64), last.astype(np.int64)

    def mean(self, values: Float64Array, bounds: tuple[IntArray, IntArray]) -> Float64Array:
        """Return the mean of (N,) or (N, D) values over each row's window; 0 where empty."""
        first, last = bounds
        count = np.maximum(last - first, 1)
        total = window_sum(values, bounds)
        return np.asarray(total / (count if values.ndim == 1 else count[:, None]))

    def velocity(
        self, points: Float64Array, confidence: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Return smoothed velocities (N, J, 2) of points, pixels per second, and confidence (N, J).

        It is the confidence-weighted mean position of the 0.2 s after a row less that of the
        0.2 s before, over the difference of the mean times: the same low pass at every
        frame rate. Where a track begins or ends the span is shorter but the divisor is
        not, so that short tracks gain nothing from noise.

        Args:
            points: (N, J, 2) pixels.
            confidence: (N, J) in [0, 1].

        """
        velocity, known = np.empty(points.shape), np.empty(confidence.shape)
        step = max(1, _POINTS_AT_ONCE // max(len(self), 1))
        for start in range(0, confidence.shape[1], step):
            some = slice(start, start + step)
            velocity[:, some], known[:, some] = self._velocity(points[:, some], confidence[:, some])
        return velocity, known

    def _velocity(
        self, points: Float64Array, confidence: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        columns = np.empty((*confidence.shape, 4))
        columns[..., :2], columns[..., 2], columns[..., 3] = points, self.time_s[:, None], 1
        columns *= confidence[..., None]
        running = _running_sum(columns)
        mass, past = _centroid(columns, running, self._before)
        mass_after, future = _centroid(columns, running, self._after)
        span = future[..., 2] - past[..., 2]
        speed = (future[..., :2] - past[..., :2]) / np.maximum(span, SMOOTHING_S * 0.9)[..., None]
        known = np.where(span > 0, np.minimum(mass, mass_after), 0.0)
        return np.where((known > 0)[..., None], speed, 0.0), known

    def trunk_velocity(self) -> Float64Array:
        """Return the trunk's velocity (N, 2), pixels per second.

        The mean of the velocities of shoulders and hips, not the velocity of their mean,
        which would jump whenever one of them is not seen; with a small weight of the
        box's, which alone is used where none is seen.
        """
        centre = (self.boxes[:, None, :2] + self.boxes[:, None, 2:]) / 2
        points = np.concatenate([centre, self.keypoints[:, _TORSO]], axis=1)
        confidence = np.insert(self.confidence[:, _TORSO], 0, _BOX_CONFIDENCE, axis=1)
        velocity, known = self.velocity(points, confidence)
        total = in_order(velocity * known[..., None])
        return np.asarray(total / np.maximum(in_order(known), 1e-9)[:, None])


def _halves(rows: PersonFrames) -> tuple[tuple[IntArray, IntArray], tuple[IntArray, IntArray]]:
    """Return the windows of the 0.2 s before and after every row, itself included.

    At low frame rates they reach to the person's next row, however far away it is.
    """
    index = np.arange(len(rows))
    first, last = rows.window(SMOOTHING_S, SMOOTHING_S)
    joined = rows.person[1:] == rows.person[:-1]
    follows, precedes = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    follows[1:], precedes[:-1] = joined, joined
    before = (np.minimum(first, index - follows), index + 1)
    return before, (index, np.maximum(last, index + 1 + precedes))


def _centroid(
    columns: Float64Array, running: Float64Array, bounds: tuple[IntArray, IntArray]
) -> tuple[Float64Array, Float64Array]:
    """Return the confidence (N, J) and weighted means (N, J, D - 1) over each row's window.

    Rows at the window's ends count half, as in the trapezoidal rule.

    Args:
        columns: (N, J, D); the last is the confidence, the others are multiplied by it.
        running: their ``_running_sum``.
        bounds: the windows.

    """
    first, last = bounds
    several = last - first > 1
    total = running[last] - running[first]
    total -= np.where(several[:, None, None], (columns[first] + columns[last - 1]) / 2, 0.0)
    mass = total[..., -1]
    mean = total[..., :-1] / np.maximum(mass, 1e-9)[..., None]
    return mass / np.maximum(last - first - several, 1)[:, None], mean


def window_sum(values: Float64Array, bounds: tuple[IntArray, IntArray]) -> Float64Array:
    """Return the sums of (N,) or (N, D) values over each row's window of rows."""
    running = _running_sum(values)
    total: Float64Array = running[bounds[1]] - running[bounds[0]]
    return total


def _running_sum(values: Float64Array) -> Float64Array:
    """Return the sums (N + 1, ...) of the first 0 to N rows."""
    running = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=running[1:])
    return running


def in_order(values: Float64Array) -> Float64Array:
    """Return the sum (N, ...) of (N, J, ...) values, added from the first column to the last.

    ``np.sum`` adds in an order that depends on the shape, which shows in the last bits.
    """
    return np.asarray(np.cumsum(values, axis=1)[:, -1])


def collect_observations(sequence: PoseSequence) -> tuple[IntArray, PersonFrames]:
    """Return the ids (K,) of all tracked people and their detections.

    Interpolated rows (box score 0) are left out, as are damaged frames as long as most
    frames are intact. A keypoint's confidence rises from 0 at a score of 0.2 to 1 at 0.6.
    """
    poses, frame = sequence.poses, sequence.frame_of_row
    ids = np.unique(poses.track_ids[poses.track_ids >= 0])
    counts = (poses.track_ids >= 0) & (poses.box_scores > 0)
    counts &= np.isfinite(poses.boxes).all(axis=1)
    if 2 * int(sequence.corrupt.sum()) < len(sequence):
        counts &= ~sequence.corrupt[frame]
    chosen = np.flatnonzero(counts)
    chosen = chosen[np.argsort(poses.track_ids[chosen], kind="stable")]
    time_s = sequence.time_s - sequence.time_s[0] if len(sequence) else sequence.time_s
    durations = frame_durations(time_s, sequence.frame_period_s)
    keypoints = poses.keypoints[chosen].astype(np.float64)
    confidence = np.clip((poses.keypoint_scores[chosen].astype(np.float64) - 0.2) / 0.4, 0, 1)
    finite = np.isfinite(keypoints).all(axis=2) & np.isfinite(confidence)
    rows = PersonFrames(
        people=len(ids),
        person=np.searchsorted(ids, poses.track_ids[chosen]).astype(np.int64),
        frame=frame[chosen],
        time_s=time_s[frame[chosen]],
        duration_s=durations[frame[chosen]],
        clip_s=float(durations.sum()),
        keypoints=np.where(finite[:, :, None], keypoints, 0.0),
        confidence=np.where(finite, confidence, 0.0),
        boxes=poses.boxes[chosen].astype(np.float64),
        size_wh=sequence.size_wh,
    )
    return ids, rows


def frame_durations(time_s: Float64Array, period_s: float) -> Float64Array:
    """Return (T,) seconds; a hole in the stream does not lengthen the frame before it."""
    period_s = period_s if period_s > 0 else 1 / 30
    return np.minimum(np.diff(time_s, append=time_s[-1:] + period_s), 2 * period_s)


def _torso_centre(rows: PersonFrames) -> Float64Array:
    """Return (N, 2): the mean of shoulders and hips, or the box's centre without them."""
    confidence = rows.confidence[:, _TORSO, None]
    centre = (rows.boxes[:, :2] + rows.boxes[:, 2:]) / 2
    total = (rows.keypoints[:, _TORSO] * confidence).sum(axis=1) + _BOX_CONFIDENCE * centre
    return np.asarray(total / (confidence.sum(axis=1) + _BOX_CONFIDENCE))


def middle(rows: PersonFrames, joints: list[int]) -> tuple[Float64Array, Float64Array]:
    """Return the confidence-weighted middle (N, 2) of some keypoints and its confidence (N,)."""
    confidence = rows.confidence[:, joints]
    total = (rows.keypoints[:, joints] * confidence[:, :, None]).sum(axis=1)
    mean = total / np.maximum(confidence.sum(axis=1), 1e-9)[:, None]
    return mean, confidence.max(axis=1, initial=0)


def _body_size(rows: PersonFrames) -> Float64Array:
    """Return (N,) pixels: body length around this time, standing or lying.

    The longer side of the box, or the length implied by the trunk where the box shows only
    a part of the person (at most 1.5 boxes), averaged over a second before and after.
    """
    wh = np.maximum(rows.boxes[:, 2:] - rows.boxes[:, :2], 0)
    longest = wh.max(axis=1, initial=0)
    shoulders, sure = middle(rows, [LEFT_SHOULDER, RIGHT_SHOULDER])
    hips, sure_hips = middle(rows, [LEFT_HIP, RIGHT_HIP])
    trunk = np.hypot(*(shoulders - hips).T) / _TORSO_PER_BODY * np.minimum(sure, sure_hips)
    length = np.maximum(longest, np.minimum(trunk, 1.5 * longest))
    smooth = rows.mean(length, rows.window(_SIZE_WINDOW_S, _SIZE_WINDOW_S))
    return np.maximum(smooth, 1e-6)


# --- per person ------------------------------------------------------------


def person_sum(rows: PersonFrames, values: Float64Array) -> Float64Array:
    """Return the sum of (N,) values for every person, (K,)."""
    total: Float64Array = np.bincount(rows.person, values, minlength=rows.people).astype(np.float64)
    return total


def person_mean(rows: PersonFrames, values: Float64Array) -> Float64Array:
    """Return the mean over time of (N,) values for every person, (K,); 0 without rows."""
    seen = person_sum(rows, rows.duration_s)
    return np.asarray(person_sum(rows, values * rows.duration_s) / np.maximum(seen, 1e-9))


def person_quantile(rows: PersonFrames, values: Float64Array, q: float) -> Float64Array:
    """Return the q-quantile of (N,) values for every person, (K,); 0 without rows."""
    result = np.zeros(rows.people)
    if not len(rows):
        return result
    ordered = values[np.lexsort((values, rows.person))]
    counts = np.bincount(rows.person, minlength=rows.people)
    place = np.cumsum(counts) - counts + q * np.maximum(counts - 1, 0)
    low = np.minimum(place.astype(np.int64), len(rows) - 1)
    high = np.minimum(np.ceil(place).astype(np.int64), len(rows) - 1)
    part = place - low
    value = ordered[low] * (1 - part) + ordered[high] * part
    return np.where(counts > 0, value, result)


def presence(rows: PersonFrames) -> Float64Array:
    """Return the share of the sequence in which every person is detected, (K,) in [0, 1]."""
    return np.clip(person_sum(rows, rows.duration_s) / max(rows.clip_s, 1e-9), 0, 1)


def reliability(rows: PersonFrames) -> Float64Array:
    """Return the reliability of a person's measures, (K,) in [0, 1].

    ``1 - exp(-seen / 0.5 s)``, times how well the body is visible on average. A false
    detection of 0.1 s keeps a fifth of its measures.
    """
    seen_s = person_sum(rows, rows.duration_s)
    clear = np.sqrt(np.clip(person_mean(rows, rows.confidence.mean(axis=1)) / 0.4, 0, 1))
    return np.asarray((1 - np.exp(-seen_s / _RELIABLE_AFTER_S)) * (0.3 + 0.7 * clear))


def position(rows: PersonFrames, activity: Float64Array) -> Float64Array:
    """Return how central every person is, (K,) in [0, 1].

    The mean of ``exp(-(d / a)^2)`` for the distance to the picture's centre (``a`` half
    the picture's diagonal) and to the centre of all activity (``a`` two body sizes).

    Args:
        rows: of all people.
        activity: (N,) how active each row is.

    """
    if not len(rows):
        return np.zeros(rows.people)
    picture = np.asarray(rows.size_wh, np.float64)
    to_picture = np.hypot(*(rows.torso - picture / 2).T) / max(np.hypot(*picture) / 2, 1e-9)
    weight = (activity + 1e-6) * rows.duration_s
    action = (rows.torso * weight[:, None]).sum(axis=0) / weight.sum()
    to_action = np.hypot(*(rows.torso - action).T) / (2 * rows.size)
    near = (np.exp(-np.square(to_picture)) + np.exp(-np.square(to_action))) / 2
    return person_mean(rows, near)


def saturate(values: Float64Array, half: float) -> Float64Array:
    """Return ``v / (v + half)`` for values >= 0: 0 at 0, 0.5 at ``half``, 1 far beyond."""
    values = np.maximum(values, 0.0)
    return np.asarray(values / (values + half))
