"""The summary table: one row for each video and service."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.record import Record
from annotation.workspace import Outcome
from recognizer.artifacts import atomic_path

SUMMARY = "summary.csv"
SHOWN = 20
COLUMNS = (
    "video", "state", "service", "events", "times_s", "peak_probability", "peak_s", "seconds",
    "windows", "nobody", "not_judged", "reason",
)  # fmt: skip

Rows = list[list[object]]


def summary_rows(outcome: Outcome, record: Record | None, services: Sequence[str]) -> Rows:
    """Return the rows of one video: the end state alone where there is no record.

    ``times_s`` reads ``3.00-7.50 Fight; 12.00-15.00 Fight``; the peak is that of the whole
    video, also below the threshold, so that near misses show.
    """
    head: list[object] = [outcome.video, outcome.state]
    if record is None:
        return [[*head, s, "", "", "", "", "", "", "", "", outcome.reason] for s in services]
    rows: Rows = []
    for service in services:
        result = record.services[service]
        times = [f"{e.start_s:.2f}-{e.stop_s:.2f} {e.class_name}" for e in result.events]
        values = [
            (max(w.probabilities[name] for name in result.classifier["classes"][1:]), w)
            for w in result.windows
            if w.probabilities
        ]
        peak, window = max(values, key=lambda pair: pair[0], default=(None, None))
        states = [w.state for w in result.windows]
        rows.append(
            [
                *head, service, len(result.events), "; ".join(times),
                "" if peak is None else f"{peak:.4f}",
                "" if window is None else f"{(window.start_s + window.stop_s) / 2:.2f}",
                f"{record.span_s[1] - record.span_s[0]:.2f}",
                len(states), states.count("nobody"), states.count("too_few_frames"), outcome.reason,
            ]
        )  # fmt: skip
    return rows


def event_lines(records: Sequence[Record], rules: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return what was found, for the console: an event a line, the first ``SHOWN`` of them.

    Args:
        records: of the videos, in the order of the table.
        rules: of each service; its threshold is named where nothing was found.

    """
    events = [
        (r.video, e) for r in records for result in r.services.values() for e in result.events
    ]
    if not events:
        thresholds = ", ".join(f"{name} {rule['threshold']:g}" for name, rule in rules.items())
        return [f"no event in {len(records)} of {len(records)} videos (thresholds: {thresholds})"]
    videos = len({video for video, _ in events})
    noun = "event" if len(events) == 1 else "events"
    lines = [f"{len(events)} {noun} in {videos} of {len(records)} videos:"]
    for video, event in events[:SHOWN]:
        ids = ", ".join(str(person.track_id) for person in event.people) or "nobody"
        lines.append(
            f"  {video}  {event.start_s:.2f}-{event.stop_s:.2f} s  {event.class_name} "
            f"{event.peak_probability:.2f}  people (track ids): {ids}"
        )
    if len(events) > SHOWN:
        lines.append(f"  and {len(events) - SHOWN} more in {SUMMARY}")
    return lines


def write_summary(folder: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write the table and return its path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    final = folder / SUMMARY
    with atomic_path(final, folder) as scratch:
        scratch.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))
    return final
