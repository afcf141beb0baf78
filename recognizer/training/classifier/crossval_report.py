"""What a cross-validation says: mean, spread over folds and seeds, and where it fails."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import Scores
from recognizer.runs.figures import class_color, plain, save_figure
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stills import Stills
from recognizer.storage.artifacts import write_json, write_text
from recognizer.training.classifier import report
from recognizer.training.classifier.baseline import fold_baselines
from recognizer.training.classifier.error_videos import write_error_videos
from recognizer.training.classifier.further_figures import write_further
from recognizer.training.classifier.labels import DatasetLabels
from recognizer.training.classifier.predictions import (
    Predictions,
    join,
    mean_over_seeds,
    worst_json,
    write_predictions,
)
from recognizer.types import Sample

SCHEMA, SCHEMA_VERSION = "recognizer.crossval_report", 1
FIGURES = ("accuracy", "balanced_accuracy", "roc_auc")
_MAX_SOURCES_DRAWN = 60
_ALONE = {
    "pose": "all, the pose stream alone",
    "movement": "all, the movement stream alone",
    "equal_weights": "all, both streams with equal weights, not calibrated",
}


@dataclass(frozen=True, eq=False, slots=True)
class CrossvalSetup:
    """What is cross-validated.

    Attributes:
        service: fight or falldown.
        dataset_dir: stage 3's folder.
        configs: mmaction2 config of each stream, by name.
        options: changes to all of them.
        folds: number of folds.
        seeds: the whole is done once for each.
        inner_folds: folds inside a training part, for the movement stream.
        bootstrap: resamples behind the intervals.
        worst: skeleton videos of at most this many mistakes.
        views: test-time views that the probabilities average.
        stills: where the pictures below skeletons come from, None: grey.

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
    """What was said of the test part of one fold of one seed.

    Attributes:
        seed: of the trainings and of the folds.
        fold: its number.
        said: by all streams together.
        of_stream: by each config alone.
        alone: with the movement stream, by ``pose`` (all configs) and ``movement`` alone, and by
            both with ``equal_weights``, which no data has decided; else empty.
        movement: how the movement stream was chosen and fused, as plain values.

    """

    seed: int
    fold: int
    said: Predictions
    of_stream: Mapping[str, Predictions]
    alone: Mapping[str, Predictions] = field(default_factory=dict)
    movement: Mapping[str, Any] | None = None


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
    every = join([result.said for result in results])
    # All seeds in one: a mean over seeds. Whole sources are resampled, with all seeds of
    # each, since a clip seen three times is no three clips.
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
        "roc.png": partial(report.draw_roc, said=every, scores=scores),
        "calibration.png": partial(report.draw_calibration, said=every, scores=scores),
    }
    for name, draw in pictures.items():
        save_figure(folder / name, folder, draw)
    write_error_videos(
        folder, (mean, samples), dataset.samples, setup.worst, progress, stills=setup.stills
    )
    write_predictions(folder / "predictions.csv", folder, mean)
    value = _to_json(setup, dataset, results, {"all": scores, "tracked": tracked, **alone})
    lines, further = _further(folder, setup, dataset, results)
    value |= further
    value["worst"] = worst_json(mean, mean.worst(setup.worst))
    every_seed = f"all, of {len(setup.seeds)} seeds" if len(setup.seeds) > 1 else "all"
    named = {_ALONE[name]: part for name, part in alone.items()}
    text = summarise(setup, value, {every_seed: scores, "tracked": tracked, **named})
    text += "".join(f"{line}\n" for line in lines)
    write_text(folder / "summary.txt", folder, text)
    write_json(folder / "report.json", folder, value)
    return text


def _further(
    folder: Path, setup: CrossvalSetup, dataset: DatasetLabels, results: Sequence[FoldResult]
) -> tuple[list[str], dict[str, Any]]:
    """Write the alarm curves; return them and the metadata baseline on the same folds."""
    everything = {**dataset.samples, **(dataset.untracked or {})}
    by_seed = [
        join([r.said for r in results if r.seed == seed])
        for seed in dict.fromkeys(r.seed for r in results)
    ]
    baselines = fold_baselines([(r.said, r.seed) for r in results], everything, dataset.negatives)
    joined = baselines if isinstance(baselines, str) else join(baselines)
    every = join([result.said for result in results])
    return write_further(folder, (every, by_seed), joined, everything, setup.bootstrap)


