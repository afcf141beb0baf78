"""Metrics of a classifier, by scikit-learn, with bootstrap intervals.

A metric that the labels do not define, such as the ROC-AUC of one class alone, is None with
the reason beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from recognizer.action import bootstrap as resampling
from recognizer.types import BoolArray, Float64Array

CALIBRATION_BINS = 10
_SUM_TOLERANCE = 1e-5  # a softmax in float32 is off by less; scikit-learn takes no more
_ONE_CLASS = "undefined: the labels are of one class only"
_MISSING_CLASS = "undefined: not every class is among the labels"

Labels = NDArray[np.int64]
Figure = Callable[[Labels, Float64Array], float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: the figure; None where the labels do not define it.
        low: lower end of the interval, None if there is none.
        high: its upper end.
        reason: why ``value`` or the interval is None.

    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, object]:
        """Return plain values; an empty reason is left out."""
        return {key: value for key, value in asdict(self).items() if key != "reason" or value}

    def __str__(self) -> str:
        """Return such as ``0.851 [0.802, 0.897]``."""
        if self.value is None:
            return self.reason
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


@dataclass(frozen=True, slots=True)
class Scores:
    """Everything measured on one set of samples.

    Attributes:
        classes: names in the order of labels.
        counts: samples of each class.
        overall: accuracy, balanced_accuracy, roc_auc, average_precision, log_loss,
            brier_score and calibration_error.
        by_class: precision, recall and f1 of each class.
        confusion: rows are the truth, columns what was predicted.
        calibration: bins with their count, mean probability and observed share.
        bootstrap: the resampling: unit, units, resamples, seed, level.

    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    overall: Mapping[str, Estimate]
    by_class: Mapping[str, Mapping[str, Estimate]]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[Mapping[str, float | int], ...]
    bootstrap: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return plain values for a JSON file."""
        return {
            "samples": sum(self.counts),
            "by_label": dict(zip(self.classes, self.counts, strict=True)),
            "overall": {name: value.to_json() for name, value in self.overall.items()},
            "by_class": {
                name: {key: value.to_json() for key, value in figures.items()}
                for name, figures in self.by_class.items()
            },
            "confusion": {
                "classes": list(self.classes),
                "rows_are_truth": [list(row) for row in self.confusion],
            },
            "calibration": [dict(row) for row in self.calibration],
            "bootstrap": dict(self.bootstrap),
        }


def measure(
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    *,
    bootstrap: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Scores:
    """Return the metrics of probabilities.

    A sample counts as the class of the highest probability, the first of equals. With two
    classes average precision is that of label 1, with more the mean over the classes;
    ROC-AUC with more classes is the mean of one against the rest.

    Args:
        labels: (N,) integers from 0.
        probabilities: (N, K), each row summing to 1.
        classes: K names in the order of labels.
        bootstrap: number of resamples behind the intervals; 0 for none.
        seed: of the resampling.
        groups: (N,) source of each sample. Samples of one source resemble each other, so
            whole sources are drawn then (cluster bootstrap); without, single samples.

    Raises:
        ValueError: no samples, shapes that do not fit, a label out of range, or a row that
            is no probability distribution; the message names the first such sample.

    """
    truth, rows = check(labels, probabilities, classes)
    unit = resampling.units(groups, len(truth))
    draws = _resample(truth, rows, unit, bootstrap, seed)
    flat = {
        name: _estimate(name, figure(truth, rows), truth, draws.get(name))
        for name, figure in _figures(len(classes)).items()
    }
    bins = calibration(truth, rows)
    overall = {name: value for name, value in flat.items() if "/" not in name}
    overall["calibration_error"] = Estimate(_calibration_error(bins))
    return Scores(
        classes=tuple(classes),
        counts=tuple(np.bincount(truth, minlength=len(classes)).tolist()),
        overall=overall,
        by_class={
            name: {key: flat[f"{key}/{label}"] for key in ("precision", "recall", "f1")}
            for label, name in enumerate(classes)
        },
        confusion=confusion(truth, decide(rows), len(classes)),
        calibration=tuple(bins),
        bootstrap={
            "level": resampling.LEVEL,
            "method": "percentile",
            "unit": "sample" if groups is None else "source",
            "units": int(unit.max()) + 1,
            "resamples": bootstrap if draws else 0,
            "seed": seed,
        },
    )


def check(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]
) -> tuple[Labels, Float64Array]:
    """Return labels (N,) and probabilities (N, K), checked.

    Raises:
        ValueError: as ``measure``.

    """
    truth = np.asarray(labels)
    rows = np.asarray(probabilities, np.float64)
    if truth.ndim != 1 or rows.shape != (len(truth), len(classes)) or len(classes) < 2:
        raise ValueError(
            f"expected labels (N,) and probabilities (N, {len(classes)}) of at least 2 classes, "
            f"got {truth.shape} and {rows.shape}"
        )
    if len(truth) == 0:
        raise ValueError("expected at least one sample to measure on, got none")
    if truth.dtype.kind not in "iu":
        raise ValueError(f"labels: expected whole numbers, got {truth.dtype}")
    _first(~np.isfinite(rows).all(1), "probabilities", rows, "finite numbers")
    _first((truth < 0) | (truth >= len(classes)), "labels", truth, f"0 to {len(classes) - 1}")
    _first(((rows < 0) | (rows > 1 + _SUM_TOLERANCE)).any(1), "probabilities", rows, "0 to 1")
    _first(np.abs(rows.sum(1) - 1) > _SUM_TOLERANCE, "probabilities", rows, "a sum of 1")
    return truth.astype(np.int64), rows


def _first(wrong: BoolArray, name: str, values: NDArray[Any], expected: str) -> None:
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"{name}: expected {expected}, got {values[i].tolist()} at sample {i}")


def decide(probabilities: Float64Array, threshold: float | None = None) -> Labels:
    """Return the predicted labels (N,).

    Args:
        probabilities: (N, K).
        threshold: with two classes, label 1 from this probability on; None: the class of
            the highest probability, the first of equals.

    Raises:
        ValueError: a threshold with more than two classes.

    """
    if threshold is None:
        return np.asarray(probabilities.argmax(1), np.int64)
    if probabilities.shape[1] != 2:
        raise ValueError(f"a threshold needs 2 classes, got {probabilities.shape[1]}")
    return np.asarray(probabilities[:, 1] >= threshold, np.int64)


def confusion(labels: Labels, predicted: Labels, classes: int) -> tuple[tuple[int, ...], ...]:
    """Return how often each truth (rows) was predicted as each class (columns)."""
    table = metrics.confusion_matrix(labels, predicted, labels=range(classes))
    return tuple(tuple(int(n) for n in row) for row in table)


def at_threshold(
    labels: Labels, probabilities: Float64Array, threshold: float
) -> dict[str, object]:
    """Return accuracy, balanced accuracy and confusion with label 1 from a threshold on."""
    predicted = decide(probabilities, threshold)
    return {
        "threshold": threshold,
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "balanced_accuracy": _balanced(labels, predicted),
        "rows_are_truth": [list(row) for row in confusion(labels, predicted, 2)],
    }


def choose_threshold(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the threshold of label 1 with the best balanced accuracy on these samples.

    It lies half-way between two neighbouring probabilities; of equally good ones the one
    nearest to 0.5 is taken. For validation data, never the data reported.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N, 2).

    Raises:
        ValueError: labels of one class only, or as ``measure``.

    """
    truth, rows = check(labels, probabilities, ("0", "1"))
    if len(np.unique(truth)) < 2:
        raise ValueError("a threshold cannot be chosen from labels of one class only")
    positive = rows[:, 1]
    values = np.unique(positive)
    between = (values[:-1] + values[1:]) / 2
    candidates = np.unique(np.concatenate([between, [0.5]]))
    best = max(
        candidates.tolist(),
        key=lambda t: (round(_balanced(truth, decide(rows, t)), 12), -abs(t - 0.5)),
    )
    return float(best)


