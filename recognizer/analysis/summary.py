"""The summary table, one row for each video and service, and the lines for the console."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recognizer.action.results import PROBABILITY_DIGITS, Event, Person, Window
from recognizer.analysis.record import Record, ServiceResult, probability_text
from recognizer.names import printable
from recognizer.runs.event_curves import hours_text
from recognizer.runs.manifest import Outcome
from recognizer.storage.artifacts import write_csv

SUMMARY = "summary.csv"
SHOWN = 20
_NEAR = 0.1  # so far above the threshold an event is called near it
COLUMNS = (
    "video",
    "state",
    "service",
    "events",
    "times_s",
    "peak_probability",
    "peak_s",
    "seconds",
    "windows",
    "nobody",
    "not_judged",
    "lying",
    "suppressed",
    "reason",
    "peak_streams",
    "peak_people",
)

Rows = list[list[object]]


@dataclass(frozen=True, slots=True)
class VideoSummary:
    """Summary of one video, kept until the end of a run.

    Attributes:
        video: its path inside the input folder.
        events: of each service.
        peaks: highest probability of an event's class, of each service that judged a window.
        overlay: the overlay's file; None where there is none.
        peak_texts: what streams and people the windows with those are about, for a person.
        pose_only: of each service with a movement stream how many windows had no movement.
        seconds: length of the video.

    """

    video: str
    events: Mapping[str, tuple[Event, ...]]
    peaks: Mapping[str, float]
    overlay: Path | None
    peak_texts: Mapping[str, str] = field(default_factory=dict)
    pose_only: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, record: Record, overlay: Path) -> "VideoSummary":
        """Return the events of a record; ``overlay`` need not be there."""
        peaks = {name: _peak(result) for name, result in record.services.items()}
        return cls(
            record.video,
            {name: result.events for name, result in record.services.items()},
            {name: peak[0] for name, peak in peaks.items() if peak is not None},
            overlay if overlay.is_file() else None,
            {
                name: _explained(peak[1], record.services[name].rules["threshold"])
                for name, peak in peaks.items()
                if peak is not None
            },
            {name: _pose_only(result) for name, result in record.services.items()},
            record.span_s[1] - record.span_s[0],
        )


def _peak(result: ServiceResult) -> tuple[float, Window] | None:
    """Return the highest probability of an event's class and its window, None without any."""
    values = [
        (max(w.probabilities[name] for name in result.classifier["classes"][1:]), w)
        for w in result.windows
        if w.probabilities
    ]
    return max(values, key=lambda pair: pair[0], default=None)


def _explained(window: Window, threshold: float) -> str:
    """Return streams and people of a window as text; empty for a classifier of one stream."""
    if not window.streams:
        return ""
    people = _ids(window.people) or "nobody"
    return f" ({_streams_text(window.streams, threshold)}; people (track ids): {people})"


def _streams_text(streams: Mapping[str, float], threshold: float) -> str:
    text = ", ".join(f"{name} {probability_text(p, threshold)}" for name, p in streams.items())
    return f"{text}, no movement measured" if streams and "movement" not in streams else text


def _ids(people: Sequence[Person]) -> str:
    return ", ".join(str(person.track_id) for person in people)


def _pose_only(result: ServiceResult) -> int:
    return sum(bool(w.streams) and "movement" not in w.streams for w in result.windows)


def summary_rows(outcome: Outcome, record: Record | None, services: Sequence[str]) -> Rows:
    """Return the rows of one video: the end state alone where there is no record.

    ``times_s`` reads ``3.00-7.50 Fight; 12.00-15.00 Fight``, ``lying`` is how many of those are of
    that grade, ``suppressed`` reads ``2.00-5.00 Falldown (bed)``; the peak is that of the whole
    video, also below the threshold, so that near misses show, with the probability of each stream
    and the ids of its people.
    """
    head: list[object] = [outcome.video, outcome.state]
    if record is None:
        empty = [""] * (len(COLUMNS) - len(head) - 4)
        return [[*head, s, *empty, outcome.reason, "", ""] for s in services]
    rows: Rows = []
    for service in services:
        result = record.services[service]
        times = [_when(e) for e in result.events]
        peak, window = _peak(result) or (None, None)
        threshold = result.rules["threshold"]
        states = [w.state for w in result.windows]
        rows.append(
            [
                *head,
                service,
                len(result.events),
                "; ".join(times),
                "" if peak is None else probability_text(peak, threshold, ".4f"),
                "" if window is None else f"{(window.start_s + window.stop_s) / 2:.2f}",
                f"{record.span_s[1] - record.span_s[0]:.2f}",
                len(states),
                states.count("nobody"),
                states.count("too_few_frames"),
                sum(e.grade == "lying" for e in result.events),
                "; ".join(f"{_when(e)} ({e.zone})" for e in result.suppressed),
                outcome.reason,
                "" if window is None else _streams_text(window.streams, threshold),
                "" if window is None else _ids(window.people),
            ]
        )
    return rows


