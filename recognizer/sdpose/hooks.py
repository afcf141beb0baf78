"""Hooks that watch a training, registered with mmengine so that mmpose configs find them.

``TrainingMonitorHook`` warns and keeps the statistics of the loss; ``DetailedLossLogHook`` logs
every loss item. The texts are those of the user's guide to monitoring, which people grep for.
"""

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recognizer.runner.engine import HOOKS, Batch, Checkpoint, Hook, Losses, Runner
from recognizer.runner.logs import digits
from recognizer.storage.artifacts import write_text

logger = logging.getLogger(__name__)

STATE = "training_monitor"
STATS_FILE = "training_stats.txt"
SCALE = (
    "heatmap_loss is a mean over pixels, summed over the cycles: some tenths at the start, and at "
    "most 0.0041 a cycle as soon as no keypoint is predicted anywhere. The guides' figures (about "
    "2.0; above 5.0 is wrong) are of another scale: compare with the start of the run instead"
)
_ROUNDING = 1e-9  # 0.72 - 0.67 is less than 0.05 in floating point


# --- statistics --------------------------------------------------------------------


@dataclass
class LossStatistics:
    """Mean, spread and ends of all losses so far, by Welford's recurrence (Technometrics, 1962).

    Values that are NaN or infinite are counted and else left out: one of them would make the
    rest of the statistics NaN for ever.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0  # sum of squared deviations from the mean
    lowest: float = math.inf
    highest: float = -math.inf
    final: float = math.nan
    not_finite: int = 0

    def update(self, value: float) -> None:
        """Take in the loss of an iteration."""
        self.final = value
        if not math.isfinite(value):
            self.not_finite += 1
            return
        self.count += 1
        deviation = value - self.mean
        self.mean += deviation / self.count
        self.m2 += deviation * (value - self.mean)
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    @property
    def std(self) -> float:
        """The standard deviation of the values themselves (divided by their number)."""
        return math.sqrt(self.m2 / self.count) if self.count else math.nan


def statistics_text(stats: LossStatistics, best_ap: float | None) -> str:
    """Return the text of ``training_stats.txt``."""
    none = math.nan
    values = {
        "Mean": stats.mean if stats.count else none,
        "Std": stats.std,
        "Min": stats.lowest if stats.count else none,
        "Max": stats.highest if stats.count else none,
        "Final": stats.final,
    }
    lines = ["Training Statistics", "=" * 80, "", "Loss Statistics:"]
    lines += [f"  - {name}: {value:.6g}" for name, value in values.items()]
    lines.append(f"  - Iterations: {stats.count + stats.not_finite}")
    if stats.not_finite:
        lines.append(f"  - NaN or Inf: {stats.not_finite}")
    lines += ["", f"Best AP: {'none yet' if best_ap is None else f'{best_ap:.4f}'}"]
    return "\n".join(lines) + "\n"


# --- hooks -------------------------------------------------------------------------


@HOOKS.register_module()
class TrainingMonitorHook(Hook):
    """Warn of loss spikes, losses that are no numbers and drops of the AP; keep statistics.

    The loss of every iteration counts for the statistics. Each ``interval`` iterations the mean
    loss since the last time is remembered, ``window`` of them; an iteration whose loss is
    ``spike_ratio`` times their mean is a spike. At the same time distillation losses are compared
    with the heatmap loss: above it, they have outgrown what they are to help with (a detached
    teacher can run away from its student). At most one warning of a kind per interval.

    The main process writes ``training_stats.txt`` into the work_dir after each epoch, each
    validation and at the end. Its losses are the main process's own. Everything is kept in the
    checkpoint, as plain numbers, and taken up again on resuming; a run that only starts from the
    weights of another (``load_from``) starts its own.

    Args:
        interval: iterations between two remembered losses.
        spike_ratio: how many times the recent mean is a spike, > 1.
        window: of how many remembered losses that mean is made; none is judged before.
        ap_drop: how far below the best AP is a drop, > 0.
        metric: the validation's result that is the AP.
        heatmaps: whether the model has a heatmap loss, whose scale is logged at the start.

    """

    priority = "HIGHEST"  # before hooks that stop at NaN, and before checkpoints are saved

    def __init__(
        self,
        interval: int = 50,
        spike_ratio: float = 2.0,
        window: int = 5,
        ap_drop: float = 0.05,
        metric: str = "coco/AP",
        heatmaps: bool = True,
    ) -> None:
        self.interval = _positive("TrainingMonitorHook: interval", interval)
        self.heatmaps = heatmaps
        if not 1 < spike_ratio < math.inf:
            raise ValueError(f"TrainingMonitorHook: spike_ratio: expected > 1, got {spike_ratio}")
        if not 0 < ap_drop < math.inf:
            raise ValueError(f"TrainingMonitorHook: ap_drop: expected > 0, got {ap_drop}")
        self.spike_ratio, self.ap_drop, self.metric = spike_ratio, ap_drop, metric
        self.recent: deque[float] = deque(maxlen=_positive("TrainingMonitorHook: window", window))
        self.stats = LossStatistics()
        self.best_ap: float | None = None
        self.sum, self.count = 0.0, 0  # since the last remembered loss
        self.warned: set[str] = set()  # since then, too
        self.loaded: tuple[int, dict[str, Any]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Restore the statistics of the resumed run; log the scale of the losses."""
        if runner.rank == 0 and self.heatmaps:
            runner.logger.info(SCALE)
            logger.info(SCALE)
        loaded, self.loaded = self.loaded, None
        if loaded is not None and loaded[0] == runner.iter:
            self._restore(loaded[1])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Losses = None
    ) -> None:
        """Take in the loss of the iteration.

        Raises:
            ValueError: the model gave no 'loss'.

        """
        if not isinstance(outputs, Mapping) or "loss" not in outputs:
            found = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise ValueError(
                f"TrainingMonitorHook: expected 'loss' in the outputs of the model, got {found}; "
                "take the hook out of custom_hooks for a model that gives none"
            )
        value = _number(outputs["loss"])
        self.stats.update(value)
        if math.isfinite(value):
            self._check_spike(runner, value)
            self.sum, self.count = self.sum + value, self.count + 1
        else:
            items = ", ".join(f"{key}: {number:g}" for key, number in loss_items(outputs).items())
            self._warn(
                runner,
                f"NaN or Inf loss detected!\n   Iteration: {runner.iter + 1}\n   Losses: {items}",
            )
        if self.every_n_train_iters(runner, self.interval):
            self._compare(runner, loss_items(outputs))
            if self.count:
                self.recent.append(self.sum / self.count)
            self.sum, self.count, self.warned = 0.0, 0, set()

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the statistics."""
        self._write(runner)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Compare the AP with the best one."""
        if not metrics or self.metric not in metrics:
            self._warn_now(
                runner,
                f"no metric {self.metric!r}\n   Found: {sorted(metrics or {})}\n"
                "   Set TrainingMonitorHook.metric to one of them",
            )
            return
        current = float(metrics[self.metric])
        if not math.isfinite(current):
            self._warn_now(runner, f"NaN or Inf AP detected!\n   {self.metric}: {current}")
        elif self.best_ap is None or current > self.best_ap:
            self.best_ap = current
        elif self.best_ap - current >= self.ap_drop - _ROUNDING:
            self._warn_now(
                runner,
                f"Performance drop detected!\n   Current AP: {current:.4f}\n"
                f"   Best AP: {self.best_ap:.4f}\n   Drop: {self.best_ap - current:.4f}",
            )
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        """Write the statistics."""
        self._write(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        """Save the statistics, as plain numbers."""
        state = {
            **asdict(self.stats),
            "recent": list(self.recent),
            "sum": self.sum,
            "since": self.count,
        }
        if self.best_ap is not None:
            state["best_ap"] = self.best_ap
        checkpoint[STATE] = state

    def after_load_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        """Remember the statistics until it is known whether the run goes on from here."""
        state = checkpoint.get(STATE)
        if isinstance(state, Mapping):
            self.loaded = int(checkpoint.get("meta", {}).get("iter", -1)), dict(state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.best_ap = state.pop("best_ap", None)
        self.recent.clear()
        self.recent.extend(state.pop("recent"))
        self.sum, self.count = state.pop("sum"), state.pop("since")
        self.stats = LossStatistics(**state)

    def _check_spike(self, runner: Runner, value: float) -> None:
        if len(self.recent) < (self.recent.maxlen or 0):
            return
        usual = sum(self.recent) / len(self.recent)
        if value >= self.spike_ratio * usual and value > usual:
            ratio = f"{value / usual:.2f}x" if usual > 0 else "from 0 or less"
            self._warn(
                runner,
                f"Loss spike detected!\n   Iteration: {runner.iter + 1}\n   Current: {value:.6g}\n"
                f"   Recent avg: {usual:.6g}\n   Ratio: {ratio}",
            )

    def _compare(self, runner: Runner, items: Mapping[str, float]) -> None:
        distilled = sum(value for key, value in items.items() if key.endswith("_dist_loss"))
        heatmap = items.get("heatmap_loss", math.inf)
        if heatmap < distilled < math.inf:
            self._warn_now(
                runner,
                f"Distillation exceeds the heatmap loss!\n   Iteration: {runner.iter + 1}\n"
                f"   Distillation: {distilled:.6g}\n   Heatmaps: {heatmap:.6g}\n   Where it keeps "
                "rising, set detach_teacher=False in every distillation loss (the shipped configs "
                "do); where that is so already, lower their loss_weight or the learning rate",
            )

    def _warn(self, runner: Runner, text: str) -> None:
        """Warn once of each kind until the next remembered loss."""
        kind = text.partition("\n")[0]
        if kind not in self.warned:
            self.warned.add(kind)
            self._warn_now(runner, text)

    def _warn_now(self, runner: Runner, text: str) -> None:
        if runner.rank == 0:
            runner.logger.warning(f"WARNING: {text}")  # the log in the work_dir
            logger.warning(text)  # the console, where mmengine's log shows errors only

    def _write(self, runner: Runner) -> None:
        if runner.rank != 0 or not (self.stats.count or self.stats.not_finite):
            return  # a validation alone leaves the file of the training as it is
        folder = Path(runner.work_dir)
        write_text(folder / STATS_FILE, folder, statistics_text(self.stats, self.best_ap))


@HOOKS.register_module()
class DetailedLossLogHook(Hook):
    """Log every loss item: ``Iter [50] loss: 2.345678, heatmap_loss: 2.100000, ...``.

    Args:
        interval: iterations between two lines.

    """

    priority = "HIGHEST"  # before hooks that stop at NaN

    def __init__(self, interval: int = 50) -> None:
        self.interval = _positive("DetailedLossLogHook: interval", interval)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Losses = None
    ) -> None:
        """Log the losses of the iteration."""
        if runner.rank == 0 and self.every_n_train_iters(runner, self.interval):
            items = loss_items(outputs or {})
            text = ", ".join(f"{key}: {digits(value)}" for key, value in items.items())
            runner.logger.info(f"Iter [{runner.iter + 1}] {text}")


def loss_items(outputs: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Return the losses among a model's outputs, their sum first."""
    losses = {key: _number(value) for key, value in outputs.items() if "loss" in key}
    total = {"loss": losses.pop("loss")} if "loss" in losses else {}
    return {**total, **losses}


def _number(value: Tensor | float) -> float:
    """Return a number; mmengine's RuntimeInfoHook asks for it too, so no device waits for us."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected a whole number > 0, got {value!r}")
    return value
