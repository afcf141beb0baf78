"""Charts and text of a classifier's test report."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from recognizer.action.evaluation import CALIBRATION_BINS, Estimate, Scores
from recognizer.runs.figures import class_color, columns, left, plain, right
from recognizer.runs.strips import Strip, draw_strip, slot_legend
from recognizer.training.classifier.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_confusion(figure: "Figure", scores: Scores) -> None:
    """Draw the confusion matrix: counts, and the share of each true class."""
    table = np.array(scores.confusion)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure.set_size_inches(2.6 + 1.5 * len(table), 2.2 + 1.25 * len(table))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*table.shape):
        ink = "white" if share[row, column] > 0.6 else "black"
        text = f"{table[row, column]}\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=13)
    names = [plain(name) for name in scores.classes]
    rows = [f"{name}\n({n})" for name, n in zip(names, table.sum(1), strict=True)]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), rows)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"Accuracy {scores.overall['accuracy']}")


def _one_against_rest(
    predictions: Predictions,
) -> list[tuple[str, NDArray[np.bool_], NDArray[np.float64], str]]:
    """Return name, labels (N,), probabilities (N,) and colour of each class to draw a curve of."""
    classes, labels = predictions.classes, predictions.labels
    shown = range(1, 2) if len(classes) == 2 else range(len(classes))
    return [
        (plain(classes[k]), labels == k, predictions.probabilities[:, k], class_color(k))
        for k in shown
        if 0 < (labels == k).sum() < len(labels)
    ]


def draw_roc(figure: "Figure", predictions: Predictions, scores: Scores) -> None:
    """Draw the receiver operating characteristic."""
    figure.set_size_inches(5.6, 5.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1.2)
    for name, truth, probability, ink in _one_against_rest(predictions):
        false, true, at = metrics.roc_curve(truth, probability, drop_intermediate=False)
        axes.plot(false, true, color=ink, linewidth=2, label=name)
        half = int(np.flatnonzero(at >= 0.5)[-1])
        axes.plot(false[half], true[half], "o", color=ink, markersize=8)
        note = f"  from {0.5:g} on"
        axes.annotate(
            note, (false[half], true[half]), va="top", xytext=(4, -4), textcoords="offset points"
        )
    axes.set_xlabel("false alarms (share of the others)")
    axes.set_ylabel("found (share of the class)")
    axes.set_title(f"ROC-AUC {scores.overall['roc_auc']}")
    _unit_square(axes)
    _curve_legend(axes, "lower right")


def draw_precision_recall(figure: "Figure", predictions: Predictions, scores: Scores) -> None:
    """Draw precision against recall, and the precision of guessing."""
    figure.set_size_inches(5.6, 5.4)
    axes = figure.subplots()
    for name, truth, probability, ink in _one_against_rest(predictions):
        precision, recall, _ = metrics.precision_recall_curve(truth, probability)
        axes.step(recall, precision, where="post", color=ink, linewidth=2, label=name)
        axes.axhline(truth.mean(), color=ink, linestyle=":", linewidth=1.2)
    axes.set_xlabel("recall (share of the class that is found)")
    axes.set_ylabel("precision (share of alarms that are right)")
    axes.set_title(f"Average precision {scores.overall['average_precision']}")
    _unit_square(axes)
    _curve_legend(axes, "lower left")


def _unit_square(axes: "Axes") -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")


def _curve_legend(axes: "Axes", place: Literal["lower left", "lower right"]) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place, frameon=False)
    else:
        axes.text(0.5, 0.5, "no curve: labels of one class only", ha="center", va="center")


def draw_calibration(figure: "Figure", predictions: Predictions, scores: Scores) -> None:
    """Draw how often predictions came true over their probability, above a histogram of these."""
    figure.set_size_inches(6.2, 7)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    bins = scores.calibration
    upper.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1.2)
    mean = [row["mean_probability"] for row in bins]
    true = [row["came_true"] for row in bins]
    upper.plot(mean, true, "o-", color="black", linewidth=1.5)
    for x, y, row in zip(mean, true, bins, strict=True):
        below = y > 0.9
        upper.annotate(
            str(row["samples"]),
            (x, y),
            xytext=(0, -14 if below else 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    two = len(predictions.classes) == 2
    what = f"probability of {plain(predictions.classes[1])}" if two else "highest probability"
    values = predictions.probabilities[:, 1] if two else predictions.probabilities.max(1)
    upper.set_ylabel("came true (share, number of samples)")
    upper.set_title(f"Calibration error {scores.overall['calibration_error']}")
    upper.set_ylim(-0.05, 1.05)
    kinds = [values[predictions.labels == k] for k in range(len(predictions.classes))]
    edges = np.linspace(0, 1, 2 * CALIBRATION_BINS + 1)
    inks = [class_color(k) for k in range(len(kinds))]
    names = [plain(name) for name in predictions.classes]
    lower.hist(kinds, bins=edges, color=inks, label=names)
    lower.set_xlabel(what)
    lower.set_ylabel("samples")
    lower.set_xlim(-0.02, 1.02)
    lower.legend(frameon=False, title="truth")


def draw_misclassified(figure: "Figure", strips: Sequence[tuple[str, Strip]]) -> None:
    """Draw the contact sheet of the worst misclassified clips, a row of moments for each."""
    figure.set_size_inches(13, 1.2 + 1.95 * max(len(strips), 1))
    grid = figure.subplots(max(len(strips), 1), 1, squeeze=False)[:, 0]
    for axes in grid:
        axes.set_axis_off()
    for axes, (title, strip) in zip(grid, strips, strict=False):
        axes.set_axis_on()
        draw_strip(axes, strip, title)
    if not strips:
        grid[0].text(0.5, 0.5, "no clip among the tracked samples", ha="center")
    figure.suptitle("The worst mistakes", fontsize=13)
    slot_legend(figure, max((strip.people for _, strip in strips), default=1))


# --- text --------------------------------------------------------------------------


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean, sample standard deviation and extremes of the defined values."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "standard_deviation": statistics.stdev(known) if len(known) > 1 else None,
        "lowest": min(known, default=None),
        "highest": max(known, default=None),
    }


def summarise(title: str, parts: Mapping[str, Scores], notes: Sequence[str]) -> str:
    """Return the summary text: every metric with its interval, of one or more sets."""
    lines = [title]
    for name, scores in parts.items():
        counts = ", ".join(
            f"{n} {label}" for label, n in zip(scores.classes, scores.counts, strict=True)
        )
        lines += ["", f"{name} ({sum(scores.counts)}: {counts})"]
        lines += [f"  {label(key):<20}{value}" for key, value in scores.overall.items()]
        lines += ["", *_class_table(scores), "", *_confusion_text(scores)]
    first = next(iter(parts.values()))
    lines += ["", _interval_text(first), *notes]
    return "\n".join(lines) + "\n"


def label(key: str) -> str:
    """Return a metric's name as text."""
    special = {"roc_auc": "ROC-AUC", "log_loss": "log loss"}
    return special.get(key, key.replace("_", " "))


