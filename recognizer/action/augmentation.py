"""Augmentation of skeletons for training, registered with mmaction2.

All of it acts on 2-D keypoints, in pixels or as PreNormalize2D leaves them, and belongs before
GenSkeFeat or SkeletonInput: bones and motions are then those of the changed keypoints. After them
keypoints are no longer points; that is refused (``RandomRescale`` alone can do without).
A missing keypoint (score 0 at the origin, which PreNormalize2D moves to (-1, -1)) stays missing.
Nothing is changed in place. Numbers are drawn from ``np.random``, which mmengine seeds.

The published configs call them RandomShift, RandomRotate and RandomRescale. mmaction2 has one
RandomRescale for images; ours takes its place and still is it where ``scale_range`` is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recognizer.action.mmaction import TRANSFORMS, BaseTransform, ImageRescale
from recognizer.action.transforms import GLOBAL_RANDOM, Results
from recognizer.skeleton import FLIP_INDEX
from recognizer.types import BoolArray, FloatArray

_IMG_SHAPE = (1080, 1920)  # PreNormalize2D's default


@dataclass(frozen=True, eq=False)
class _Skeletons:
    """Keypoints before they become features, in pixels or normalised to the image.

    Attributes:
        points: (M, T, 17, 2) float32.
        scores: (M, T, 17) float32.
        missing: (M, T, 17) bool.
        origin: where a missing point is: 0, or -1 if normalised.
        centre: (2,) the image's centre in the points' unit.
        unit_px: (2,) pixels in one unit.
        size_px: (2,) width and height of the image in pixels.

    """

    points: FloatArray
    scores: FloatArray
    missing: BoolArray
    origin: float
    centre: NDArray[np.float64]
    unit_px: NDArray[np.float64]
    size_px: NDArray[np.float64]

    def moved(self, matrix: ArrayLike, shift_px: ArrayLike) -> FloatArray:
        """Return the points after an affine map about the image's centre, given in pixels."""
        linear = np.asarray(matrix, np.float64) * self.unit_px / self.unit_px[:, None]
        shift = self.centre - linear @ self.centre + np.asarray(shift_px) / self.unit_px
        return self.put(self.points @ linear.T.astype(np.float32) + shift.astype(np.float32))

    def put(self, points: FloatArray) -> FloatArray:
        """Return the points with missing ones where they were."""
        return np.where(self.missing[..., None], self.points, points.astype(np.float32))


def _skeletons(results: Results, who: object) -> _Skeletons:
    """Read the keypoints; their unit follows from their values.

    Normalised ones lie about 1 from 0 on average, pixels some hundreds.
    """
    points, scores = results["keypoint"], results.get("keypoint_score")
    if scores is None or points.ndim != 4 or points.shape[-1] != 2:
        raise ValueError(
            f"{type(who).__name__}: expected 2-D keypoints (M, T, V, 2) with scores, got "
            f"{points.shape}{'' if scores is not None else ' without scores'}; put it before "
            "GenSkeFeat or SkeletonInput"
        )
    unseen = scores == 0
    x, y = points[..., 0], points[..., 1]
    at_zero = unseen & (x == 0) & (y == 0)
    at_corner = unseen & (x == -1) & (y == -1)
    corners = np.count_nonzero(at_corner)
    seen = unseen.size - np.count_nonzero(at_zero) - corners
    away = np.abs(points).sum(dtype=np.float64) - 2 * corners
    normalised = bool(away <= 2 * 2 * seen) if seen else not at_zero.any()
    height, width = results.get("img_shape", _IMG_SHAPE)
    size = np.array([width, height], np.float64)
    return _Skeletons(
        points,
        scores,
        at_corner if normalised else at_zero,
        -1.0 if normalised else 0.0,
        np.zeros(2) if normalised else size / 2,
        size / 2 if normalised else np.ones(2),
        size,
    )


def _number(name: str, value: object, low: float, high: float = np.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low} to {high}, got {value!r}")
    return float(value)


def _range(name: str, value: object, low: float, high: float = np.inf) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{name}: expected two numbers, got {value!r}")
    first, last = (_number(name, v, low, high) for v in value)
    if first > last:
        raise ValueError(f"{name}: expected the lower number first, got {value!r}")
    return first, last


# --- space -------------------------------------------------------------------------


@TRANSFORMS.register_module()
class RandomShift(BaseTransform):
    """Move all people in all frames by the same random distance.

    Args:
        shift_ratio: furthest distance, as a part of the image's width and of its height.

    """

    def __init__(self, shift_ratio: float = 0.1) -> None:
        self.shift_ratio = _number("RandomShift: shift_ratio", shift_ratio, 0, 1)

    def transform(self, results: Results) -> Results:
        """Return the results with keypoint shifted."""
        skeletons = _skeletons(results, self)
        shift = GLOBAL_RANDOM.uniform(-self.shift_ratio, self.shift_ratio, 2) * skeletons.size_px
        return {**results, "keypoint": skeletons.moved(np.eye(2), shift)}


