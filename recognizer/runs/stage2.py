"""Stage 2: poses -> tracks with ids and the involvement of each, one ``.npz`` per video.

It needs the results of stage 1 alone, not the videos. Inputs that stage 1 refused stay refused, so
that the last manifest accounts for every video.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recognizer.config.schema import Config, ScoringConfig, TrackingConfig
from recognizer.pose.settings import people_left_out, tracking_settings
from recognizer.runs.batch import WorkerPaths, run_batch, worker_count, worker_pool
from recognizer.runs.inputs import is_included, list_videos
from recognizer.runs.manifest import (
    Manifest,
    Outcome,
    Settings,
    exclusive,
    outcomes_before,
    read_manifest,
    result_path,
    write_manifest,
)
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.stage_folders import stage1_dir, stage2_dir, stage2_settings
from recognizer.runs.worker_pool import Job, OnFrames, StopRunError, WorkerPool
from recognizer.scoring.ranking import SERVICES, rank_people
from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    ArtifactError,
    read_npz_meta,
    read_poses,
    write_poses,
)
from recognizer.tracking.backward import Progress
from recognizer.tracking.offline import track_people
from recognizer.types import PoseSequence
from recognizer.video.hashes import check_hashes

T = TypeVar("T")
logger = logging.getLogger(__name__)

_FRAMES_A_REPORT = 1000


def run_stage2(config: Config, progress: ProgressFactory = silent) -> Path:
    """Track the people of every video that stage 1 finished.

    Returns:
        The stage's folder; its manifest has the end state of every video.

    Raises:
        FileNotFoundError: stage 1 has not finished with this config.
        RunError: results cannot be written.

    """
    poses_folder = stage1_dir(config)
    stage1 = read_manifest(poses_folder, "stage1")
    folder = stage2_dir(config)
    settings = stage2_settings(config, stage1)
    include = config.annotation.include
    selected = [o for o in stage1.outcomes if is_included(o.video, include)]
    _warn_of_missing(config, {outcome.video for outcome in stage1.outcomes})
    with exclusive(folder), progress("stage 2: videos", len(selected)) as advance:
        settled, jobs = [], []
        for before in selected:
            if before.state == "refused":
                settled.append(replace(before, reason=f"stage 1: {before.reason}"))
            elif _is_finished(poses_folder, folder, settings, before.video):
                settled.append(before)
            else:
                jobs.append(Job(before.video, before))
        tracking = tracking_settings(config, stage1.settings)
        _warn_of_people_left_out(stage1.settings, tracking)
        pool = _worker_pool(
            config.model_copy(update={"tracking": tracking}), settings, poses_folder, folder
        )
        outcomes = run_batch(settled, jobs, pool, advance)
        others = {o.video for o in stage1.outcomes} - {o.video for o in selected}
        kept = [o for video, o in outcomes_before(folder).items() if video in others]
        write_manifest(folder, Manifest("stage2", settings, (*outcomes, *kept)))
    return folder


def _warn_of_missing(config: Config, known: set[str]) -> None:
    """Warn of videos in the input folder that stage 1 has not read."""
    section = config.annotation
    if section.stage1_dir is not None or not section.input.is_dir():
        return
    try:
        missing = {v.relative for v in list_videos(section)} - known
    except (ValueError, OSError):  # the videos are gone or locked: their poses are enough here
        return
    if missing:
        logger.warning(
            "stage 2: %d videos of annotation.input have no poses yet, such as %s; run "
            "--mode annotation.stage1 to add them",
            len(missing),
            min(missing),
        )


def _warn_of_people_left_out(poses: Settings, tracking: TrackingConfig) -> None:
    """Warn of poses of another config that lack people whom this config's tracker would use."""
    pose = poses.get("pose")
    keys = people_left_out(pose.get("topdown") if isinstance(pose, dict) else None, tracking)
    if keys:
        logger.warning("stage 2: poses were made with topdown.%s; run stage 1 with a lower", keys)


def _worker_pool(config: Config, settings: Settings, poses: Path, folder: Path) -> WorkerPool:
    section = config.annotation
    plan = _TrackWorkerPlan(config, settings, poses, folder)
    arguments = [(plan,)] * worker_count(section)
    paths = WorkerPaths(folder, (poses,), on_gpu=False)
    return worker_pool(section, _TrackWorker, arguments, paths)


def _is_finished(poses_folder: Path, folder: Path, settings: Settings, video: str) -> bool:
    """Tell whether a result of these settings exists, made from the present poses."""
    try:
        poses_meta = read_npz_meta(result_path(poses_folder, video, ".npz"), POSE_SCHEMA)
        meta = read_npz_meta(result_path(folder, video, ".npz"), POSE_SCHEMA)
        return bool(meta["source"] == poses_meta["source"] and meta["settings"] == settings)
    except (ArtifactError, OSError, KeyError):
        return False


@dataclass(frozen=True, slots=True)
class _TrackWorkerPlan:
    """Settings of one worker."""

    config: Config
    settings: Settings
    poses_folder: Path
    folder: Path


class _TrackWorker:
    """One worker: one pose file after another."""

    def __init__(self, plan: _TrackWorkerPlan) -> None:
        self._plan = plan

    def __call__(self, before: Outcome, on_frames: OnFrames) -> Outcome:
        plan = self._plan
        path = result_path(plan.poses_folder, before.video, ".npz")
        try:
            sequence, extra, meta = read_poses(path)
            hashes = check_hashes(extra)
        except (ValueError, OSError) as error:
            text = str(error).replace(str(path), before.video)
            return Outcome(
                before.video, "refused", f"stage 1 result: {text}; delete it, run stage 1"
            )
        tracked = track_people(sequence, plan.config.tracking, _reporting(on_frames))
        ranks, names = ranking_arrays(tracked, plan.config.scoring, lambda: on_frames(0))
        meta = {**meta, "settings": plan.settings, "measures": names}
        final = result_path(plan.folder, before.video, ".npz")
        try:
            write_poses(final, plan.folder, tracked, meta, {**hashes, **ranks})
        except OSError as error:
            raise StopRunError(f"cannot write {final}: {error}") from error
        on_frames(len(tracked) % _FRAMES_A_REPORT)
        return before


def _reporting(on_frames: OnFrames) -> Progress:
    """Return an iterator adapter that calls ``on_frames`` after every thousand frames.

    Frames are counted on the first pass; later passes call it with 0.
    """
    step = _FRAMES_A_REPORT

    def frames(items: Iterable[T]) -> Iterator[T]:
        nonlocal step
        counted, step = step, 0
        for i, item in enumerate(items, start=1):
            yield item
            if i % _FRAMES_A_REPORT == 0:
                on_frames(counted)

    return frames


def ranking_arrays(
    tracked: PoseSequence, scoring: ScoringConfig, alive: Callable[[], None] = lambda: None
) -> tuple[dict[str, NDArray[np.generic]], dict[str, list[str]]]:
    """Return the ranking of the people for every service, and the names of its measures.

    Args:
        tracked: the tracked people of a video.
        scoring: the weights of the measures.
        alive: called before each ranking: that of a day of video takes minutes.

    """
    arrays: dict[str, NDArray[np.generic]] = {}
    names: dict[str, list[str]] = {}
    for service in SERVICES:
        alive()
        ranked = rank_people(tracked, service, scoring)
        arrays |= {
            f"{service}_track_ids": ranked.track_ids,
            f"{service}_involvement": ranked.involvement,
            f"{service}_measures": ranked.measures,
        }
        names[service] = list(ranked.measure_names)
    return arrays, names
