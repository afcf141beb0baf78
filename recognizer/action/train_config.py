"""Training configs of classifiers: mmaction2's, and those of the user's guide."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from recognizer.runner.train_config import ConfigRules, read_train_config

logger = logging.getLogger(__name__)

_STGCN = ("STGCN", "FastSTGCN")


def load_train_config(path: Path, options: Sequence[str] = ()) -> Config:
    """Read an mmaction2 config and change it as ``--cfg-options`` say.

    A backbone STGCN with ``with_cp`` becomes FastSTGCN, which takes it and has the same weights.

    Raises:
        FileNotFoundError, ValueError: as ``read_train_config``, and a head that does not take as
            many channels as the backbone gives.

    """
    return read_train_config(path, options, ConfigRules("mmaction", adapt=_adapt, lacks=_lacks))


def _adapt(cfg: Config) -> None:
    backbone = cfg.model.get("backbone")
    if (
        isinstance(backbone, ConfigDict)
        and backbone.get("type") == "STGCN"
        and "with_cp" in backbone
    ):
        if backbone.with_cp:
            backbone.type = "FastSTGCN"
            logger.info("with_cp: training FastSTGCN, STGCN's equal that takes it")
        else:
            backbone.pop("with_cp")


def _lacks(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head's in_channels where it differs from the last stage of STGCN."""
    model = sections.get("model")
    parts = model if isinstance(model, Mapping) else {}
    backbone, head = parts.get("backbone"), parts.get("cls_head")
    if not isinstance(backbone, Mapping) or not isinstance(head, Mapping):
        return {}
    if backbone.get("type") not in _STGCN or "in_channels" not in head:
        return {}
    try:
        channels = _channels(backbone)
    except (TypeError, ValueError):
        return {}  # values of a wrong type: what builds the network says so
    return {} if head["in_channels"] == channels else {"model.cls_head.in_channels": channels}


def _channels(backbone: Mapping[str, Any]) -> int:
    """Return how many channels STGCN gives: multiplied at each of ``inflate_stages`` it has."""
    from recognizer.action.mmaction import STGCN

    known = inspect.signature(STGCN.__init__).parameters
    names = ("base_channels", "ch_ratio", "num_stages", "inflate_stages")
    base, ratio, stages, inflated = (backbone.get(key, known[key].default) for key in names)
    times = sum(2 <= stage <= stages for stage in set(inflated))
    return int(base * ratio**times + 1e-4)
