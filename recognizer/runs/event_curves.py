"""Curves over thresholds: events found against false alarms per hour, as CSV, picture and text.

The normal footage that it was counted in stands beside every rate.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recognizer.action.events import EventScores
from recognizer.runs.figures import plain, save_figure
from recognizer.storage.artifacts import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The scores at the chosen threshold, and those at all thresholds.
Curve = tuple[EventScores, Sequence[EventScores]]
COLUMNS = (
    "class",
    "threshold",
    "events",
    "found",
    "recall",
    "alarms",
    "false_alarms",
    "precision",
    "false_alarms_per_hour",
    "normal_hours",
    "seeds",
)
THRESHOLDS = np.round(np.linspace(0.01, 0.99, 99), 2)


def hours_text(hours: float) -> str:
    """Return such as ``36 s``, ``0.35 h (21 min)`` or ``2.5 h``."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours:.2g} h ({hours * 60:.0f} min)" if hours < 1 else f"{hours:.1f} h"


def rate_text(false_alarms: float, normal_hours: float) -> str:
    """Return the rate of false alarms and the hours of footage behind it."""
    if normal_hours <= 0:
        return "no normal footage"
    per_hour = false_alarms / normal_hours
    return f"{per_hour:.1f} false alarms per hour, in {hours_text(normal_hours)} of normal video"


def write_curves(path: Path, root: Path, curves: Mapping[str, Curve], seeds: int = 1) -> None:
    """Write ``<path>.csv`` and ``<path>.png``; ``path`` has no suffix.

    Counts and hours of the table are sums over the seeds.
    """
    rows: list[list[object]] = [[*COLUMNS]]
    for name, (_, curve) in curves.items():
        for scores in curve:
            values = scores.to_json()
            cells = (values[key] for key in COLUMNS[1:-1])
            rows.append([name, *("" if v is None else round(v, 6) for v in cells), seeds])
    write_csv(path.with_suffix(".csv"), root, rows)
    save_figure(path.with_suffix(".png"), root, lambda figure: draw_curves(figure, curves, seeds))


def draw_curves(figure: "Figure", curves: Mapping[str, Curve], seeds: int = 1) -> None:
    """Draw events found over false alarms per hour, and recall and precision over thresholds."""
    figure.set_size_inches(10, 4.5)
    trade, against = figure.subplots(1, 2)
    for number, (name, (chosen, curve)) in enumerate(curves.items()):
        color = f"C{number}"
        _draw_trade(trade, (plain(name), chosen.events // seeds, color), chosen, curve)
        x = [s.threshold for s in curve]
        against.plot(
            x, [_or_nan(s.recall) for s in curve], color=color, label=f"{plain(name)}: recall"
        )
        precision = [_or_nan(s.precision) for s in curve]
        against.plot(x, precision, color=color, ls="--", label=f"{plain(name)}: precision")
        against.axvline(chosen.threshold, color="0.6", lw=1)
    hours = max((chosen.normal_hours for chosen, _ in curves.values()), default=0.0)
    repeated = f", {seeds} seeds" if seeds > 1 else ""
    trade.set(
        xlabel=f"false alarms per hour, in {hours_text(hours / seeds)} of normal video{repeated}",
        ylabel="events found",
        ylim=(-0.02, 1.05),
    )
    against.set(xlabel="threshold", xlim=(0, 1), ylim=(-0.02, 1.05))
    for axes in (trade, against):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)


def _draw_trade(
    axes: "Axes", series: tuple[str, int, str], chosen: EventScores, curve: Sequence[EventScores]
) -> None:
    points = [(_or_nan(s.false_alarms_per_hour), _or_nan(s.recall)) for s in curve]
    rate, recall = np.array(points).T
    name, events, color = series
    label = f"{name} ({events} events)"
    order = np.lexsort((recall, rate))  # steps: what lies between two thresholds was not measured
    axes.step(
        rate[order], recall[order], where="post", color=color, marker=".", ms=3, lw=1.2, label=label
    )
    here = _or_nan(chosen.false_alarms_per_hour), _or_nan(chosen.recall)
    if np.isfinite(here).all():
        label = f"threshold {chosen.threshold:.2f}"
        axes.plot(*here, "o", ms=9, mfc="none", color=color, label=label)
    if np.nanmax([*rate, 0]) > 20:
        axes.set_xscale("symlog", linthresh=1)
    if not np.isfinite(rate).any() or not np.isfinite(recall).any():
        why = "no normal footage" if not np.isfinite(rate).any() else "no event in it"
        axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes, color="0.4")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
