"""Annotations that are well formed and yet cannot be right: other units, corners for sizes.

A few odd people are in every large data set and are warned of; many of them are a fault of the
conversion.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.sdpose.faults import Faults
from recognizer.skeleton import NUM_KEYPOINTS

_MANY = 0.05  # of the labelled persons; fewer are warned of
_TINY_PX, _SOME_PX = 2, 32  # who is within 2 pixels of the corner is given in parts of a picture
_PADDING = 1.25  # mmpose's crop is that much larger than the box
_BEYOND = 1.05  # a box may reach a little over the border
_CORNERS, _OVER = 0.95, 0.2  # so many could be corners, so many are too large as sizes

_PARTS = (
    "expected keypoints and bbox in pixels, got all within {got} of the picture's corner; they "
    "read like parts of the picture (0 to 1): multiply them by width and height"
)
_XYXY = (
    "bbox: expected x, y, width, height, got {got}, which reaches beyond the picture; all boxes of "
    "this file read like x1, y1, x2, y2: convert them"
)
_AWAY = (
    "keypoints: expected labelled ones inside the person's bbox, which is all that the network "
    "sees, got none there: {got}; compare units and order of keypoints and bbox"
)
_OFF = "keypoints: expected labelled ones inside the picture, got none there: {got}"


def check_plausible(
    persons: Sequence[Mapping[str, Any]],
    images: Mapping[int, Mapping[str, Any]],
    faults: Faults,
) -> list[str]:
    """Take in what many persons have wrong, and return warnings of what few have.

    Args:
        persons: annotations with labelled keypoints, each well formed.
        images: pictures by id, each with a size.
        faults: takes in the faults.

    """
    boxes = np.array([person["bbox"] for person in persons], np.float64)
    points = np.array([p["keypoints"] for p in persons], np.float64).reshape(-1, NUM_KEYPOINTS, 3)
    rows = [images[person["image_id"]] for person in persons]
    sizes = np.array([(row["width"], row["height"]) for row in rows], np.float64)
    labelled, xy = points[..., 2] > 0, points[..., :2]
    table = _Table(persons, boxes, faults)
    parts = _in_parts(boxes, xy, labelled, sizes)
    if table.judge(_PARTS, parts, lambda i: f"{xy[i][labelled[i]].max():.3g} pixels"):
        return []  # the rest follows from it
    corners = _are_corners(boxes, sizes)
    if corners.any():
        table.judge(_XYXY, corners, lambda i: str(persons[i]["bbox"]))
        return []
    off = ~(labelled & _inside(xy, np.zeros_like(sizes), sizes)).any(1)
    center, half = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:] / 2 * _PADDING
    away = ~(labelled & _inside(xy, center - half, center + half)).any(1) & ~off
    for kind, mask in ((_OFF, off), (_AWAY, away)):
        table.judge(kind, mask, lambda i: f"bbox {persons[i]['bbox']}, "
                    f"first keypoint {xy[i][labelled[i]][0].tolist()}")  # fmt: skip
    return [*table.warnings, *_point_warnings(xy, labelled, sizes)]


class _Table:
    """Decides between a fault and a warning by how many persons have it."""

    def __init__(
        self, persons: Sequence[Mapping[str, Any]], boxes: NDArray[np.float64], faults: Faults
    ) -> None:
        self.persons, self.total, self.faults = persons, len(boxes), faults
        self.warnings: list[str] = []

    def judge(self, kind: str, mask: NDArray[np.bool_], got: Any) -> bool:
        """Take in the persons of a mask; tell whether they are a fault."""
        found = np.flatnonzero(mask)
        few = Faults()
        many = len(found) > _MANY * self.total
        for i in found:
            person = self.persons[i]
            where = f"annotation {person['id']} (image {person['image_id']})"
            (self.faults if many else few).add(kind, where, got(i))
        self.warnings += few.lines()
        return bool(many and len(found))


def _in_parts(
    boxes: NDArray[np.float64],
    xy: NDArray[np.float64],
    labelled: NDArray[np.bool_],
    sizes: NDArray[np.float64],
) -> NDArray[np.bool_]:
    furthest = np.where(labelled, np.abs(xy).max(2), 0).max(1)
    return np.asarray((furthest <= _TINY_PX) & (sizes.min(1) > _SOME_PX))


def _are_corners(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes are too large for their picture if all could be two corners."""
    over = (boxes[:, :2] + boxes[:, 2:] > sizes * _BEYOND).any(1)
    could = (boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes[:, 2:] <= sizes * _BEYOND).all(1)
    alike = could.mean() >= _CORNERS and over.mean() >= _OVER
    return over if alike else np.zeros(len(boxes), np.bool_)


def _inside(
    xy: NDArray[np.float64], start: NDArray[np.float64], stop: NDArray[np.float64]
) -> NDArray[np.bool_]:
    return np.asarray(((xy >= start[:, None]) & (xy <= stop[:, None])).all(2))


def _point_warnings(
    xy: NDArray[np.float64], labelled: NDArray[np.bool_], sizes: NDArray[np.float64]
) -> list[str]:
    total = int(labelled.sum())
    beside = int((labelled & ~_inside(xy, np.zeros_like(sizes), sizes)).sum())
    corner = int((labelled & (xy == 0).all(2)).sum())
    warnings = []
    if beside:
        warnings.append(
            f"{beside} of {total} labelled keypoints lie outside their picture; they are not "
            "trained on"
        )
    if corner:
        warnings.append(
            f"{corner} of {total} labelled keypoints are at 0, 0; a keypoint that is not there "
            "has visibility 0"
        )
    return warnings
