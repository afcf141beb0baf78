"""From windows to events, and event metrics: intervals, matches, false alarms per hour.

Times are seconds, intervals half-open ``[start, stop)``. A window or interval counts as
overlapping another only by more than a microsecond: touching ends share no time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recognizer.action.results import Event, Person, Window, by_time
from recognizer.dataset.windows import TIME_DIGITS
from recognizer.types import BoolArray

FloatTable = NDArray[np.float64]
# Starts and stops are sums of rounded seconds; see recognizer.dataset.windows.
_ROUNDING_S = 2e-6


@dataclass(frozen=True, slots=True)
class Interval:
    """Windows above the threshold that belong together.

    Attributes:
        start_s: start of the first of them.
        stop_s: latest end among them.
        peak: highest probability among them.
        windows: their places in the list of windows, in order of time; of several
            windows with the peak the first counts.
        peak_window: the place of the first window with the peak.

    """

    start_s: float
    stop_s: float
    peak: float
    windows: tuple[int, ...]
    peak_window: int


@dataclass(frozen=True, eq=False, slots=True)
class VideoTimeline:
    """Predictions and ground truth of one video and one class of events.

    Attributes:
        windows: (N, 2) start and stop of each window.
        probabilities: (N,) of the class; NaN where a window was not classified.
        truth: (E, 2) start and stop of the true events, inside the span.
        span_s: start and stop of the video.

    """

    windows: FloatTable
    probabilities: FloatTable
    truth: FloatTable
    span_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class EventScores:
    """Event metrics of some videos at one threshold.

    Attributes:
        threshold: probability from which a window counts.
        events: true events.
        found: those of them that an interval overlaps.
        alarms: intervals.
        false_alarms: those of them that overlap no event.
        normal_hours: footage without an event, hours.

    """

    threshold: float
    events: int
    found: int
    alarms: int
    false_alarms: int
    normal_hours: float

    @property
    def recall(self) -> float | None:
        """Share of the events that were found, None without events."""
        return self.found / self.events if self.events else None

    @property
    def precision(self) -> float | None:
        """Share of the alarms that are right, None without alarms."""
        return 1 - self.false_alarms / self.alarms if self.alarms else None

    @property
    def false_alarms_per_hour(self) -> float | None:
        """False alarms for each hour without an event, None without such footage."""
        return self.false_alarms / self.normal_hours if self.normal_hours > 0 else None

    def to_json(self) -> dict[str, float | None]:
        """Return everything, ratios included, as plain numbers."""
        return {
            "threshold": self.threshold,
            "events": self.events,
            "found": self.found,
            "alarms": self.alarms,
            "false_alarms": self.false_alarms,
            "normal_hours": self.normal_hours,
            "recall": self.recall,
            "precision": self.precision,
            "false_alarms_per_hour": self.false_alarms_per_hour,
        }


def merge_to_events(
    windows: Sequence[Window], classes: Sequence[str], rules: Mapping[str, float]
) -> tuple[Event, ...]:
    """Return the events of every class but the first, which is the normal one, by time.

    Args:
        windows: of one video, in order of time.
        classes: names in the order of labels.
        rules: threshold, merge_gap_s and min_event_s.

    """
    merger = EventMerger(classes, **rules)
    events = [event for window in windows for event in merger.update(window)]
    return by_time(events + merger.finish())


class EventMerger:
    """Windows that come one after another, merged to events as ``merge_windows`` merges them.

    Memory does not grow with the number of windows, only with the people of the open events.

    Args:
        classes: names in the order of labels; the first is the normal one.
        threshold: lowest probability that counts.
        merge_gap_s: two windows at most this far apart belong together.
        min_event_s: shorter events are dropped, after joining.

    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        threshold: float,
        merge_gap_s: float = 0.0,
        min_event_s: float = 0.0,
    ) -> None:
        self._names = tuple(classes[1:])
        self._threshold, self._gap_s, self._min_s = threshold, merge_gap_s, min_event_s
        self.reset()

    def reset(self) -> None:
        """Start again, as for another video."""
        self._open: dict[str, _OpenEvent] = {}
        self._start_s = -np.inf

    def update(self, window: Window) -> list[Event]:
        """Take the next window; return the events that no later window can change.

        Raises:
            ValueError: a window that starts before the one before it.

        """
        if window.start_s < self._start_s:
            raise ValueError(
                f"window: expected a start not before that of the last one ({self._start_s:g} s), "
                f"got {window.start_s:g} s; reset() before another video"
            )
        self._start_s = window.start_s
        settled = []
        for name in self._names:
            event = self._open.get(name)
            if event and window.start_s > event.stop_s + self._gap_s + _ROUNDING_S:
                settled += self._close(name)
            if window.probabilities.get(name, np.nan) >= self._threshold:
                self._open.setdefault(name, _OpenEvent(name, window)).add(window)
        return settled

    def finish(self) -> list[Event]:
        """Return the events that are open at the end of the video, by time, and reset."""
        settled = [event for name in self._names for event in self._close(name)]
        self.reset()
        return list(by_time(settled))

    @property
    def open_events(self) -> list[Event]:
        """Events so far that later windows may still extend."""
        return [event.so_far() for event in self._open.values() if self._is_long(event)]

    def _close(self, name: str) -> list[Event]:
        event = self._open.pop(name, None)
        return [event.so_far()] if event and self._is_long(event) else []

    def _is_long(self, event: "_OpenEvent") -> bool:
        return event.stop_s - event.start_s >= self._min_s - _ROUNDING_S