@TRANSFORMS.register_module()
class RandomRotate(BaseTransform):
    """Turn all people in all frames about the image's centre by the same random angle.

    Bodies keep their shape: turned in pixels, also where keypoints are normalised and a unit is
    not as long in y as in x.

    Args:
        angle: largest angle to either side, in degrees.

    """

    def __init__(self, angle: float = 15) -> None:
        self.angle = _number("RandomRotate: angle", angle, 0, 180)

    def transform(self, results: Results) -> Results:
        """Return the results with keypoint turned."""
        skeletons = _skeletons(results, self)
        turn = np.deg2rad(GLOBAL_RANDOM.uniform(-self.angle, self.angle))
        cos, sin = np.cos(turn), np.sin(turn)
        return {**results, "keypoint": skeletons.moved([[cos, -sin], [sin, cos]], (0, 0))}


@TRANSFORMS.register_module(force=True)
class RandomRescale(ImageRescale):
    """Scale skeletons about the image's centre by a random factor; or mmaction2's for images.

    Also works on the features of GenSkeFeat, as in the published configs: joints, bones and motions
    of normalised keypoints grow by the factor that the keypoints would grow by, scores do not.
    A bone with one end missing is scaled as any other there.

    Args:
        scale_range: mmaction2's own argument; the transform is then mmaction2's, for images.
        interpolation: mmaction2's own argument.
        scale_factor: smallest and largest factor.
        per_frame: another factor for each frame, as noise in time, which no camera makes;
            otherwise one for the clip.

    """

    def __init__(
        self,
        scale_range: Sequence[float] | None = None,
        interpolation: str = "bilinear",
        scale_factor: object = None,
        per_frame: bool = False,
    ) -> None:
        if (scale_range is None) == (scale_factor is None):
            raise ValueError(
                "RandomRescale: expected scale_factor (skeletons) or scale_range (images)"
            )
        if scale_factor is None:
            assert scale_range is not None
            super().__init__(scale_range, interpolation)
            self.scale_factor = None
        else:
            self.scale_factor = _range("RandomRescale: scale_factor", scale_factor, 1e-3)
            self.per_frame = per_frame

    def transform(self, results: Results) -> Results:
        """Return the results with keypoint scaled."""
        if self.scale_factor is None:
            return dict(super().transform(results))
        shape = (results["keypoint"].shape[-3], 1, 1) if self.per_frame else (1, 1, 1)
        factor = GLOBAL_RANDOM.uniform(*self.scale_factor, shape).astype(np.float32)
        if "keypoint_score" not in results:
            return {**results, "keypoint": _scaled_features(results["keypoint"], factor)}
        skeletons = _skeletons(results, self)
        centre = skeletons.centre.astype(np.float32)
        points = skeletons.put((skeletons.points - centre) * factor + centre)
        return {**results, "keypoint": points}

    def __repr__(self) -> str:
        """Return the transform as a config names it."""
        if self.scale_factor is None:
            return str(super().__repr__())
        return f"RandomRescale(scale_factor={self.scale_factor}, per_frame={self.per_frame})"


def _scaled_features(features: FloatArray, factor: FloatArray) -> FloatArray:
    """Scale (..., T, 17, 3 n) features, triples of x, y and score, by (T or 1, 1, 1)."""
    if features.shape[-1] % 3:
        raise ValueError(
            f"RandomRescale: expected channels (x, y, score), got {features.shape[-1]}; put it "
            "before GenSkeFeat or SkeletonInput"
        )
    out = features.copy()
    for c in range(0, features.shape[-1], 3):
        xy, score = features[..., c : c + 2], features[..., c + 2 : c + 3]
        missing = (score == 0) & (xy == -1).all(-1, keepdims=True)
        out[..., c : c + 2] = np.where(missing, xy, xy * factor)
    return out


