"""Probabilities of samples by trained checkpoints and by shipped ONNX files."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import fuse
from recognizer.config.action import ClassifierConfig
from recognizer.runs.manifest import Outcome, Progress
from recognizer.runs.progress import ProgressFactory
from recognizer.types import Sample

logger = logging.getLogger(__name__)


def predict_all(
    checkpoints: Sequence[Path],
    views: Sequence[str],
    samples: Sequence[Sample],
    title: str,
    watch: ProgressFactory,
) -> NDArray[np.float64]:
    """Return the probabilities (N, K), averaged over the checkpoints and the views.

    Args:
        checkpoints: of mmaction2 (.pth), or shipped files (.onnx).
        views: test-time views, names of ``views.VIEWS``.
        samples: N samples.
        title: of the progress.
        watch: shows progress.

    """
    with watch(title, len(checkpoints) * len(samples)) as progress:
        return fuse([_predict_one(path, views, samples, progress) for path in checkpoints])


def _predict_one(
    checkpoint: Path, views: Sequence[str], samples: Sequence[Sample], progress: Progress
) -> NDArray[np.float64]:
    if checkpoint.suffix == ".onnx":
        return _predict_onnx(checkpoint, views, samples, progress)
    from recognizer.action.training import predict

    probabilities = np.asarray(predict(checkpoint, list(samples), views=views), np.float64)
    for sample in samples:
        progress(Outcome(sample.name, "done"), 0)
    return probabilities


def _predict_onnx(
    path: Path, views: Sequence[str], samples: Sequence[Sample], progress: Progress
) -> NDArray[np.float64]:
    from recognizer.action.classifier import Classifier

    classifier = Classifier(path, ClassifierConfig())
    rows, pose_only = [], 0
    for sample in samples:
        prediction = classifier.predict(sample, views)
        pose_only += bool(prediction.streams) and "movement" not in prediction.streams
        rows.append(prediction.probabilities)
        progress(Outcome(sample.name, "done"), 0)
    if pose_only:
        logger.warning(
            "%s: no movement was measured in %d of %d samples; their probabilities are those of "
            "the pose stream alone",
            path,
            pose_only,
            len(samples),
        )
    return np.stack(rows)
