"""Alarms that the predictions of a test give: events found, false alarms per hour.

Every stretch of a video that samples cover is footage. Samples at or above the threshold that
overlap or touch are one alarm; neighbouring samples of one class of events are one event. Beside
them stands the metadata baseline.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recognizer.action.events import (
    FloatTable,
    VideoTimeline,
    alarm_rate_curve,
    event_scores,
    merge_windows,
)
from recognizer.runs.event_curves import THRESHOLDS, Curve, rate_text, write_curves
from recognizer.training.classifier.baseline import baseline_line, compare
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions

FILE = "alarm_curve"
_USUAL = 0.5


def write_context(
    folder: Path,
    tested: tuple[Predictions, Sequence[Predictions]],
    baseline: Predictions | str,
    clips: Mapping[str, ClipLabel],
    bootstrap: int,
) -> tuple[list[str], dict[str, object]]:
    """Write the alarm curves; return lines for the summary and values for the report.

    Args:
        folder: of the report.
        tested: all predictions, and the same by seed.
        baseline: of the same samples in the same order, or why it is not known.
        clips: of the samples by name.
        bootstrap: resamples behind the intervals.

    """
    predictions, repeats = tested
    compared = compare(predictions, baseline, bootstrap, 0)
    curves = alarm_curves(repeats, clips)
    for suffix in ("csv", "png"):
        (folder / f"{FILE}.{suffix}").unlink(missing_ok=True)
    if curves:
        write_curves(folder / FILE, folder, curves, len(repeats))
    lines = [baseline_line(compared), *curve_lines(curves, len(repeats))]
    alarms = {"seeds": len(repeats), "classes": curves_json(curves)}
    return lines, {"metadata_baseline": compared, "alarms": alarms}


def alarm_curves(
    repeats: Sequence[Predictions], clips: Mapping[str, ClipLabel], threshold: float | None = None
) -> dict[str, Curve]:
    """Return the curve of each class of events, by name; empty without known times.

    Args:
        repeats: predictions of the same clips, one for each seed. Events, alarms and hours are
            summed over them.
        clips: of the samples by name; samples without one are left out.
        threshold: the chosen one; None: 0.5.

    """
    at = _USUAL if threshold is None else threshold
    curves: dict[str, Curve] = {}
    for label, name in enumerate(repeats[0].classes[1:], start=1):
        footage = [part for predicted in repeats for part in timelines(predicted, clips, label)]
        if footage:
            chosen = event_scores(footage, threshold=at)
            curves[name] = chosen, alarm_rate_curve(footage, THRESHOLDS)
    return curves


def timelines(
    predicted: Predictions, clips: Mapping[str, ClipLabel], label: int
) -> list[VideoTimeline]:
    """Return predictions and ground truth of one class, a timeline for each stretch of video."""
    by_video: dict[str, list[int]] = {}
    for i, name in enumerate(predicted.names):
        if name in clips and clips[name].seconds > 0:
            by_video.setdefault(clips[name].video, []).append(i)
    parts = []
    for rows in by_video.values():
        starts = np.array([clips[predicted.names[i]].start_s for i in rows])
        lengths = np.array([clips[predicted.names[i]].seconds for i in rows])
        spans = np.stack([starts, starts + lengths], axis=1)
        for part in merge_windows(spans, np.ones(len(spans)), threshold=_USUAL):
            inside = list(part.windows)
            samples = np.array(rows)[inside]
            true = predicted.labels[samples] == label
            parts.append(
                VideoTimeline(
                    spans[inside],
                    predicted.probabilities[samples, label],
                    _events(spans[inside][true]),
                    (part.start_s, part.stop_s),
                )
            )
    return parts


def _events(spans: FloatTable) -> FloatTable:
    joined = merge_windows(spans, np.ones(len(spans)), threshold=_USUAL)
    return np.array([(event.start_s, event.stop_s) for event in joined]).reshape(-1, 2)


def curve_lines(curves: Mapping[str, Curve], seeds: int = 1) -> list[str]:
    """Return a line of text for each class."""
    lines = []
    for name, (chosen, _) in curves.items():
        rate = rate_text(chosen.false_alarms / seeds, chosen.normal_hours / seeds)
        over = f", over {seeds} seeds" if seeds > 1 else ""
        lines.append(
            f"As alarms from {chosen.threshold:.2f} on{over}: {chosen.found} of {chosen.events} "
            f"{name} found, {rate} ({FILE}.csv, .png)."
        )
    return lines


def curves_json(curves: Mapping[str, Curve]) -> dict[str, object]:
    """Return plain values for a report."""
    return {name: chosen.to_json() for name, (chosen, _) in curves.items()}
