"""The movement stream of a shipped classifier: read, and compared once it is joined."""

from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import onnx

_TOLERANCE = 1e-5  # of a probability: the same operators, and a softmax in float32


def read_stream(
    path: Path | None, pose: ClassifierMetadata
) -> tuple["onnx.ModelProto", MovementMetadata] | None:
    """Return the movement stream's ONNX model and its metadata; None without a path.

    Args:
        path: ``deploy.movement``.
        pose: metadata of the pose stream, which it must fit.

    Raises:
        ConfigError: a stream of another service or of other classes.
        FileNotFoundError, ModelError: no such file, or one that cannot be used.

    """
    from recognizer.action.movement_graph import read_movement

    if path is None:
        return None
    model, metadata, service, classes = read_movement(path)
    for key, expected, got in (
        ("service", pose.service, service),
        ("classes", pose.classes, classes),
    ):
        if expected != got:
            raise ConfigError(
                f"deploy.movement: expected {key} {expected}, as the checkpoint's, got {got} in "
                f"{path}"
            )
    return model, metadata


def check_fusion(joined: Path, movement: Path, samples: list[Sample]) -> None:
    """Compare a joined file with the movement stream alone and the fusion in NumPy.

    Raises:
        ModelError: a probability that differs by more than 1e-5 or is NaN, or no sample to compare
            on.

    """
    classifier = Classifier(joined, ClassifierConfig())
    alone = OnnxNetwork(movement, ClassifierConfig(), 1)
    metadata = classifier.metadata.movement
    differences = []
    for sample in samples:
        prediction = classifier.predict(sample)
        if metadata is None or prediction.no_people or not has_movement(sample):
            continue
        measures = clip_measures(sample, classifier.service)
        expected = alone.run({INPUT: measures[None]})[OUTPUT].astype(np.float64)
        fused = metadata.fusion(prediction.streams["pose"][None], expected)
        for got, reference in (
            (prediction.streams["movement"], expected),
            (prediction.probabilities, fused),
        ):
            differences.append(float(np.abs(got - reference).max()))
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
