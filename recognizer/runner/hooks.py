"""Hooks that configs of both libraries may name, registered with mmengine's root registries.

``PlainCheckpointHook`` keeps checkpoints free of code and makes resuming exact;
``FiniteLossHook`` stops where the loss is not a number; ``EarlyStoppingHook`` keeps its state
and finds its metric; ``LrSchedulerHook`` watches the learning rate.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recognizer.runner import engine
from recognizer.runner.checkpoints import CheckpointError, to_plain
from recognizer.runner.engine import (
    HOOKS,
    Batch,
    Checkpoint,
    CheckpointHook,
    HistoryBuffer,
    Hook,
    Losses,
    OptimWrapper,
    ParamSchedulerHook,
    Registry,
    Runner,
)
from recognizer.runner.seeding import SeededDataset, reseed
from recognizer.storage.artifacts import METADATA_KEY, write_json

logger = logging.getLogger(__name__)

NOT_FINITE = "not_finite.json"


class NotFiniteError(RuntimeError):
    """The loss or a weight became NaN or infinite."""


# --- hooks -------------------------------------------------------------------------


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Save tensors and plain values only, and go on exactly where a checkpoint was made.

    Each epoch starts from random states that follow from seed, epoch and process. A checkpoint
    saved before its epoch was validated is validated on resuming. Gradients of an unfinished
    accumulation are kept.

    Args:
        facts: more to save under ``meta['recognizer']``: plain values by name.

    """

    priority = "LOWEST"

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        self.metadata = dict(facts or {})
        self.validated = 0
        self.resumed: int | None = None
        self.gradients: dict[str, Tensor] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        """Replace every object by plain values and add our metadata.

        Raises:
            NotFiniteError: a weight is NaN or infinite: the last step went wrong.

        """
        for key, value in checkpoint["state_dict"].items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise NotFiniteError(
                    f"after epoch {runner.epoch + 1} the weight {key} is NaN or infinite; nothing "
                    "was saved. Lower optim_wrapper.optimizer.lr, or set "
                    "optim_wrapper.clip_grad.max_norm lower"
                )
        hub = checkpoint["message_hub"]
        hub["log_scalars"] = {key: _history(value) for key, value in hub["log_scalars"].items()}
        checkpoint["meta"][METADATA_KEY] = {**self.metadata, "validated_epoch": self.validated}
        checkpoint["gradients"] = _pending_gradients(runner)
        plain = to_plain(checkpoint)
        checkpoint.clear()
        checkpoint.update(plain)

    def after_load_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        """Make of plain values what mmengine's resume expects."""
        hub = checkpoint.get("message_hub")
        if not isinstance(hub, dict) or "log_scalars" not in hub:
            return
        hub["log_scalars"] = {key: _buffer(value) for key, value in hub["log_scalars"].items()}
        _stay_inside(hub.get("runtime_info", {}), Path(runner.work_dir))
        self.validated = int(checkpoint["meta"].get(METADATA_KEY, {}).get("validated_epoch", 0))
        self.resumed = int(checkpoint["meta"].get("epoch", 0))
        self.gradients = checkpoint.pop("gradients", {})

    def before_train(self, runner: Runner) -> None:
        """Validate the epoch of the checkpoint if that was still to be done."""
        for name, parameter in _module(runner).named_parameters():
            if name in self.gradients:
                parameter.grad = self.gradients[name].to(parameter.device)
        epoch, loop = self.resumed, runner.train_loop
        self.resumed, self.gradients = None, {}
        if not epoch or epoch != loop.epoch or self.validated >= epoch:
            return
        last = epoch == loop.max_epochs
        due = epoch >= loop.val_begin and (epoch % loop.val_interval == 0 or last)
        if runner.val_loop is not None and due:
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch from random states of its own.

        Raises:
            ValueError: there is nothing to train on in it.

        """
        if not len(runner.train_dataloader):
            raise ValueError(
                "train_dataloader: an epoch has no batch: fewer samples than batch_size, and "
                "drop_last=True; lower batch_size"
            )
        reseed(runner.seed or 0, runner.epoch, runner.rank)

    def before_val_epoch(self, runner: Runner) -> None:
        """Remember that this epoch is validated, for the checkpoints of its result."""
        self.validated = runner.epoch


def _history(value: Any) -> Any:
    if not isinstance(value, HistoryBuffer):
        return value
    log, count = value.data
    return {"log": log, "count": count, "max_length": value.max_length}


def _buffer(value: Any) -> Any:
    if not isinstance(value, Mapping) or set(value) != {"log", "count", "max_length"}:
        return value
    return HistoryBuffer(
        value["log"].tolist(), value["count"].tolist(), max_length=value["max_length"]
    )


def _stay_inside(info: dict[str, Any], work_dir: Path) -> None:
    """Keep what mmengine deletes later (old and former best checkpoints) in the work_dir."""
    for key in [k for k in info if k == "last_ckpt" or k.startswith("best_ckpt")]:
        if info[key] is not None:
            info[key] = str(work_dir / Path(str(info[key])).name)
    steps = info.get("keep_ckpt_ids", [])
    if not isinstance(steps, list) or any(type(step) is not int for step in steps):
        raise CheckpointError(f"keep_ckpt_ids: expected a list of epochs, got {steps!r}")


def _pending_gradients(runner: Runner) -> dict[str, Tensor]:
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or (
        wrapper._inner_count % wrapper._accumulative_counts == 0
    ):
        return {}
    return {
        name: parameter.grad.detach().cpu()
        for name, parameter in _module(runner).named_parameters()
        if parameter.grad is not None
    }


def _module(runner: Runner) -> nn.Module:
    return getattr(runner.model, "module", runner.model)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop where the loss is not a number, and save which samples were in the batch."""

    priority = "VERY_HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Losses = None
    ) -> None:
        """Check the loss of the iteration.

        Raises:
            NotFiniteError: it is NaN or infinite.

        """
        losses = outputs or {}
        value = _number(losses.get("loss", 0.0))
        if math.isfinite(value):
            return
        names = _batch_names(runner, data_batch)
        path = Path(runner.work_dir) / NOT_FINITE
        if runner.rank:
            path = path.with_stem(f"{path.stem}_rank{runner.rank}")
        place = {"epoch": runner.epoch + 1, "iteration": runner.iter + 1, "batch": batch_idx + 1}
        text = {key: str(_number(item)) for key, item in losses.items() if torch.is_tensor(item)}
        write_json(path, path.parent, {**place, "losses": text, "samples": names})
        raise NotFiniteError(
            f"the loss is {value} at iteration {place['iteration']} (epoch {place['epoch']}, batch "
            f"{place['batch']}); the samples of the batch are in {path}. Look at them, lower "
            "optim_wrapper.optimizer.lr, or set optim_wrapper.clip_grad.max_norm lower"
        )


