"""Train a pose network on COCO-format data, and measure a trained one, with mmpose."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recognizer.runner.engine import Config, Hook
from recognizer.runner.run import OnProgress, TrainingTask, run
from recognizer.runner.train_config import Rules, datasets, read_train_config
from recognizer.sdpose import registered
from recognizer.sdpose.preflight import annotations_of, validate_data

__all__ = ["load_pose_config", "named_work_dir", "registered", "train"]

# The keys of an item of CocoDataset that together name a person.
_NAMED_BY = ("img_path", "id")
_OWN_KEYS = frozenset({"data_root", "exp_name"})  # keys of our configs that mmengine does not read


def load_pose_config(
    path: Path, options: Sequence[str] = (), data_root: Path | None = None
) -> Config:
    """Read an mmpose config, change it as ``--cfg-options`` say, and point it to its data.

    mmengine keeps no aliases, so a child's ``data_root`` alone would change nothing: it is put
    into every loader here, and every evaluator is given its loader's annotations.

    Args:
        path: a config file.
        options: changes such as ``train_cfg.max_epochs=50``.
        data_root: the folder of the data in place of the config's.

    Raises:
        FileNotFoundError, ValueError: as ``read_train_config``.

    """
    cfg = read_train_config(path, options, Rules("mmpose", _OWN_KEYS))
    root = data_root or cfg.get("data_root")
    for split, dataset in datasets(cfg).items():
        own = f"{split}_dataloader.dataset.data_root"
        changed = any(option.startswith(own) for option in options)
        if root is not None and (data_root is not None or not changed):
            dataset.data_root = str(root)
        _follow(cfg.get(f"{split}_evaluator"), str(annotations_of(dataset)))
    return cfg


def _follow(evaluator: Any, ann_file: str) -> None:
    """Let evaluators that read annotations read those of the loader."""
    for one in evaluator if isinstance(evaluator, list | tuple) else [evaluator]:
        if isinstance(one, dict) and "ann_file" in one:
            one["ann_file"] = ann_file


def named_work_dir(cfg: Config, root: Path) -> Path:
    """Return where a training of this config goes: its work_dir, else work_dirs/<exp_name>."""
    if cfg.get("work_dir"):
        if not isinstance(cfg.work_dir, str):
            raise ValueError(f"work_dir: expected a folder, got {cfg.work_dir!r}")
        return Path(cfg.work_dir).absolute()
    name = cfg.get("exp_name") or Path(cfg.filename or "").stem
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"exp_name: expected a plain name for a folder, got {name!r}")
    return root / "work_dirs" / name


def train(
    cfg: Config,
    *,
    resume: bool | Path = False,
    on_progress: OnProgress | None = None,
    hooks: Sequence[Hook] = (),
    on_image: OnProgress | None = None,
) -> Path:
    """Train a pose network and return the best checkpoint, or the last one without val.

    Args:
        cfg: of ``load_pose_config``; ``cfg.work_dir`` is where everything goes.
        resume: go on from the work_dir's last checkpoint (start if there is none), or from the
            checkpoint that is named.
        on_progress: called after each iteration.
        hooks: more hooks of mmengine.
        on_image: called after each picture that is checked before.

    Raises:
        FileNotFoundError, ValueError: data that is not as it should be, see ``coco.validate_coco``.
        FileExistsError, CheckpointError, NotFiniteError, TrainConfigError: as ``runner.run``.

    """
    task = TrainingTask("mmpose", partial(validate_data, on_image=on_image), _NAMED_BY, hooks)
    return run(cfg, task, resume=resume, on_progress=on_progress)
