"""Evaluation of an analysis against ground truth, by windows and by events.

By windows: every window has the class that fills at least half of it, as in training.
By events: see ``recognizer.action.events``; events that a rest zone suppresses are no alarms.
Unlabelled videos are not counted, nor is lying, which no window decides.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import at_threshold, measure
from recognizer.action.events import VideoTimeline, alarm_rate_curve, event_scores
from recognizer.analysis.record import Record, ServiceResult
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.labels import (
    SEGMENT_COLUMNS,
    LabelError,
    Segment,
    clip_segment,
    label_from_folders,
    label_of_window,
    read_segments,
)
from recognizer.runs.event_curves import THRESHOLDS, Curve, rate_text, write_curves
from recognizer.storage.artifacts import write_json
from recognizer.storage.tables import Names, read_table

logger = logging.getLogger(__name__)

FOLDER = "evaluation"
_SHOWN = 10  # folders that a warning names
SCHEMA = "recognizer.analysis_report"


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Labels of one service's videos.

    Attributes:
        origin: a table of segments, or the folders of the videos.
        segments: by video, the segments of its rows, or the class of the whole video. Time outside
            a video's rows is normal; a video without an entry is not counted.

    """

    origin: Literal["table", "folders"]
    segments: Mapping[str, tuple[Segment, ...] | str]


@dataclass(eq=False, slots=True)
class Evaluation:
    """Windows and events of one service, collected video by video.

    Attributes:
        classes: names in the order of labels.
        ground_truth: labels of the videos.
        rules: threshold, merge_gap_s, min_event_s.
        footage: by class of events, one timeline per video.
        labels: of the windows that count.
        probabilities: their probabilities, in the order of the classes.
        groups: their videos.
        ambiguous: windows of which no class fills half.
        not_judged: windows with too few frames.
        problems: labels that cannot be used.

    """

    classes: Sequence[str]
    ground_truth: GroundTruth
    rules: Mapping[str, float]
    footage: dict[str, list[VideoTimeline]] = field(default_factory=dict)
    labels: list[int] = field(default_factory=list)
    probabilities: list[list[float]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    ambiguous: int = 0
    not_judged: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, record: Record, service: str) -> None:
        """Add one video; one without labels is left out."""
        known = self.ground_truth.segments.get(record.video)
        if known is None:
            return
        result, (begin, end) = record.services[service], record.span_s
        segments = self._inside(record, known)
        events = [s for s in segments if s.class_name != self.classes[0]]
        for name in self.classes[1:]:
            spans = [(s.start_s, s.stop_s) for s in events if s.class_name == name]
            truth = np.array(spans, np.float64).reshape(-1, 2)
            probabilities = np.where(_suppressed(result, name), 0.0, result.probabilities(name))
            footage = VideoTimeline(result.spans(), probabilities, truth, (begin, end))
            self.footage.setdefault(name, []).append(footage)
        everything = [*events, *_between(events, begin, end, self.classes[0])]
        for window in result.windows:
            name_of = label_of_window(everything, window.start_s, window.stop_s)
            if window.state == "too_few_frames":
                self.not_judged += 1
            elif name_of is None:
                self.ambiguous += 1
            else:
                self.labels.append(self.classes.index(name_of))
                self.probabilities.append([window.probabilities[c] for c in self.classes])
                self.groups.append(record.video)

    def _inside(self, record: Record, known: tuple[Segment, ...] | str) -> list[Segment]:
        begin, end = record.span_s
        if isinstance(known, str):
            return [Segment(begin, end, known)]
        inside = []
        for segment in known:
            try:
                inside.append(clip_segment(segment, begin, end))
            except LabelError as error:
                self.problems.append(f"{record.video}: {error}")
        return inside