@dataclass(slots=True)
class _OpenEvent:
    """An event that later windows may extend; ``peak`` starts as its first window."""

    name: str
    peak: Window
    start_s: float = field(init=False)
    stop_s: float = -np.inf
    windows: int = 0
    people: dict[int, Person] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start_s = self.peak.start_s

    def add(self, window: Window) -> None:
        self.windows += 1
        self.stop_s = max(self.stop_s, window.stop_s)
        if window.probabilities[self.name] > self.peak.probabilities[self.name]:
            self.peak = window
        for person in window.people:
            known = self.people.get(person.track_id, person)
            self.people[person.track_id] = known.joined(person)

    def so_far(self) -> Event:
        people = sorted(self.people.values(), key=lambda p: (-p.involvement, p.track_id))
        return Event(
            class_name=self.name,
            start_s=self.start_s,
            stop_s=self.stop_s,
            peak_probability=self.peak.probabilities[self.name],
            peak_s=round((self.peak.start_s + self.peak.stop_s) / 2, TIME_DIGITS),
            windows=self.windows,
            people=tuple(people),
            streams=dict(self.peak.streams),
        )


def merge_windows(
    windows: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float,
    merge_gap_s: float = 0.0,
    min_event_s: float = 0.0,
) -> list[Interval]:
    """Return the intervals of windows at or above the threshold, in order of time.

    Args:
        windows: (N, 2) start and stop in any order, overlapping or not.
        probabilities: (N,); NaN never counts.
        threshold: lowest probability that counts.
        merge_gap_s: two windows at most this far apart belong together; 0: those that
            overlap or touch.
        min_event_s: shorter intervals are dropped, after joining.

    Raises:
        ValueError: shapes that do not fit, or a window that does not end after its start.

    """
    spans = _spans(windows, "windows")
    values = np.asarray(probabilities, np.float64)
    if values.shape != (len(spans),):
        raise ValueError(
            f"probabilities: expected one for each of {len(spans)} windows, got {values.shape}"
        )
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    order = order[values[order] >= threshold]
    if not len(order):
        return []
    reach = np.maximum.accumulate(spans[order, 1])
    apart = spans[order[1:], 0] > reach[:-1] + merge_gap_s + _ROUNDING_S
    groups = np.split(order, np.flatnonzero(apart) + 1)
    joined = [_interval(spans, values, group) for group in groups]
    return [i for i in joined if i.stop_s - i.start_s >= min_event_s - _ROUNDING_S]


