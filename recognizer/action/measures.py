"""What the movement stream is given: numbers of a clip in body sizes and seconds.

No pixel scale, frame rate or picture size is left in them: lengths are in mean box heights,
speeds per second. The same function serves training and inference. NumPy only.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from recognizer.skeleton import (
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)
from recognizer.types import FloatArray, Sample

Array = NDArray[np.float64]

# Columns of Sample.movement that are named here; see recognizer.movement.NAMES.
_COLUMNS = ("mean", "p90", "entropy", "translation", "limbs", "difference")
_MEAN, _ENTROPY, _TRANSLATION, _LIMBS = 0, 2, 3, 4
_TRUSTED = 0.3  # keypoint score from which a point is used
_FAR = 5.0  # distance, in mean heights, of people who are further apart, or of one alone
_SPAN_S = 0.2  # speeds of joints are taken over this long, so that jitter does not count
_DROP_S = 0.4  # the fastest descent is looked for within this long

_FIRST = tuple(f"first_{name}" for name in _COLUMNS)
_SECOND = tuple(f"second_{name}" for name in _COLUMNS)
_PAIR = ("distance", "overlap", "contact", "people")
_REACH = ("wrist_distance", "approach", "wrist_speed")
_STATISTICS = ("mean", "p80", "max")
_FALL = (
    "top_drop", "centre_drop", "top_fastest", "centre_fastest", "aspect_start", "aspect_end",
    "aspect_max", "aspect_change", "height_change", "flow_max", "flow_mean", "translation_max",
    "limbs_p80", "flow_end", "flow_settled", "trunk_end", "trunk_turned", "trust_end",
)  # fmt: skip


def measure_names(service: str) -> tuple[str, ...]:
    """Return the names of ``clip_measures``' numbers, in order.

    Raises:
        ValueError: an unknown service.

    """
    return _of_service(service)[0]


def clip_measures(sample: Sample, service: str) -> FloatArray:
    """Return the numbers of a clip, (F,) float32, finite, named by ``measure_names``.

    Raises:
        ValueError: an unknown service, or a sample whose movement was not measured
            (``has_movement`` tells).

    """
    names, measure = _of_service(service)
    if not has_movement(sample):
        raise ValueError(
            f"{sample.name}: expected boxes and movement of its people, got none; make the poses "
            "(--mode annotation.stage1), tracks and pickles again with this version, which "
            "measures movement, or use the pose stream alone"
        )
    values = measure(sample).astype(np.float32)
    if values.shape != (len(names),):
        raise ValueError(f"{sample.name}: expected {len(names)} measures, got {values.shape}")
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def has_movement(sample: Sample) -> bool:
    """Tell whether movement of at least one person was measured in at least one frame."""
    if sample.movement is None or sample.boxes is None or sample.time_s is None:
        return False
    seen = np.isfinite(sample.movement).all(axis=2) & np.isfinite(sample.boxes).all(axis=2)
    return bool(seen.any())


def _of_service(service: str) -> tuple[tuple[str, ...], Callable[[Sample], Array]]:
    if service not in _SERVICES:
        raise ValueError(f"service: expected one of {tuple(_SERVICES)}, got {service!r:.60}")
    return _SERVICES[service]


def _arrays(sample: Sample) -> tuple[Array, Array, Array]:
    """Return boxes (M, T, 4), movement (M, T, 6), time (T,); NaN where either is unknown."""
    boxes = np.asarray(sample.boxes, np.float64).copy()
    movement = np.asarray(sample.movement, np.float64).copy()
    size = boxes[..., 2:] - boxes[..., :2]
    with np.errstate(invalid="ignore"):
        absent = ~(np.isfinite(boxes).all(axis=2) & (size > 0).all(axis=2))
    boxes[absent] = np.nan
    movement[absent | ~np.isfinite(movement).all(axis=2)] = np.nan
    return boxes, movement, np.asarray(sample.time_s, np.float64)


def _rate(values: Array) -> Array:
    """Compress rates: 0 stays 0, large ones grow slowly."""
    compressed: Array = np.log1p(5 * np.maximum(values, 0))
    return compressed


# --- fight -------------------------------------------------------------------------


def _fight(sample: Sample) -> Array:
    boxes, movement, time_s = _arrays(sample)
    rows = np.concatenate(
        [_two_people(movement), _pairs(boxes, movement), _reach(sample, boxes, time_s)], axis=1
    )
    return _over_the_clip(rows)


def _over_the_clip(rows: Array) -> Array:
    """Return mean, 80th percentile and maximum of every column (T, C); 0 where all is NaN."""
    out = np.zeros((rows.shape[1], len(_STATISTICS)))
    for i, column in enumerate(rows.T):
        known = column[np.isfinite(column)]
        if len(known):
            out[i] = known.mean(), np.quantile(known, 0.8), known.max()
    return out.ravel()


def _two_people(movement: Array) -> Array:
    """Return the six numbers of the two with the largest limb movement per frame, (T, 12)."""
    people, frames, columns = movement.shape
    order = np.argsort(-np.nan_to_num(movement[..., _LIMBS], nan=-1.0), axis=0, kind="stable")
    out = np.zeros((frames, 2, columns))
    for place in range(min(2, people)):
        out[:, place] = movement[order[place], np.arange(frames)]
    rates = [i for i in range(columns) if i != _ENTROPY]
    out[..., rates] = np.where(np.isnan(out[..., rates]), np.nan, _rate(out[..., rates]))
    nobody = np.isnan(out[:, 0, 0])
    out = np.nan_to_num(out, nan=0.0)
    out[nobody] = np.nan  # nothing was measured in these frames
    return out.reshape(frames, -1)


def _pairs(boxes: Array, movement: Array) -> Array:
    """Return least distance, largest overlap, largest contact and people per frame, (T, 4)."""
    people, frames = boxes.shape[:2]
    out = np.tile([_FAR, 0.0, 0.0, 0.0], (frames, 1))
    out[:, 3] = np.isfinite(boxes[..., 0]).sum(axis=0)
    for i in range(people):
        for j in range(i + 1, people):
            distance = np.minimum(_distance(boxes[i], boxes[j]), _FAR)
            limbs = np.sqrt(np.maximum(movement[i, :, _LIMBS] * movement[j, :, _LIMBS], 0))
            out[:, 0] = np.fmin(out[:, 0], distance)
            out[:, 1] = np.fmax(out[:, 1], _overlap(boxes[i], boxes[j]))
            out[:, 2] = np.fmax(out[:, 2], limbs * np.exp(-distance))
    out[:, 2] = _rate(out[:, 2])
    out[out[:, 3] == 0] = np.nan
    return out


def _centres(boxes: Array) -> Array:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _distance(one: Array, other: Array) -> Array:
    """Return the distance of box centres in mean heights, (T,); NaN where one is absent."""
    height = (one[:, 3] - one[:, 1] + other[:, 3] - other[:, 1]) / 2
    distance: Array = np.linalg.norm(_centres(one) - _centres(other), axis=1) / height
    return distance


def _overlap(one: Array, other: Array) -> Array:
    """Return the intersection over union of boxes, (T,); NaN where one is absent."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    area = np.prod(one[:, 2:] - one[:, :2], axis=1) + np.prod(other[:, 2:] - other[:, :2], axis=1)
    overlap: Array = shared / (area - shared)
    return overlap