# --- figures -----------------------------------------------------------------------


def fold_rows(results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    """Return the figures of every fold of every seed; None where one is undefined."""
    rows = []
    for result in results:
        said = result.said
        scores = said.scores(0, 0)
        streams = {
            name: part.scores(0, 0).overall["accuracy"].value
            for name, part in result.of_stream.items()
        }
        rows.append(
            {
                "seed": result.seed,
                "fold": result.fold,
                "samples": len(said.names),
                "nobody_tracked": int((~said.tracked).sum()),
                "sources": sorted(set(said.sources or ())),
                **{key: scores.overall[key].value for key in FIGURES},
                "accuracy_of_stream": streams,
                **_alone_row(result),
            }
        )
    return rows


def _alone_row(result: FoldResult) -> dict[str, Any]:
    """Return what a fold says of the movement stream; nothing without it."""
    if result.movement is None:
        return {}
    figures = {name: part.scores(0, 0).overall for name, part in result.alone.items()}
    return {
        "movement": dict(result.movement),
        "alone": {
            name: {key: overall[key].value for key in FIGURES} for name, overall in figures.items()
        },
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean, standard deviation (N - 1), ends and number of the values that are defined."""
    return {**report.spread(values), "values": sum(value is not None for value in values)}


def _seed_rows(results: Sequence[FoldResult]) -> list[dict[str, Any]]:
    """Return the figures over all clips of each seed."""
    rows = []
    for seed in dict.fromkeys(result.seed for result in results):
        said = join([result.said for result in results if result.seed == seed])
        overall = said.scores(0, 0).overall
        rows.append({"seed": seed, **{key: overall[key].value for key in FIGURES}})
    return rows


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


def _to_json(
    setup: CrossvalSetup,
    dataset: DatasetLabels,
    results: Sequence[FoldResult],
    parts: Mapping[str, Scores],
) -> dict[str, Any]:
    rows = fold_rows(results)
    seeds = _seed_rows(results)
    every = join([result.said for result in results])
    sources = source_rows(every)
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
        "over_folds": {key: _spread([row[key] for row in rows]) for key in FIGURES},
        "over_seeds": {key: _spread([row[key] for row in seeds]) for key in FIGURES},
        "streams": {
            name: _spread([row["accuracy_of_stream"][name] for row in rows])
            for name in setup.configs
        },
        "scores": {name: scores.to_json() for name, scores in parts.items()},
        "by_fold": rows,
        "by_seed": seeds,
        "by_source": sources,
    }


# --- picture and text --------------------------------------------------------------


def draw_folds(
    figure: Any, rows: Sequence[Mapping[str, Any]], scores: Scores, every: Predictions
) -> None:
    """Draw a dot per fold and seed around the mean, and the accuracy of every source."""
    sources = source_rows(every)[:_MAX_SOURCES_DRAWN]
    figure.set_size_inches(12, max(4.5, 1.6 + 0.2 * len(sources)))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    for i, seed in enumerate(seeds):
        own = [row for row in rows if row["seed"] == seed]
        shift = (i - (len(seeds) - 1) / 2) * 0.15
        at = [row["fold"] + 1 + shift for row in own]
        values = [row["accuracy"] for row in own]
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


def _draw_mean(axes: Any, scores: Scores) -> None:
    accuracy = scores.overall["accuracy"]
    axes.axhline(accuracy.value, color="black", linewidth=1.5, label="mean")
    if accuracy.low is not None:
        axes.axhspan(
            accuracy.low,
            accuracy.high,
            color="#999999",
            alpha=0.25,
            linewidth=0,
            label="95 % interval",
        )


def _draw_sources(axes: Any, sources: Sequence[Mapping[str, Any]]) -> None:
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
    """Return the page of text."""
    kind = "leave-one-source-out" if value["leave_one_source_out"] else f"{setup.folds} folds"
    seeds = ", ".join(map(str, setup.seeds))
    title = (
        f"{setup.service}: cross-validation of {' + '.join(setup.configs)}: {kind} by source "
        f"({value['dataset']['sources']} sources), seeds {seeds}"
    )
    spread = [
        f"  {report.label(key):<20}{_spread_text(value['over_folds'][key]):<34}"
        f"{_spread_text(value['over_seeds'][key])}".rstrip()
        for key in FIGURES
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
