"""The modes of the annotation pipeline: run stages and log their results."""

import json
import logging
import re
from collections import Counter
from pathlib import Path

from annotation.metadata import unreadable_negatives
from annotation.preflight import check_labels
from annotation.stage3 import run_stage3
from annotation.visualize import visualize
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED, next_command
from recognizer.config.schema import Config
from recognizer.dataset.mmaction import METADATA
from recognizer.names import printable
from recognizer.runs.manifest import MANIFEST
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.shards import Shard, refuse_shard, shard_of, stage_manifest
from recognizer.runs.stage1 import extract_poses
from recognizer.runs.stage2 import make_tracks
from recognizer.runs.stage_folders import (
    dataset_dir,
    stage1_dir,
    stage2_dir,
    stage2_place,
    stage3_dir,
)
from recognizer.runs.stage_run import read_stage

logger = logging.getLogger(__name__)


def stage1(config: Config, progress: ProgressFactory) -> int:
    """Run stage 1 and return the exit code (``--mode annotation.stage1``)."""
    code = report_stage1(config, progress)
    logger.info("next: %s", next_command(config, "annotation.stage2"))
    return code


def stage2(config: Config, progress: ProgressFactory) -> int:
    """Run stage 2 and return the exit code (``--mode annotation.stage2``)."""
    code = report_stage2(config, progress)
    if config.annotation.shard is not None:
        all_of_it = next_command(config, "annotation.stage2", {}, without=("annotation.shard",))
        logger.info("next, after the last shard of stage 2: %s", all_of_it)
        return code
    place = stage2_place(config)
    if isinstance(place, str):  # pictures and pickles need a folder
        changes = {"annotation.stage2_dir": place, "annotation.output_dir": "<folder>"}
        logger.info("next: %s", next_command(config, "annotation.stage3", changes))
        return code
    logger.info("to see them: %s", next_command(config, "annotation.visualize"))
    logger.info("next: %s", next_command(config, "annotation.stage3"))
    return code


def stage3(config: Config, progress: ProgressFactory) -> int:
    """Run stage 3 and return the exit code (``--mode annotation.stage3``)."""
    refuse_shard(config, "annotation.stage3")
    code = report_stage3(config, progress)
    train, data = f"train.{config.dataset.service}", {"train.dataset_dir": stage3_dir(config)}
    logger.info("next: %s", next_command(config, train, data))
    return code


def pipeline(config: Config, progress: ProgressFactory) -> int:
    """Run the three stages and return the worst exit code (``--mode annotation.pipeline``)."""
    refuse_shard(config, "annotation.pipeline")
    dataset_dir(config)  # refused before any work if it is no folder
    check_labels(config)
    return max(
        report_stage1(config, progress), report_stage2(config, progress), stage3(config, progress)
    )


def overlay(config: Config, progress: ProgressFactory) -> int:
    """Write overlay videos and return the exit code (``--mode annotation.visualize``)."""
    refuse_shard(config, "annotation.visualize")
    dataset_dir(config)  # refused before any work if it is no folder
    code = report_overlay(config, progress)
    after = "annotation.stage2" if config.visualize.stage == "stage1" else "annotation.stage3"
    logger.info("next: %s", next_command(config, after))
    return code


# --- one stage and its log ---------------------------------------------------------


def report_stage1(config: Config, progress: ProgressFactory) -> int:
    """Run stage 1, log its result and return the exit code."""
    place = extract_poses(config, progress)
    logger.info("poses, one .npz a video, are in %s", place)
    return _report("stage 1", place, shard_of(config.annotation))


def report_stage2(config: Config, progress: ProgressFactory) -> int:
    """Run stage 2, log its result and return the exit code."""
    place = make_tracks(config, progress)
    logger.info("tracks, one .npz a video, are in %s", place)
    return _report("stage 2", place, shard_of(config.annotation))


def report_stage3(config: Config, progress: ProgressFactory) -> int:
    """Run stage 3, log its result and return the exit code."""
    folder = run_stage3(config, progress)
    summary = (folder / "report" / "summary.txt").read_text(encoding="utf-8")
    # Refused inputs are logged already, one by one; warnings follow.
    logger.info("stage 3: %s", re.split(r"\n\n(?:Refused|Warnings)", summary)[0])
    metadata = json.loads((folder / METADATA).read_bytes())
    for warning in metadata["warnings"]:
        logger.warning("stage 3: %s", warning)
    unreadable = unreadable_negatives(metadata)
    for video, reason in unreadable.items():
        refused = printable(f"{video}: {reason}")
        logger.warning("stage 3: dataset.negatives: refused: %s", refused)
    logger.info("stage 3: pickles, metadata.json and report/ are in %s", folder)
    return max(_report("stage 3", folder), EXIT_SOME_REFUSED if unreadable else EXIT_DONE)


def report_overlay(config: Config, progress: ProgressFactory) -> int:
    """Write overlay videos, log their folder and return the exit code."""
    section = config.visualize
    source = stage1_dir(config) if section.stage == "stage1" else stage2_dir(config)
    outcomes = stage_manifest(source, section.stage).outcomes  # refused inputs count as well
    total = len(outcomes)
    with progress("overlay videos", min(total, section.limit or total)) as advance:
        folder = visualize(config, advance)
    logger.info("overlay videos are below %s", folder)
    return _report("overlay videos", folder)


def _report(title: str, place: Path | str, shard: Shard | None = None) -> int:
    outcomes = read_stage(place, shard=shard).outcomes
    manifest = MANIFEST if shard is None else shard.manifest
    counts = Counter(outcome.state for outcome in outcomes)
    text = ", ".join(f"{counts[state]} {state}" for state in ("done", "damaged", "refused"))
    frames = sum(outcome.frames for outcome in outcomes)
    logger.info(
        "%s: %d inputs, %d frames: %s; see %s/%s",
        title,
        len(outcomes),
        frames,
        text,
        place,
        manifest,
    )
    return EXIT_SOME_REFUSED if counts["refused"] else EXIT_DONE