def _number(value: Tensor | float) -> float:
    return float(value.detach() if torch.is_tensor(value) else value)


def _batch_names(runner: Runner, data_batch: Batch) -> list[str]:
    samples = data_batch.get("data_samples", []) if isinstance(data_batch, Mapping) else []
    dataset = runner.train_dataloader.dataset
    names = []
    for sample in samples:
        index = sample.metainfo.get("sample_index")
        known = dataset if isinstance(dataset, SeededDataset) and index is not None else None
        names.append("unknown" if known is None else known.name_of(index))
    return names


class EarlyStoppingHook(engine.EarlyStoppingHook):
    """mmengine's, with its state in the checkpoint and the metric found by either spelling.

    ``val/acc_top1``, ``acc_top1`` and ``acc/top1`` all mean mmengine's ``acc/top1``. A metric
    that no validation gives is an error, unless ``strict=False``.
    """

    priority = "LOW"  # before CheckpointHook, which then saves the state after this validation

    def __init__(self, monitor: str = "acc/top1", strict: bool = True, **options: Any) -> None:
        super().__init__(monitor=monitor, strict=strict, **options)
        self.metric = monitor

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Find the metric of this validation by its spelling and compare it with the best."""
        spelling = self.metric.removeprefix("val/").replace("/", "_")
        found = [key for key in metrics or {} if key.replace("/", "_") == spelling]
        self.monitor = found[-1] if found else self.metric
        super().after_val_epoch(runner, metrics)

    def _key(self, runner: Runner) -> str:
        """Return where its state is in a checkpoint; a second hook has a place of its own."""
        first = next(
            (hook for hook in getattr(runner, "hooks", ()) if isinstance(hook, EarlyStoppingHook)),
            self,
        )
        return "early_stopping" if first is self else f"early_stopping.{self.metric}"

    def before_save_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        """Save how long there was no better result, and whether that was long enough."""
        checkpoint[self._key(runner)] = {
            "best_score": float(self.best_score),
            "wait_count": int(self.wait_count),
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: Checkpoint) -> None:
        """Go on counting."""
        state = checkpoint.get(self._key(runner))
        if isinstance(state, dict):
            self.best_score, self.wait_count = state["best_score"], state["wait_count"]


@HOOKS.register_module()
class LrSchedulerHook(Hook):
    """Log the learning rate as it changes; ParamSchedulerHook, always there, changes it.

    Args:
        by_epoch: log at the start of each epoch; otherwise at each iteration.

    """

    def __init__(self, by_epoch: bool = True) -> None:
        self.by_epoch = by_epoch

    def before_train(self, runner: Runner) -> None:
        """Check that a hook changes the rate.

        Raises:
            ValueError: ParamSchedulerHook was taken out.

        """
        if not any(isinstance(hook, ParamSchedulerHook) for hook in runner.hooks):
            raise ValueError(
                "LrSchedulerHook watches the learning rate and ParamSchedulerHook changes it: "
                "expected default_hooks.param_scheduler=dict(type='ParamSchedulerHook'), found none"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Log the rate the epoch starts with."""
        if self.by_epoch:
            _log_rate(runner, f"epoch {runner.epoch + 1}")

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        """Log the rate of the iteration."""
        if not self.by_epoch:
            _log_rate(runner, f"iteration {runner.iter + 1}")


