"""Modes test.fight and test.falldown: measure trained classifiers and show their worst errors.

The report holds no date and no folder of this machine: equal checkpoints and equal data
give equal bytes.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import at_threshold, choose_threshold
from recognizer.command import next_command
from recognizer.config.action import as_list
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.check import DatasetError, check_splits
from recognizer.dataset.class_check import class_faults, class_warnings
from recognizer.dataset.mmaction import read_split
from recognizer.names import nfc
from recognizer.runner.checkpoint_search import missing_checkpoint, todays_checkpoint
from recognizer.runs.manifest import exclusive
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stills import stills_of
from recognizer.storage.artifacts import sha256_file
from recognizer.training.classifier.artifacts import (
    CheckpointMetadata,
    find_test_pickle,
    read_checkpoint_metadata,
    trained_checkpoint,
)
from recognizer.training.classifier.evaluate_report import Measured, Threshold, write_report
from recognizer.training.classifier.labels import (
    ClipLabel,
    DatasetLabels,
    check_agreement,
    read_labels,
)
from recognizer.training.classifier.predictions import (
    Predictions,
    predict_all,
)
from recognizer.types import Sample

logger = logging.getLogger(__name__)


def test_fight(config: Config, progress: ProgressFactory) -> int:
    """Measure the fight classifier and return the exit code."""
    return _test(config, "fight", progress)


def test_falldown(config: Config, progress: ProgressFactory) -> int:
    """Measure the fall-down classifier and return the exit code."""
    return _test(config, "falldown", progress)


def _test(config: Config, service: str, progress: ProgressFactory) -> int:
    section = config.test
    checkpoints = as_list(section.checkpoint) or [trained_checkpoint(config, service)]
    checkpoints = [todays_checkpoint(path) for path in checkpoints]
    for path in checkpoints:
        if not path.is_file():
            raise ConfigError(f"test.checkpoint: {missing_checkpoint(path)}")
    ann_file, note = section.ann_file, ""
    if ann_file is None:
        ann_file, note = find_test_pickle(config, service)
    folder = section.output_dir or checkpoints[0].parent / "report"
    measured = _measure(config, service, checkpoints, ann_file, progress)
    if note:
        logger.warning("%s", note)
        measured = replace(measured, notes=(note, *measured.notes))
    parts = {"tracked": measured.predictions.scores(section.bootstrap, config.train.seed)}
    if len(measured.whole.names) > len(measured.predictions.names):
        parts = {"all": measured.whole.scores(section.bootstrap, config.train.seed)} | parts
    with exclusive(folder):
        write_report(folder, measured, parts, section.worst, progress)
    logger.info("%s", (folder / "summary.txt").read_text(encoding="utf-8"))
    logger.info("the report is in %s", folder)
    logger.info("next: %s", _next(config, service, checkpoints))
    return 0


def _next(config: Config, service: str, checkpoints: Sequence[Path]) -> str:
    if checkpoints[0].suffix == ".onnx":
        used = {f"inference.{service}.model_path": checkpoints[0]}
        return next_command(config, "inference.analysis", used)
    shipped = {"deploy.model": service, "deploy.checkpoint": list(checkpoints)}
    return next_command(config, "deploy.export", shipped)


# --- predictions -------------------------------------------------------------------


def _samples_to_test(ann_file: Path, classes: Sequence[str]) -> Sequence[Sample]:
    """Return the checked samples of a pickle; the val split beside it is checked as well."""
    val = ann_file.with_name("val.pkl")
    pickles = {ann_file.stem: ann_file} | ({"val": val} if val.is_file() else {})
    splits = check_splits(pickles, len(classes), training="", may_be_empty=list(pickles))
    samples = splits[ann_file.stem]
    if not samples:
        raise ValueError(f"{ann_file}: expected samples to test on, the pickle is empty")
    if faults := list(class_faults(samples, classes)):
        raise DatasetError(faults)
    for warning in class_warnings({"test": samples}, classes):
        logger.warning("%s", warning)
    return samples


def _measure(
    config: Config,
    service: str,
    checkpoints: Sequence[Path],
    ann_file: Path,
    progress: ProgressFactory,
) -> Measured:
    dataset = _labels_of(ann_file, service)
    metadata = {path: read_checkpoint_metadata(path) for path in checkpoints}
    classes = _classes(config, dataset, metadata, service)
    samples = _samples_to_test(ann_file, classes)
    if dataset is not None:
        check_agreement(dataset, samples, ann_file.parent)
    views = tuple(config.test.views)
    probabilities = predict_all(checkpoints, views, samples, "test: predictions", progress)
    if probabilities.shape[1] != len(classes):
        raise ValueError(
            f"test.checkpoint: the data set has {len(classes)} classes ({', '.join(classes)}), "
            f"the checkpoint knows {probabilities.shape[1]}; they do not belong together"
        )
    predictions = _predictions(samples, probabilities, classes, dataset)
    untracked, notes = _untracked(dataset, ann_file)
    if any(sha256_file(ann_file) in one.learnt_from for one in metadata.values()):
        notes = (
            f"The classifier learnt from {ann_file.name} itself: no figure here is a test.",
            *notes,
        )
        logger.warning("%s", notes[0])
    threshold = None
    if len(classes) == 2:
        threshold = _threshold(checkpoints, views, ann_file, predictions, progress)
    return Measured(
        service=service,
        checkpoints=checkpoints,
        ann_file=ann_file,
        samples=samples,
        predictions=predictions,
        whole=predictions.with_untracked(untracked),
        stills=None if dataset is None else stills_of(config, dataset.sample_fps),
        threshold=threshold,
        notes=notes,
        clips=_clips(dataset, samples),
        negatives={} if dataset is None else dataset.negatives,
        views=views,
    )


def _clips(dataset: DatasetLabels | None, samples: Sequence[Sample]) -> dict[str, ClipLabel]:
    """Return all labelled clips, and those negatives that are tested on."""
    if dataset is None:
        return {}
    negatives = {s.name: dataset.negatives[s.name] for s in samples if s.name in dataset.negatives}
    return {**dataset.samples, **negatives, **(dataset.untracked or {})}


def _labels_of(ann_file: Path, service: str) -> DatasetLabels | None:
    """Return the labels beside the pickle, None if it is not one of stage 3's."""
    try:
        dataset = read_labels(ann_file.parent)
    except FileNotFoundError:
        return None
    if dataset.sha256.get(ann_file.stem) != sha256_file(ann_file):
        raise ValueError(
            f"{ann_file}: is not the pickle that metadata.json beside it is about; run "
            "--mode annotation.stage3 again"
        )
    if dataset.service != service:
        raise ConfigError(
            f"{ann_file}: expected a data set for {service}, it was made for {dataset.service}"
        )
    return dataset


