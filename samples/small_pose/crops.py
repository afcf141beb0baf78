"""Crops of people and the heatmaps that the pose network shall give for them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation.teacher_labels import PERSON, Labels
from recognizer.types import FloatArray, ImageArray
from samples.small_pose.augment import Placement, moved, recoloured, turn, warped
from samples.small_pose.data import Data
from samples.small_pose.sampling import probabilities

CROP = 192
"""Sides of a crop, pixels."""
PADDING = 1.1
"""Sides of a crop, over the longer side of the box."""
STRIDE = 4
_SIGMA = 1.5  # cells of a heatmap
_KNOWN = 0.3  # score from which a keypoint's place is taught
_UNSURE = 0.3  # weight of a keypoint below it


@dataclass(frozen=True, eq=False)
class Crops:
    """A batch of crops with their targets.

    Attributes:
        images: (B, 192, 192, 3) BGR.
        heatmaps: (B, 17, 48, 48), peaks as high as the keypoint's score.
        weights: (B, 17) how much each counts.

    """

    images: ImageArray
    heatmaps: FloatArray
    weights: FloatArray


class CropSampler:
    """Draw augmented crops of posed people.

    Args:
        data: pictures and labels.
        split: which are drawn from.
        weights: of the data sets, see ``sampling.probabilities``.
        seed: of all that is random.

    Raises:
        ValueError: a data set of the split without a weight, or no posed people there.

    """

    def __init__(self, data: Data, split: int, weights: Mapping[str, float], seed: int) -> None:
        self._data, self._rng = data, np.random.default_rng(seed)
        posed = (data.labels.kinds == PERSON) & (data.labels.scores >= 0).any(2)
        pairs = np.argwhere(posed)
        drawn = data.splits[pairs[:, 0]] == split
        self._pairs = pairs
        self._probabilities = probabilities(data.groups[pairs[:, 0]], drawn, weights)

    def draw(self, count: int) -> Crops:
        """Return a batch."""
        chosen = self._rng.choice(len(self._pairs), count, p=self._probabilities)
        return stacked([self._one(int(row), int(who)) for row, who in self._pairs[chosen]])

    def _one(self, row: int, who: int) -> tuple[ImageArray, FloatArray, FloatArray]:
        rng = self._rng
        person = self._data.person(row, who)
        any_turn = rng.random() < 0.35
        degrees = rng.uniform(-180, 180) if any_turn else float(np.clip(rng.normal(0, 15), -48, 48))
        placement = crop_placement(person, turn(degrees, 1.0, bool(rng.random() < 0.5)))
        scale = float(np.exp(rng.uniform(-0.22, 0.15)))
        shift = rng.normal(0, 0.04, 2).clip(-0.1, 0.1) * CROP
        middle = np.full(2, CROP / 2)
        placement = Placement(
            placement.linear * scale, (placement.shift - middle) * scale + middle + shift
        )
        image = recoloured(warped(self._data.pictures[row], placement, CROP), rng)
        if rng.random() < 0.3:
            _cover(image, rng)
        return image, *targets(moved(person, placement))


def crop_placement(person: Labels, linear: NDArray[np.float64]) -> Placement:
    """Return the map that puts a turned person's padded square box on a crop."""
    x1, y1, x2, y2 = moved(person, Placement(linear, np.zeros(2))).boxes[0]
    scale = CROP / (PADDING * max(x2 - x1, y2 - y1, 1.0))
    middle = np.array([x1 + x2, y1 + y2]) / 2
    return Placement(linear * scale, CROP / 2 - middle * scale)


def targets(person: Labels) -> tuple[FloatArray, FloatArray]:
    """Return heatmaps (17, 48, 48) and weights (17,) of a person in pixels of the crop."""
    places = person.keypoints[0, :, :2] / STRIDE - 0.5
    scores, located = person.scores[0], person.keypoints[0, :, 2] > 0
    cells = np.arange(CROP // STRIDE)
    near = [np.exp(-((cells - places[:, i, None]) ** 2) / (2 * _SIGMA**2)) for i in (0, 1)]
    heatmaps = near[1][:, :, None] * near[0][:, None, :] * scores.clip(0)[:, None, None]
    weights = np.where(scores >= _KNOWN, located, np.where(scores >= 0, _UNSURE, 0.0))
    return heatmaps.astype(np.float32), weights.astype(np.float32)


def stacked(parts: list[tuple[ImageArray, FloatArray, FloatArray]]) -> Crops:
    """Return single crops as a batch."""
    images, heatmaps, weights = (np.stack(part) for part in zip(*parts, strict=True))
    return Crops(images, heatmaps, weights)


def _cover(image: ImageArray, rng: np.random.Generator) -> None:
    """Hide a rectangle behind one colour, as furniture and people do."""
    wh = (rng.uniform(0.15, 0.45, 2) * CROP).astype(int)
    x, y = (rng.uniform(0, 1, 2) * (CROP - wh)).astype(int)
    image[y : y + wh[1], x : x + wh[0]] = rng.integers(0, 256, 3)
