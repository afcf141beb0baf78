"""The movement stream of a shipped classifier: read, and compared once it is joined."""

from pathlib import Path
from typing import Any

import numpy as np

from recognizer.action.classifier import Classifier
from recognizer.action.classifier_metadata import ClassifierMetadata
from recognizer.action.measures import clip_measures, has_movement
from recognizer.action.movement_metadata import INPUT, OUTPUT, MovementMetadata
from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import ConfigError
from recognizer.types import Sample

_TOLERANCE = 1e-5  # of a probability: the same operators, and a softmax in float32


def read_stream(
    path: Path | None, facts: ClassifierMetadata
) -> tuple[Any, MovementMetadata] | None:
    """Return the movement stream's ONNX model and its facts; None where none is wanted.

    Args:
        path: ``deploy.movement``.
        facts: of the pose stream, which it must fit.

    Raises:
        ConfigError: a stream of another service or of other classes.
        FileNotFoundError, ModelError: no such file, or one that cannot be used.

    """
    from recognizer.action.movement_graph import read_movement

    if path is None:
        return None
    model, own, service, classes = read_movement(path)
    for key, expected, given in (
        ("service", facts.service, service),
        ("classes", facts.classes, classes),
    ):
        if expected != given:
            raise ConfigError(
                f"deploy.movement: expected {key} {expected}, as the checkpoint's, got {given} in "
                f"{path}"
            )
    return model, own


def check_fusion(joined: Path, movement: Path, samples: list[Sample]) -> None:
    """Compare a joined file with the movement stream alone and the fusion in NumPy.

    Raises:
        ModelError: a probability that differs by more than 1e-5, or is no number, or no sample to
            compare on.

    """
    classifier = Classifier(joined, ClassifierConfig())
    alone = OnnxNetwork(movement, ClassifierConfig(), 1)
    facts = classifier.metadata.movement
    differences = []
    for sample in samples:
        prediction = classifier.predict(sample)
        if facts is None or prediction.no_people or not has_movement(sample):
            continue
        measures = clip_measures(sample, classifier.service)
        expected = alone.run({INPUT: measures[None]})[OUTPUT].astype(np.float64)
        fused = facts.fusion(prediction.streams["pose"][None], expected)
        for found, reference in (
            (prediction.streams["movement"], expected),
            (prediction.probabilities, fused),
        ):
            differences.append(float(np.abs(found - reference).max()))
    if not differences:
        raise ModelError(
            f"deploy.movement: not written: expected a sample to compare {joined} on, got none in "
            "which people and their movement are seen"
        )
    largest = float(np.max(differences))
    if not largest <= _TOLERANCE:
        raise ModelError(
            f"deploy.movement: not written: {len(differences)} probabilities of the joined file "
            f"differ from {movement} by {largest:.1e}, expected at most {_TOLERANCE:.0e}"
        )
