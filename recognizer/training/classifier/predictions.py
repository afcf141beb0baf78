"""Predictions of labelled clips, by trained checkpoints and by shipped ONNX files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import Scores, fuse, measure
from recognizer.config.action import ClassifierConfig
from recognizer.runs.manifest import Outcome, Progress
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import write_csv
from recognizer.training.classifier.labels import NORMAL, ClipLabel
from recognizer.types import Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """Predicted probabilities of N clips of K classes, with their true labels.

    Attributes:
        classes: names in the order of labels.
        names: (N,) sample names.
        labels: (N,) the true class.
        probabilities: (N, K).
        sources: (N,) recordings, or None where they are unknown.
        tracked: (N,) False where no person was tracked: "normal" by definition.

    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    sources: tuple[str, ...] | None
    tracked: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Predictions":
        """Return the samples that a mask or an index array selects."""
        chosen = np.arange(len(self.names))[rows].tolist()
        return Predictions(
            self.classes,
            tuple(self.names[i] for i in chosen),
            self.labels[rows],
            self.probabilities[rows],
            None if self.sources is None else tuple(self.sources[i] for i in chosen),
            self.tracked[rows],
        )

    def with_untracked(self, untracked: Mapping[str, ClipLabel]) -> "Predictions":
        """Return these and clips without a tracked person: the normal class, probability 1."""
        clips = list(untracked.values())
        certain = np.eye(len(self.classes))[np.full(len(clips), NORMAL)]
        sources = None
        if self.sources is not None:
            sources = (*self.sources, *(clip.source for clip in clips))
        return Predictions(
            self.classes,
            (*self.names, *untracked),
            np.concatenate([self.labels, np.array([clip.label for clip in clips], np.int64)]),
            np.concatenate([self.probabilities, certain]),
            sources,
            np.concatenate([self.tracked, np.zeros(len(clips), np.bool_)]),
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class of the highest probability, (N,)."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    def scores(self, bootstrap: int, seed: int) -> Scores:
        """Return the metrics; whole sources are resampled where they are known."""
        return measure(
            self.labels,
            self.probabilities,
            self.classes,
            bootstrap=bootstrap,
            seed=seed,
            groups=self.sources,
        )

    def worst(self, count: int) -> list[int]:
        """Return misclassified samples, the least probability of the true class first."""
        true = np.take_along_axis(self.probabilities, self.labels[:, None], 1)[:, 0]
        wrong = np.flatnonzero(self.predicted != self.labels).tolist()
        return sorted(wrong, key=lambda i: (true[i], self.names[i]))[:count]


def join(parts: Sequence[Predictions]) -> Predictions:
    """Return the samples of all parts, one after another."""
    return Predictions(
        parts[0].classes,
        tuple(name for part in parts for name in part.names),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        tuple(source for part in parts for source in part.sources or ()),
        np.concatenate([part.tracked for part in parts]),
    )


def mean_over_seeds(predictions: Predictions) -> Predictions:
    """Return each clip once, with its probabilities averaged over the seeds."""
    names, first, inverse = np.unique(
        np.asarray(predictions.names, dtype=object).astype(str),
        return_index=True,
        return_inverse=True,
    )
    once = predictions[first]
    counts = np.bincount(inverse)[:, None]
    sums = np.zeros((len(names), len(predictions.classes)))
    np.add.at(sums, inverse, predictions.probabilities)
    return Predictions(
        once.classes, once.names, once.labels, sums / counts, once.sources, once.tracked
    )


def write_predictions(path: Path, root: Path, predictions: Predictions) -> None:
    """Write one row per sample: name, source, class, prediction, tracked, probabilities."""
    header = ["sample", "source", "class", "predicted", "tracked"]
    table: list[list[object]] = [
        [*header, *(f"probability_{name}" for name in predictions.classes)]
    ]
    for i, name in enumerate(predictions.names):
        source = "" if predictions.sources is None else predictions.sources[i]
        label = predictions.classes[predictions.labels[i]]
        predicted = predictions.classes[predictions.predicted[i]]
        probabilities = (f"{p:.6f}" for p in predictions.probabilities[i])
        table.append([name, source, label, predicted, int(predictions.tracked[i]), *probabilities])
    write_csv(path, root, table)


def worst_json(predictions: Predictions, rows: Sequence[int]) -> list[dict[str, object]]:
    """Return the given samples as plain values for a report."""
    return [
        {
            "sample": predictions.names[i],
            "source": None if predictions.sources is None else predictions.sources[i],
            "class": predictions.classes[predictions.labels[i]],
            "predicted": predictions.classes[predictions.predicted[i]],
            "probability_of_truth": float(predictions.probabilities[i, predictions.labels[i]]),
            "tracked": bool(predictions.tracked[i]),
        }
        for i in rows
    ]


def predict_all(
    checkpoints: Sequence[Path],
    views: Sequence[str],
    samples: Sequence[Sample],
    title: str,
    progress: ProgressFactory,
) -> NDArray[np.float64]:
    """Return the probabilities (N, K), averaged over the checkpoints and the views.

    Args:
        checkpoints: of mmaction2 (.pth), or shipped files (.onnx).
        views: test-time views, names of ``views.VIEWS``.
        samples: N samples.
        title: of the progress.
        progress: shows it.

    """
    with progress(title, len(checkpoints) * len(samples)) as advance:
        return fuse([_predict_one(path, views, samples, advance) for path in checkpoints])


def _predict_one(
    checkpoint: Path, views: Sequence[str], samples: Sequence[Sample], advance: Progress
) -> NDArray[np.float64]:
    if checkpoint.suffix == ".onnx":
        return _predict_onnx(checkpoint, views, samples, advance)
    from recognizer.action.training import predict

    probabilities = np.asarray(predict(checkpoint, list(samples), views=views), np.float64)
    for sample in samples:
        advance(Outcome(sample.name, "done"), 0)
    return probabilities


def _predict_onnx(
    path: Path, views: Sequence[str], samples: Sequence[Sample], advance: Progress
) -> NDArray[np.float64]:
    from recognizer.action.classifier import Classifier

    classifier = Classifier(path, ClassifierConfig())
    rows, pose_only = [], 0
    for sample in samples:
        prediction = classifier.predict(sample, views)
        pose_only += bool(prediction.streams) and "movement" not in prediction.streams
        rows.append(prediction.probabilities)
        advance(Outcome(sample.name, "done"), 0)
    if pose_only:
        logger.warning(
            "%s: no movement was measured in %d of %d samples; their probabilities are those of "
            "the pose stream alone",
            path,
            pose_only,
            len(samples),
        )
    return np.stack(rows)
