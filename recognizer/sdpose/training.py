"""Read the config of a pose network, check the data that it names, and train with mmpose."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recognizer.runner.engine import Config, ConfigDict, Hook
from recognizer.runner.preflight import check_batches, warn
from recognizer.runner.run import OnProgress, TrainingTask, run
from recognizer.runner.train_config import (
    ConfigRules,
    TrainConfigError,
    datasets,
    read_train_config,
)
from recognizer.sdpose import registered  # noqa: F401 - mmpose finds our types by name
from recognizer.sdpose.coco import CocoSummary, validate_coco
from recognizer.sdpose.pictures import ImageChecks, OnImage, is_turned
from recognizer.storage.artifacts import sha256_file

# The keys of an item of CocoDataset that together name a person.
_NAMED_BY = ("img_path", "id")
_OWN_KEYS = frozenset({"data_root", "exp_name"})  # keys of our configs that mmengine does not read
# Checked data sets by their paths and file states; a process sees few.
_passed: dict[tuple[object, ...], CocoSummary] = {}


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
    cfg = read_train_config(path, options, ConfigRules("mmpose", _OWN_KEYS))
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


# --- the data of a config -----------------------------------------------------------


def is_one_stage(dataset: ConfigDict) -> bool:
    """Return whether a data set gives whole pictures (RTMO), not one person at a time."""
    return bool(dataset.get("data_mode") == "bottomup")


def annotations_of(dataset: ConfigDict) -> Path:
    """Return the annotation file of a data set of a config."""
    return Path(dataset.get("data_root") or "") / str(dataset.ann_file)


def validate_dataset(dataset: ConfigDict, on_image: OnImage | None = None) -> CocoSummary:
    """Check annotations, pictures and detected boxes of a data set of a config.

    Warnings are logged. Data that passed once is not looked at again by the same process, as long
    as the sizes and times of the JSON files and of the folder of pictures stay. A picture that is
    overwritten in place, or changes in a folder below, is not seen.

    Args:
        dataset: of ``datasets(cfg)``.
        on_image: called after each picture.

    Raises:
        FileNotFoundError, ValueError: as ``coco.validate_coco``.

    """
    root = Path(dataset.get("data_root") or "")
    folder = root / dataset.get("data_prefix", {}).get("img", "")
    boxes = Path(dataset.bbox_file) if dataset.get("bbox_file") else None
    ann_file = annotations_of(dataset)
    state = tuple(_state(path) for path in (ann_file, folder, boxes) if path is not None)
    turned = is_turned(dataset.get("pipeline") or [])
    key = (ann_file, folder, boxes, turned, state)
    if key not in _passed:
        summary = validate_coco(ann_file, folder, ImageChecks(turned, boxes, on_image))
        warn(summary.warnings)
        _passed[key] = summary
    return _passed[key]


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def validate_data(cfg: Config, on_image: OnImage | None = None) -> dict[str, int | str]:
    """Check the data of the train and val loaders; return its metadata for checkpoints.

    Raises:
        FileNotFoundError, ValueError: as ``coco.validate_coco``.
        TrainConfigError: a batch that is larger than what there is, where the rest is dropped.

    """
    own: dict[str, int | str] = {}
    faults: list[ValueError | OSError] = []
    for split, dataset in datasets(cfg).items():
        if split == "test":
            continue  # not read in training
        try:
            summary = validate_dataset(dataset, on_image)
        except (ValueError, FileNotFoundError) as error:
            faults.append(error)
            continue
        if is_one_stage(dataset):
            check_batches(cfg, split, summary.pictures, "pictures")
        else:
            check_batches(cfg, split, summary.with_keypoints, "people")
        own[f"{split}_persons"] = summary.with_keypoints
        own[f"{split}_sha256"] = sha256_file(annotations_of(dataset))
    if faults:
        raise type(faults[0])("\n".join(map(str, faults))) from faults[0]
    if "train_sha256" not in own:
        raise TrainConfigError("train_dataloader: expected a data set with an ann_file")
    warn(_shared(datasets(cfg)))
    return own


def _shared(found: dict[str, ConfigDict]) -> Iterator[str]:
    """Yield what is trained on and validated with at once."""
    if not {"train", "val"} <= found.keys():
        return
    train, val = (annotations_of(found[split]) for split in ("train", "val"))
    if sha256_file(train) == sha256_file(val):
        yield (
            f"{train} and {val} are the same: the best epoch is chosen on the people that were "
            "trained on"
        )
