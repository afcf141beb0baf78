"""Modes train.fight and train.falldown: train a classifier on stage 3's pickles."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch loads: at a barrier its threads would otherwise spin, which slows everything
# many times over as soon as other processes want the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from recognizer.command import next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.check import DatasetError, check_splits
from recognizer.dataset.class_check import class_faults
from recognizer.dataset.mmaction import METADATA, METADATA_SCHEMA
from recognizer.dataset.split import class_weights
from recognizer.installation import PROJECT
from recognizer.runs.distributed import main_process_progress
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import METADATA_KEY, sha256_file
from recognizer.training.classifier.artifacts import (
    check_network,
    pickle_folder,
    train_config,
    validation_score,
)
from recognizer.types import Sample

if TYPE_CHECKING:
    from mmengine.config import Config as TrainConfig

logger = logging.getLogger(__name__)

_LEARNT_FROM = ("train", "val")


def train_fight(config: Config, progress: ProgressFactory) -> int:
    """Train the fight classifier (``--mode train.fight``)."""
    return _train(config, progress, "fight")


def train_falldown(config: Config, progress: ProgressFactory) -> int:
    """Train the fall-down classifier (``--mode train.falldown``)."""
    return _train(config, progress, "falldown")


def _train(config: Config, progress: ProgressFactory, service: str) -> int:
    from recognizer.action.training import train
    from recognizer.runner.train_config import TrainConfigError, datasets

    cfg, has_movement = prepare(config, service)
    try:
        with main_process_progress(
            Path(cfg.work_dir), progress, f"training {service}"
        ) as on_progress:
            best = train(cfg, resume=config.train.resume, on_progress=on_progress)
    except TrainConfigError as error:
        raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error
    logger.info("checkpoint: %s%s", best, f": {score}" if (score := validation_score(best)) else "")
    data = Path(datasets(cfg)["train"].ann_file).parent
    changes = {"test.checkpoint": [best], "train.dataset_dir": data}
    logger.info("next: %s", next_command(config, f"test.{service}", changes))
    if has_movement:
        stream = {"train.dataset_dir": data, "dataset.service": service}
        logger.info(
            "and the movement stream beside it: %s", next_command(config, "train.movement", stream)
        )
    return 0


# --- settings ----------------------------------------------------------------------


def prepare(config: Config, service: str) -> tuple["TrainConfig", bool]:
    """Return the training config with data, work_dir, seed and metadata filled in.

    And whether the movement stream can be trained on the same samples.

    Raises:
        ConfigError: no such config file, a bad option, no pickles.
        ValueError: the pickles are not fit to train on; each fault is named.

    """
    from recognizer.action.train_config import load_train_config
    from recognizer.runner.train_config import datasets

    section = config.train
    try:
        cfg = load_train_config(train_config(config, service), section.cfg_options)
        loaded = datasets(cfg)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error
    _point_to_data(config, loaded, service)
    work_dir = section.work_dir or cfg.get("work_dir")
    name = Path(cfg.filename).stem
    cfg.work_dir = str(Path(work_dir).absolute() if work_dir else PROJECT / "work_dirs" / name)
    if "randomness" not in cfg:
        cfg.randomness = {"seed": section.seed}
    pickle = Path(datasets(cfg)["train"].ann_file)
    metadata = _metadata(pickle, service)
    classes = _classes(config, metadata, service)
    check_network(cfg, classes)
    learnt = _check(datasets(cfg), classes)
    _weigh(cfg, classes, metadata, learnt)
    of_data = {"service": service, "classes": classes, "window_s": _window_s(config, metadata)}
    cfg[METADATA_KEY] = {**of_data, **_config_metadata(cfg.get(METADATA_KEY), service, classes)}
    return cfg, learnt[0].movement is not None


def _config_metadata(value: object, service: str, classes: list[str]) -> dict[str, Any]:
    """Return the classifier's metadata in the config itself, such as its threshold.

    Raises:
        ConfigError: it contradicts the data, or is out of range.

    """
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"recognizer: expected a dict in the training config, got {value!r}")
    own = dict(value or {})
    for key, known in (("service", service), ("classes", classes)):
        if key in own and own[key] != known:
            raise ConfigError(
                f"recognizer.{key}: expected {known!r} as of the data, got {own[key]!r}"
            )
    for key, most in (("threshold", 1.0), ("window_s", 3600.0)):
        number = own.get(key)
        if number is not None and (type(number) not in (int, float) or not 0 < number <= most):
            raise ConfigError(f"recognizer.{key}: expected above 0 to {most:g}, got {number!r}")
    return own


def _point_to_data(config: Config, datasets: Mapping[str, Any], service: str) -> None:
    """Point the loaders at train.dataset_dir or stage 3's result, else leave the config's files."""
    folder, reason = pickle_folder(config)
    if folder is not None and (folder / "train.pkl").is_file():
        _refuse_ann_files(config.train.cfg_options, folder)
        for split, dataset in datasets.items():
            dataset.ann_file = str(folder.absolute() / f"{split}.pkl")
        logger.info("data: %s", folder)
    elif config.train.dataset_dir is not None:
        raise ConfigError(f"train.dataset_dir: expected train.pkl in {folder}, found none")
    missing = [
        Path(dataset.ann_file).absolute()
        for split, dataset in datasets.items()
        if split in _LEARNT_FROM and not Path(dataset.ann_file).is_file()
    ]
    if missing:
        stage3 = f"stage 3's result in {folder}" if folder else f"a result of stage 3 ({reason})"
        raise ConfigError(
            f"expected pickles to train on: neither {stage3}, nor the config's own "
            f"{', '.join(map(str, missing))}; run --mode annotation.pipeline with the same config "
            f"(dataset.service={service}), or --set train.dataset_dir=<folder with the pickles>"
        )


def _refuse_ann_files(options: Sequence[str], folder: Path) -> None:
    """Refuse --cfg-options that name pickles while a folder of pickles is used."""
    for option in options:
        key = option.partition("=")[0]
        if key.endswith("ann_file"):
            raise ConfigError(
                f"train.cfg_options: {key} would change nothing: the pickles of {folder} are "
                "taken; --set train.dataset_dir=<folder with train.pkl> names others"
            )


def _metadata(pickle: Path, service: str) -> dict[str, Any]:
    """Return stage 3's metadata beside the pickle, {} if there is none."""
    path = pickle.with_name(METADATA)
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != METADATA_SCHEMA:
            raise ValueError(f"expected schema {METADATA_SCHEMA!r}, got {value['schema']!r}")
        labels = value["classes"]
        if sorted(labels.values()) != list(range(len(labels))):
            raise ValueError(f"expected classes with labels from 0, each once, got {labels!r}")
        about = value.get("splits", {}).get("train", {}).get("sha256")
        made_for = value.get("service", service)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not stage 3's metadata: {error!r}") from error
    if made_for != service:
        raise ConfigError(f"{path}: expected a data set for {service}, it was made for {made_for}")
    if about is not None and about != sha256_file(pickle):
        raise ConfigError(
            f"{pickle}: is not the pickle that {METADATA} beside it is about; run "
            "--mode annotation.stage3 again"
        )
    return dict(value)


