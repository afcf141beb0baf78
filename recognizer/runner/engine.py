"""mmengine's names that ours build on; ``engine.pyi`` gives them the types that mmengine lacks."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook, ParamSchedulerHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS, Registry
from mmengine.runner import LogProcessor, Runner
from torch import Tensor

Batch = Mapping[str, Any] | None
Losses = Mapping[str, Tensor] | None
Checkpoint = dict[str, Any]
Section = Mapping[str, Any]
"""A config, or a part of it by its keys."""
Changes = dict[str, Any]
"""What to write into a config: values by dotted path, such as ``train_cfg.max_epochs``."""