def _classes(
    config: Config,
    dataset: DatasetLabels | None,
    metadata: Mapping[Path, CheckpointMetadata],
    service: str,
) -> tuple[str, ...]:
    """Return the classes in the order of labels: the data's, else the checkpoint's own.

    Raises:
        ConfigError: a checkpoint of another service, or of other classes or another order.

    """
    of_checkpoints = [checkpoint.classes for checkpoint in metadata.values() if checkpoint.classes]
    labels = config.dataset.classes
    of_config = tuple(sorted(labels, key=lambda name: labels[name]))
    classes = dataset.classes if dataset is not None else [*of_checkpoints, of_config][0]
    for path, checkpoint in metadata.items():
        if checkpoint.service not in ("", service):
            raise ConfigError(
                f"test.checkpoint: expected a classifier for {service}, {path} is one for "
                f"{checkpoint.service}"
            )
        if checkpoint.classes and list(map(nfc, checkpoint.classes)) != list(map(nfc, classes)):
            raise ConfigError(
                f"test.checkpoint: the classes are {', '.join(classes)}, those of {path} "
                f"{', '.join(checkpoint.classes)}"
            )
    return classes


def _predictions(
    samples: Sequence[Sample],
    probabilities: NDArray[np.float64],
    classes: tuple[str, ...],
    dataset: DatasetLabels | None,
) -> Predictions:
    clips = None if dataset is None else dataset.pickled
    sources = None if clips is None else tuple(clips[sample.name].source for sample in samples)
    return Predictions(
        classes=classes,
        names=tuple(sample.name for sample in samples),
        labels=np.array([sample.label for sample in samples], np.int64),
        probabilities=probabilities,
        sources=sources,
        tracked=np.ones(len(samples), np.bool_),
    )


def _untracked(
    dataset: DatasetLabels | None, ann_file: Path
) -> tuple[dict[str, ClipLabel], tuple[str, ...]]:
    """Return this split's clips without a tracked person, and sentences about them."""
    if dataset is None or dataset.untracked is None:
        return {}, (
            "Labelled clips in which nobody was tracked are not counted: the pickle's "
            "metadata.json does not name them.",
        )
    here = {name: c for name, c in dataset.untracked.items() if c.split == ann_file.stem}
    lost = sum(clip.split is None for clip in dataset.untracked.values())
    notes = [
        f"In {len(here)} labelled clips of this split nobody was tracked; with them counted as "
        f"{dataset.classes[0]}, probability 1, the figures are those of 'all'."
        if here
        else "There is no labelled clip in this split in which nobody was tracked."
    ]
    if lost:
        notes.append(
            f"{lost} more such clips are of sources that came into no split, and count nowhere."
        )
    return here, tuple(notes)


def _threshold(
    checkpoints: Sequence[Path],
    views: Sequence[str],
    ann_file: Path,
    predictions: Predictions,
    progress: ProgressFactory,
) -> Threshold | None:
    """Return the threshold that is best on the validation split, and its metrics on the test."""
    path = ann_file.with_name("val.pkl")
    if not path.is_file() or path.samefile(ann_file):
        return None
    samples = read_split(path)
    labels = np.array([sample.label for sample in samples], np.int64)
    if len(np.unique(labels)) < 2:
        return None
    rows = predict_all(checkpoints, views, samples, "test: threshold on val", progress)
    chosen = choose_threshold(labels, rows)
    return {
        "chosen_on": {"file": path.name, "sha256": sha256_file(path), "samples": len(samples)},
        "for": "balanced accuracy",
        "on_val": at_threshold(labels, rows, chosen),
        "tracked": at_threshold(predictions.labels, predictions.probabilities, chosen),
    }