def _when(event: Event) -> str:
    return f"{event.start_s:.2f}-{event.stop_s:.2f} {event.class_name}"


def event_lines(
    found: Sequence[VideoSummary], rules: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Return the events as lines for the console, the first ``SHOWN`` of them.

    Args:
        found: in each video, in the order of the table.
        rules: of each service; its threshold is named where nothing was found.

    """
    events = [(one.video, s, e) for one in found for s, own in one.events.items() for e in own]
    watched = hours_text(sum(one.seconds for one in found) / 3600)
    if not events:
        thresholds = ", ".join(f"{name} {rule['threshold']:g}" for name, rule in rules.items())
        return [
            f"no event in {len(found)} of {len(found)} videos, {watched} (thresholds: {thresholds})"
        ]
    videos = len({video for video, *_ in events})
    noun = "event" if len(events) == 1 else "events"
    lines = [f"{len(events)} {noun} in {videos} of {len(found)} videos, {watched}:"]
    for video, service, event in events[:SHOWN]:
        near, threshold = _near(service, event, rules), rules[service]["threshold"]
        streams = f" ({_streams_text(event.streams, threshold)}{near})" if event.streams else ""
        peak = probability_text(event.peak_probability, threshold)
        how = _length(event) if event.grade == "lying" else peak
        lines.append(
            f"  {printable(video)}  {event.start_s:.2f}-{event.stop_s:.2f} s  {event.class_name} "
            f"{how}{streams}  people (track ids): {_ids(event.people) or 'nobody'}"
        )
    if len(events) > SHOWN:
        lines.append(f"  and {len(events) - SHOWN} more in {SUMMARY}")
    return lines


def _near(service: str, event: Event, rules: Mapping[str, Mapping[str, float]]) -> str:
    """Return that an event is near the threshold, and which stream is against it; else empty."""
    threshold = rules[service]["threshold"]
    if event.peak_probability - threshold > _NEAR:
        return ""
    against = [name for name, value in event.streams.items() if value < threshold]
    return f"; near the threshold {threshold:g}" + "".join(
        f", {name} is against" for name in against
    )


def pose_only_lines(found: Sequence[VideoSummary]) -> list[str]:
    """Return for each service how many windows had no movement measured, for the console."""
    counts = Counter[str]()
    for one in found:
        counts.update(one.pose_only)
    return [
        f"{service}: in {count} windows no movement was measured: the pose stream alone decided; "
        "make the poses again with annotation.movement: true if all of them are such"
        for service, count in counts.items()
        if count
    ]


def _length(event: Event) -> str:
    length = f"for {event.stop_s - event.start_s:.1f} s"
    fall_s = event.follows_fall_s
    return length if fall_s is None else f"{length} after the fall at {fall_s:.2f} s"


def other_rule(
    found: Sequence[VideoSummary], rules: Mapping[str, Mapping[str, float]]
) -> tuple[str, dict[str, float]] | None:
    """Return what to try next: why, and the config key with its value; None: nothing would help.

    Fewer events of the service with most of them, its most probable one kept; more, if it is the
    only one; where there is no event, the one that was most nearly found.
    """
    judged = {  # no threshold changes who is seen lying
        name: [e for one in found for e in one.events[name] if e.grade != "lying"] for name in rules
    }
    counts = {name: len(events) for name, events in judged.items()}
    most = max(counts, key=lambda name: counts[name])
    if counts[most]:
        low = rules[most]["threshold"]
        if counts[most] == 1:
            return _changed(f"more events of {most} (threshold {low:g})", most, _short(low / 2, 0))
        high = max(e.peak_probability for e in judged[most])
        text = f"fewer events of {most} (threshold {low:g})"
        return _changed(text, most, _short((low + high) / 2, low))
    near = [
        (one.peaks[name] - rules[name]["threshold"], name, one)
        for one in found
        for name in rules
        if name in one.peaks
    ]
    if not near:
        return None
    over, name, one = max(near, key=lambda row: row[0])
    peak = probability_text(one.peaks[name], rules[name]["threshold"], ".3g")
    text = (
        f"{name} is most probable in {printable(one.video)}, {peak}{one.peak_texts.get(name, '')}"
    )
    if over >= 0:
        return f"{text}, but shorter than inference.min_event_s", {"inference.min_event_s": 0}
    return _changed(text, name, _short(one.peaks[name], 0))


def _changed(
    text: str, service: str, threshold: float | None
) -> tuple[str, dict[str, float]] | None:
    return None if threshold is None else (text, {f"inference.{service}.threshold": threshold})


def _short(value: float, above: float) -> float | None:
    """Return the shortest decimal number at most ``value`` and above ``above``; None without."""
    for digits in range(2, PROBABILITY_DIGITS + 1):
        scale = float(f"1e{digits}")
        cut = math.floor(value * scale) / scale
        if above < cut <= value:
            return cut
    return None


def write_summary(folder: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write the table and return its path."""
    write_csv(folder / SUMMARY, folder, [COLUMNS, *rows])
    return folder / SUMMARY
