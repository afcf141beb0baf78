"""A page of skeletons per class, so that a person sees what the network shall learn."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.clips import Clip
from recognizer.skeleton import EDGES
from recognizer.types import ImageArray, Sample

SAMPLES_PER_CLASS = 8
MOMENTS = 6
CELL_WH = (320, 240)
# Blue, green, red of each slot, the most involved first; told apart with any eyes
# (Okabe and Ito 2008). People beyond are grey.
SLOT_COLORS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (167, 121, 204))
_GREY = (170, 170, 170)
_GROUND = 34
_MARGIN = 0.12
_LINE_PX = 3
_DRAWN_AT = 0.2  # the lowest keypoint score that is drawn


@dataclass(frozen=True, eq=False, slots=True)
class Strip:
    """A few moments of one sample, side by side.

    Attributes:
        name: the sample's name.
        seconds: when each moment is, from the start of the sample.
        people: how many slots it has.
        seen: share of the frames in which somebody is seen.
        image: BGR pixels.

    """

    name: str
    seconds: tuple[float, ...]
    people: int
    seen: float
    image: ImageArray


def choose(clips: Sequence[Clip], count: int = SAMPLES_PER_CLASS) -> list[Clip]:
    """Return ``count`` clips spread evenly over all of a class, in order of name."""
    ordered = sorted(clips, key=lambda clip: clip.name)
    if len(ordered) <= count:
        return ordered
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


class ContactSheets:
    """Picks samples of each class out of the stream as they pass by."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._wanted: dict[str, Clip] = {}
        self._strips: dict[str, dict[str, Strip]] = {}
        for name in sorted({clip.class_name for clip in clips}):
            self._strips[name] = {}
            of_class = [clip for clip in clips if clip.class_name == name]
            self._wanted |= {clip.name: clip for clip in choose(of_class)}

    def watch(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples unchanged."""
        for sample in samples:
            clip = self._wanted.get(sample.name)
            if clip is not None:
                strip = draw_strip(sample, clip.stop_s - clip.start_s)
                self._strips[clip.class_name][sample.name] = strip
            yield sample

    def by_class(self) -> dict[str, list[Strip]]:
        """Return the strips of each class, in order of name."""
        return {
            name: [strips[key] for key in sorted(strips)] for name, strips in self._strips.items()
        }


def draw_strip(sample: Sample, duration_s: float) -> Strip:
    """Return moments of a sample, seen through one window that holds everybody.

    They are spread evenly over the frames in which somebody is seen.

    Args:
        sample: the sample.
        duration_s: its length.

    """
    total = sample.keypoints.shape[1]
    seen = np.flatnonzero((sample.keypoint_scores >= _DRAWN_AT).any(axis=(0, 2)))
    candidates = seen if len(seen) else np.arange(total)
    picks = np.unique((np.arange(MOMENTS) * 2 + 1) * len(candidates) // (2 * MOMENTS))
    frames = candidates[picks]
    keypoints, scores = sample.keypoints[:, frames], sample.keypoint_scores[:, frames]
    corner, scale = _view(keypoints, scores >= _DRAWN_AT, sample.size_wh)
    cells = [
        _cell((keypoints[:, i] - corner) * scale, scores[:, i], sample.size_wh, corner, scale)
        for i in range(len(frames))
    ]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (MOMENTS - len(cells))
    seconds = tuple(float(frame) / total * duration_s for frame in frames)
    return Strip(sample.name, seconds, len(keypoints), len(seen) / total, _side_by_side(cells))


def _view(
    keypoints: NDArray[Any], seen: NDArray[np.bool_], size_wh: tuple[int, int]
) -> tuple[NDArray[np.float64], float]:
    """Return the corner and scale of a cell-shaped view that holds all seen keypoints."""
    points = keypoints[seen].astype(np.float64)
    if len(points) == 0:
        points = np.array([[0.0, 0.0], size_wh])
    low, high = points.min(0), points.max(0)
    margin = np.maximum((high - low) * _MARGIN, 4.0)
    wh = high - low + 2 * margin
    scale = float(min(np.array(CELL_WH) / wh))
    centre = (low + high) / 2
    return centre - np.array(CELL_WH) / scale / 2, scale


def _cell(
    keypoints: NDArray[Any],
    scores: NDArray[Any],
    size_wh: tuple[int, int],
    corner: NDArray[np.float64],
    scale: float,
) -> ImageArray:
    width, height = CELL_WH
    cell: ImageArray = np.full((height, width, 3), _GROUND // 2, np.uint8)
    # The picture's area is a little lighter, so that its edges are seen.
    low = np.clip((0 - corner) * scale, -1, CELL_WH).round().astype(int)
    high = np.clip((np.array(size_wh) - corner) * scale, -1, CELL_WH).round().astype(int)
    cv2.rectangle(cell, low.tolist(), (high - 1).tolist(), (_GROUND,) * 3, -1)
    for slot in reversed(range(len(keypoints))):  # the most involved lies on top
        _draw(cell, keypoints[slot], scores[slot] >= _DRAWN_AT, slot_color(slot))
    return cell


def _draw(
    cell: ImageArray,
    keypoints: NDArray[Any],
    seen: NDArray[np.bool_],
    color: tuple[int, int, int],
) -> None:
    """Draw a stick figure; bolder than on a video, because a cell is shown small."""
    points = [(round(float(x)), round(float(y))) for x, y in keypoints]
    for a, b in EDGES:
        if seen[a] and seen[b]:
            cv2.line(cell, points[a], points[b], color, _LINE_PX, cv2.LINE_AA)
    for joint in np.flatnonzero(seen):
        cv2.circle(cell, points[joint], _LINE_PX, color, -1, cv2.LINE_AA)


def slot_color(slot: int) -> tuple[int, int, int]:
    """Return blue, green, red of a slot."""
    return SLOT_COLORS[slot] if slot < len(SLOT_COLORS) else _GREY


def _side_by_side(cells: Sequence[ImageArray]) -> ImageArray:
    gap = np.full((CELL_WH[1], 4, 3), 255, np.uint8)
    parts = [part for cell in cells for part in (cell, gap)][:-1]
    image: ImageArray = np.concatenate(parts, axis=1)
    return image