def fuse(streams: Sequence[ArrayLike]) -> Float64Array:
    """Return the mean of several classifiers' probabilities, each (N, K).

    Raises:
        ValueError: none given, or of different shapes.

    """
    arrays = [np.asarray(stream, np.float64) for stream in streams]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"expected probabilities (N, K) of equal shape, got {sorted(shapes)}")
    mean: Float64Array = np.mean(arrays, axis=0)
    return mean


# --- figures -----------------------------------------------------------------------


def _figures(classes: int) -> dict[str, Figure]:
    """Return every figure by name; NaN where the labels do not define it."""
    figures: dict[str, Figure] = {
        "accuracy": lambda y, p: float(metrics.accuracy_score(y, decide(p))),
        "balanced_accuracy": lambda y, p: _balanced(y, decide(p)),
        "roc_auc": _roc_auc,
        "average_precision": _average_precision,
        "log_loss": _log_loss,
        "brier_score": lambda y, p: float(resampling.squares(y, p).mean()),
    }
    score = {
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
        "f1": metrics.f1_score,
    }
    for key, function in score.items():
        for label in range(classes):
            figures[f"{key}/{label}"] = partial(_of_class, function, label)
    return figures


def _of_class(function: Callable[..., Any], label: int, y: Labels, p: Float64Array) -> float:
    return float(function(y == label, decide(p) == label, zero_division=np.nan))


