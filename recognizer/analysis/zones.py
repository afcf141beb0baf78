"""Rest zones and ignored zones of a video, and the people inside them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recognizer.config.zones import ZonesConfig
from recognizer.geometry import in_polygon
from recognizer.types import UNTRACKED, IntArray, PoseSequence

Kind = Literal["rest", "ignore"]
NOWHERE = -1
_FOOT = 0.1  # of a box's height above its lower edge: a box is seldom tight there


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the picture.

    Attributes:
        kind: ``rest``: lying there is no event; ``ignore``: people there are left out.
        name: shown in overlays and tables.
        polygon: corners x, y in [0, 1] of the picture's width and height.

    """

    kind: Kind
    name: str
    polygon: tuple[tuple[float, float], ...]

    def corners_px(self, size_wh: tuple[int, int]) -> NDArray[np.float64]:
        """Return the corners (P, 2) in pixels."""
        return np.asarray(self.polygon, np.float64) * size_wh


def zones_of(section: ZonesConfig, video: str) -> tuple[Zone, ...]:
    """Return the zones of a video, rest zones first."""
    kinds: tuple[Kind, Kind] = ("rest", "ignore")
    return tuple(
        Zone(kind, zone.name, tuple(zone.polygon))
        for kind in kinds
        for zone in getattr(section, kind)
        if zone.shows(video)
    )


def unseen_zones(section: ZonesConfig, videos: Sequence[str]) -> list[str]:
    """Return a text for every zone that is in none of the videos: its pattern may be wrong."""
    return [
        f"inference.zones.{kind}: {zone.name!r}: no video fits {zone.videos!r}, such as {videos[0]}"
        for kind in ("rest", "ignore")
        for zone in getattr(section, kind)
        if videos and not any(zone.shows(video) for video in videos)
    ]


def zone_numbers(
    points: NDArray[np.float64], zones: Sequence[Zone], kind: Kind, size_wh: tuple[int, int]
) -> IntArray:
    """Return for points (N, 2) pixels the first zone of a kind they are in, else ``NOWHERE``."""
    numbers = np.full(len(points), NOWHERE, np.int64)
    for number, zone in reversed(list(enumerate(zones))):
        if zone.kind == kind:
            numbers[in_polygon(points, zone.corners_px(size_wh))] = number
    return numbers


def without_ignored(sequence: PoseSequence, zones: Sequence[Zone]) -> PoseSequence:
    """Return the sequence with people inside ignored zones untracked.

    A person is inside if centre and foot point of the box, the middle of its lower edge raised by a
    tenth of its height, are in one zone: people who walk past a screen have their feet below it.
    """
    if all(zone.kind != "ignore" for zone in zones):
        return sequence
    boxes = sequence.poses.boxes.astype(np.float64)
    x = (boxes[:, 0] + boxes[:, 2]) / 2
    height = boxes[:, 3] - boxes[:, 1]
    centres = np.column_stack([x, boxes[:, 1] + height / 2])
    feet = np.column_stack([x, boxes[:, 3] - _FOOT * height])
    inside = np.zeros(len(boxes), np.bool_)
    for zone in zones:
        if zone.kind == "ignore":
            corners = zone.corners_px(sequence.size_wh)
            inside |= in_polygon(centres, corners) & in_polygon(feet, corners)
    ids = np.where(inside, UNTRACKED, sequence.poses.track_ids)
    return replace(sequence, poses=sequence.poses.with_ids(ids))
