"""Skeletons, boxes, ids and captions on pictures: image in, new image out.

Line widths and letters follow the picture's height. People of whom a row is only
interpolated (box score 0) are drawn faint and dashed, to tell them from detections.
"""

import colorsys
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from types import NoneType

import cv2
import numpy as np

from recognizer.checks import check_number, check_pixels, check_type
from recognizer.skeleton import EDGES, NUM_KEYPOINTS
from recognizer.text import (
    Color,
    Rectangle,
    Tag,
    TextStyle,
    draw_text,
    fit_text,
    readable_on,
    text_width,
)
from recognizer.types import AnyFloat, ImageArray, Poses

KEYPOINT_THRESHOLD = 0.3
_UNTRACKED_COLOR: Color = (200, 200, 200)
_BLACK: Color = (0, 0, 0)
_WHITE: Color = (255, 255, 255)
_MIN_TEXT_PX = 12  # smaller Hangul cannot be read
_FAINT = 0.45  # opacity of interpolated people
_MOST_PLACED = 50  # tags that evade each other; in a larger crowd the others cover some
_FAR_OUTSIDE = 4  # picture sizes; OpenCV's coordinates overflow far beyond


def color_of(track_id: int) -> Color:
    """Return the colour of an id: always the same, and far from those of its neighbours."""
    if track_id < 0:
        return _UNTRACKED_COLOR
    hue = track_id * 0.61803398875 % 1.0  # the golden ratio spreads hues evenly
    saturation = (0.9, 0.6, 0.75)[track_id % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw_skeleton(
    image: ImageArray,
    keypoints: AnyFloat,
    scores: AnyFloat,
    color: Color,
    threshold: float = KEYPOINT_THRESHOLD,
) -> ImageArray:
    """Return the image with one skeleton.

    Args:
        image: (H, W, 3) uint8, BGR; it stays as it is.
        keypoints: (17, 2) pixels; they may lie outside the image.
        scores: (17,); keypoints below ``threshold``, with score 0 or that are not finite
            are left out, and so are the limbs that end in them.
        color: blue, green, red, 0 to 255.
        threshold: the lowest score that is drawn.

    Raises:
        TypeError: a threshold that is no number.
        ValueError: an image of another shape or type, or without a pixel; keypoints or scores of
            another shape; what is no colour.

    """
    canvas = _copied(image)
    check_number("threshold", threshold)
    keypoints = _numbers("keypoints", keypoints, (NUM_KEYPOINTS, 2))
    scores = _numbers("scores", scores, (NUM_KEYPOINTS,))
    blue, green, red = _numbers("color", color, (3,)).tolist()
    if not all(0 <= value <= 255 for value in (blue, green, red)):
        raise ValueError(f"color: expected 0 to 255 for blue, green and red, got {color}")
    _skeleton(canvas, keypoints, scores, (round(blue), round(green), round(red)), threshold)
    return canvas


def draw_people(
    image: ImageArray,
    poses: Poses,
    involvement: Mapping[int, float] | None = None,
    about: Collection[int] | None = None,
) -> ImageArray:
    """Return the image with all people's skeletons, boxes and labels.

    The label is the id, and beside it the involvement where one is given. The most
    involved people are drawn last and lie on top.

    Args:
        image: (H, W, 3) uint8, BGR; it stays as it is.
        poses: the people of this frame.
        involvement: by id, in [0, 1]. If given, even empty, people without an id are
            faint; if not, tracks are not expected.
        about: ids that the picture is about: all others are thin and grey. None: all.

    Raises:
        TypeError: an argument of another type.
        ValueError: an image of another shape or type, or without a pixel.

    """
    canvas = _copied(image)
    check_type("poses", poses, Poses)
    check_type("involvement", involvement, Mapping, NoneType)
    check_type("about", about, Collection, NoneType)
    ids = poses.track_ids.tolist()
    guessed = poses.box_scores <= 0
    aside = guessed if involvement is None else guessed | (poses.track_ids < 0)
    involvement = involvement or {}
    colors = [color_of(i) if about is None or i in about else _UNTRACKED_COLOR for i in ids]
    order = sorted(range(len(poses)), key=lambda row: _rank(ids[row], involvement, about))
    if aside.any():
        layer = canvas.copy()
        for row in np.flatnonzero(aside).tolist():
            _person(layer, poses, row, colors[row], dashed=bool(guessed[row]))
        cv2.addWeighted(layer, _FAINT, canvas, 1 - _FAINT, 0, dst=canvas)
    for row in order:
        if not aside[row]:
            _person(canvas, poses, row, colors[row], dashed=False)
    texts = {row: _tag(ids[row], involvement) for row in order if ids[row] >= 0}
    _draw_tags(canvas, poses.boxes, texts, colors)
    return canvas


def _rank(
    track_id: int, involvement: Mapping[int, float], about: Collection[int] | None
) -> tuple[bool, float]:
    return about is not None and track_id in about, involvement.get(track_id, 0.0)


def _tag(track_id: int, involvement: Mapping[int, float]) -> str:
    value = involvement.get(track_id)
    return f"{track_id}" if value is None or not np.isfinite(value) else f"{track_id}  {value:.2f}"


def draw_caption(image: ImageArray, text: str, line: int = 0) -> ImageArray:
    """Return the image with a line of text at its lower left, shortened to fit the width.

    Args:
        image: (H, W, 3) uint8, BGR; it stays as it is.
        text: any text; without one nothing is drawn.
        line: which line, counted from below.

    Raises:
        ValueError: an image of another shape or type, or without a pixel.

    """
    canvas = _copied(image)
    if not text:
        return canvas
    height, width = canvas.shape[:2]
    style = TextStyle(_text_px(canvas.shape[0]))
    left = round(0.02 * width)
    text = fit_text(text, style, width - 2 * left)
    top = max(0, height - (line + 1) * style.height - _below(height))
    # Darker below the letters, so that they are readable on any ground.
    ground = canvas[top : top + style.height, max(left - 3, 0) : left + text_width(text, style) + 3]
    ground //= 3
    draw_text(canvas, text, (left, top), style)
    return canvas


def caption_height(height: int) -> int:
    """Return how many pixels one line of caption takes at the lower edge of a picture."""
    return TextStyle(_text_px(height)).height + _below(height)


def _copied(image: ImageArray) -> ImageArray:
    """Return a copy to draw into; raise ValueError for what is no picture."""
    check_pixels(image)
    return image.copy()


def _numbers(name: str, values: object, shape: tuple[int, ...]) -> AnyFloat:
    """Return numbers as an array of floats; raise ValueError for others or another shape."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.shape != shape or array.dtype.kind not in "iuf":
        came = f"{array.shape} {array.dtype}" if hasattr(values, "dtype") else repr(values)[:50]
        raise ValueError(f"{name}: expected {shape} numbers, got {came}")
    floats: AnyFloat = array if array.dtype.kind == "f" else array.astype(np.float64)
    return floats


# --- parts -------------------------------------------------------------------------


def _person(canvas: ImageArray, poses: Poses, row: int, color: Color, *, dashed: bool) -> None:
    corners = _inside_limits(canvas, poses.boxes[row].reshape(2, 2))
    if corners is not None:
        (x1, y1), (x2, y2) = corners
        around = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        for start, stop in pairwise(around):
            _line(canvas, start, stop, color, dashed=dashed)
    _skeleton(canvas, poses.keypoints[row], poses.keypoint_scores[row], color, KEYPOINT_THRESHOLD)


def _skeleton(
    canvas: ImageArray, keypoints: AnyFloat, scores: AnyFloat, color: Color, threshold: float
) -> None:
    drawn = {}
    for joint in np.flatnonzero((scores > 0) & (scores >= threshold)):
        point = _inside_limits(canvas, keypoints[joint][None])
        if point is not None:
            drawn[int(joint)] = point[0]
    limbs = [(drawn[a], drawn[b]) for a, b in EDGES if a in drawn and b in drawn]
    width = _stroke(canvas)
    for start, stop in limbs:  # a dark rim keeps the lines readable on any ground
        cv2.line(canvas, start, stop, _BLACK, width + max(2, width // 2 * 2), cv2.LINE_AA)
    for start, stop in limbs:
        cv2.line(canvas, start, stop, color, width, cv2.LINE_AA)
    for place in drawn.values():
        cv2.circle(canvas, place, width + 1, _BLACK, -1, cv2.LINE_AA)
        cv2.circle(canvas, place, width, _WHITE, -1, cv2.LINE_AA)


def _inside_limits(canvas: ImageArray, points: AnyFloat) -> list[tuple[int, int]] | None:
    """Return points (N, 2) as whole pixels; None if one is not finite or absurdly far off."""
    limit = _FAR_OUTSIDE * max(canvas.shape[:2])
    if not np.isfinite(points).all() or np.abs(points).max() > limit:
        return None
    return [(round(float(x)), round(float(y))) for x, y in points]


def _line(
    canvas: ImageArray, start: tuple[int, int], stop: tuple[int, int], color: Color, *, dashed: bool
) -> None:
    width = max(1, _stroke(canvas) // 2)
    if not dashed:
        cv2.line(canvas, start, stop, color, width, cv2.LINE_AA)
        return
    a, b = np.asarray(start, float), np.asarray(stop, float)
    dashes = max(1, round(float(np.hypot(*(b - a))) / (6 * width + 4)))
    for i in range(dashes):
        one, two = a + (b - a) * i / dashes, a + (b - a) * (i + 0.5) / dashes
        cv2.line(canvas, _pixel(one), _pixel(two), color, width, cv2.LINE_AA)


def _pixel(point: AnyFloat) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _draw_tags(
    canvas: ImageArray, boxes: AnyFloat, texts: dict[int, str], colors: Sequence[Color]
) -> None:
    """Write a text at each box, above it or where it covers no other of the first 50.

    Args:
        canvas: it is changed.
        boxes: (N, 4) x1 y1 x2 y2 pixels.
        texts: by row; the last are the most important ones, keep their places and are drawn last.
        colors: N, of the rows.

    """
    size_wh = canvas.shape[1], canvas.shape[0]
    size_px = max(_MIN_TEXT_PX, round(0.85 * _text_px(canvas.shape[0])))
    tags: list[Tag] = []
    taken: list[Rectangle] = []
    for row, text in reversed(texts.items()):
        corners = _inside_limits(canvas, boxes[row].reshape(2, 2))
        if corners is None:
            continue
        style = TextStyle(size_px, readable_on(colors[row]))
        (left, top), _ = corners
        tag = Tag(text, left, top - style.height, style, colors[row])
        if len(tags) < _MOST_PLACED:
            tag = tag.placed(_other_places(tag.box(size_wh), corners), taken, size_wh)
            taken.append(tag.box(size_wh))
        tags.append(tag)
    for tag in reversed(tags):
        tag.draw(canvas)


def _other_places(box: Rectangle, corners: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield left and top of a tag of this box above, below and beside a person's corners."""
    wide, high = box[2] - box[0], box[3] - box[1]
    (left, top), (right, bottom) = corners
    above, other = top - high, right - wide
    yield from ((other, above), (left, above - high), (other, above - high))
    yield from ((left, bottom), (other, bottom), (right, top), (left - wide, top))
    yield from ((left, above - 2 * high), (left, bottom + high), (right, top + high))


def _stroke(canvas: ImageArray) -> int:
    return max(1, round(canvas.shape[0] / 270))


def _text_px(height: int) -> int:
    return max(_MIN_TEXT_PX, round(height / 32))


def _below(height: int) -> int:
    return max(2, round(0.01 * height))
