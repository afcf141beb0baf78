"""Zones of a camera: which people of a window count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recognizer.action.results import Person
from recognizer.config.alerts import LiveZoneConfig
from recognizer.geometry import in_polygon
from recognizer.types import BoolArray

Kind = Literal["include", "ignore", "rest"]
_FOOT = 0.1  # of a box's height above its lower edge: a box is seldom tight there


@dataclass(frozen=True, slots=True)
class CameraZone:
    """A part of a camera's picture.

    Attributes:
        kind: ``include``, ``ignore`` or ``rest``.
        name: shown in events.
        polygon: corners x, y in [0, 1] of the picture's width and height.

    """

    kind: Kind
    name: str
    polygon: tuple[tuple[float, float], ...]


class CameraZones:
    """The zones of a camera as they are now.

    One thread may swap them while others read: each reader gets the old ones or the new ones, and
    waits for none.
    """

    __slots__ = ("_now",)

    def __init__(self, zones: Iterable[CameraZone] = ()) -> None:
        self._now = tuple(zones)

    @property
    def now(self) -> tuple[CameraZone, ...]:
        """The zones; of two that hold a person, the first gives its name."""
        return self._now

    def swap(self, zones: Iterable[CameraZone]) -> None:
        """Put others in their place."""
        self._now = tuple(zones)


@dataclass(frozen=True, slots=True)
class Counted:
    """What zones leave of a window's people.

    Attributes:
        people: those that count, in the order given.
        zone: the included zone of the first of them, else the zone of the first person who does
            not count; empty for none.
        refused: people were there, or had to be, and none of them counts.

    """

    people: tuple[Person, ...]
    zone: str
    refused: bool


def zones_of_camera(section: Iterable[LiveZoneConfig], camera: str) -> tuple[CameraZone, ...]:
    """Return the zones of a camera in the config's order."""
    return tuple(
        CameraZone(zone.kind, zone.name, tuple(zone.polygon))
        for zone in section
        if zone.fits(camera)
    )


def count_people(
    people: Sequence[Person], zones: Sequence[CameraZone], size_wh: tuple[int, int], *, rest: bool
) -> Counted:
    """Return the people that count for an event.

    A person stands in a zone where the foot point is in it: the middle of the box's lower edge,
    raised by a tenth of its height. In ``ignore`` and ``rest`` zones the box's centre must be too:
    people who walk past a screen or a bed have their feet below it.

    Args:
        people: of one window, most involved first; boxes in pixels.
        zones: of the camera.
        size_wh: width and height of the picture in pixels.
        rest: whether people in rest zones are left out, as for falls.

    """
    feet, centres = _points(people, size_wh)
    out = np.full(len(people), "", object)
    inside = np.full(len(people), "", object)
    for zone in reversed(zones):
        corners = np.asarray(zone.polygon, np.float64)
        stands: BoolArray = in_polygon(feet, corners)
        if zone.kind == "include":
            inside[stands] = zone.name
        elif zone.kind == "ignore" or rest:
            out[stands & in_polygon(centres, corners)] = zone.name
    needs_zone = any(zone.kind == "include" for zone in zones)
    kept = [i for i in range(len(people)) if not out[i] and (inside[i] or not needs_zone)]
    if kept:
        return Counted(tuple(people[i] for i in kept), str(inside[kept[0]]), refused=False)
    refused = bool(people) or needs_zone
    return Counted((), next((str(name) for name in out if name), ""), refused)


def _points(
    people: Sequence[Person], size_wh: tuple[int, int]
) -> tuple["np.ndarray[tuple[int, int], np.dtype[np.float64]]", ...]:
    """Return foot points and centres (N, 2) as fractions of the picture."""
    boxes = np.asarray([person.box for person in people], np.float64).reshape(-1, 4)
    boxes = boxes / (*size_wh, *size_wh)
    x, height = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3] - boxes[:, 1]
    feet = np.column_stack([x, boxes[:, 3] - _FOOT * height])
    return feet, np.column_stack([x, boxes[:, 1] + height / 2])
