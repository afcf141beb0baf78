"""What the classified samples of a test are as alarms: events found, false alarms per hour.

Every stretch of a video that samples cover is footage. Samples at or above the threshold that
overlap or touch are one alarm; neighbouring samples of one class of events are one event.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recognizer.action.events import (
    FloatTable,
    VideoTimeline,
    alarm_rate_curve,
    event_scores,
    merge_windows,
)
from recognizer.runs.event_curves import THRESHOLDS, Curve, rate_text
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions

FILE = "alarm_curve"
_USUAL = 0.5


def alarm_curves(
    repeats: Sequence[Predictions], facts: Mapping[str, ClipLabel], threshold: float | None = None
) -> dict[str, Curve]:
    """Return the curve of each class of events, by name; empty where no time is known.

    Args:
        repeats: predictions of the same clips, one for each seed. Events and alarms are summed
            over them, and so are the hours.
        facts: of the samples by name; those without are left out.
        threshold: the one that is chosen; None: 0.5.

    """
    at = _USUAL if threshold is None else threshold
    curves: dict[str, Curve] = {}
    for label, name in enumerate(repeats[0].classes[1:], start=1):
        footage = [film for predicted in repeats for film in footage_of(predicted, facts, label)]
        if footage:
            chosen = event_scores(footage, threshold=at)
            curves[name] = chosen, alarm_rate_curve(footage, THRESHOLDS)
    return curves


def footage_of(
    predicted: Predictions, facts: Mapping[str, ClipLabel], label: int
) -> list[VideoTimeline]:
    """Return predictions and ground truth of one class, a timeline for each stretch of video."""
    by_video: dict[str, list[int]] = {}
    for i, name in enumerate(predicted.names):
        if name in facts and facts[name].seconds > 0:
            by_video.setdefault(facts[name].video, []).append(i)
    found = []
    for rows in by_video.values():
        starts = np.array([facts[predicted.names[i]].start_s for i in rows])
        lengths = np.array([facts[predicted.names[i]].seconds for i in rows])
        spans = np.stack([starts, starts + lengths], axis=1)
        for part in merge_windows(spans, np.ones(len(spans)), threshold=_USUAL):
            here = list(part.windows)
            mine = np.array(rows)[here]
            true = predicted.labels[mine] == label
            found.append(
                VideoTimeline(
                    spans[here],
                    predicted.probabilities[mine, label],
                    _events(spans[here][true]),
                    (part.start_s, part.stop_s),
                )
            )
    return found


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


def curves_json(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """Return plain values for a report."""
    return {name: chosen.to_json() for name, (chosen, _) in curves.items()}
