"""How many batches a loader gives: none is refused before a training starts."""

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from recognizer.runner.train_config import TrainConfigError


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


def _repeated(dataset: Any, count: int) -> int:
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