def _classes(config: Config, metadata: Mapping[str, Any], service: str) -> list[str]:
    """Return the classes in the order of their labels.

    Raises:
        ConfigError: the classes of this service are unknown.

    """
    if not metadata and config.dataset.service != service:
        raise ConfigError(
            f"dataset.service: expected {service}, as the mode trains it, got "
            f"{config.dataset.service}, and no {METADATA} beside the pickles says otherwise; if "
            f"they are for {service}: --set dataset.service={service} --set "
            '"dataset.classes={<name>: 0, <name>: 1}"'
        )
    classes: Mapping[str, int] = metadata.get("classes") or config.dataset.classes
    if not metadata:
        logger.warning(
            "no metadata.json beside the pickles: classes as in dataset.classes, %s", dict(classes)
        )
    return sorted(classes, key=lambda name: classes[name])


def _window_s(config: Config, metadata: Mapping[str, Any]) -> float | None:
    try:
        dataset = metadata.get("settings", {}).get("dataset", {})
        value = dataset.get("window_s", config.dataset.window_s)
        return float(value) if value is not None else None
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{METADATA}: settings.dataset.window_s: {error}") from error


def _check(datasets: Mapping[str, Any], classes: list[str]) -> list[Sample]:
    """Check all samples before the training; return those of the training split."""
    paths = {split: Path(dataset.ann_file) for split, dataset in datasets.items()}
    if "test" in paths and not paths["test"].is_file():
        del paths["test"]  # it is not needed in training
    found = check_splits(paths, len(classes), may_be_empty=["test"])
    samples = [sample for part in found.values() for sample in part]
    if faults := list(class_faults(samples, classes)):
        raise DatasetError(faults)
    return found["train"]


def _weigh(
    cfg: "TrainConfig", classes: list[str], metadata: Mapping[str, Any], learnt: Sequence[Sample]
) -> None:
    """Set the loss's class weights from the data, if the config asks for it."""
    source = cfg.get("class_weight_from")
    if source is None or source == "config":
        return
    if source != "metadata":
        raise ConfigError(f"class_weight_from: expected config or metadata, got {source!r}")
    if "class_weights" in metadata:
        weights = _parse_weights(metadata["class_weights"], classes)
    else:
        labels = [sample.label for sample in learnt]
        found = class_weights({label: labels.count(label) for label in range(len(classes))})
        weights = [found[label] for label in range(len(classes))]
    cfg.model.cls_head.loss_cls.class_weight = weights
    logger.info("class weights: %s", ", ".join(f"{w:.3f}" for w in weights))


def _parse_weights(value: Any, classes: list[str]) -> list[float]:
    try:
        return [float(value[name]) for name in classes]
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{METADATA}: class_weights: expected a number for each of {', '.join(classes)}, got "
            f"{value!r:.200}; run --mode annotation.stage3 again"
        ) from error
