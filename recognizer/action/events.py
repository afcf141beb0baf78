"""From windows to events, and how right they are: intervals, matches, false alarms per hour.

Times are seconds, intervals half-open ``[start, stop)``. A window or interval counts as
overlapping another only by more than a microsecond: touching ends share no time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        windows: their places in the list of windows, in order of time; several windows
            with the peak are told apart by being first.
        peak_window: the place of the first window with the peak.

    """

    start_s: float
    stop_s: float
    peak: float
    windows: tuple[int, ...]
    peak_window: int


@dataclass(frozen=True, eq=False, slots=True)
class Footage:
    """What is known and what was said about one video and one class of events.

    Attributes:
        windows: (N, 2) start and stop of each window.
        probabilities: (N,) of the class; NaN where a window was not judged.
        truth: (E, 2) when the event really happens, inside the span.
        span_s: start and stop of the video.

    """

    windows: FloatTable
    probabilities: FloatTable
    truth: FloatTable
    span_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class EventScores:
    """How right the intervals of some videos are at one threshold.

    Attributes:
        threshold: probability from which a window counts.
        events: events that really happened.
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

    def to_json(self) -> dict[str, Any]:
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
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which intervals are right and which events were found, in one video.

    An event is found if an interval shares time with it, once the event is made longer by
    the tolerance at both ends; such an interval is right. Several intervals on one event
    are all right, and one interval may find several events: what counts is that somebody
    is called, and not how often.

    Args:
        found: (F, 2) start and stop of the intervals.
        truth: (E, 2) start and stop of what really happened.
        tolerance_s: how inexact the truth's times may be, seconds.

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
    videos: Sequence[Footage],
    *,
    threshold: float,
    merge_gap_s: float = 0.0,
    min_event_s: float = 0.0,
    tolerance_s: float = 0.0,
) -> EventScores:
    """Return how right the events of some videos are; see ``match_events`` for what is right.

    Footage without an event is all of a video's span that no event covers.
    """
    events = found = alarms = false_alarms = 0
    normal_s = 0.0
    for video in videos:
        joined = merge_windows(
            video.windows, video.probabilities,
            threshold=threshold, merge_gap_s=merge_gap_s, min_event_s=min_event_s,
        )  # fmt: skip
        intervals = np.array([(i.start_s, i.stop_s) for i in joined]).reshape(-1, 2)
        right, hit = match_events(intervals, video.truth, tolerance_s=tolerance_s)
        events, found = events + len(hit), found + int(hit.sum())
        alarms, false_alarms = alarms + len(right), false_alarms + int((~right).sum())
        normal_s += _uncovered_s(video.span_s, video.truth)
    return EventScores(threshold, events, found, alarms, false_alarms, normal_s / 3600)


def alarm_rate_curve(
    videos: Sequence[Footage],
    thresholds: ArrayLike,
    *,
    merge_gap_s: float = 0.0,
    min_event_s: float = 0.0,
    tolerance_s: float = 0.0,
) -> list[EventScores]:
    """Return the scores at each threshold: what each false alarm per hour buys."""
    return [
        event_scores(
            videos, threshold=float(threshold), merge_gap_s=merge_gap_s,
            min_event_s=min_event_s, tolerance_s=tolerance_s,
        )
        for threshold in np.asarray(thresholds, np.float64)
    ]  # fmt: skip


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
