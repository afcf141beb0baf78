"""Checks of data and config before a training, for both libraries."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from recognizer.runner.checkpoints import CheckpointError
from recognizer.runner.engine import Config, Section
from recognizer.runner.train_config import TrainConfigError

logger = logging.getLogger(__name__)

_TASK = ("service", "classes")  # in the metadata of checkpoints


def warn(warnings: Iterable[str]) -> None:
    """Log warnings; of several processes the first one does."""
    if os.environ.get("RANK", "0") == "0":
        for warning in warnings:
            logger.warning("%s", warning)


def check_batches(cfg: Config, split: str, count: int, of: str) -> None:
    """Refuse a loader that drops what fills no batch and so has no batch at all.

    Args:
        cfg: a training config.
        split: train, val or test.
        count: how much the innermost data set holds.
        of: what it holds, such as samples.

    Raises:
        TrainConfigError: the numbers, and what to change.

    """
    loader = cfg.get(f"{split}_dataloader")
    size = loader.get("batch_size") if isinstance(loader, Mapping) else None
    if not isinstance(loader, Mapping) or type(size) is not int or not loader.get("drop_last"):
        return
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    total = _repeated(loader.get("dataset"), count)
    each = -(-total // processes)
    if each >= size:
        return
    share = f", {each} for each of {processes} processes" if processes > 1 else ""
    raise TrainConfigError(
        f"{split}_dataloader.batch_size: expected at most {each} with drop_last=True, got {size}: "
        f"the {split} data holds {total} {of}{share}, which fill no batch, so an epoch would have "
        f"no iteration; --cfg-options {split}_dataloader.batch_size={each}, or "
        f"{split}_dataloader.drop_last=False"
    )


def _repeated(dataset: object, count: int) -> int:
    """Return how much the outermost data set holds."""
    total = count
    while isinstance(dataset, Mapping):
        indices = dataset.get("indices")
        if type(indices) is int and indices > 0:
            total = min(total, indices)
        elif isinstance(indices, list | tuple):
            total = len(indices)
        times = dataset.get("times")
        total *= times if type(times) is int and times > 0 else 1
        dataset = dataset.get("dataset")
    return total


def check_same_task(before: Section, now: Section, path: Path) -> None:
    """Refuse to go on with a training as one of something else.

    Args:
        before: what the checkpoint says of itself.
        now: what its successor would say.
        path: the checkpoint.

    Raises:
        CheckpointError: it learnt other classes, or the same in another order.

    """
    for key in _TASK:
        old, new = before.get(key), now.get(key)
        if old is not None and new is not None and _plain(old) != _plain(new):
            raise CheckpointError(
                f"{path}: learnt {key} {_plain(old)!r}, which are {_plain(new)!r} now; resuming "
                "needs the same, in the same order: mend dataset.classes and dataset.service, or "
                "train in another work_dir"
            )
    old, new = before.get("val_sha256"), now.get("val_sha256")
    if old is not None and new is not None and old != new:
        warn(
            [
                f"{path}: was validated on other data than is validated on now: scores before and "
                "after do not compare, and the best epoch is chosen among both"
            ]
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value
