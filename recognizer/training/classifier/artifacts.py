"""Find configs, pickles and checkpoints of a classifier, and read what checkpoints say."""

import difflib
import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.command import next_command
from recognizer.config.action import as_list
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.mmaction import read_split
from recognizer.installation import FILES, PROJECT
from recognizer.runner.checkpoint_search import best_checkpoint
from recognizer.runs.stage_folders import stage3_dir

if TYPE_CHECKING:
    from mmengine.config import Config as TrainConfig

logger = logging.getLogger(__name__)

CONFIGS = FILES / "configs" / "skeleton" / "stgcnpp"
_SMALL = 1024  # bytes: no pickle with a sample in it is as small


def train_config(config: Config, service: str) -> Path:
    """Return the mmaction2 config: ``train.config_file``, or the one of the service."""
    return named_config(config) or CONFIGS / f"stgcnpp_enhanced_{service}_detection_stable.py"


def named_config(config: Config) -> Path | None:
    """Return the one config that ``train.config_file`` names, None if it names none.

    Raises:
        ConfigError: it names several.

    """
    named = as_list(config.train.config_file)
    if len(named) > 1:
        names = ", ".join(path.name for path in named)
        raise ConfigError(
            f"train.config_file: expected one config, got {len(named)} ({names}); only --mode "
            "train.ablation takes several"
        )
    return existing_config(named[0]) if named else None


