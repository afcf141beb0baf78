"""The first run: from the poses in samples/ to a trained and tested fight classifier.

samples/stage1 holds the poses that this project's stage 1 made from all clips of fight_surv, so
no weights and no videos are needed. If both are available, stage 1 reads a few clips as well.
Without the training packages the demo ends with the pickles and a hint how to install them.
"""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

from annotation.pipeline import report_overlay, report_stage1, report_stage2, report_stage3
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config, DatasetConfig
from recognizer.dataset.mmaction import METADATA
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stage_folders import dataset_dir, pose_model_files, stage3_dir
from recognizer.storage.artifacts import short_digest
from recognizer.training.classifier.artifacts import CONFIGS
from recognizer.training.classifier.evaluate import test_fight
from recognizer.training.classifier.train import train_fight

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
TRAIN_CONFIG = CONFIGS / "demo_fight.py"
# Where the clips that the samples were made from may lie, beside annotation.input.
_CLIPS = ROOT.parent / "shared" / "assets" / "fight_surv"
_FROM_VIDEO = ("Fight/fi007.mp4", "NonFight/nofi016.mp4")
_SKELETON_VIDEOS = 2
_TRAINING_PACKAGES = ("torch", "mmengine", "mmcv", "mmaction")


def demo(config: Config, progress: ProgressFactory) -> int:
    """Run the stages on the samples, train and test a small classifier, and log the results."""
    _from_video(config, progress)
    original, config = config, _on_samples(config)
    logger.info("starting from the poses in %s", config.annotation.stage1_dir)
    report_stage2(config, progress)
    report_stage3(config, progress)
    report_overlay(config, progress)
    report = _train_and_test(config, progress) if _can_train() else None
    logger.info("pickles and what is in them: %s", stage3_dir(config))
    logger.info("skeleton videos:             %s", dataset_dir(config) / "visualize")
    if report is None:
        logger.warning(
            "no classifier was trained: the training packages are not installed here. `make demo` "
            "or `make setup-train` installs them; the same command then goes on from here"
        )
    else:
        logger.info("report of the test:          %s", report)
        logger.info("%s", _accuracy_text(stage3_dir(config), report))
    changes = {"annotation.input": "<folder with one sub-folder per class>"}
    logger.info("next, your own videos: %s", next_command(original, "annotation.pipeline", changes))
    return EXIT_DONE


def _changed(config: Config, **sections: dict[str, object]) -> Config:
    """Return the config with some keys of some sections replaced."""
    update = {
        name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()
    }
    return config.model_copy(update=update)


def _on_samples(config: Config) -> Config:
    """Return the config that reads the samples' poses, a data set of fights, clip by clip."""
    split = config.dataset.split.model_copy(
        update={"by": "source", "sources": SAMPLES / "sources.csv", "source_regex": None}
    )
    return _changed(
        config,
        annotation={"dataset": "demo", "stage1_dir": SAMPLES / "stage1", "stage2_dir": None},
        dataset={**dict(DatasetConfig()), "split": split},
        visualize={"stage": "stage2", "skeleton_only": True, "limit": _SKELETON_VIDEOS},
    )


# --- video, if available -----------------------------------------------------------


def _from_video(config: Config, progress: ProgressFactory) -> None:
    """Run stages 1 and 2 on a few clips, if these and pose weights are available."""
    folder = _find_clips(config)
    if folder is None:
        logger.info("no pose weights or clips here: stage 1 (video -> poses) is left out")
        return
    logger.info("stage 1 on %d clips of %s", len(_FROM_VIDEO), folder)
    config = _changed(
        config,
        annotation={"dataset": "demo_video", "include": list(_FROM_VIDEO), "input": folder},
        visualize={"stage": "stage2", "skeleton_only": False, "limit": None},
    )
    for run in (report_stage1, report_stage2, report_overlay):
        run(config, progress)
    logger.info("overlays on these clips:     %s", dataset_dir(config) / "visualize")


def _find_clips(config: Config) -> Path | None:
    try:
        pose_model_files(config)
    except ConfigError:
        return None
    for folder in (config.annotation.input, _CLIPS):
        if isinstance(folder, Path) and all((folder / name).is_file() for name in _FROM_VIDEO):
            return folder
    return None


# --- training ----------------------------------------------------------------------


def _can_train() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in _TRAINING_PACKAGES)


def _train_and_test(config: Config, progress: ProgressFactory) -> Path:
    """Train the demo's network if it is not trained yet, test it, return the report's folder."""
    from recognizer.action.train_config import load_train_config
    from recognizer.runner.checkpoints import last_checkpoint

    pickles = stage3_dir(config)
    cfg = load_train_config(TRAIN_CONFIG, config.train.cfg_options)
    # Other data or another network is another training; the same one goes on or is done.
    decides = [
        pickles.name,
        _metadata(pickles)["splits"]["train"]["sha256"],
        config.train.seed,
        cfg.pretty_text,
    ]
    work_dir = dataset_dir(config) / "training" / f"{TRAIN_CONFIG.stem}-{short_digest(decides)}"
    train = {
        "config_file": TRAIN_CONFIG,
        "dataset_dir": pickles,
        "work_dir": work_dir,
        "resume": True,
    }
    train_fight(_changed(config, train=train), progress)
    checkpoint = last_checkpoint(work_dir)
    if checkpoint is None:
        raise RuntimeError(f"expected a checkpoint in {work_dir} after training, found none")
    report = work_dir / "report"
    test = {"checkpoint": [checkpoint], "ann_file": pickles / "test.pkl", "output_dir": report}
    test_fight(_changed(config, train=train, test=test), progress)
    return report


def _metadata(pickles: Path) -> dict[str, Any]:
    return dict(json.loads((pickles / METADATA).read_bytes()))


def _accuracy_text(pickles: Path, report: Path) -> str:
    """Return the report's accuracy and its limits as a sentence."""
    parts = json.loads((report / "report.json").read_bytes())["scores"]
    scores = parts.get("all") or parts["tracked"]
    table = scores["confusion"]["rows_are_truth"]
    right = sum(row[i] for i, row in enumerate(table))
    accuracy = scores["overall"]["accuracy"]
    low, high = accuracy.get("low"), accuracy.get("high")
    interval = "" if low is None else f" (95 % interval {low:.2f} to {high:.2f})"
    splits = _metadata(pickles)["splits"]
    return (
        f"a short training on {splits['train']['samples']} clips: {right} of {scores['samples']} "
        f"test clips right, {accuracy['value']:.2f}{interval}. These are cut from "
        f"{len(splits['test']['sources'])} recordings: it shows that everything works, not how "
        "well; for that, see --mode test.crossval and the README"
    )
