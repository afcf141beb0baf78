"""Annotations that are well formed and yet cannot be right: other units, corners for sizes.

A few odd people are in every large data set and are warned of; many of them are a problem of the
conversion.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recognizer.sdpose.json_file import JsonObject
from recognizer.sdpose.problems import DatasetProblems, are_many
from recognizer.skeleton import NUM_KEYPOINTS

_TINY_PX, _SOME_PX = 2, 32  # people within 2 pixels of the corner are given in parts of a picture
_PADDING = 1.25  # mmpose's crop is that much larger than the box
_BEYOND = 1.05  # a box may reach a little over the border
_CORNERS, _OVER = 0.95, 0.2  # so many could be corners, so many are too large as sizes
_REACH = 0.1  # of a box: so far beyond it keypoints of COCO's own lie at one person in eight
_CUT, _MENDED = 0.5, 1 / 3  # so many such persons are no accident; what may be left of them

_PARTS = (
    "expected keypoints and bbox in pixels, got all within {got} of the picture's corner; they "
    "read like parts of the picture (0 to 1): multiply them by width and height"
)
_XYXY = (
    "bbox: expected x, y, width, height, got {got}, which reaches beyond the picture; all boxes of "
    "this file read like x1, y1, x2, y2: convert them"
)
_CENTERS = (
    "bbox: expected x, y, width, height, got {got}, beside which its keypoints lie; the boxes of "
    "this file read like center x, center y, width, height: convert them"
)
_AWAY = (
    "keypoints: expected labelled ones inside the person's bbox, which is all that the network "
    "sees, got none there: {got}; compare units and order of keypoints and bbox"
)
_OFF = "keypoints: expected labelled ones inside the picture, got none there: {got}"
_COPY = "expected every person once, got the keypoints of {got} again; both count: take one out"


def check_plausible(
    persons: Sequence[JsonObject],
    images: Mapping[int, JsonObject],
    problems: DatasetProblems,
) -> list[str]:
    """Add the problems of many persons, and return warnings of those of few.

    Args:
        persons: annotations with labelled keypoints, each well formed.
        images: pictures by id, each with a size.
        problems: takes in the problems.

    """
    boxes = np.array([person["bbox"] for person in persons], np.float64)
    points = np.array([p["keypoints"] for p in persons], np.float64).reshape(-1, NUM_KEYPOINTS, 3)
    rows = [images[person["image_id"]] for person in persons]
    sizes = np.array([(row["width"], row["height"]) for row in rows], np.float64)
    labelled, xy = points[..., 2] > 0, points[..., :2]
    table = _Table(persons, boxes, problems)
    parts = _in_parts(boxes, xy, labelled, sizes)
    if table.add(_PARTS, parts, lambda i: f"{xy[i][labelled[i]].max():.3g} pixels"):
        return []  # the rest follows from it
    corners = _are_corners(boxes, sizes)
    if table.add(_XYXY, corners, lambda i: str(persons[i]["bbox"])):
        return []
    centers = _are_centers(boxes, xy, labelled)
    if table.add(_CENTERS, centers, lambda i: str(persons[i]["bbox"])):
        return []
    off = ~(labelled & _inside(xy, np.zeros_like(sizes), sizes)).any(1)
    center, half = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:] / 2 * _PADDING
    away = ~(labelled & _inside(xy, center - half, center + half)).any(1) & ~off
    for kind, mask in ((_OFF, off), (_AWAY, away)):
        table.add(
            kind,
            mask,
            lambda i: f"bbox {persons[i]['bbox']}, first keypoint {xy[i][labelled[i]][0].tolist()}",
        )
    return [
        *table.warnings,
        *_copies(persons),
        *_cut_off(_reach_beyond(boxes, xy, labelled)),
        *_point_warnings(xy, labelled, sizes),
    ]


def _copies(persons: Sequence[JsonObject]) -> list[str]:
    """Return a warning of persons that are there again under another id."""
    first: dict[tuple[int, tuple[float, ...]], int] = {}
    copies = DatasetProblems()
    for person in persons:
        number, image = person["id"], person["image_id"]
        known = first.setdefault((image, tuple(person["keypoints"])), number)
        if known != number:
            copies.add(_COPY, f"annotation {number} (image {image})", f"annotation {known}")
    return copies.lines()


def _reach_beyond(
    boxes: NDArray[np.float64], xy: NDArray[np.float64], labelled: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return who has a keypoint well outside the box."""
    reach = _REACH * boxes[:, 2:]
    inside = _inside(xy, boxes[:, :2] - reach, boxes[:, :2] + boxes[:, 2:] + reach)
    return np.asarray((labelled & ~inside).any(1))


def _are_centers(
    boxes: NDArray[np.float64], xy: NDArray[np.float64], labelled: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return who reaches beyond the box if most do, and few if boxes are center and size."""
    beyond = _reach_beyond(boxes, xy, labelled)
    moved = np.hstack((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]))
    still = _reach_beyond(moved, xy, labelled)
    alike = beyond.mean() > _CUT and still.mean() <= beyond.mean() * _MENDED
    return beyond if alike else np.zeros(len(boxes), np.bool_)


class _Table:
    """Decides between a problem and a warning by how many persons have it."""

    def __init__(
        self,
        persons: Sequence[JsonObject],
        boxes: NDArray[np.float64],
        problems: DatasetProblems,
    ) -> None:
        self.persons, self.total, self.problems = persons, len(boxes), problems
        self.warnings: list[str] = []

    def add(self, kind: str, mask: NDArray[np.bool_], got: Callable[[int], str]) -> bool:
        """Add the persons of a mask: to the problems if they are many, else to the warnings."""
        found = np.flatnonzero(mask)
        few = DatasetProblems()
        many = are_many(len(found), self.total)
        for i in found.tolist():
            person = self.persons[i]
            where = f"annotation {person['id']} (image {person['image_id']})"
            (self.problems if many else few).add(kind, where, got(i))
        self.warnings += few.lines()
        return many


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


def _cut_off(beyond: NDArray[np.bool_]) -> list[str]:
    if beyond.mean() <= _CUT:
        return []
    return [
        f"{beyond.sum()} of {len(beyond)} boxes do not hold all keypoints of their person, and the "
        "network sees little beyond them; compare units and order of keypoints and bbox"
    ]


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