def existing_config(path: Path) -> Path:
    """Return the config if it is there, else ours of that name in place of an older folder's.

    Guides name ``configs/body/2d_kpt_sview_rgb_img/sdpose/coco/<name>.py``, and folders of other
    checkouts.

    Raises:
        ConfigError: there is none; the message names the nearest ones.

    """
    if path.is_file():
        return path
    ours = {
        file.name: file
        for file in sorted((FILES / "configs").rglob("*.py"))
        if file.parent.name != "_base_"
    }
    if path.name in ours and "configs" in path.parts:
        logger.warning("%s is not there; taking %s", path, ours[path.name])
        return ours[path.name]
    near = [str(ours[name]) for name in difflib.get_close_matches(path.name, ours, 3, 0.6)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"ours are in {FILES / 'configs'}"
    raise ConfigError(
        f"train.config_file: expected a training config at {path}, found none; {hint}"
    )


def config_digest(path: Path, options: Sequence[str], classes: Sequence[str], key: str) -> str:
    """Return the digest of an effective mmaction2 config; refuse one that does not fit the data.

    Raises:
        ConfigError: it cannot be loaded (the message names ``key``), or as ``check_network``.

    """
    from recognizer.action.training import load_train_config

    try:
        cfg = load_train_config(path, list(options))
    except ValueError as error:
        raise ConfigError(f"{key}, train.cfg_options: {error}") from error
    check_network(cfg, classes)
    return hashlib.sha256(cfg.pretty_text.encode()).hexdigest()


def check_network(cfg: "TrainConfig", classes: Sequence[str]) -> None:
    """Refuse a network with more or fewer classes than the data set has.

    Raises:
        ConfigError: the config's num_classes is another number, or its class_weight has not one
            number for each class.

    """
    head = cfg.model.get("cls_head")
    count = head.get("num_classes") if isinstance(head, Mapping) else None
    if count is not None and count != len(classes):
        raise ConfigError(
            f"model.cls_head.num_classes: expected {len(classes)}, as many as the data set has "
            f"classes ({', '.join(classes)}), got {count!r}"
        )
    loss = head.get("loss_cls") if isinstance(head, Mapping) else None
    weights = loss.get("class_weight") if isinstance(loss, Mapping) else None
    if weights is not None and not _is_weights(weights, len(classes)):
        raise ConfigError(
            f"model.cls_head.loss_cls.class_weight: expected {len(classes)} numbers from 0, not "
            f"all 0, one for each class ({', '.join(classes)}), got {weights!r:.100}"
        )


def _is_weights(weights: object, count: int) -> bool:
    return (
        isinstance(weights, list | tuple)
        and len(weights) == count
        and all(type(w) in (int, float) and 0 <= w < math.inf for w in weights)
        and any(weights)
    )


def find_pickle(config: Config, service: str, split: str) -> Path:
    """Return a split's pickle from where training takes it.

    That is ``train.dataset_dir`` or, if that is null, stage 3's folder, else what the mmaction2
    config itself names.

    Raises:
        ConfigError: there is none; the message names the places searched.

    """
    folder, reason = pickle_folder(config)
    searched = f"stage 3's result ({reason})" if reason else ""
    if folder is not None:
        path = folder / f"{split}.pkl"
        if path.is_file():
            return path
        searched = str(path)
    if config.train.dataset_dir is None:
        named = _named_in_config(config, service, split)
        if named is not None and named.is_file():
            return named
        searched += f", {named}" if named is not None else ""
    raise ConfigError(
        f"expected {split}.pkl, found none at {searched}; run --mode annotation.pipeline with the "
        f"same config (dataset.service={service}), or --set train.dataset_dir=<folder with the "
        "pickles>"
    )


def pickle_folder(config: Config) -> tuple[Path | None, str]:
    """Return ``train.dataset_dir`` or, if that is null, stage 3's folder; else None and why."""
    if config.train.dataset_dir is not None:
        return config.train.dataset_dir, ""
    try:
        return stage3_dir(config), ""
    except (FileNotFoundError, ConfigError, ValueError) as error:
        return None, str(error)


def find_test_pickle(config: Config, service: str) -> tuple[Path, str]:
    """Return the pickle to test on; with a warning, val's pickle where there is no test split.

    Raises:
        ConfigError: there is neither.

    """
    try:
        path = find_pickle(config, service, "test")
        if path.stat().st_size > _SMALL or read_split(path):
            return path, ""
        val = path.with_name("val.pkl")
    except ConfigError as error:
        try:
            val = find_pickle(config, service, "val")
        except ConfigError:
            raise error from None
    if not val.is_file():
        return path, ""  # reading it refuses an empty one
    return val, (
        f"The data set has no test split: tested on {val.name} instead, by which training chose "
        "its best epoch, so the figures are optimistic."
    )


def _named_in_config(config: Config, service: str, split: str) -> Path | None:
    """Return the pickle that the mmaction2 config names, None if it names none."""
    from recognizer.action.train_config import load_train_config
    from recognizer.runner.train_config import datasets

    path = train_config(config, service)
    if not path.is_file():
        return None
    dataset = datasets(load_train_config(path, config.train.cfg_options)).get(split)
    return None if dataset is None else Path(dataset.ann_file).absolute()


@dataclass(frozen=True, slots=True)
class CheckpointMetadata:
    """Metadata of a trained classifier; empty where the file has none.

    Attributes:
        service: fight or falldown.
        classes: names in the order of labels.
        learnt_from: SHA-256 of the pickles it learnt from.

    """

    service: str
    classes: tuple[str, ...]
    learnt_from: frozenset[str]


def read_checkpoint_metadata(path: Path) -> CheckpointMetadata:
    """Return the metadata of a checkpoint or a shipped ONNX file.

    Raises:
        FileNotFoundError, ValueError: a file that cannot be used.

    """
    if path.suffix == ".onnx":
        from recognizer.action.classifier import Classifier
        from recognizer.config.action import ClassifierConfig

        metadata = Classifier(path, ClassifierConfig()).metadata
        members = metadata.training.get("checkpoints")
        return CheckpointMetadata(metadata.service, metadata.classes, _learnt_from(members))
    from recognizer.runner.checkpoints import load_checkpoint

    meta = load_checkpoint(path)["meta"].get("recognizer")
    if not isinstance(meta, Mapping):
        return CheckpointMetadata("", (), frozenset())
    classes = meta.get("classes")
    names = tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()
    return CheckpointMetadata(str(meta.get("service") or ""), names, _learnt_from([meta]))


def _learnt_from(members: object) -> frozenset[str]:
    rows = members if isinstance(members, list) else []
    digests = [row.get("train_sha256") for row in rows if isinstance(row, Mapping)]
    return frozenset(digest for digest in digests if isinstance(digest, str))


def trained_checkpoint(config: Config, service: str, work_dir: Path | None = None) -> Path:
    """Return the best checkpoint of the work_dir, the last one if none was validated.

    Raises:
        ConfigError: there is none.

    """
    folder = work_dir or config.train.work_dir
    folder = folder or PROJECT / "work_dirs" / train_config(config, service).stem
    checkpoint = best_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(
            f"test.checkpoint: expected a best_*.pth in {folder}, found none; name one with "
            f"--checkpoint <file>, or train first: {next_command(config, f'train.{service}')}"
        )
    return checkpoint


def validation_score(checkpoint: Path) -> str:
    """Return the validation score of a ``best_<metric>_epoch_<n>.pth`` from mmengine's log.

    Returns:
        Such as ``acc/top1 0.8125 on val after epoch 7``; "" for another checkpoint.

    """
    named = re.fullmatch(r"best_(.+)_epoch_(\d+)", checkpoint.stem)
    if named is None:
        return ""
    score = ""
    for log in sorted(checkpoint.parent.glob("*/vis_data/scalars.json")):
        for line in log.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for key, value in row.items():
                if row.get("step") == int(named[2]) and key.replace("/", "_") == named[1]:
                    score = f"{key} {value:.4f} on val after epoch {named[2]}"
    return score
