"""The report of modes test.*: figures, tables, the worst errors, a summary and report.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recognizer.action.evaluation import Scores, decide
from recognizer.runs.figures import save_figures
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stills import Stills
from recognizer.storage.artifacts import sha256_file, write_json, write_text
from recognizer.training.classifier import report
from recognizer.training.classifier.alarm_curve import write_context
from recognizer.training.classifier.baseline import split_baseline
from recognizer.training.classifier.error_videos import write_error_videos
from recognizer.training.classifier.labels import (
    ClipLabel,
)
from recognizer.training.classifier.predictions import (
    Predictions,
    worst_json,
    write_predictions,
)
from recognizer.types import Sample

SCHEMA, SCHEMA_VERSION = "recognizer.test_report", 1
Threshold = dict[str, Any]  # ``chosen_on``, ``for``, and ``at_threshold`` on val and test


@dataclass(frozen=True, eq=False, slots=True)
class Measured:
    """Everything that a report is made of.

    Attributes:
        service: fight or falldown.
        checkpoints: files whose probabilities were averaged.
        ann_file: the pickle that was tested on.
        samples: its samples.
        predictions: of these samples, in their order.
        whole: the same with the labelled clips without a tracked person.
        stills: source of the pictures below skeletons; None: grey.
        threshold: chosen on the validation split, None without one.
        notes: sentences for the summary.
        clips: all labelled clips of the data set by name, where known.
        negatives: the same of negatives, which a classifier may have learnt from as well.
        views: test-time views.

    """

    service: str
    checkpoints: Sequence[Path]
    ann_file: Path
    samples: Sequence[Sample]
    predictions: Predictions
    whole: Predictions
    stills: Stills | None
    threshold: Threshold | None
    notes: tuple[str, ...]
    clips: Mapping[str, ClipLabel] = field(default_factory=dict)
    negatives: Mapping[str, ClipLabel] = field(default_factory=dict)
    views: tuple[str, ...] = ()


def write_report(
    folder: Path,
    measured: Measured,
    parts: dict[str, Scores],
    worst: int,
    progress: ProgressFactory,
) -> None:
    """Write the report's files; those of an earlier run are removed first."""
    name, scores = next(iter(parts.items()))
    predictions = measured.whole if name == "all" else measured.predictions
    for old in folder.glob("*.png"):
        old.unlink()
    (folder / "report.json").unlink(missing_ok=True)
    pictures = {
        "confusion_matrix.png": partial(report.draw_confusion, scores=scores),
        "roc.png": partial(report.draw_roc, predictions=predictions, scores=scores),
        "precision_recall.png": partial(
            report.draw_precision_recall, predictions=predictions, scores=scores
        ),
        "calibration.png": partial(report.draw_calibration, predictions=predictions, scores=scores),
    }
    save_figures(folder, folder, pictures)
    write_predictions(folder / "predictions.csv", folder, measured.whole)
    samples = {sample.name: sample for sample in measured.samples}
    write_error_videos(
        folder,
        (measured.predictions, samples),
        measured.clips,
        worst,
        progress,
        stills=measured.stills,
    )
    names = ", ".join(path.name for path in measured.checkpoints)
    clips, draws = measured.clips, scores.bootstrap["resamples"]
    baseline = split_baseline(predictions, clips, measured.negatives)
    tested = predictions, [predictions]
    lines, context = write_context(folder, tested, baseline, clips, draws)
    notes = [*measured.notes, *_threshold_text(measured, draws), *lines]
    title = f"{measured.service}: {measured.ann_file.name} with {names}"
    write_text(folder / "summary.txt", folder, report.summarise(title, parts, notes))
    # Last: where it stands, the report is whole.
    write_json(folder / "report.json", folder, _to_json(measured, parts, worst) | context)


def _threshold_text(measured: Measured, bootstrap: int) -> list[str]:
    if measured.threshold is None:
        return []
    at, predictions = measured.threshold["tracked"]["threshold"], measured.predictions
    decided = np.eye(2)[decide(predictions.probabilities, at)]
    overall = replace(predictions, probabilities=decided).scores(bootstrap, 0).overall
    return [
        f"With the threshold that is best on val ({at:.3f}): accuracy {overall['accuracy']}, "
        f"balanced accuracy {overall['balanced_accuracy']} (tracked)."
    ]


def _to_json(measured: Measured, parts: dict[str, Scores], worst: int) -> dict[str, object]:
    untracked = measured.whole[~measured.whole.tracked]
    names = " ".join(path.name for path in measured.checkpoints)
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "command": f"main.py --mode test.{measured.service} --checkpoint {names}",
        "service": measured.service,
        "views": list(measured.views),
        "classes": list(measured.predictions.classes),
        "checkpoints": [
            {"file": path.name, "sha256": sha256_file(path)} for path in measured.checkpoints
        ],
        "dataset": {
            "file": measured.ann_file.name,
            "sha256": sha256_file(measured.ann_file),
            "samples": len(measured.samples),
        },
        "nobody_tracked": {
            "clips": list(untracked.names),
            "counted_as": measured.predictions.classes[0],
            "right": int((untracked.predicted == untracked.labels).sum()),
        },
        "scores": {name: scores.to_json() for name, scores in parts.items()},
        "threshold": measured.threshold,
        "worst": worst_json(measured.whole, measured.whole.worst(worst)),
        "notes": list(measured.notes),
    }
