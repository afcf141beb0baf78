"""Train a pose network on COCO-format data and measure it: modes train.pose and test.pose."""

import logging
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch loads: at a barrier its threads would otherwise spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from recognizer.command import next_command
from recognizer.config.action import as_list
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import FILES, PROJECT
from recognizer.runs.distributed import main_process_progress
from recognizer.runs.progress import OnProgress, ProgressFactory, counted_progress
from recognizer.training.classifier.artifacts import (
    named_config,
    trained_checkpoint,
    validation_score,
)

if TYPE_CHECKING:
    from mmengine.config import Config as PoseConfig

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0  # a data set whose pictures are checked sooner shows no bar
CONFIGS = FILES / "configs" / "body_2d_keypoint" / "sdpose" / "coco"


def train_pose(config: Config, progress: ProgressFactory) -> int:
    """Train the pose network of ``train.config_file`` (``--mode train.pose``)."""
    from recognizer.runner.train_config import TrainConfigError
    from recognizer.sdpose.evaluation import quietly
    from recognizer.sdpose.training import train
    from recognizer.training.pose.learning_curves import CurvesHook

    path = pose_config(config)
    cfg = prepare(config, path)
    if not (config.train.resume or cfg.get("resume") or cfg.get("resume_from")):
        check_weights(cfg)
    work_dir = Path(cfg.work_dir)
    try:
        with (
            main_process_progress(work_dir, progress, f"training {work_dir.name}") as on_progress,
            image_progress(progress) as on_image,
            quietly(),
        ):
            best = train(
                cfg,
                resume=config.train.resume,
                on_progress=on_progress,
                hooks=[CurvesHook()] if on_progress else [],
                on_image=on_image if on_progress else None,
            )
    except (RuntimeError, TrainConfigError) as error:  # the first iteration's is of the second kind
        if advice := memory_advice(error, cfg):
            raise RuntimeError(advice) from error
        if isinstance(error, TrainConfigError):
            raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error
        raise
    logger.info("checkpoint: %s%s", best, f": {score}" if (score := validation_score(best)) else "")
    logger.info("next: %s", next_command(config, "test.pose", {"test.checkpoint": [best]}))
    return 0


def test_pose(config: Config, progress: ProgressFactory) -> int:
    """Measure one checkpoint on the test images (``--mode test.pose``)."""
    from recognizer.runner.checkpoint_search import missing_checkpoint, todays_checkpoint
    from recognizer.runner.train_config import TrainConfigError
    from recognizer.sdpose.evaluation import evaluate
    from recognizer.training.pose.report import write_report

    one_process("test.pose")
    path = pose_config(config)
    cfg = prepare(config, path)
    checkpoint = todays_checkpoint(_checkpoint(config, Path(cfg.work_dir)))
    output = config.test.output_dir or checkpoint.parent / "report"
    if not checkpoint.is_file():
        raise FileNotFoundError(missing_checkpoint(checkpoint))
    try:
        with (
            main_process_progress(output, progress, f"testing {checkpoint.name}") as on_progress,
            image_progress(progress) as on_image,
        ):
            scores = evaluate(cfg, checkpoint, output, on_progress=on_progress, on_image=on_image)
            text = write_report(cfg, scores, output)
    except TrainConfigError as error:
        raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error
    logger.info("%s", text)
    logger.info("the report is in %s", output)
    changes = {
        "deploy.model": "pose",
        "models.pose_estimation.pth.config_file": path,
        "deploy.checkpoint": [checkpoint],
    }
    logger.info("next: %s", next_command(config, "deploy.export", changes))
    return 0


def image_progress(progress: ProgressFactory) -> AbstractContextManager[OnProgress]:
    """Give the callback for pictures that are checked before a training or test."""
    return counted_progress(progress, "looking at pictures", _PATIENCE_S)


def one_process(mode: str) -> None:
    """Refuse to run under torchrun what one process does.

    Raises:
        ConfigError: there are several processes.

    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"--mode {mode} runs in one process: start it without torchrun")


def _checkpoint(config: Config, work_dir: Path) -> Path:
    """Return the checkpoint to test: the named one, else the best one of the work_dir."""
    named = as_list(config.test.checkpoint)
    if len(named) > 1:
        raise ConfigError(f"test.checkpoint: expected one checkpoint, got {len(named)}")
    return named[0] if named else trained_checkpoint(config, "pose", work_dir)


def pose_config(config: Config) -> Path:
    """Return the mmpose config that ``train.config_file`` names.

    Raises:
        ConfigError: it names none or several.

    """
    path = named_config(config)
    if path is None:
        names = ", ".join(sorted(path.name for path in CONFIGS.glob("*.py")))
        raise ConfigError(
            "train.config_file: expected an mmpose config (--train-config), got none; in "
            f"{CONFIGS} there are {names}"
        )
    return path


def prepare(config: Config, path: Path) -> "PoseConfig":
    """Return the training config with data, work_dir and seed filled in.

    Raises:
        ConfigError: no such config file, or a bad option.

    """
    from recognizer.sdpose.training import load_pose_config, named_work_dir

    section = config.train
    if section.dataset_dir is not None:
        raise ConfigError(
            f"train.dataset_dir: names pickles of classifiers ({section.dataset_dir}); a pose "
            "network is trained on COCO-format data: set train.data_root"
        )
    try:
        cfg = load_pose_config(path, section.cfg_options, section.data_root)
        cfg.work_dir = str((section.work_dir or named_work_dir(cfg, PROJECT)).absolute())
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error
    if "randomness" not in cfg:
        cfg.randomness = {"seed": section.seed}
    return cfg


def check_weights(cfg: "PoseConfig") -> None:
    """Refuse a config whose weights to start from are not there.

    Raises:
        FileNotFoundError: no file at ``load_from``.

    """
    source = cfg.get("load_from")
    if source and not Path(source).is_file():
        raise FileNotFoundError(
            f"load_from: expected weights to start from at {source}, found none; official files "
            f"come with --mode models.fetch (which lists them; "
            f"{Path(cfg.filename or '').name} names its own in the first lines), other weights "
            "with --cfg-options load_from=<file>, and load_from=None starts from nothing"
        )


def memory_advice(error: Exception, cfg: "PoseConfig") -> str:
    """Return what to do where the device's memory ran out, "" if that is not what happened."""
    text = str(error)
    if "out of memory" not in text.lower() and "can't allocate memory" not in text:
        return ""
    size = cfg.train_dataloader.get("batch_size")
    return (
        f"out of memory with train_dataloader.batch_size={size}: {text.splitlines()[0][:200]}; "
        f"halve it and add up two batches for each update, so that the learning rate still fits "
        f"(--cfg-options train_dataloader.batch_size={max(1, (size or 2) // 2)} "
        "optim_wrapper.accumulative_counts=2), or train in half precision "
        "(optim_wrapper.type=AmpOptimWrapper optim_wrapper.dtype=bfloat16)"
    )
