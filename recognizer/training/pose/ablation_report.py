"""The report of an ablation: a table of means and spreads over seeds, notes, and curves."""

import logging
import os
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recognizer.installation import PROJECT
from recognizer.storage.artifacts import write_csv, write_json, write_text
from recognizer.training.classifier.report import spread
from recognizer.training.pose.ablation_run import AblationTrial, TrialResult
from recognizer.training.pose.learning_curves import TABLE, Row, draw_curves, read_curve
from recognizer.training.pose.report import COLUMNS, number

logger = logging.getLogger(__name__)

SCHEMA, SCHEMA_VERSION = "recognizer.ablation", 1
ENOUGH_PERSONS = 1000  # with fewer in the test data, configs are not ranked
CURVES = "learning_curves.png"
_OVERLAPPING, _OTHERS, _BEST = "AP overlapping", "AP others", "best AP"
_DIFFERENCE = "AP - first"
_OF_TRAINING = ("heatmap_loss", "step_s")
Json = Mapping[str, Any]  # the content of ablation.json, or a part of it
FIGURES = (*COLUMNS, _OVERLAPPING, _OTHERS, _BEST, _DIFFERENCE)


@dataclass(frozen=True, eq=False, slots=True)
class AblationSetup:
    """The configs and data of an ablation.

    Attributes:
        folder: for all output.
        configs: file of each config, by name.
        seeds: each config is trained once with each.
        options: changes to the configs, as given.
        data_root: the folder of the data, None if the configs name it.
        metadata: sizes of the data by split, epochs, batch_size, parameters, by config.
        differences: of each config to the first, in data and schedule.

    """

    folder: Path
    configs: Mapping[str, Path]
    seeds: tuple[int, ...]
    options: tuple[str, ...]
    data_root: Path | None
    metadata: Mapping[str, Json]
    differences: Mapping[str, Sequence[str]]


def write_report(setup: AblationSetup, results: Mapping[AblationTrial, TrialResult]) -> str:
    """Write ablation.md, .json and .csv and the learning curves; return the text of the first."""
    value = to_json(setup, results)
    text = to_markdown(setup, value)
    folder = setup.folder
    _draw(setup, results)
    write_text(folder / "ablation.md", folder, text)
    write_csv(folder / "ablation.csv", folder, _table(value))
    write_json(folder / "ablation.json", folder, value)
    return text


# --- figures -----------------------------------------------------------------------


def to_json(setup: AblationSetup, results: Mapping[AblationTrial, TrialResult]) -> dict[str, Any]:
    """Return configs and trials as plain values."""
    first = next(iter(setup.configs))
    reference = {run.seed: ap_of(result) for run, result in results.items() if run.config == first}
    runs: list[dict[str, Any]] = []
    for run, result in results.items():
        row = {
            "config": run.config,
            "seed": run.seed,
            "folder": run.folder.name,
            "state": result.state,
            "reason": result.reason,
            "step_s": result.step_s,
            "heatmap_loss": result.heatmap_loss,
            "batches": result.batches,
            "last": result.last,
            "best": result.best,
        }
        runs.append({**row, "figures": _figures(result, reference[run.seed])})
    configs: list[dict[str, Any]] = []
    for name in setup.configs:
        of_config = [run for run in runs if run["config"] == name]
        about = setup.metadata[name]
        configs.append(
            {
                "config": name,
                "seeds_done": sum(run["state"] == "done" for run in of_config),
                **{key: spread([run["figures"][key] for run in of_config]) for key in FIGURES},
                **{key: spread([run[key] for run in of_config]) for key in _OF_TRAINING},
                **{key: about[key] for key in ("parameters", "epochs", "batch_size")},
                "data": {k: about[k] for k in ("train", "val", "test") if k in about},
                "not_like_the_first": list(setup.differences[name]),
            }
        )
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "command": command(setup),
        "configs": configs,
        "runs": runs,
        "same_batches": same_batches(results),
    }


def ap_of(result: TrialResult) -> float | None:
    """Return the AP of the last epoch, None where there is none."""
    return result.last["all"]["AP"] if result.last else None


