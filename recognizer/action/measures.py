"""Input of the movement stream: measures of a clip in body sizes and seconds.

No pixel scale, frame rate or picture size is left in them: lengths are in mean box heights,
speeds per second. The same function serves training and inference. NumPy only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from recognizer.action import fall_measures, fight_measures
from recognizer.types import Float64Array, FloatArray, Sample

# Parts of a clip that are learnt from beside the whole: a fight goes on, a fall is over at once.
_PARTS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "fight": ((0.0, 0.6), (0.2, 0.8), (0.4, 1.0)),
    "falldown": (),
}


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
            (see ``has_movement``).

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

    A part without measured movement gets the measures of the whole.

    Raises:
        ValueError: as ``clip_measures``.

    """
    whole = clip_measures(sample, service)
    parts = [_cut(sample, start, stop) for start, stop in _PARTS[service]]
    return np.stack(
        [whole, *(clip_measures(p, service) if has_movement(p) else whole for p in parts)]
    )


def _cut(sample: Sample, start: float, stop: float) -> Sample:
    """Return the frames of a clip between two shares of its seconds, one at least."""
    first = min(int(_place(sample, start)), sample.keypoints.shape[1] - 1)
    at = slice(first, max(first + 1, math.ceil(_place(sample, stop))))
    return replace(
        sample,
        keypoints=sample.keypoints[:, at],
        keypoint_scores=sample.keypoint_scores[:, at],
        boxes=None if sample.boxes is None else sample.boxes[:, at],
        movement=None if sample.movement is None else sample.movement[:, at],
        time_s=None if sample.time_s is None else sample.time_s[at],
    )


def _place(sample: Sample, share: float) -> float:
    """Return where a share of a clip's seconds ends, counted in frames from its start.

    That is the share of its frames as far as their times are even within half a frame, as where
    every n-th frame of a video was taken, or where times are not known.
    """
    frames = sample.keypoints.shape[1]
    if sample.time_s is None:
        return share * frames
    span_s, counts = fight_measures.span_s(sample), np.arange(frames + 1)
    starts_s = np.append(sample.time_s - sample.time_s[0], span_s)
    off_s = np.interp(share * frames, counts, starts_s) - share * span_s
    if abs(off_s) <= span_s / frames / 2:
        return share * frames
    return float(np.interp(share * span_s, starts_s, counts))


def has_movement(sample: Sample) -> bool:
    """Tell whether movement of at least one person was measured in at least one frame."""
    if sample.movement is None or sample.boxes is None or sample.time_s is None:
        return False
    seen = np.isfinite(sample.movement).all(axis=2) & np.isfinite(sample.boxes).all(axis=2)
    return bool(seen.any())


def _of_service(service: str) -> tuple[tuple[str, ...], Callable[[Sample], Float64Array]]:
    if service not in _SERVICES:
        raise ValueError(f"service: expected one of {tuple(_SERVICES)}, got {service!r:.60}")
    return _SERVICES[service]


def _arrays(sample: Sample) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return boxes (M, T, 4), movement (M, T, 6), time (T,); NaN where either is unknown."""
    boxes = np.asarray(sample.boxes, np.float64).copy()
    movement = np.asarray(sample.movement, np.float64).copy()
    size = boxes[..., 2:] - boxes[..., :2]
    with np.errstate(invalid="ignore"):
        absent = ~(np.isfinite(boxes).all(axis=2) & (size > 0).all(axis=2))
    boxes[absent] = np.nan
    movement[absent | ~np.isfinite(movement).all(axis=2)] = np.nan
    return boxes, movement, np.asarray(sample.time_s, np.float64)


_SERVICES: Mapping[str, tuple[tuple[str, ...], Callable[[Sample], Float64Array]]] = {
    "fight": (
        fight_measures.NAMES,
        lambda sample: fight_measures.measure(sample, *_arrays(sample)[:2]),
    ),
    "falldown": (
        fall_measures.NAMES,
        lambda sample: fall_measures.measure(sample, *_arrays(sample)),
    ),
}