def _interval(spans: FloatTable, values: FloatTable, group: NDArray[np.int64]) -> Interval:
    best = int(group[np.argmax(values[group])])
    return Interval(
        start_s=float(spans[group[0], 0]),
        stop_s=float(spans[group, 1].max()),
        peak=float(values[best]),
        windows=tuple(group.tolist()),
        peak_window=best,
    )


def match_events(
    found: ArrayLike, truth: ArrayLike, *, tolerance_s: float = 0.0
) -> tuple[BoolArray, BoolArray]:
    """Tell which intervals are correct and which events are found, in one video.

    An event is found if an interval overlaps it, the event extended by the tolerance at both
    ends; such an interval is correct. Several intervals on one event are all correct, and one
    interval may find several events: the number of alarms for an event does not matter.

    Args:
        found: (F, 2) start and stop of the intervals.
        truth: (E, 2) start and stop of the true events.
        tolerance_s: tolerance of the ground truth's times, seconds.

    Returns:
        right (F,) and hit (E,).

    """
    if not tolerance_s >= 0:
        raise ValueError(f"tolerance_s: expected 0 or more seconds, got {tolerance_s}")
    alarms, events = _spans(found, "found"), _spans(truth, "truth")
    earliest_end = np.minimum(alarms[:, None, 1], events[None, :, 1] + tolerance_s)
    latest_start = np.maximum(alarms[:, None, 0], events[None, :, 0] - tolerance_s)
    overlap = earliest_end - latest_start > _ROUNDING_S
    return overlap.any(axis=1), overlap.any(axis=0)


def event_scores(
    videos: Sequence[VideoTimeline],
    *,
    threshold: float,
    merge_gap_s: float = 0.0,
    min_event_s: float = 0.0,
    tolerance_s: float = 0.0,
) -> EventScores:
    """Return the event metrics of some videos, matched by ``match_events``.

    Normal time is the part of a video's span that no event covers.
    """
    events = found = alarms = false_alarms = 0
    normal_s = 0.0
    for video in videos:
        joined = merge_windows(
            video.windows,
            video.probabilities,
            threshold=threshold,
            merge_gap_s=merge_gap_s,
            min_event_s=min_event_s,
        )
        intervals = np.array([(i.start_s, i.stop_s) for i in joined]).reshape(-1, 2)
        right, hit = match_events(intervals, video.truth, tolerance_s=tolerance_s)
        events, found = events + len(hit), found + int(hit.sum())
        alarms, false_alarms = alarms + len(right), false_alarms + int((~right).sum())
        normal_s += _uncovered_s(video.span_s, video.truth)
    return EventScores(threshold, events, found, alarms, false_alarms, normal_s / 3600)


def alarm_rate_curve(
    videos: Sequence[VideoTimeline],
    thresholds: ArrayLike,
    *,
    merge_gap_s: float = 0.0,
    min_event_s: float = 0.0,
    tolerance_s: float = 0.0,
) -> list[EventScores]:
    """Return the scores at each threshold: recall against false alarms per hour."""
    return [
        event_scores(
            videos,
            threshold=float(threshold),
            merge_gap_s=merge_gap_s,
            min_event_s=min_event_s,
            tolerance_s=tolerance_s,
        )
        for threshold in np.asarray(thresholds, np.float64)
    ]


def _uncovered_s(span_s: tuple[float, float], truth: ArrayLike) -> float:
    """Return the seconds of a span that no event covers."""
    begin, end = span_s
    free, reached = 0.0, begin
    for start, stop in sorted(_spans(truth, "truth").tolist()):
        free += max(0.0, min(start, end) - reached)
        reached = max(reached, min(stop, end))
    return free + max(0.0, end - reached)


def _spans(values: ArrayLike, name: str) -> FloatTable:
    """Return start and stop as (N, 2) float64."""
    spans = np.asarray(values, np.float64)
    if spans.size == 0:
        return np.zeros((0, 2))
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise ValueError(f"{name}: expected (N, 2) start and stop, got {spans.shape}")
    if not (spans[:, 1] > spans[:, 0]).all():
        raise ValueError(f"{name}: expected every stop after its start, got {spans.tolist()[:5]}")
    return spans
