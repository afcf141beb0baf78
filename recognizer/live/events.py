"""Values of live detection: an event as it changes, and one that a rule refused."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from recognizer.action.results import Person

State = Literal["new", "update", "end"]
CloseCause = Literal["quiet", "max_s", "gap", "stop", "restart"]
Rule = Literal["enter", "windows", "min_s", "zone", "schedule", "gap"]
TIME_DIGITS, PROBABILITY_DIGITS = 3, 4


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """An event of a camera at one moment of its life.

    Attributes:
        event_id: the same in all its states.
        revision: counts them: 0 for ``new``.
        state: ``new``, ``update`` or ``end``.
        camera: name of the camera.
        class_name: what happens.
        zone: name of the included zone in which it began, empty for none.
        start_s: start of its first window, monotonic clock.
        end_s: end of its last window so far.
        start_utc_s: ``start_s`` as seconds since 1970 in UTC.
        end_utc_s: ``end_s`` likewise.
        peak_probability: highest smoothed probability.
        peak_s: end of the window with that, seconds after ``start_s``.
        probabilities: end of each window, seconds after ``start_s``, and smoothed probability.
        streams: what the streams ``pose`` and ``movement`` gave alone in the peak's window.
        people: the people of its windows, most involved first.
        muted: in the cooldown of an earlier event: no notices are sent.
        closed_by: what ended it, None before.
        continues: id of the event that max_s ended and this one continues.

    """

    event_id: str
    revision: int
    state: State
    camera: str
    class_name: str
    zone: str
    start_s: float
    end_s: float
    start_utc_s: float
    end_utc_s: float
    peak_probability: float
    peak_s: float
    probabilities: tuple[tuple[float, float], ...] = ()
    streams: Mapping[str, float] = field(default_factory=dict)
    people: tuple[Person, ...] = ()
    muted: bool = False
    closed_by: CloseCause | None = None
    continues: str | None = None

    @property
    def key(self) -> str:
        """What tells this state of this event from all others."""
        return f"{self.event_id}:{self.revision}"

    @property
    def stream(self) -> str | None:
        """Name of the stream that gave most at the peak; None for a classifier of one stream."""
        return max(self.streams, key=lambda name: self.streams[name], default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"stream": self.stream}


def event_from_dict(value: Mapping[str, Any]) -> LiveEvent:
    """Return the event that ``as_dict`` wrote.

    Raises:
        KeyError, TypeError, ValueError: no such event.

    """
    values = {key: item for key, item in value.items() if key != "stream"}
    values["probabilities"] = tuple((float(t), float(p)) for t, p in value["probabilities"])
    values["people"] = tuple(
        Person(**{**person, "box": tuple(person["box"])}) for person in value["people"]
    )
    return LiveEvent(**values)


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Windows that came near an event, and the rule that refused them.

    Attributes:
        camera: name of the camera.
        class_name: what it would have been.
        zone: included zone of its peak, or the zone that refused it; empty for none.
        start_s: start of its first window, monotonic clock.
        end_s: end of its last.
        start_utc_s: ``start_s`` as seconds since 1970 in UTC.
        end_utc_s: ``end_s`` likewise.
        peak_probability: highest smoothed probability; by rule ``zone``, of the window alone.
        rule: the last rule that was not met.

    """

    camera: str
    class_name: str
    zone: str
    start_s: float
    end_s: float
    start_utc_s: float
    end_utc_s: float
    peak_probability: float
    rule: Rule


Outcome: TypeAlias = LiveEvent | NearMiss