def _figures(result: TrialResult, reference: float | None) -> dict[str, float | None]:
    """Return a run's figures; the difference is to the first config with the same seed."""
    if result.last is None:
        return dict.fromkeys(FIGURES)
    ap = ap_of(result)
    figures: dict[str, float | None] = {name: result.last["all"][name] for name in COLUMNS}
    figures[_OVERLAPPING] = result.last["overlapping"]["AP"]
    figures[_OTHERS] = result.last["others"]["AP"]
    figures[_BEST] = result.best["all"]["AP"] if result.best else None
    figures[_DIFFERENCE] = None if ap is None or reference is None else ap - reference
    return figures


def same_batches(results: Mapping[AblationTrial, TrialResult]) -> bool | None:
    """Tell whether all configs saw the same batches, seed by seed; None if none is to compare."""
    by_seed: dict[int, list[str]] = {}
    for run, result in results.items():
        if result.state == "done":
            by_seed.setdefault(run.seed, []).append(result.batches)
    compared = [digests for digests in by_seed.values() if len(digests) > 1]
    return all(len(set(digests)) == 1 for digests in compared) if compared else None


def command(setup: AblationSetup) -> str:
    """Return the command that makes this table."""
    words = ["python", "main.py", "--mode", "train.ablation", "--train-config"]
    words += [_from_root(path) for path in setup.configs.values()]
    words += ["--seeds", *map(str, setup.seeds)]
    if setup.data_root is not None:
        words += ["--set", f"train.data_root={_from_root(setup.data_root)}"]
    if setup.options:
        words += ["--cfg-options", *setup.options]
    return shlex.join(words)


def _from_root(path: Path) -> str:
    """Return a path near the program as it would be typed in its folder."""
    near = path.is_relative_to(PROJECT.parent)
    return os.path.relpath(path, PROJECT) if near else str(path)


# --- text --------------------------------------------------------------------------


def to_markdown(setup: AblationSetup, value: Json) -> str:
    """Return the table with its caption."""
    head = [
        "config",
        *FIGURES[:-1],
        "AP, lowest to highest",
        _DIFFERENCE,
        "training loss",
        "s / iteration",
        "parameters",
    ]
    lines = ["# Ablation", "", *_caption(setup, value), ""]
    lines += [_table_row(head), _table_row(["---", *["---:"] * (len(head) - 1)])]
    lines += [_table_row(_cells(config)) for config in value["configs"]]
    notes = _notes(setup, value)
    lines += ["", *(f"- {note}" for note in notes)]
    lines += ["", f"![learning curves]({CURVES})", "", "```", value["command"], "```"]
    return "\n".join(lines) + "\n"


def _table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(config: Json) -> list[str]:
    ends = config["AP"]
    between = f"{number(ends['lowest'])} to {number(ends['highest'])}"
    return [
        config["config"],
        *(_with_spread(config[key]) for key in FIGURES[:-1]),
        between if config["seeds_done"] > 1 else "-",
        _with_spread(config[_DIFFERENCE], sign="+"),
        number(config["heatmap_loss"]["mean"], 4),
        number(config["step_s"]["mean"]),
        f"{config['parameters']:,}",
    ]


def _with_spread(value: Mapping[str, float | None], sign: str = "") -> str:
    if value["mean"] is None:
        return "-"
    text = f"{value['mean']:{sign}.3f}"
    deviation = value["standard_deviation"]
    return text if deviation is None else f"{text} ± {deviation:.3f}"


def _caption(setup: AblationSetup, value: Json) -> Iterator[str]:
    metadata = next(iter(setup.metadata.values()))
    train, test = metadata["train"], metadata["test"]
    seeds = ", ".join(map(str, setup.seeds))
    done = [run["last"] for run in value["runs"] if run["last"]]
    how = ""
    if done:
        part = done[0]["overlapping"]
        how = (
            f" With overlapping people (boxes with an IoU above {done[0]['overlap_iou']}): persons "
            f"{part['persons']}, images {part['images']}. Boxes: "
            f"{done[0]['boxes']}; flip test: {'yes' if done[0]['flip_test'] else 'no'}."
        )
    yield (
        f"Trained for {metadata['epochs']} epochs on {train['persons']} persons with keypoints in "
        f"{train['images']} images ({train['file']}), batch {metadata['batch_size']}; measured on "
        f"{test['persons']} persons in {test['images']} images ({test['file']}); seeds "
        f"{seeds}.{how}"
    )
    if test["persons"] < ENOUGH_PERSONS:
        yield ""
        yield (
            f"**{test['persons']} persons are too few to rank anything**: this shows that "
            "everything runs and compares like with like, not which config is better."
        )
    yield ""
    flatters = ", chosen on the images that it is measured on: it flatters"
    yield (
        "All figures are those of the last epoch, as mean ± standard deviation over the seeds, "
        "except best AP, which is that of the checkpoint with the best validation AP"
        f"{flatters if _same_images(metadata) else ''}. AP - first: difference to the first "
        "config, seed by seed."
    )


