"""Training configs of classifiers: mmaction2's, and what the guide writes made to work."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from recognizer.runner.train_config import read_train_config

logger = logging.getLogger(__name__)


def load_train_config(path: Path, options: Sequence[str] = ()) -> Config:
    """Read an mmaction2 config and change it as ``--cfg-options`` say.

    A backbone STGCN with ``with_cp`` becomes FastSTGCN, which takes it and has the same weights.

    Raises:
        FileNotFoundError, ValueError: as ``read_train_config``.

    """
    cfg = read_train_config(path, options)
    backbone = cfg.get("model", {}).get("backbone", {})
    if backbone.get("type") == "STGCN" and "with_cp" in backbone:
        if backbone.with_cp:
            backbone.type = "FastSTGCN"
            logger.info("with_cp: training FastSTGCN, STGCN's equal that takes it")
        else:
            backbone.pop("with_cp")
    return cfg
