"""Losses and AP of a pose training over its epochs: a table and a picture in the work_dir."""

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recognizer.runner.engine import Hook, Runner
from recognizer.runs.figures import plain, save_figure
from recognizer.storage.artifacts import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLE, PICTURE = "learning_curve.csv", "learning_curve.png"

Row = dict[str, float]
_TITLES = (
    "heatmap loss (sum over cycles)",
    "distillation: visual tokens, keypoint tokens (dashed)",
    "COCO AP",
)
# RTMO's: the weighted sum, then people and keypoints.
_ONE_STAGE = ("loss_cls", "loss_oks")
_ONE_STAGE_TITLES = ("loss", "people, keypoints (dashed)", "COCO AP")
_MARKED_EPOCHS = 50  # more points than that would make a thick line


class CurvesHook(Hook):
    """Add a row to the table and draw the picture anew after each evaluation.

    A row has ``epoch``, ``iteration``, the mean of each loss over that epoch and the metrics.
    The losses come from mmengine's history, which checkpoints keep, so that a resumed training
    goes on with the same table.
    """

    priority = "LOW"

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Write both files; rows of epochs that are trained again are replaced."""
        folder = Path(runner.work_dir)
        rows = [row for row in read_curve(folder / TABLE) if row["epoch"] < runner.epoch]
        rows.append({**_losses(runner), **{k: float(v) for k, v in (metrics or {}).items()}})
        write_curve(folder / TABLE, rows)
        draw_curves(folder / PICTURE, {Path(runner.work_dir).name: rows})


def _losses(runner: Runner) -> Row:
    """Return the place and the means over the last epoch."""
    row = {"epoch": float(runner.epoch), "iteration": float(runner.iter)}
    steps = max(len(runner.train_dataloader), 1)
    for key, history in runner.message_hub.log_scalars.items():
        name = key.removeprefix("train/")
        if key.startswith("train/") and "loss" in name and len(history.data[0]):
            row[name] = float(history.mean(steps))
    return row


def read_curve(path: Path) -> list[Row]:
    """Return the rows of a table, none where there is no table.

    Raises:
        ValueError: not such a table.

    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]
        if any("epoch" not in row for row in rows):
            raise ValueError("expected a column epoch")
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path}: not a learning curve ({error}); delete it to go on") from error
    return rows


def write_curve(path: Path, rows: Sequence[Row]) -> None:
    """Write the table, whole or not at all."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = ([f"{row[key]:.6g}" if key in row else "" for key in columns] for row in rows)
    write_csv(path, path.parent, [columns, *cells])


def draw_curves(
    path: Path,
    runs: Mapping[str, Sequence[Row]],
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
) -> None:
    """Draw losses (heatmaps and distillation, or RTMO's) and AP of trainings over epochs.

    Args:
        path: the PNG.
        runs: rows of each training, or their means, by name.
        bands: epoch, lowest and highest AP where a name stands for several trainings.

    """
    save_figure(path, path.parent, partial(_curves, runs=runs, bands=bands or {}))


def _curves(
    figure: "Figure",
    runs: Mapping[str, Sequence[Row]],
    bands: Mapping[str, Sequence[tuple[float, float, float]]],
) -> None:
    one_stage = any(_ONE_STAGE[0] in row for rows in runs.values() for row in rows)
    titles = _ONE_STAGE_TITLES if one_stage else _TITLES
    figure.set_size_inches(13, 4.3)
    heatmap, distillation, ap = figure.subplots(1, 3)
    for index, (name, rows) in enumerate(runs.items()):
        colour, label = f"C{index % 10}", plain(name)
        _line(heatmap, rows, "loss" if one_stage else "heatmap_loss", color=colour, label=label)
        second, third = _ONE_STAGE if one_stage else ("vis_dist_loss", "kpt_dist_loss")
        _line(distillation, rows, second, color=colour)
        _line(distillation, rows, third, color=colour, linestyle="--")
        _line(ap, rows, "coco/AP", color=colour, label=label)
        if band := bands.get(name):
            ap.fill_between(*zip(*band, strict=True), color=colour, alpha=0.15, linewidth=0)
    for axes, title in zip((heatmap, distillation, ap), titles, strict=True):
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    named = next((axes for axes in (heatmap, ap) if axes.lines), heatmap)
    handles, labels = named.get_legend_handles_labels()
    if handles:  # below: over the curves it would hide some
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")
    for axes in (heatmap, distillation):
        _loss_axis(axes)
    # A small AP is still visible, and noise below 0.1 does not fill the picture.
    highest = max((row.get("coco/AP", 0.0) for rows in runs.values() for row in rows), default=0.0)
    ap.set_ylim(0, min(1.0, max(0.1, 1.2 * highest)))


def _loss_axis(axes: "Axes") -> None:
    """Make the y axis logarithmic where losses span more than a decade; plain numbers anyway."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    drawn = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    values = [y for ys in drawn for y in ys.tolist() if y > 0]
    if values and max(values) > 10 * min(values):
        axes.set_yscale("log")
        few = max(values) < 1e4 * min(values)  # over more decades there is no room for these
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _line(axes: "Axes", rows: Sequence[Row], key: str, **style: Any) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    if points:
        # A line of one point is invisible, and of few it does not show their places.
        marker = "." if len(points) <= _MARKED_EPOCHS else ""
        axes.plot(*zip(*points, strict=True), marker=marker, **style)
