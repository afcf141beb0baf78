"""The task of a training config, for tools that are given nothing else."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmengine.config import Config

from recognizer.config.file import ConfigError
from recognizer.dataset.mmaction import METADATA
from recognizer.runner.train_config import datasets

Task = Literal["pose", "fight", "falldown"]
_SERVICES: tuple[Task, ...] = ("fight", "falldown")


def read(path: Path) -> Config:
    """Read a config of mmengine.

    Raises:
        ConfigError: it cannot be read.

    """
    try:
        return Config.fromfile(str(path))
    except (Exception, SystemExit) as error:  # it is a program: it can raise anything
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{path}: not a config of mmengine: {what}") from error


def kind_of(cfg: Config) -> Task:
    """Return what a config trains: a pose network, or the classifier of one service.

    Raises:
        ConfigError: it is neither.

    """
    model = cfg.get("model")
    parts = set(model) if isinstance(model, Mapping) else set()
    scope = cfg.get("default_scope")
    if "cls_head" in parts or ("head" not in parts and scope == "mmaction"):
        return _service(cfg)
    if "head" in parts or scope == "mmpose":
        return "pose"
    raise ConfigError(
        f"{cfg.filename}: expected a model with a cls_head (a classifier) or a head (a pose "
        f"network), got {sorted(parts) or model!r}"
    )


def _service(cfg: Config) -> Task:
    """Return the service of a classifier: as the config says, its name, or its data."""
    metadata = cfg.get("recognizer")
    named_service = metadata.get("service") if isinstance(metadata, Mapping) else None
    name = Path(cfg.filename).stem
    named = "falldown" if "fall" in name else "fight" if "fight" in name else None
    for service in (named_service, named, _made_for(cfg)):
        if service in _SERVICES:
            return service
    raise ConfigError(
        f"{cfg.filename}: expected a classifier of fights or of falls, which neither its name nor "
        "its data tells; write recognizer = dict(service='fight') (or 'falldown') into it"
    )


def _made_for(cfg: Config) -> object:
    """Return the service that stage 3's metadata beside the training pickle names."""
    data = datasets(cfg).get("train")
    path = Path(data.ann_file).with_name(METADATA) if data is not None else None
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_bytes()).get("service")
    except (ValueError, AttributeError):
        return None  # train.fight and train.falldown say what is wrong with it


def own_data(cfg: Config, options: Sequence[str]) -> Path | None:
    """Return the folder of a classifier's own train.pkl and val.pkl, None where it has none.

    Without it, main.py takes stage 3's result first; a config that was pointed to pickles of its
    own is to be trained on these.
    """
    if any(option.partition("=")[0].endswith("ann_file") for option in options):
        return None
    files = {split: Path(data.ann_file) for split, data in datasets(cfg).items()}
    train = files.get("train")
    usual = train is not None and all(
        path == train.with_name(f"{split}.pkl") for split, path in files.items()
    )
    return train.parent if train is not None and usual and train.is_file() else None