def _suppressed(result: ServiceResult, class_name: str) -> NDArray[np.bool_]:
    """Tell which windows (N,) are part of an event that a rest zone suppresses."""
    spans, inside = result.spans(), np.zeros(len(result.windows), np.bool_)
    counts = result.probabilities(class_name) >= result.rules["threshold"]
    for event in result.suppressed:
        if event.class_name == class_name:
            within = (spans[:, 0] >= event.start_s) & (spans[:, 1] <= event.stop_s)
            inside |= within & counts
    return inside


def _between(events: Sequence[Segment], begin: float, end: float, name: str) -> list[Segment]:
    """Return the time of a video between events, as segments."""
    free, reached = [], begin
    for event in sorted(events, key=lambda e: e.start_s):
        if event.start_s > reached:
            free.append(Segment(reached, event.start_s, name))
        reached = max(reached, event.stop_s)
    if end > reached:
        free.append(Segment(reached, end, name))
    return free


def read_ground_truth(
    config: Config, classes: Mapping[str, Sequence[str]], videos: Sequence[str]
) -> dict[str, GroundTruth]:
    """Return the ground truth of the services that have labels.

    Args:
        config: its ``inference.labels`` names the table; without one, the labels are folders in
            the videos' paths that are named like a class.
        classes: of each service.
        videos: the inputs.

    Raises:
        ConfigError: a table that cannot be used, or that says nothing of these videos.

    """
    table = config.inference.labels
    if table is None:
        by_folder = {service: _by_folder(names, videos) for service, names in classes.items()}
        truth = {s: GroundTruth("folders", labels) for s, labels in by_folder.items() if labels}
        if not truth:
            _warn_of_other_folders(classes, videos)
        return truth
    try:
        truth = _from_table(table, classes, videos)
    except ConfigError as error:
        raise ConfigError(f"inference.labels: {error}") from error
    if not truth:
        raise ConfigError(
            f"inference.labels: expected rows about videos of inference.input, such as "
            f"{videos[0]!r}, found none in {table}"
        )
    return truth


def _from_table(
    table: Path, classes: Mapping[str, Sequence[str]], videos: Sequence[str]
) -> dict[str, GroundTruth]:
    _warn_of_others(table, videos)
    truth = {}
    for service, names in classes.items():
        others = {name for known in classes.values() for name in known} - set(names)
        # The table may hold more videos than this run analyses.
        segments = read_segments(table, names, videos, partial=True, not_ours=others)
        if segments:
            truth[service] = GroundTruth("table", segments)
    return truth


def _warn_of_others(table: Path, videos: Sequence[str]) -> None:
    """Warn of videos in a table that are not there: the names may be misspelt."""
    known = Names(videos)
    named = {row.cells["video"] for row in read_table(table, SEGMENT_COLUMNS)}
    others = sorted(name for name in named if not known.knows(name))
    if others:
        similar = known.similar(others[0])
        logger.warning(
            "inference.labels: %d of %d videos in it are not in inference.input, such as %r%s",
            len(others),
            len(named),
            others[0],
            "" if similar is None else f"; did you mean {similar!r}?",
        )


def _warn_of_other_folders(classes: Mapping[str, Sequence[str]], videos: Sequence[str]) -> None:
    """Warn of videos in folders none of which is a class: it may be meant as one."""
    folders = sorted({folder for video in videos for folder in video.split("/")[:-1]})
    if not folders:
        return
    shown = ", ".join(folders[:_SHOWN]) + (", ..." if len(folders) > _SHOWN else "")
    expected = " or ".join(f"{', '.join(names)} ({s})" for s, names in classes.items())
    logger.warning(
        "nothing is measured: no video is in a folder of one class: expected folders %s, found %s; "
        "if these are classes, rename them, or name a table in inference.labels",
        expected,
        shown,
    )


def _by_folder(classes: Sequence[str], videos: Sequence[str]) -> dict[str, str]:
    labels = {}
    for video in videos:
        try:
            labels[video] = label_from_folders(video, classes)
        except LabelError:
            logger.debug("%s: no class among its folders", video)
    return labels


