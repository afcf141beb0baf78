"""The report of a cross-validation: mean, spread over folds and seeds, and the worst clips."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import Scores
from recognizer.runs.figures import class_color, plain, save_figures
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stills import Stills
from recognizer.storage.artifacts import write_json, write_text
from recognizer.training.classifier import report
from recognizer.training.classifier.alarm_curve import write_context
from recognizer.training.classifier.baseline import fold_baselines
from recognizer.training.classifier.error_videos import write_error_videos
from recognizer.training.classifier.labels import DatasetLabels
from recognizer.training.classifier.predictions import (
    Predictions,
    join,
    mean_over_seeds,
    worst_json,
    write_predictions,
)
from recognizer.types import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEMA, SCHEMA_VERSION = "recognizer.crossval_report", 1
METRICS = ("accuracy", "balanced_accuracy", "roc_auc")
_MAX_SOURCES_DRAWN = 60
_ALONE = {
    "pose": "all, the pose stream alone",
    "movement": "all, the movement stream alone",
    "equal_weights": "all, both streams with equal weights, not calibrated",
}


@dataclass(frozen=True, eq=False, slots=True)
class CrossvalSetup:
    """Settings of a cross-validation.

    Attributes:
        service: fight or falldown.
        dataset_dir: stage 3's folder.
        configs: mmaction2 config of each stream, by name.
        options: changes to all of them.
        folds: number of folds.
        seeds: the cross-validation is repeated with each.
        inner_folds: folds inside a training part, for the movement stream.
        bootstrap: resamples behind the intervals.
        worst: skeleton videos of at most this many misclassified clips.
        views: test-time views that the probabilities average.
        stills: source of the pictures below skeletons; None: grey.

    """

    service: str
    dataset_dir: Path
    configs: Mapping[str, Path]
    options: tuple[str, ...]
    folds: int
    seeds: tuple[int, ...]
    inner_folds: int
    bootstrap: int
    worst: int
    views: tuple[str, ...] = ()
    stills: Stills | None = None


@dataclass(frozen=True, eq=False, slots=True)
class FoldResult:
    """Predictions of the test part of one fold of one seed.

    Attributes:
        seed: of the trainings and of the folds.
        fold: its number.
        predictions: by all streams together.
        of_stream: by each config alone.
        alone: with the movement stream, by ``pose`` (all configs) and ``movement`` alone, and by
            both with ``equal_weights``, which no data has decided; else empty.
        movement: how the movement stream was chosen and fused, as plain values.

    """

    seed: int
    fold: int
    predictions: Predictions
    of_stream: Mapping[str, Predictions]
    alone: Mapping[str, Predictions] = field(default_factory=dict)
    movement: Mapping[str, object] | None = None


def write_report(
    folder: Path,
    setup: CrossvalSetup,
    dataset: DatasetLabels,
    tested: tuple[Sequence[FoldResult], Mapping[str, Sample]],
    progress: ProgressFactory,
) -> str:
    """Write report.json, summary.txt, predictions.csv, pictures and videos; return the text.

    Equal predictions give equal bytes.
    """
    results, samples = tested
    (folder / "report.json").unlink(missing_ok=True)
    by_seed = _by_seed(results)
    every = join([result.predictions for result in results])
    # All seeds in one: a mean over seeds. Whole sources are resampled, with all seeds of
    # each, since a clip predicted three times is not three clips.
    scores = every.scores(setup.bootstrap, 0)
    tracked = every[every.tracked].scores(setup.bootstrap, 0)
    alone = {
        name: join([result.alone[name] for result in results]).scores(setup.bootstrap, 0)
        for name in results[0].alone
    }
    rows = fold_rows(results)
    mean = mean_over_seeds(every)
    pictures = {
        "crossval.png": partial(draw_folds, rows=rows, scores=scores, every=every),
        "confusion_matrix.png": partial(report.draw_confusion, scores=scores),
        "roc.png": partial(report.draw_roc, predictions=every, scores=scores),
        "calibration.png": partial(report.draw_calibration, predictions=every, scores=scores),
    }
    save_figures(folder, folder, pictures)
    write_error_videos(
        folder, (mean, samples), dataset.samples, setup.worst, progress, stills=setup.stills
    )
    write_predictions(folder / "predictions.csv", folder, mean)
    lines, context = _write_context(folder, setup, dataset, results)
    value = {
        **_about(setup, dataset, results),
        **_metrics(setup, rows, by_seed, every),
        "scores": {n: s.to_json() for n, s in {"all": scores, "tracked": tracked, **alone}.items()},
        **context,
        "worst": worst_json(mean, mean.worst(setup.worst)),
    }
    every_seed = f"all, of {len(setup.seeds)} seeds" if len(setup.seeds) > 1 else "all"
    named = {_ALONE[name]: part for name, part in alone.items()}
    text = summarise(setup, value, {every_seed: scores, "tracked": tracked, **named})
    text += "".join(f"{line}\n" for line in lines)
    write_text(folder / "summary.txt", folder, text)
    write_json(folder / "report.json", folder, value)
    return text


def _write_context(
    folder: Path, setup: CrossvalSetup, dataset: DatasetLabels, results: Sequence[FoldResult]
) -> tuple[list[str], dict[str, Any]]:
    """Write the alarm curves; return text and values of them and of the metadata baseline."""
    tested = [(result.predictions, result.seed) for result in results]
    baselines = fold_baselines(tested, dataset.labelled, dataset.negatives)
    joined = baselines if isinstance(baselines, str) else join(baselines)
    every, by_seed = join([part for part, _ in tested]), list(_by_seed(results).values())
    return write_context(folder, (every, by_seed), joined, dataset.labelled, setup.bootstrap)


def _by_seed(results: Sequence[FoldResult]) -> dict[int, Predictions]:
    """Return the predictions of all clips, by seed."""
    seeds = dict.fromkeys(result.seed for result in results)
    return {seed: join([r.predictions for r in results if r.seed == seed]) for seed in seeds}


# --- metrics -----------------------------------------------------------------------


def fold_rows(results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    """Return the metrics of every fold of every seed; None where one is undefined."""
    rows = []
    for result in results:
        predictions = result.predictions
        scores = predictions.scores(0, 0)
        streams = {
            name: part.scores(0, 0).overall["accuracy"].value
            for name, part in result.of_stream.items()
        }
        rows.append(
            {
                "seed": result.seed,
                "fold": result.fold,
                "samples": len(predictions.names),
                "nobody_tracked": int((~predictions.tracked).sum()),
                "sources": sorted(set(predictions.sources or ())),
                **{key: scores.overall[key].value for key in METRICS},
                "accuracy_of_stream": streams,
                **_alone_row(result),
            }
        )
    return rows


def _alone_row(result: FoldResult) -> dict[str, Any]:
    """Return a fold's movement stream and the metrics of each stream; empty without it."""
    if result.movement is None:
        return {}
    alone = {name: _overall(part) for name, part in result.alone.items()}
    return {"movement": dict(result.movement), "alone": alone}


