"""One trial of an ablation: train or resume it, measure it, and keep its result.

A trial's folder is named after all that decides its result, so that the same command resumes it,
and a changed option starts another one and deletes none.
"""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from recognizer.runner.checkpoint_search import best_checkpoint
from recognizer.runner.checkpoints import last_checkpoint
from recognizer.runner.engine import Batch, Hook, Losses, Runner
from recognizer.runs.distributed import main_process_progress
from recognizer.runs.progress import ProgressFactory
from recognizer.sdpose.evaluation import evaluate, quietly
from recognizer.sdpose.training import train
from recognizer.storage.artifacts import write_json
from recognizer.training.pose.learning_curves import TABLE, CurvesHook, read_curve
from recognizer.training.pose.train import memory_advice

if TYPE_CHECKING:
    from mmengine.config import Config as PoseConfig

logger = logging.getLogger(__name__)

ScoresJson = Mapping[str, Any]  # of ``PoseScores.to_json``


class Epoch(TypedDict):
    """One epoch in ``epochs.json``."""

    batches: str
    step_s: float


RESULT, EPOCHS = "result.json", "epochs.json"
SCHEMA = "recognizer.ablation_run"


@dataclass(frozen=True, eq=False, slots=True)
class AblationTrial:
    """One config with one seed.

    Attributes:
        config: the config's name, its ``exp_name``.
        seed: of weights, order and augmentation.
        folder: its work_dir, with the result.
        key: digest of all that decides the result.
        cfg: mmengine's config, without work_dir and seed.

    """

    config: str
    seed: int
    folder: Path
    key: str
    cfg: "PoseConfig"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of a trial.

    Attributes:
        state: ``done``, ``failed``, or ``missing`` if it has not been run yet.
        reason: why it failed.
        last: the scores of the last epoch's checkpoint, as ``PoseScores.to_json``.
        best: those of the checkpoint with the best validation; None without validation.
        heatmap_loss: the mean over the last epoch that was validated, in training.
        step_s: seconds of one iteration without waiting for data, the median.
        batches: digest of all batches it was trained on, pixel by pixel.

    """

    state: str
    reason: str = ""
    last: ScoresJson | None = None
    best: ScoresJson | None = None
    heatmap_loss: float | None = None
    step_s: float | None = None
    batches: str = ""


MISSING = TrialResult("missing")


def read_result(run: AblationTrial) -> TrialResult | None:
    """Return a finished trial's result, None if it is not finished."""
    try:
        value = json.loads((run.folder / RESULT).read_bytes())
        if value.pop("schema") != SCHEMA or value.pop("key") != run.key:
            return None
        result = TrialResult(**value)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return result if result.state == "done" else None


def run_trial(run: AblationTrial, progress: ProgressFactory, title: str) -> TrialResult:
    """Train and measure a trial; a failure is a result, too.

    Raises:
        OSError: the disk is full or another run is at work in the folder: not the config's fault.

    """
    cfg = run.cfg.copy()
    cfg.work_dir = str(run.folder)
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": run.seed}
    try:
        with main_process_progress(run.folder, progress, title) as on_progress, quietly():
            train(cfg, resume=True, on_progress=on_progress, hooks=[CurvesHook(), BatchRecord()])
            result = _measure(cfg, run.folder)
            write_json(
                run.folder / RESULT,
                run.folder,
                {"schema": SCHEMA, "key": run.key, **asdict(result)},
            )
    except (RuntimeError, ValueError, MemoryError) as error:
        advice = memory_advice(error, cfg) if isinstance(error, RuntimeError) else ""
        reason = f"{type(error).__name__}: {advice or error}"
        logger.warning("%s, seed %d failed: %s", run.config, run.seed, reason)
        return TrialResult("failed", reason)
    return result


def _measure(cfg: "PoseConfig", folder: Path) -> TrialResult:
    last = last_checkpoint(folder)
    if last is None:
        raise RuntimeError(f"{folder}: nothing was saved; set default_hooks.checkpoint")
    scores = evaluate(cfg, last, folder / "last").to_json()
    best = best_checkpoint(folder, or_last=False)
    chosen = None if best is None else evaluate(cfg, best, folder / "best").to_json()
    for path in folder.glob("epoch_*.pth"):  # a dozen runs would fill a disk
        if path != last:
            path.unlink()
    epochs = read_epochs(folder).values()
    digest = hashlib.sha256("".join(epoch["batches"] for epoch in epochs).encode()).hexdigest()
    step_s = statistics.median(epoch["step_s"] for epoch in epochs) if epochs else None
    rows = read_curve(folder / TABLE)
    loss = rows[-1].get("heatmap_loss") if rows else None
    return TrialResult("done", "", scores, chosen, loss, step_s, digest if epochs else "")


# --- batches -----------------------------------------------------------------------


class BatchRecord(Hook):
    """Record the digest of each epoch's batches and the time of an iteration.

    With equal digests two trainings saw the same people in the same order, batched and augmented
    alike, to the pixel. Epochs that are trained again are written again.
    """

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.seconds: list[float] = []
        self.started = 0.0

    def before_train_epoch(self, runner: Runner) -> None:
        """Reset digest and times."""
        self.digest, self.seconds = hashlib.sha256(), []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        """Add a batch to the digest."""
        self.digest.update(b"batch")
        for image in (data_batch or {})["inputs"]:
            self.digest.update(image.numpy().tobytes())
        self.started = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Losses = None
    ) -> None:
        """Stop the time; hooks before this one have read the loss, so a GPU has finished."""
        self.seconds.append(time.perf_counter() - self.started)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the epoch's record."""
        folder = Path(runner.work_dir)
        epochs = {k: v for k, v in read_epochs(folder).items() if int(k) <= runner.epoch}
        epochs[str(runner.epoch + 1)] = {
            "batches": self.digest.hexdigest(),
            "step_s": statistics.median(self.seconds),
        }
        write_json(folder / EPOCHS, folder, epochs)


def read_epochs(folder: Path) -> dict[str, Epoch]:
    """Return batches and step_s by epoch, in order; empty where nothing is written.

    Raises:
        ValueError: a damaged file.

    """
    path = folder / EPOCHS
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
        return {str(epoch): value[str(epoch)] for epoch in sorted(map(int, value))}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete {folder} to train it anew") from error