def _class_table(scores: Scores) -> list[str]:
    width = max(10, *(columns(name) + 2 for name in scores.classes))
    keys = ("precision", "recall", "f1")
    lines = ["  " + " " * width + "".join(f"{key:<24}" for key in keys).rstrip()]
    for name, figures in scores.by_class.items():
        cells = "".join(f"{_short(figures[key]):<24}" for key in keys)
        lines.append(f"  {left(name, width)}{cells}".rstrip())
    return lines


def _short(value: Estimate) -> str:
    return str(value) if value.value is not None else "undefined"


def _confusion_text(scores: Scores) -> list[str]:
    width = max(10, *(columns(name) + 2 for name in scores.classes))
    header = "".join(right(name, width) for name in scores.classes)
    lines = [f"  {'truth / predicted':<20}{header}"]
    for name, row in zip(scores.classes, scores.confusion, strict=True):
        lines.append(f"  {left(name, 20)}" + "".join(f"{n:>{width}}" for n in row))
    return lines


def _interval_text(scores: Scores) -> str:
    bootstrap = scores.bootstrap
    if not bootstrap.get("resamples"):
        return "No intervals: no resamples were asked for, or there is one source only."
    return (
        f"In brackets: 95 % intervals by bootstrap, {bootstrap['resamples']} resamples of "
        f"{bootstrap['units']} {bootstrap['unit']}s."
    )
