"""Made clips of known movement, files of both streams, measures that tell labels apart."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from recognizer.action.classifier_metadata import ClassifierMetadata
from recognizer.action.fusion import Fusion
from recognizer.action.measures import measure_names
from recognizer.action.movement_graph import join_movement, read_movement, write_movement
from recognizer.action.movement_metadata import MovementMetadata
from recognizer.action.movement_model import fit_movement
from recognizer.scoring.ranking import Service
from recognizer.storage.artifacts import METADATA_KEY
from recognizer.types import FloatArray, IntArray, Sample
from tests.analysis.classifiers import CLASSES, place_classifier
from tests.people import BODY

LOGISTIC = "logistic regression, C 0.03"
FUSION = Fusion(0.6, 0.9, (0.0, -0.2))
NUM_PERSON = 4  # more than the pose stream is shown


def clip(
    people: int = 2,
    frames: int = 25,
    fps: float = 12.5,
    rate: float = 0.5,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
) -> Sample:
    """Return people who stand, sway and approach; all lengths in ``scale`` times 100 pixels."""
    random = np.random.default_rng(seed)
    time_s = np.arange(frames) / fps
    points = np.zeros((people, frames, 17, 2))
    for i in range(people):
        x = 1.5 * i * (1 - 0.2 * time_s)
        sway = 0.1 * np.sin(4 * time_s + i)[:, None] * (np.arange(17) % 3)
        points[i] = BODY + np.stack([x[:, None] + sway, np.zeros((frames, 17))], axis=2)
    points = (points + 3 + np.array(shift)) * 100 * scale
    boxes = np.concatenate([points.min(axis=2), points.max(axis=2)], axis=2)
    movement = random.gamma(2.0, rate / 2, (people, 1, 6)) * np.ones((1, frames, 1))
    scores = np.full((people, frames, 17), 0.8, np.float32)
    return Sample(
        "made.mp4",
        0,
        points.astype(np.float32),
        scores,
        (640, 480),
        np.arange(people, dtype=np.int64),
        boxes.astype(np.float32),
        movement.astype(np.float32),
        time_s,
    )


def without_movement(sample: Sample) -> Sample:
    return replace(sample, boxes=None, movement=None, time_s=None)


def rows(
    service: str = "fight", count: int = 90, classes: int = 2, seed: int = 0
) -> tuple[FloatArray, IntArray, list[str]]:
    """Return measures (N, F), labels and sources that a model can learn from."""
    random = np.random.default_rng(seed)
    features = len(measure_names(service))
    labels = np.arange(count) % classes
    centres = random.normal(size=(classes, features)) * 0.5
    values = centres[labels] + random.normal(size=(count, features))
    return values.astype(np.float32), labels, [f"s{i // 5}" for i in range(count)]


def movement_file(
    path: Path,
    service: str = "fight",
    setting: str = LOGISTIC,
    fusion: Fusion = FUSION,
    classes: Sequence[str] | None = None,
) -> tuple[Path, Any]:
    """Write a fitted movement stream; return the path and the model."""
    classes = CLASSES[service] if classes is None else classes
    values, labels, _ = rows(service, classes=len(classes))
    model = fit_movement(setting, values[:, None], labels, 0)
    metadata = MovementMetadata(measure_names(service), fusion, {"setting": setting}, NUM_PERSON)
    write_movement(path, model, metadata, service, classes)
    return path, model


def joined_file(folder: Path, service: Service = "fight", **options: float) -> Path:
    """Write a classifier of both streams; its pose stream tells where people are."""
    movement, _ = movement_file(folder / "movement.onnx", service)
    path = place_classifier(folder / "joined.onnx", service, **options)
    model, metadata, *_ = read_movement(movement)
    join_movement(path, model, metadata.fusion)
    change_metadata(path, lambda own: replace(own, movement=metadata))
    return path


def change_metadata(
    path: Path, change: Callable[[ClassifierMetadata], ClassifierMetadata | str]
) -> None:
    """Replace a classifier file's metadata by what ``change`` makes of them: facts or a text."""
    model = onnx.load(str(path))
    (entry,) = model.metadata_props
    changed = change(ClassifierMetadata.from_text(entry.value))
    text = changed if isinstance(changed, str) else changed.to_text()
    helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(path))