def _same_images(metadata: Json) -> bool:
    return bool(metadata.get("val") and metadata["val"]["sha256"] == metadata["test"]["sha256"])


def _notes(setup: AblationSetup, value: Json) -> Iterator[str]:
    if value["same_batches"]:
        yield "All configs saw the same batches, seed by seed (compared pixel by pixel)."
    elif value["same_batches"] is False:
        yield "**Not all configs saw the same batches**: data, batch size or epochs differ."
    for name, texts in setup.differences.items():
        if texts:
            yield f"{name} is not like the first config in more than its losses: {'; '.join(texts)}"
    yield from _unfinished(value["runs"])
    yield (
        "Training loss: mean heatmap loss of the last epoch. s / iteration: median of forward, "
        "backward and update, without waiting for data; it says little where other programs ran "
        "beside it."
    )


def _unfinished(runs: Sequence[Json]) -> Iterator[str]:
    for run in runs:
        name = f"{run['config']}, seed {run['seed']}"
        if run["state"] == "failed":
            yield f"{name}, **failed**: {_one_line(run['reason'])}"
        elif run["state"] != "done":
            yield f"{name}, has not been run yet."


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


def _table(value: Json) -> list[list[object]]:
    rows = []
    for config in value["configs"]:
        row = {"config": config["config"], "seeds_done": config["seeds_done"]}
        for key in (*FIGURES, *_OF_TRAINING):
            row |= {f"{key} {part}": number(v, 6) for part, v in config[key].items()}
        rows.append({**row, "parameters": config["parameters"], "epochs": config["epochs"]})
    return [list(rows[0]), *(["" if v == "-" else v for v in row.values()] for row in rows)]


# --- curves ------------------------------------------------------------------------


def _draw(setup: AblationSetup, results: Mapping[AblationTrial, TrialResult]) -> None:
    """Draw the means over seeds, of unfinished and failed trials as far as they went."""
    curves: dict[str, list[list[Row]]] = {name: [] for name in setup.configs}
    for run in results:
        try:
            curves[run.config].append(read_curve(run.folder / TABLE))
        except ValueError as error:
            logger.warning("%s: not drawn", error)
    drawn = {name: [curve for curve in trials if curve] for name, trials in curves.items()}
    means = {name: mean_rows(trials) for name, trials in drawn.items()}
    bands = {name: _ends(drawn[name]) for name, trials in curves.items() if len(trials) > 1}
    draw_curves(setup.folder / CURVES, means, bands)


def mean_rows(curves: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the means over trainings, for the epochs that all of them have."""
    means = []
    for rows in _together(curves):
        shared = [key for key in rows[0] if all(key in row for row in rows)]
        means.append({key: statistics.fmean(row[key] for row in rows) for key in shared})
    return means


def _ends(curves: Sequence[Sequence[Row]]) -> list[tuple[float, float, float]]:
    """Return epoch, lowest and highest AP."""
    ends = []
    for rows in _together(curves):
        aps = [row["coco/AP"] for row in rows if "coco/AP" in row]
        if aps:
            ends.append((rows[0]["epoch"], min(aps), max(aps)))
    return ends


def _together(curves: Sequence[Sequence[Row]]) -> Iterator[list[Row]]:
    by_epoch = [{row["epoch"]: row for row in curve} for curve in curves]
    for epoch in sorted(set.intersection(*map(set, by_epoch))) if by_epoch else []:
        yield [rows[epoch] for rows in by_epoch]
