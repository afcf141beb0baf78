"""The first run: the whole pipeline on samples/, with a skeleton video to look at.

Starts from video where pose weights and the samples' clips are found, else from the
stage-1 files in samples/, which this project's own stage 1 made from those clips.
"""

import logging
from pathlib import Path
from typing import Any

from annotation.pipeline import EXIT_DONE, overlay, stage1, stage2, stage3
from annotation.progress import Watch
from annotation.workspace import (
    dataset_dir,
    pose_model_files,
    read_manifest,
    stage3_dir,
)
from recognizer.config import Config
from recognizer.config_file import ConfigError

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
# Where the clips that the samples were made from may lie, beside annotation.input.
_CLIPS = ROOT.parent / "shared" / "assets" / "fight_surv"
_SKELETON_VIDEOS = 2


def demo(config: Config, watch: Watch) -> int:
    """Run the pipeline on the samples, write skeleton videos, log where everything is."""
    names = [o.video for o in read_manifest(SAMPLES / "stage1").outcomes]
    clips = _find_clips(config, names)
    annotation: dict[str, Any] = {"dataset": "demo", "include": names}
    annotation |= {"input": clips} if clips else {"stage1_dir": SAMPLES / "stage1"}
    split = config.dataset.split.model_copy(update={"sources": SAMPLES / "sources.csv"})
    config = config.model_copy(
        update={
            "annotation": config.annotation.model_copy(update=annotation),
            "dataset": config.dataset.model_copy(update={"split": split}),
            "visualize": config.visualize.model_copy(
                update={"stage": "stage2", "skeleton_only": True, "limit": _SKELETON_VIDEOS}
            ),
        }
    )
    if clips:
        logger.info("starting from the video clips in %s", clips)
        stage1(config, watch)
    else:
        logger.info("no pose weights or clips found: starting from the poses in samples/stage1")
    stage2(config, watch)
    stage3(config, watch)
    overlay(config, watch)
    logger.info("pickles and report: %s", stage3_dir(config))
    logger.info("skeleton videos:    %s", dataset_dir(config) / "visualize")
    return EXIT_DONE


def _find_clips(config: Config, names: list[str]) -> Path | None:
    """Return the folder with every clip of the samples, if that and pose weights are at hand."""
    try:
        pose_model_files(config)
    except ConfigError:
        return None
    for folder in (config.annotation.input, _CLIPS):
        if all((folder / name).is_file() for name in names):
            return folder
    return None
