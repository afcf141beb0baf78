"""An event while it is open: what its windows add to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recognizer.action.results import Person
from recognizer.live.events import (
    PROBABILITY_DIGITS,
    TIME_DIGITS,
    CloseCause,
    LiveEvent,
    State,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A window as one class sees it.

    Attributes:
        start_s: its start, monotonic clock.
        stop_s: its end.
        utc_s: its end as seconds since 1970 in UTC.
        smoothed: probability of the class, smoothed over the windows before.
        refused: probability of the window alone that a zone refused; 0 for none.
        zone: of the people, or the one that refused them.
        people: those that count.
        streams: probabilities by each stream alone.

    """

    start_s: float
    stop_s: float
    utc_s: float
    smoothed: float
    refused: float
    zone: str
    people: tuple[Person, ...]
    streams: Mapping[str, float]


class OpenEvent:
    """An event that later windows may extend.

    Args:
        event_id: its id.
        camera: name of the camera.
        class_name: what happens.
        zone: in which it begins.
        run: the windows that make it an event, in order of time.
        muted: whether notices of it are sent.

    Attributes:
        start_s: start of its first window; end of the event that it continues.
        end_s: end of its last active window.
        active: whether the last window was a part of it.
        reported_s: ``end_s`` when its state was last given out.
        continues: id of the event that it continues.

    """

    def __init__(
        self,
        event_id: str,
        camera: str,
        class_name: str,
        zone: str,
        run: Sequence[Seen],
        muted: bool,
    ) -> None:
        self.event_id, self._camera, self._class = event_id, camera, class_name
        self._zone, self._muted = zone, muted
        first = run[0]
        self.start_s, self.end_s = first.start_s, first.stop_s
        self._clock_s = first.utc_s - first.stop_s  # added to the monotonic clock gives UTC
        self.active, self.reported_s = True, first.stop_s
        self.continues: str | None = None
        self._revision = 0
        self._peak = first
        self._curve: list[tuple[float, float]] = []
        self._people: dict[int, Person] = {}
        for seen in run:
            self.add(seen, active=True)

    def add(self, seen: Seen, *, active: bool) -> None:
        """Take the next window."""
        self.active = active
        self._curve.append((seen.stop_s, seen.smoothed))
        if not active:
            return
        self.end_s = seen.stop_s
        if seen.smoothed > self._peak.smoothed:
            self._peak = seen
        for person in seen.people:
            self._people[person.track_id] = self._people.get(person.track_id, person).joined(person)

    def state(self, state: State, closed_by: CloseCause | None = None) -> LiveEvent:
        """Return the event as it is now, and count it as given out."""
        people = sorted(self._people.values(), key=lambda p: (-p.involvement, p.track_id))
        curve = tuple(
            (round(time_s - self.start_s, TIME_DIGITS), round(value, PROBABILITY_DIGITS))
            for time_s, value in self._curve
            if time_s <= self.end_s
        )
        event = LiveEvent(
            event_id=self.event_id,
            revision=self._revision,
            state=state,
            camera=self._camera,
            class_name=self._class,
            zone=self._zone,
            start_s=self.start_s,
            end_s=self.end_s,
            start_utc_s=self.start_s + self._clock_s,
            end_utc_s=self.end_s + self._clock_s,
            peak_probability=round(self._peak.smoothed, PROBABILITY_DIGITS),
            peak_s=round(min(self._peak.stop_s, self.end_s) - self.start_s, TIME_DIGITS),
            probabilities=curve,
            streams=dict(self._peak.streams),
            people=tuple(people),
            muted=self._muted,
            closed_by=closed_by,
            continues=self.continues,
        )
        self._revision += 1
        self.reported_s = self.end_s
        return event
