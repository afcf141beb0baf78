"""What the movement stream is given: numbers of a clip in body sizes and seconds.

No pixel scale, frame rate or picture size is left in them: lengths are in mean box heights,
speeds per second. The same function serves training and inference. NumPy only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recognizer.action import fight_measures
from recognizer.action.fight_measures import rate
from recognizer.skeleton import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER
from recognizer.types import MOVEMENT_NAMES, FloatArray, Sample

Array = NDArray[np.float64]

_MEAN, _TRANSLATION, _LIMBS = map(MOVEMENT_NAMES.index, ("mean", "translation", "limbs"))
_TRUSTED = 0.3  # keypoint score from which a point is used
_DROP_S = 0.4  # the fastest descent is looked for within this long
# Parts of a clip that are learnt from beside the whole: a fight goes on, a fall is over at once.
_PARTS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "fight": ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0)),
    "falldown": (),
}

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


def measures_to_learn(sample: Sample, service: str) -> FloatArray:
    """Return the measures of a clip and of parts of it, (1 + parts, F), the whole first.

    A part in which no movement was measured is told as the whole.

    Raises:
        ValueError: as ``clip_measures``.

    """
    whole = clip_measures(sample, service)
    parts = [_cut(sample, start, stop) for start, stop in _PARTS[service]]
    return np.stack(
        [whole, *(clip_measures(p, service) if has_movement(p) else whole for p in parts)]
    )


def _cut(sample: Sample, start: float, stop: float) -> Sample:
    """Return the frames of a clip between two shares of its frames, one at least."""
    frames = sample.keypoints.shape[1]
    first = min(int(start * frames), frames - 1)
    at = slice(first, max(first + 1, math.ceil(stop * frames)))
    return replace(
        sample,
        keypoints=sample.keypoints[:, at],
        keypoint_scores=sample.keypoint_scores[:, at],
        boxes=None if sample.boxes is None else sample.boxes[:, at],
        movement=None if sample.movement is None else sample.movement[:, at],
        time_s=None if sample.time_s is None else sample.time_s[at],
    )


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
    flow, limbs = rate(movement[:, _MEAN]), rate(movement[:, _LIMBS])
    at = _median(aspect, start), _median(aspect, end)
    turned = _median(angle, start), _median(angle, end)
    return np.array([
        _median(top, end) - _median(top, start),
        _median(centre, end) - _median(centre, start),
        _fastest_drop(top, time_s), _fastest_drop(centre, time_s),
        *at, _quantile(aspect, 1), at[1] - at[0],
        np.log(_median(height, end) / _median(height, start)),
        _quantile(flow, 1), _quantile(flow, 0.5), _quantile(rate(movement[:, _TRANSLATION]), 1),
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


def _mean(points: Array) -> Array:
    """Return the mean over the points that are known, (..., N, 2) -> (..., 2)."""
    known = np.isfinite(points).all(axis=-1).sum(axis=-1)[..., None]
    mean: Array = np.nansum(points, axis=-2) / np.where(known, known, np.nan)
    return mean


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
        fight_measures.NAMES,
        lambda sample: fight_measures.measure(sample, *_arrays(sample)[:2]),
    ),
    "falldown": (_FALL, _falldown),
}