@TRANSFORMS.register_module()
class FlipSkeleton(BaseTransform):
    """Mirror all people in all frames at the image's upright middle; left becomes right.

    Args:
        prob: how probable.

    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = _number("FlipSkeleton: prob", prob, 0, 1)

    def transform(self, results: Results) -> Results:
        """Return the results with keypoint and keypoint_score mirrored, or as they are."""
        skeletons = _skeletons(results, self)
        if GLOBAL_RANDOM.random_sample() >= self.prob:
            return results
        points = skeletons.moved([[-1, 0], [0, 1]], (0, 0))
        return {
            **results,
            "keypoint": points[:, :, FLIP_INDEX],
            "keypoint_score": skeletons.scores[:, :, FLIP_INDEX],
        }


# --- keypoints ---------------------------------------------------------------------


@TRANSFORMS.register_module()
class KeypointDropout(BaseTransform):
    """Make keypoints missing, as where something hides them.

    Args:
        prob: how probable for each keypoint.
        per_frame: drawn anew in each frame; otherwise a person's keypoint is lost throughout.

    """

    def __init__(self, prob: float = 0.05, per_frame: bool = False) -> None:
        self.prob = _number("KeypointDropout: prob", prob, 0, 1)
        self.per_frame = per_frame

    def transform(self, results: Results) -> Results:
        """Return the results with some keypoints missing."""
        skeletons = _skeletons(results, self)
        people, frames, joints = skeletons.scores.shape
        shape = (people, frames if self.per_frame else 1, joints)
        lost = GLOBAL_RANDOM.random_sample(shape) < self.prob
        origin = np.float32(skeletons.origin)
        return {
            **results,
            "keypoint": np.where(lost[..., None], origin, skeletons.points),
            "keypoint_score": np.where(lost, np.float32(0), skeletons.scores),
        }


@TRANSFORMS.register_module()
class KeypointJitter(BaseTransform):
    """Add normal noise to each keypoint in each frame, as a pose network does.

    Args:
        sigma: standard deviation, as a part of the person's size: the diagonal of the box
            around the keypoints, the median over the frames.

    """

    def __init__(self, sigma: float = 0.01) -> None:
        self.sigma = _number("KeypointJitter: sigma", sigma, 0)

    def transform(self, results: Results) -> Results:
        """Return the results with keypoint a little off."""
        skeletons = _skeletons(results, self)
        noise = GLOBAL_RANDOM.standard_normal(skeletons.points.shape)
        noise *= self.sigma * _sizes_px(skeletons)[:, None, None, None] / skeletons.unit_px
        return {**results, "keypoint": skeletons.put(skeletons.points + noise)}


def _sizes_px(skeletons: _Skeletons) -> NDArray[np.float64]:
    """Return the size (M,) of each person in pixels; 0 where never present."""
    absent = skeletons.missing[..., None]
    there = ~skeletons.missing.all(2)
    high = np.where(absent, -np.inf, skeletons.points).max(2)
    low = np.where(absent, np.inf, skeletons.points).min(2)
    sides = np.where(there[..., None], (high, low), 0)
    spans = np.hypot(*np.moveaxis((sides[0] - sides[1]) * skeletons.unit_px, -1, 0))
    pairs = zip(spans, there, strict=True)
    return np.array([np.median(row[here]) if here.any() else 0.0 for row, here in pairs])


# --- time --------------------------------------------------------------------------


@TRANSFORMS.register_module()
class TemporalCrop(BaseTransform):
    """Keep a random part of the clip; all of it where that part has no people.

    Args:
        ratio: shortest and longest part, of the clip's length.

    """

    def __init__(self, ratio: object = (0.7, 1.0)) -> None:
        self.ratio = _range("TemporalCrop: ratio", ratio, 1e-3, 1)

    def transform(self, results: Results) -> Results:
        """Return the results with fewer frames."""
        total = _skeletons_in_time(results, self).points.shape[1]
        length = max(1, round(total * GLOBAL_RANDOM.uniform(*self.ratio)))
        start = int(GLOBAL_RANDOM.randint(0, total - length + 1))
        rows = np.arange(start, start + length)
        if not results["keypoint_score"][:, rows].any():
            return results
        part = results.get("part_of_clip", 1.0) * length / total  # BodyInput counts in seconds
        return {**_at(results, rows), "part_of_clip": part}


@TRANSFORMS.register_module()
class TemporalSpeed(BaseTransform):
    """Play equal parts of the clip faster or slower, each at a speed of its own.

    Frames are left out or repeated, none is made up. Sampling spreads the chosen frames evenly
    over a clip, so with one part, only motions and clips shorter than clip_len change. For
    BodyInput, which counts in seconds, the clip lasts as much shorter or longer.

    Args:
        factor: lowest and highest speed; 2 is twice as fast.
        parts: parts of the clip.

    """

    def __init__(self, factor: object = (0.8, 1.25), parts: int = 2) -> None:
        self.factor = _range("TemporalSpeed: factor", factor, 1e-2, 100)
        if type(parts) is not int or parts < 1:
            raise ValueError(f"TemporalSpeed: expected parts >= 1, got {parts!r}")
        self.parts = parts

    def transform(self, results: Results) -> Results:
        """Return the results with another number of frames."""
        total = _skeletons_in_time(results, self).points.shape[1]
        speeds = np.exp(
            GLOBAL_RANDOM.uniform(np.log(self.factor[0]), np.log(self.factor[1]), self.parts)
        )
        before = np.linspace(0, total, self.parts + 1)
        after = np.concatenate([[0], np.cumsum(np.diff(before) / speeds)])
        times = np.arange(max(1, round(after[-1]))) + 0.5
        rows = np.interp(times, after, before).astype(np.int64)
        return _at(results, np.minimum(rows, total - 1))


def _skeletons_in_time(results: Results, who: object) -> _Skeletons:
    if "frame_inds" in results:
        raise ValueError(
            f"{type(who).__name__}: put it before SampleSkeleton or UniformSampleFrames, which "
            "choose the frames"
        )
    return _skeletons(results, who)


def _at(results: Results, rows: NDArray[np.int64]) -> Results:
    """Return the results with other frames; as many as they are, so long does the clip last."""
    part = len(rows) / results["keypoint"].shape[1]
    return {
        **results,
        "keypoint": results["keypoint"].take(rows, axis=1),
        "keypoint_score": results["keypoint_score"].take(rows, axis=1),
        "total_frames": len(rows),
        "part_of_clip": part * results.get("part_of_clip", 1.0),
    }
