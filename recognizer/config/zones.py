"""The config's zones: parts of a camera's picture with other rules for people."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from recognizer.config.types import Section, Unit
from recognizer.names import nfc


def _shown(name: str) -> str:
    """Return a name in NFC; raise ValueError for an invisible one."""
    if not (name.strip() and name.isprintable()):  # it goes to consoles, tables and pictures
        raise ValueError("expected a name of visible characters")
    return nfc(name)


ShownName = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_shown)]
Point = Annotated[tuple[Unit, Unit], Field(strict=False)]
MAX_CORNERS = 100  # as many as a person would click; the check of crossings is quadratic


PolygonProblem = Literal["corners", "twice", "crossing", "line"]


class PolygonError(ValueError):
    """Corners that are no polygon; ``problem`` says why, for a message in another language."""

    def __init__(self, problem: PolygonProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def _polygon(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners; raise ValueError where they enclose nothing or cross."""
    if not 3 <= len(points) <= MAX_CORNERS:
        raise PolygonError(
            "corners", f"expected 3 to {MAX_CORNERS} corners [x, y], got {len(points)}"
        )
    twice = next((i for i, p in enumerate(points) if p in points[:i]), None)
    if twice is not None:
        x, y = points[twice]
        raise PolygonError(
            "twice",
            "expected every corner once, the last is joined to the first; got "
            f"[{x:g}, {y:g}] twice",
        )
    sides = [(points[i], points[(i + 1) % len(points)]) for i in range(len(points))]
    for (i, one), (j, other) in combinations(enumerate(sides), 2):
        neighbours = j - i in {1, len(sides) - 1}
        if not neighbours and _cross(*one, *other):
            raise PolygonError(
                "crossing",
                f"expected corners in their order around the zone, got sides {i + 1} and {j + 1} "
                "that cross",
            )
    if abs(_doubled_area(points)) < 1e-6:
        raise PolygonError("line", "expected corners around an area, got corners on one line")
    return points


def _doubled_area(points: Sequence[tuple[float, float]]) -> float:
    """Return twice the signed area (shoelace formula)."""
    following = [*points[1:], points[0]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, following, strict=True))


def _cross(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float]
) -> bool:
    """Return whether the segments ab and cd have a point in common."""

    def side(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> float:
        return _doubled_area((p, q, r))

    def between(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> bool:
        return all(min(p[k], q[k]) <= r[k] <= max(p[k], q[k]) for k in (0, 1))

    of_ab, of_cd = (side(a, b, c), side(a, b, d)), (side(c, d, a), side(c, d, b))
    if of_ab[0] * of_ab[1] < 0 and of_cd[0] * of_cd[1] < 0:
        return True
    touching = [(a, b, c, of_ab[0]), (a, b, d, of_ab[1]), (c, d, a, of_cd[0]), (c, d, b, of_cd[1])]
    return any(value == 0 and between(p, q, r) for p, q, r, value in touching)


Polygon = Annotated[list[Point], AfterValidator(_polygon)]


class ZoneConfig(Section):
    """One zone: its corners, and the videos that show it."""

    name: ShownName
    videos: Annotated[str, Field(min_length=1), AfterValidator(nfc)] = "*"
    polygon: Polygon

    def shows(self, video: str) -> bool:
        """Return whether the pattern fits a video's path inside the input folder."""
        return fnmatchcase(nfc(video), self.videos)


class ZonesConfig(Section):
    """Rest zones and ignored zones."""

    rest: list[ZoneConfig] = []
    ignore: list[ZoneConfig] = []