def _balanced(labels: Labels, predicted: Labels) -> float:
    # The mean recall of the classes there are; balanced_accuracy_score says the same but
    # warns where a class is predicted that is not among the labels.
    present = np.unique(labels)
    return float(
        metrics.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )


def _all_present(labels: Labels, probabilities: Float64Array) -> bool:
    return len(np.unique(labels)) == probabilities.shape[1]


def _log_loss(labels: Labels, probabilities: Float64Array) -> float:
    rows = probabilities / probabilities.sum(1, keepdims=True)  # it warns at 1e-8 already
    return float(metrics.log_loss(labels, rows, labels=range(rows.shape[1])))


def _roc_auc(labels: Labels, probabilities: Float64Array) -> float:
    if not _all_present(labels, probabilities):
        return np.nan
    values = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return float(metrics.roc_auc_score(labels, values, multi_class="ovr", average="macro"))


def _average_precision(labels: Labels, probabilities: Float64Array) -> float:
    if not _all_present(labels, probabilities):
        return np.nan
    values = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return float(metrics.average_precision_score(labels, values, average="macro"))


def _estimate(
    name: str, value: float, labels: Labels, draws: NDArray[np.float64] | None
) -> Estimate:
    if np.isnan(value):
        return Estimate(None, reason=_why_undefined(name, labels))
    if draws is None:
        return Estimate(value)
    ends = resampling.interval(draws)
    if ends is None:
        return Estimate(value, reason="no interval: most resamples do not define the figure")
    return Estimate(value, *ends)


def _resample(
    labels: Labels, probabilities: Float64Array, unit: Labels, resamples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return every figure of every resample, nothing if there is nothing to resample."""
    parts = [
        resampling.figures(labels, probabilities, weights)
        for weights in resampling.weights(unit, resamples, seed)
    ]
    return {n: np.concatenate([part[n] for part in parts]) for n in (parts[0] if parts else ())}


def _why_undefined(name: str, labels: Labels) -> str:
    kind, _, label = name.partition("/")
    if kind == "precision":
        return "undefined: the class was never predicted"
    if label:
        return "undefined: the class is not among the labels"
    return _ONE_CLASS if len(np.unique(labels)) == 1 else _MISSING_CLASS


# --- calibration ---


def calibration(labels: Labels, probabilities: Float64Array) -> list[dict[str, float | int]]:
    """Return ten bins of probability: number of samples, mean probability, observed share.

    With two classes the probability of label 1 and how often it was true; with more, the
    highest probability and how often that class was right.
    """
    if probabilities.shape[1] == 2:
        probability, true = probabilities[:, 1], labels == 1
    else:
        probability, true = probabilities.max(1), labels == probabilities.argmax(1)
    number = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "from": i / CALIBRATION_BINS,
            "to": (i + 1) / CALIBRATION_BINS,
            "samples": int((number == i).sum()),
            "mean_probability": float(probability[number == i].mean()),
            "came_true": float(true[number == i].mean()),
        }
        for i in range(CALIBRATION_BINS)
        if (number == i).any()
    ]


def _calibration_error(bins: Sequence[Mapping[str, float | int]]) -> float:
    """Return the expected calibration error (Naeini et al. 2015): the mean gap of the bins."""
    total = sum(row["samples"] for row in bins)
    gaps = (row["samples"] * abs(row["mean_probability"] - row["came_true"]) for row in bins)
    return float(sum(gaps) / total)