def _reach(sample: Sample, boxes: Array, time_s: Array) -> Array:
    """Return wrist distance, approach speed and wrist speed per frame, (T, 3).

    The wrist distance is the least from a trusted wrist to the head or trunk of another person,
    in mean box heights; NaN where none is trusted.
    """
    points = sample.keypoints.astype(np.float64)
    points[sample.keypoint_scores < _TRUSTED] = np.nan
    people, frames = boxes.shape[:2]
    height = boxes[..., 3] - boxes[..., 1]
    wrists = points[:, :, [LEFT_WRIST, RIGHT_WRIST]]
    trunk = points[:, :, [LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP]]
    targets = np.concatenate([points[:, :, [NOSE]], _mean(trunk)[:, :, None]], axis=2)
    out = np.full((frames, 3), np.nan)
    for i in range(people):
        speed = _speed((wrists - targets[:, :, 1:])[i], time_s)
        out[:, 2] = np.fmax(out[:, 2], _rate(_largest(speed) / height[i]))
        for j in range(people):
            if i == j:
                continue
            apart = wrists[i][:, :, None] - targets[j][:, None]
            distance = -_largest(-np.linalg.norm(apart, axis=-1).reshape(frames, -1))
            out[:, 0] = np.fmin(out[:, 0], 2 * distance / (height[i] + height[j]))
            between = _distance(boxes[i], boxes[j])[:, None, None]
            out[:, 1] = np.fmax(out[:, 1], -_change(between, time_s)[:, 0, 0])
    out[:, 0] = np.minimum(out[:, 0], _FAR)
    out[:, 1] = np.where(np.isnan(out[:, 1]), np.nan, _rate(out[:, 1]))
    return out


def _mean(points: Array) -> Array:
    """Return the mean over the points that are known, (..., N, 2) -> (..., 2)."""
    known = np.isfinite(points).all(axis=-1).sum(axis=-1)[..., None]
    mean: Array = np.nansum(points, axis=-2) / np.where(known, known, np.nan)
    return mean


