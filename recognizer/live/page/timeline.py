"""An event's probability over time, and where its people were, as coordinates for SVG."""

from dataclasses import dataclass

from recognizer.action.results import Person
from recognizer.live.events import LiveEvent

_TICKS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120)
_MAX_TICKS = 7


@dataclass(frozen=True, slots=True)
class Timeline:
    """A curve in a square of 100 x 100, y downwards.

    Attributes:
        line: points of the curve, as SVG has them.
        area: points of the area under it.
        ticks: places on the time axis, and seconds after the event's start.
        peak_x: place of the peak.
        enter_y: place of the threshold at which an event begins.
        leave_y: place of that at which it ends.

    """

    line: str
    area: str
    ticks: tuple[tuple[float, float], ...]
    peak_x: float
    enter_y: float
    leave_y: float


def timeline(event: LiveEvent, enter: float, leave: float) -> Timeline | None:
    """Return the curve of an event; None: it has no probabilities."""
    if not event.probabilities:
        return None
    times = [time_s for time_s, _ in event.probabilities]
    first_s, last_s = min(0.0, *times), max(event.end_s - event.start_s, *times)
    span_s = max(last_s - first_s, 1e-6)

    def x(time_s: float) -> float:
        return round(100 * (time_s - first_s) / span_s, 2)

    points = [(x(time_s), _y(value)) for time_s, value in event.probabilities]
    if len(points) == 1:
        points = [(0.0, points[0][1]), (100.0, points[0][1])]
    line = " ".join(f"{a:g},{b:g}" for a, b in points)
    area = f"{points[0][0]:g},100 {line} {points[-1][0]:g},100"
    step_s = next((tick for tick in _TICKS_S if span_s / tick <= _MAX_TICKS), span_s)
    ticks = tuple((x(n * step_s), n * step_s) for n in range(int(last_s / step_s + 1e-9) + 1))
    return Timeline(line, area, ticks, x(event.peak_s), _y(enter), _y(leave))


def _y(probability: float) -> float:
    return round(100 * (1 - min(max(probability, 0.0), 1.0)), 2)


@dataclass(frozen=True, slots=True)
class Plan:
    """People's boxes in the picture.

    Attributes:
        width: of the picture in pixels.
        height: likewise.
        boxes: x, y, width, height in pixels and the person, most involved first.

    """

    width: float
    height: float
    boxes: tuple[tuple[float, float, float, float, Person], ...]


def plan(event: LiveEvent, size_wh: tuple[int, int] | None) -> Plan | None:
    """Return the boxes of an event's people; None: it has none.

    A picture whose size is not known is as large as the boxes reach.
    """
    if not event.people:
        return None
    boxes = tuple(
        (x1, y1, max(x2 - x1, 1.0), max(y2 - y1, 1.0), person)
        for person in event.people
        for x1, y1, x2, y2 in [person.box]
    )
    width, height = size_wh or (
        max(person.box[2] for person in event.people) * 1.05,
        max(person.box[3] for person in event.people) * 1.05,
    )
    return Plan(max(width, 1.0), max(height, 1.0), boxes)
