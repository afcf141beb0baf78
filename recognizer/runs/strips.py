"""A few moments of a sample side by side: skeletons on the video's pictures, or on grey."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.runs.figures import plain
from recognizer.runs.stills import Moments
from recognizer.skeleton import EDGES
from recognizer.types import FloatArray, ImageArray, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOMENTS = 6
CELL_WH = (320, 240)
# Blue, green, red of each slot, the most involved first; distinct with any colour vision
# (Okabe and Ito 2008). Further slots are grey.
SLOT_COLORS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (167, 121, 204))
_GREY = (170, 170, 170)
_GROUND = 34
_MARGIN = 0.12
_LINE_PX = 3
_DARKER = 0.75  # of a picture's brightness below skeletons
_DRAWN_AT = 0.2  # the lowest keypoint score that is drawn


@dataclass(frozen=True, eq=False, slots=True)
class Strip:
    """A few moments of one sample, side by side.

    Attributes:
        name: the sample's name.
        seconds: time of each moment, from the start of the sample.
        people: how many slots it has.
        visible: share of the frames with a visible keypoint.
        image: BGR pixels.

    """

    name: str
    seconds: tuple[float, ...]
    people: int
    visible: float
    image: ImageArray


@dataclass(frozen=True, eq=False, slots=True)
class StripPlan:
    """A strip before it is drawn, small enough to keep many until their pictures are read.

    Attributes:
        name: the sample's name.
        seconds: time of each moment, from the start of the sample.
        visible: share of the frames with a visible keypoint.
        frames: number of frames of the sample.
        picks: the moments' frames, (P,).
        keypoints: (M, P, 17, 2) pixels of the picture.
        scores: (M, P, 17).
        size_wh: size of the picture, pixels.
        corner: place of the cells' upper left in the picture, (2,).
        scale: cell pixels per picture pixel.

    """

    name: str
    seconds: tuple[float, ...]
    visible: float
    frames: int
    picks: NDArray[np.int64]
    keypoints: FloatArray
    scores: FloatArray
    size_wh: tuple[int, int]
    corner: NDArray[np.float64]
    scale: float

    def moments(self, video: str, start_s: float, stop_s: float) -> Moments:
        """Return which pictures the strip needs, of a sample that is this part of a video."""
        picks = tuple(self.picks.tolist())
        return Moments(video, start_s, stop_s, self.frames, picks, self.size_wh, self._crop)

    def _crop(self, picture: ImageArray) -> ImageArray:
        """Return a cell's part of a picture, darkened, so that skeletons stand out."""
        x, y = (-self.corner * self.scale).tolist()
        matrix = np.array([[self.scale, 0, x], [0, self.scale, y]])
        cell = cv2.warpAffine(picture, matrix, CELL_WH, flags=cv2.INTER_LINEAR)
        return np.asarray(cv2.convertScaleAbs(cell, alpha=_DARKER), np.uint8)


def plan_strip(sample: Sample, duration_s: float) -> StripPlan:
    """Return moments of a sample, in one view that holds all people.

    They are spread evenly over the frames with a visible keypoint.

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
    seconds = tuple(float(frame) / total * duration_s for frame in frames)
    share = len(seen) / total
    return StripPlan(
        sample.name, seconds, share, total, frames, keypoints, scores, sample.size_wh, corner, scale
    )


def draw_plan(plan: StripPlan, grounds: Sequence[ImageArray] | None = None) -> Strip:
    """Draw a strip on the cells' pictures, on grey without them."""
    if grounds is None:
        grounds = [_grey(plan)] * len(plan.picks)
    cells = [
        _cell(ground, (plan.keypoints[:, i] - plan.corner) * plan.scale, plan.scores[:, i])
        for i, ground in enumerate(grounds)
    ]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (MOMENTS - len(cells))
    return Strip(plan.name, plan.seconds, len(plan.keypoints), plan.visible, _side_by_side(cells))


def _view(
    keypoints: FloatArray, seen: NDArray[np.bool_], size_wh: tuple[int, int]
) -> tuple[NDArray[np.float64], float]:
    """Return the corner and scale of a cell-shaped view that holds all visible keypoints."""
    points = keypoints[seen].astype(np.float64)
    if len(points) == 0:
        points = np.array([[0.0, 0.0], size_wh])
    low, high = points.min(0), points.max(0)
    margin = np.maximum((high - low) * _MARGIN, 4.0)
    wh = high - low + 2 * margin
    scale = float(min(np.array(CELL_WH) / wh))
    centre = (low + high) / 2
    return centre - np.array(CELL_WH) / scale / 2, scale


def _grey(plan: StripPlan) -> ImageArray:
    width, height = CELL_WH
    cell: ImageArray = np.full((height, width, 3), _GROUND // 2, np.uint8)
    # The picture's area is a little lighter, so that its edges are visible.
    low = np.clip((0 - plan.corner) * plan.scale, -1, CELL_WH).round().astype(int)
    far = (np.array(plan.size_wh) - plan.corner) * plan.scale
    high = np.clip(far, -1, CELL_WH).round().astype(int)
    cv2.rectangle(cell, low.tolist(), (high - 1).tolist(), (_GROUND,) * 3, -1)
    return cell


def _cell(ground: ImageArray, keypoints: FloatArray, scores: FloatArray) -> ImageArray:
    cell = ground.copy()
    for slot in reversed(range(len(keypoints))):  # the most involved lies on top
        _draw(cell, keypoints[slot], scores[slot] >= _DRAWN_AT, slot_color(slot))
    return cell


def _draw(
    cell: ImageArray,
    keypoints: FloatArray,
    seen: NDArray[np.bool_],
    color: tuple[int, int, int],
) -> None:
    """Draw a stick figure; bolder than on a video, because a cell is shown small."""
    points = [(round(float(x)), round(float(y))) for x, y in keypoints]
    limbs = [(points[a], points[b]) for a, b in EDGES if seen[a] and seen[b]]
    for start, stop in limbs:  # a dark rim keeps the lines readable on any ground
        cv2.line(cell, start, stop, (0, 0, 0), _LINE_PX + 2, cv2.LINE_AA)
    for start, stop in limbs:
        cv2.line(cell, start, stop, color, _LINE_PX, cv2.LINE_AA)
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


def draw_strip(axes: "Axes", strip: Strip, title: str) -> None:
    """Draw one row of a contact sheet, with the time below each moment."""
    axes.imshow(strip.image[..., ::-1], interpolation="antialiased")
    axes.set_yticks([])
    cell = strip.image.shape[1] / MOMENTS
    at = [(i + 0.5) * cell for i in range(len(strip.seconds))]
    axes.set_xticks(at, [f"{s:.1f} s" for s in strip.seconds], fontsize=8)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_title(plain(title), loc="left", fontsize=10, pad=3)


def slot_legend(figure: "Figure", people: int) -> None:
    """Draw which colour is which slot, below a contact sheet."""
    from matplotlib.lines import Line2D

    handles = []
    for slot in range(min(people, 5)):
        blue, green, red = slot_color(slot)
        text = f"slot {slot + 1}" + (" (most involved)" if slot == 0 else "")
        text = "further slots" if slot == 4 else text
        color = (red / 255, green / 255, blue / 255)
        handles.append(Line2D([], [], color=color, linewidth=5, label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
