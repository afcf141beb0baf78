"""Test-time views: a sample mirrored, or played slower or faster; the predictions are averaged.

What a view changes besides the keypoints follows them: boxes, movement and times of a sample that
has them. NumPy only, as the features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.skeleton import FLIP_INDEX
from recognizer.types import MOVEMENT_NAMES, Sample

_RATES = [i for i, name in enumerate(MOVEMENT_NAMES) if name != "entropy"]


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """A sample in one view.

    Attributes:
        sample: the changed sample.
        part: how long it lasts, of the original's seconds.

    """

    sample: Sample
    part: float = 1.0


def views_of(sample: Sample, names: Sequence[str]) -> list[View]:
    """Return the sample itself and each view of it.

    Args:
        sample: the sample.
        names: of ``VIEWS``.

    Raises:
        ValueError: an unknown name.

    """
    require_views(names)
    return [View(sample), *(VIEWS[name](sample) for name in names)]


def require_views(names: Sequence[str]) -> None:
    """Raise ValueError where a name is not one of ``VIEWS``."""
    if unknown := [name for name in names if name not in VIEWS]:
        raise ValueError(f"views: expected names of {', '.join(VIEWS)}, got {unknown[0]!r}")


def mirrored(sample: Sample) -> View:
    """Mirror all people at the picture's upright middle; left becomes right."""
    width = np.float32(sample.size_wh[0])
    scores = sample.keypoint_scores
    missing = (scores == 0) & ~sample.keypoints.any(axis=-1)
    points = sample.keypoints.copy()
    points[..., 0] = np.where(missing, points[..., 0], width - points[..., 0])
    changes: dict[str, Any] = {
        "keypoints": points[:, :, FLIP_INDEX],
        "keypoint_scores": scores[:, :, FLIP_INDEX],
    }
    if (boxes := sample.boxes) is not None:
        changes["boxes"] = np.stack(
            [width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], axis=-1
        )
    return View(replace(sample, **changes))


def at_speed(sample: Sample, factor: float) -> View:
    """Play a sample at another speed, 2 for twice as fast; frames are left out or repeated."""
    total = sample.keypoints.shape[1]
    count = max(1, round(total / factor))
    at = (np.arange(count) + 0.5) * factor
    rows = np.minimum(at.astype(np.int64), total - 1)
    changes: dict[str, Any] = {
        "keypoints": sample.keypoints[:, rows],
        "keypoint_scores": sample.keypoint_scores[:, rows],
    }
    if (boxes := sample.boxes) is not None:
        changes["boxes"] = boxes[:, rows]
    if sample.movement is not None:
        movement = sample.movement[:, rows]  # a copy: rows is an array
        movement[..., _RATES] *= np.float32(factor)
        changes["movement"] = movement
    if sample.time_s is not None:
        times = np.interp(at - 0.5, np.arange(total), sample.time_s) / factor
        changes["time_s"] = times - times[0]
    return View(replace(sample, **changes), count / total)


VIEWS: dict[str, Callable[[Sample], View]] = {
    "mirror": mirrored,
    "speed_0.8": lambda sample: at_speed(sample, 0.8),
    "speed_1.25": lambda sample: at_speed(sample, 1.25),
}


def average(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over the views of probabilities of equal shape."""
    mean: NDArray[np.float64] = np.mean(rows, axis=0)
    return mean
