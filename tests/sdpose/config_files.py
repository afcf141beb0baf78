"""Configs of configs/body_2d_keypoint/sdpose by name, and what is made of them."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from recognizer.config.file import load_config
from recognizer.installation import PROJECT
from recognizer.openmmlab import scope
from recognizer.training.pose.train import CONFIGS, prepare
from tests.sdpose.golden import silence


def path_of(name: str) -> Path:
    """Return the file of a config."""
    return CONFIGS / f"sdpose_{name}_coco_256x192.py"


def build(cfg: Config) -> Any:
    """Return the network of a config."""
    from mmpose.registry import MODELS

    with scope("mmpose"), silence():
        return MODELS.build(cfg.model)


def child(folder: Path, text: str, base: str = "s_v1_stemnet") -> Path:
    """Write a config that inherits from another, and return its file."""
    path = folder / "mine.py"
    path.write_text(f"_base_ = {str(path_of(base))!r}\n{text}\n", encoding="utf-8")
    return path


def application(path: Path, *overrides: str) -> Config:
    """Return a config as the application trains it."""
    given = [f"train.config_file=[{path}]", *overrides]
    return prepare(load_config(PROJECT / "configs" / "config.yaml", given), path)