def _log_rate(runner: Runner, when: str) -> None:
    rates = ", ".join(f"{rate:.3g}" for rate in runner.optim_wrapper.get_lr()["lr"])
    runner.logger.info(f"learning rate at {when}: {rates}")


# --- mixed precision ---------------------------------------------------------------


class CpuOrGpuAmp(engine.AmpOptimWrapper):
    """mmengine's AmpOptimWrapper, which on a CPU computes in bfloat16 (no loss scaling)."""

    def __init__(
        self, loss_scale: Any = "dynamic", dtype: str | torch.dtype | None = None, **options: Any
    ) -> None:
        if torch.cuda.is_available():
            super().__init__(loss_scale=loss_scale, dtype=dtype, **options)
            return
        if dtype not in (None, "bfloat16", torch.bfloat16):
            raise ValueError(
                f"AmpOptimWrapper: a CPU computes in bfloat16 only, got dtype {dtype}; set "
                "optim_wrapper.dtype=bfloat16, or optim_wrapper.type=OptimWrapper"
            )
        OptimWrapper.__init__(self, **options)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.cast_dtype = torch.bfloat16


def override_registered(hooks: Registry, optim_wrappers: Registry) -> None:
    """Let a library's registries give ours where a config names mmengine's."""
    hooks.register_module(module=EarlyStoppingHook)
    optim_wrappers.register_module(name="AmpOptimWrapper", module=CpuOrGpuAmp)


class ProgressHook(Hook):
    """Report every iteration and log one line per epoch."""

    priority = "VERY_LOW"

    def __init__(self, on_progress: Callable[[int, int], None]) -> None:
        self.on_progress = on_progress
        self.started = time.monotonic()
        self.sum, self.count = 0.0, 0

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch's mean."""
        self.started, self.sum, self.count = time.monotonic(), 0.0, 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Losses = None
    ) -> None:
        """Count the iteration."""
        loss = (outputs or {}).get("loss", 0.0)
        self.sum, self.count = self.sum + _number(loss), self.count + 1
        self.on_progress(runner.iter + 1, runner.max_iters)

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the mean loss."""
        if runner.rank == 0:
            logger.info(
                "epoch %d of %d: loss %.4g, lr %.3g, %.1f s",
                runner.epoch + 1,
                runner.max_epochs,
                self.sum / max(self.count, 1),
                runner.optim_wrapper.get_lr()["lr"][0],
                time.monotonic() - self.started,
            )

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Log what the validation gave."""
        if runner.rank == 0:
            text = ", ".join(
                f"{key} {value:.4f}" for key, value in (metrics or {}).items() if "time" not in key
            )
            logger.info("epoch %d validated: %s", runner.epoch, text)


def log_best(runner: Runner, hook: CheckpointHook, name: str) -> None:
    """Log that a checkpoint is the best so far: ``Current best AP: 73.68``."""
    info = runner.message_hub.runtime_info
    for key in hook.key_indicators:
        score = info.get("best_score", info.get(f"best_score_{key}"))
        if score is not None and name.startswith(f"best_{key.replace('/', '_')}_"):
            metric = key.removeprefix("coco/")
            value = f"{100 * score:.2f}" if metric == "AP" else f"{score:.4f}"
            text = f"Current best {metric}: {value} (best_{metric} at epoch {runner.epoch}: {name})"
            runner.logger.info(text)
            logger.info(text)
