"""What stands beside a classifier's figures: the metadata baseline, and the alarms it gives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recognizer.runs.event_curves import write_curves
from recognizer.training.classifier.alarm_curve import FILE, alarm_curves, curve_lines, curves_json
from recognizer.training.classifier.baseline import baseline_line, compare
from recognizer.training.classifier.labels import ClipLabel
from recognizer.training.classifier.predictions import Predictions


def write_further(
    folder: Path,
    tested: tuple[Predictions, Sequence[Predictions]],
    baseline: Predictions | str,
    facts: Mapping[str, ClipLabel],
    bootstrap: int,
) -> tuple[list[str], dict[str, Any]]:
    """Write the alarm curves; return lines for the summary and values for the report.

    Args:
        folder: of the report.
        tested: all predictions, and the same by seed.
        baseline: of the same samples in the same order, or why it is not known.
        facts: of the samples by name.
        bootstrap: resamples behind the intervals.

    """
    every, repeats = tested
    compared = compare(every, baseline, bootstrap, 0)
    curves = alarm_curves(repeats, facts)
    for suffix in ("csv", "png"):
        (folder / f"{FILE}.{suffix}").unlink(missing_ok=True)
    if curves:
        write_curves(folder / FILE, folder, curves, len(repeats))
    lines = [baseline_line(compared), *curve_lines(curves, len(repeats))]
    alarms = {"seeds": len(repeats), "classes": curves_json(curves)}
    return lines, {"metadata_baseline": compared, "alarms": alarms}