def _overall(predictions: Predictions) -> dict[str, float | None]:
    overall = predictions.scores(0, 0).overall
    return {key: overall[key].value for key in METRICS}


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Return mean, standard deviation (N - 1), extremes and number of the defined values."""
    return {**report.spread(values), "values": sum(value is not None for value in values)}


def source_rows(every: Predictions) -> list[dict[str, Any]]:
    """Return the accuracy of each source over all seeds, the worst first."""
    right = every.predicted == every.labels
    names = np.asarray(every.sources or ())
    rows = []
    for source in np.unique(names):
        here = names == source
        clips = len({every.names[i] for i in np.flatnonzero(here)})
        row = {"source": str(source), "clips": clips, "accuracy": float(right[here].mean())}
        rows.append(row)
    return sorted(rows, key=lambda row: (row["accuracy"], -row["clips"], row["source"]))


def _about(
    setup: CrossvalSetup, dataset: DatasetLabels, results: Sequence[FoldResult]
) -> dict[str, Any]:
    """Return settings and data of the cross-validation as plain values."""
    sources = {source for result in results for source in result.predictions.sources or ()}
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "command": "main.py --mode test.crossval",
        "service": setup.service,
        "classes": list(dataset.classes),
        "configs": [path.name for path in setup.configs.values()],
        "options": list(setup.options),
        "views": list(setup.views),
        "folds": setup.folds,
        "leave_one_source_out": setup.folds == len(sources),
        "seeds": list(setup.seeds),
        "inner_folds": setup.inner_folds if any(r.movement for r in results) else None,
        "dataset": {
            "sha256": dict(dataset.sha256),
            "samples": len(dataset.samples),
            "nobody_tracked": None if dataset.untracked is None else len(dataset.untracked),
            "sources": len(sources),
            **({"negatives": len(dataset.negatives)} if dataset.negatives else {}),
        },
    }


def _metrics(
    setup: CrossvalSetup,
    rows: Sequence[Mapping[str, Any]],
    by_seed: Mapping[int, Predictions],
    every: Predictions,
) -> dict[str, Any]:
    """Return the metrics by fold, seed and source, and their spread."""
    seeds = [{"seed": seed, **_overall(part)} for seed, part in by_seed.items()]
    return {
        "over_folds": {key: _spread([row[key] for row in rows]) for key in METRICS},
        "over_seeds": {key: _spread([row[key] for row in seeds]) for key in METRICS},
        "streams": {
            name: _spread([row["accuracy_of_stream"][name] for row in rows])
            for name in setup.configs
        },
        "by_fold": rows,
        "by_seed": seeds,
        "by_source": source_rows(every),
    }


# --- picture and text --------------------------------------------------------------


def draw_folds(
    figure: "Figure", rows: Sequence[Mapping[str, Any]], scores: Scores, every: Predictions
) -> None:
    """Draw a dot per fold and seed around the mean, and the accuracy of every source."""
    sources = source_rows(every)[:_MAX_SOURCES_DRAWN]
    figure.set_size_inches(12, max(4.5, 1.6 + 0.2 * len(sources)))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    for i, seed in enumerate(seeds):
        of_seed = [row for row in rows if row["seed"] == seed]
        shift = (i - (len(seeds) - 1) / 2) * 0.15
        at = [row["fold"] + 1 + shift for row in of_seed]
        values = [row["accuracy"] for row in of_seed]
        left.scatter(at, values, s=44, color=class_color(i), label=f"seed {seed}", zorder=3)
    _draw_mean(left, scores)
    last = max(row["fold"] for row in rows) + 1
    left.set_xlim(0.5, last + 0.5)
    if last <= 20:
        left.set_xticks(range(1, last + 1))
    left.set_xlabel("fold (each seed deals the sources anew)")
    left.set_ylabel("accuracy on the fold's test part")
    left.set_title(f"Accuracy {scores.overall['accuracy']} over {len(rows)} trainings")
    low = min(row["accuracy"] for row in rows)
    left.set_ylim(max(-0.02, min(0.45, low - 0.05)), 1.02)
    left.legend(frameon=False, loc="lower left", ncols=3)
    _draw_sources(right, sources)


def _draw_mean(axes: "Axes", scores: Scores) -> None:
    accuracy = scores.overall["accuracy"]
    if accuracy.value is not None:
        axes.axhline(accuracy.value, color="black", linewidth=1.5, label="mean")
    if accuracy.low is not None and accuracy.high is not None:
        label = "95 % interval"
        axes.axhspan(
            accuracy.low, accuracy.high, color="#999999", alpha=0.25, linewidth=0, label=label
        )


def _draw_sources(axes: "Axes", sources: Sequence[Mapping[str, Any]]) -> None:
    at: NDArray[np.int64] = np.arange(len(sources))[::-1]
    values = [row["accuracy"] for row in sources]
    axes.barh(at, values, color=class_color(0), height=0.7)
    names = [f"{plain(row['source'][:28])} ({row['clips']})" for row in sources]
    axes.set_yticks(at, names, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.7, len(sources) - 0.3)
    axes.set_xlabel("accuracy over all seeds")
    axes.set_title("By source (clips), the worst first")


def summarise(setup: CrossvalSetup, value: Mapping[str, Any], parts: Mapping[str, Scores]) -> str:
    """Return the summary text."""
    kind = "leave-one-source-out" if value["leave_one_source_out"] else f"{setup.folds} folds"
    seeds = ", ".join(map(str, setup.seeds))
    title = (
        f"{setup.service}: cross-validation of {' + '.join(setup.configs)}: {kind} by source "
        f"({value['dataset']['sources']} sources), seeds {seeds}"
    )
    spread = [
        f"  {report.label(key):<20}{_spread_text(value['over_folds'][key]):<34}"
        f"{_spread_text(value['over_seeds'][key])}".rstrip()
        for key in METRICS
    ]
    notes = ["", f"  {'mean +- deviation':<20}{'over folds and seeds':<34}over seeds", *spread]
    if len(setup.configs) > 1:
        notes += ["", "  accuracy of each config alone, over folds and seeds"]
        notes += [f"  {n}: {_spread_text(value['streams'][n])}" for n in setup.configs]
    notes += _movement_notes(value["by_fold"])
    clips = value["dataset"]["nobody_tracked"]
    if clips:
        notes += [
            "",
            f"In {clips} labelled clips nobody was tracked; 'all' counts them as "
            f"{value['classes'][0]}, probability 1, in the fold of their source.",
        ]
    if negatives := value["dataset"].get("negatives"):
        notes += ["", f"{negatives} negatives are in every training part and in no test part."]
    return report.summarise(title, parts, notes)


def _movement_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which movement streams the folds chose, and the weights of their fusions."""
    fitted = [row["movement"] for row in rows if "movement" in row]
    if not fitted:
        return []
    chosen = Counter(one["setting"] for one in fitted)
    lines = ["", "  the movement stream, chosen inside the training parts: in how many folds"]
    lines += [f"  {name}: {count}" for name, count in chosen.most_common()]
    for key in ("pose", "movement"):
        values = [one["fusion"][key] for one in fitted]
        lines.append(
            f"  weight of {key}: {np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        )
    return lines


def _spread_text(value: Mapping[str, Any]) -> str:
    if value["mean"] is None:
        return "undefined in every fold"
    text = f"{value['mean']:.3f}"
    if value["standard_deviation"] is not None:
        text += f" +- {value['standard_deviation']:.3f}"
        text += f" ({value['lowest']:.3f} to {value['highest']:.3f})"
    return text