def remove_evaluations(folder: Path) -> None:
    """Remove the reports of an earlier run, which may be out of date."""
    for path in (folder / FOLDER).glob("*"):
        if path.suffix in {".json", ".png", ".csv"}:
            path.unlink()
    with contextlib.suppress(OSError):  # not there, or something else is in it
        (folder / FOLDER).rmdir()


def write_evaluation(
    config: Config, folder: Path, service: str, evaluation: Evaluation, videos: Sequence[str]
) -> dict[str, Any]:
    """Write the report of one service as JSON, its curves as CSV and PNG, and return it.

    Args:
        config: for the tolerance and the bootstrap.
        folder: the analysis's folder.
        service: fight or falldown.
        evaluation: of all videos.
        videos: the analysed inputs.

    """
    tolerance_s = config.inference.tolerance_s
    merge = {key: value for key, value in evaluation.rules.items() if key != "threshold"}
    events: dict[str, Any] = {}
    curves: dict[str, Curve] = {}
    for name, footage in evaluation.footage.items():
        chosen = event_scores(footage, **evaluation.rules, tolerance_s=tolerance_s)
        curve = alarm_rate_curve(footage, THRESHOLDS, **merge, tolerance_s=tolerance_s)
        curves[name] = chosen, curve
        events[name] = {"chosen": chosen.to_json(), "curve": [s.to_json() for s in curve]}
    known = set(evaluation.ground_truth.segments)
    report = {
        "schema": SCHEMA,
        "schema_version": 1,
        "service": service,
        "classes": list(evaluation.classes),
        "labels_from": evaluation.ground_truth.origin,
        "rules": {**evaluation.rules, "tolerance_s": tolerance_s},
        "videos": len(known & set(videos)),
        "unlabelled": sorted(set(videos) - known),
        "not_analysed": sorted(known - set(videos)),
        "problems": evaluation.problems,
        "windows": _windows(config, evaluation),
        "events": events,
    }
    target = folder / FOLDER
    write_json(target / f"{service}.json", folder, report)
    if curves:
        write_curves(target / service, folder, curves)
    return report


def _windows(config: Config, evaluation: Evaluation) -> dict[str, Any]:
    """Return the test report on windows, without scores where no window counts."""
    left_out = {"ambiguous": evaluation.ambiguous, "not_judged": evaluation.not_judged}
    if not evaluation.labels:
        return {"count": 0, **left_out}
    labels, rows = np.array(evaluation.labels), np.array(evaluation.probabilities)
    scores = measure(
        labels,
        rows,
        evaluation.classes,
        bootstrap=config.test.bootstrap,
        seed=config.train.seed,
        groups=evaluation.groups,
    )
    value = {"count": len(labels), **left_out, "scores": scores.to_json()}
    if len(evaluation.classes) == 2:
        value["at_threshold"] = at_threshold(labels, rows, evaluation.rules["threshold"])
    return value


def summarise(service: str, report: Mapping[str, Any]) -> list[str]:
    """Return lines for the log: events found, false alarms and their rate."""
    labelled, unlabelled = report["videos"], len(report["unlabelled"])
    if not labelled:
        return [f"{service}: nothing is measured: no labelled video was analysed"]
    part = f", in {labelled} of {labelled + unlabelled} videos, the labelled ones"
    lines = []
    for name, scores in report["events"].items():
        chosen = scores["chosen"]
        precision = chosen["precision"]
        parts = [
            f"{chosen['found']} of {chosen['events']} events found",
            f"{chosen['false_alarms']} of {chosen['alarms']} alarms false",
            "precision unknown" if precision is None else f"precision {precision:.2f}",
            rate_text(chosen["false_alarms"], chosen["normal_hours"]),
        ]
        where = f"at {chosen['threshold']:g}{part if unlabelled else ''}"
        lines.append(f"{service}: {name} {where}: {', '.join(parts)}")
    return lines