def _largest(values: Array) -> Array:
    """Return the largest known number of each row, (T, N) -> (T,); NaN where none is known."""
    largest: Array = np.fmax.reduce(values, axis=1)
    return largest


def _change(values: Array, time_s: Array) -> Array:
    """Return how fast values (T, N, D) change per second, over ``_SPAN_S``; NaN at the start."""
    before = np.searchsorted(time_s, time_s - _SPAN_S, side="right") - 1
    out = np.full_like(values, np.nan)
    later = np.flatnonzero(before >= 0)
    taken = time_s[later] - time_s[before[later]]
    later, taken = later[taken > 0], taken[taken > 0]
    out[later] = (values[later] - values[before[later]]) / taken[:, None, None]
    return out


def _speed(points: Array, time_s: Array) -> Array:
    """Return the speed of points (T, N, 2), pixels per second, (T, N)."""
    speed: Array = np.linalg.norm(_change(points, time_s), axis=-1)
    return speed


# --- falldown ----------------------------------------------------------------------


def _falldown(sample: Sample) -> Array:
    """Return the numbers of the person whose centre comes down fastest; of equals the first."""
    boxes, movement, time_s = _arrays(sample)
    rows = [
        _fall_of(boxes[i], movement[i], time_s, _trunk(sample, i))
        for i in range(len(boxes))
        if np.isfinite(boxes[i]).any()
    ]
    return max(rows, key=lambda row: float(row[3]))


def _fall_of(boxes: Array, movement: Array, time_s: Array, trunk: tuple[Array, Array]) -> Array:
    """Return the numbers of one person, (18,); drops are downward, in body sizes."""
    angle, trust = trunk
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    size = np.nanmedian(np.maximum(width, height))
    top, centre = boxes[:, 1] / size, (boxes[:, 1] + boxes[:, 3]) / 2 / size
    aspect = np.log(width / height)
    start, end = _thirds(np.isfinite(boxes[:, 0]), time_s)
    flow, limbs = _rate(movement[:, _MEAN]), _rate(movement[:, _LIMBS])
    at = _median(aspect, start), _median(aspect, end)
    turned = _median(angle, start), _median(angle, end)
    return np.array([
        _median(top, end) - _median(top, start),
        _median(centre, end) - _median(centre, start),
        _fastest_drop(top, time_s), _fastest_drop(centre, time_s),
        *at, _quantile(aspect, 1), at[1] - at[0],
        np.log(_median(height, end) / _median(height, start)),
        _quantile(flow, 1), _quantile(flow, 0.5), _quantile(_rate(movement[:, _TRANSLATION]), 1),
        _quantile(limbs, 0.8), _median(flow, end), _median(flow, end) - _quantile(flow, 1),
        turned[1], turned[1] - turned[0], _median(trust, end),
    ])  # fmt: skip


def _thirds(present: NDArray[np.bool_], time_s: Array) -> tuple[Array, Array]:
    """Return masks of the first and the last third of the time in which somebody is there."""
    seen = np.flatnonzero(present)
    first, last = time_s[seen[0]], time_s[seen[-1]]
    third = (last - first) / 3
    return present & (time_s <= first + third), present & (time_s >= last - third)


def _quantile(values: Array, share: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else np.nan


def _median(values: Array, mask: Array) -> float:
    return _quantile(values[mask], 0.5)


def _fastest_drop(place: Array, time_s: Array) -> float:
    """Return the furthest descent within ``_DROP_S``, at least 0."""
    drop = 0.0
    for step in range(1, len(place)):
        close = time_s[step:] - time_s[:-step] <= _DROP_S + 1e-9
        if not close.any():
            break
        drop = np.fmax(drop, np.fmax.reduce((place[step:] - place[:-step])[close]))
    return float(drop)


def _trunk(sample: Sample, slot: int) -> tuple[Array, Array]:
    """Return the trunk's share of lying (0 upright, 1 level) and the mean score, (T,) each."""
    scores = sample.keypoint_scores[slot].astype(np.float64)
    points = sample.keypoints[slot].astype(np.float64)
    points[scores < _TRUSTED] = np.nan
    along = _mean(points[:, [LEFT_SHOULDER, RIGHT_SHOULDER]]) - _mean(
        points[:, [LEFT_HIP, RIGHT_HIP]]
    )
    length = np.linalg.norm(along, axis=1)
    return np.abs(along[:, 0]) / np.where(length > 0, length, np.nan), scores.mean(axis=1)


_SERVICES: Mapping[str, tuple[tuple[str, ...], Callable[[Sample], Array]]] = {
    "fight": (
        tuple(f"{n}_{s}" for n in (*_FIRST, *_SECOND, *_PAIR, *_REACH) for s in _STATISTICS),
        _fight,
    ),
    "falldown": (_FALL, _falldown),
}
