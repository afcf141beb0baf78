"""Children of the shipped configs, and the lines that their refusals suggest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recognizer.action.train_config import load_train_config
from recognizer.sdpose.training import load_pose_config
from recognizer.training.pose.train import CONFIGS as POSE
from tests.action.trainings import CONFIGS, FIGHT

__all__ = ["CONFIGS", "FIGHT", "child", "classifier", "pose", "refusal", "written"]


def child(folder: Path, text: str, base: Path) -> Path:
    """Write a config of one's own; return its path."""
    path = folder / "mine.py"
    path.write_text(f"_base_ = {str(base)!r}\n{text}\n", encoding="utf-8")
    return path


def classifier(folder: Path, text: str, *options: str, base: Path = FIGHT) -> Any:
    """Load lines as a child of a classifier's config."""
    return load_train_config(child(folder, text, base), options)


def pose(folder: Path, text: str, *options: str, base: str = "s_v1_stemnet") -> Any:
    """Load lines as a child of a pose network's config."""
    path = POSE / f"sdpose_{base}_coco_256x192.py"
    return load_pose_config(child(folder, text, path), options)


def refusal(load: Callable[..., Any], folder: Path, text: str, *options: str, **more: Any) -> str:
    """Return the message with which lines are refused."""
    try:
        load(folder, text, *options, **more)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"no refusal of {text!r} {options}")


def written(message: str) -> str:
    """Return the lines of a refusal that are to be written in place of the refused ones."""
    _, heading, rest = message.partition("write in their place")
    return "\n".join(line.strip() for line in rest.splitlines()[1:]) if heading else ""
