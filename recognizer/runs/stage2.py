"""Stage 2: poses -> tracks with ids and the involvement of each, one ``.npz`` per video.

It needs the results of stage 1 alone, not the videos. Inputs that stage 1 refused stay refused, so
that the last manifest accounts for every video.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recognizer.config.file import ConfigError
from recognizer.config.schema import Config, ScoringConfig, TrackingConfig
from recognizer.pose.settings import people_left_out, tracking_settings
from recognizer.runs.batch import WorkerPaths, run_batch, worker_count, worker_pool
from recognizer.runs.inputs import is_included, list_videos
from recognizer.runs.journal import Journal, open_journal
from recognizer.runs.manifest import (
    Manifest,
    Outcome,
    Settings,
    result_name,
)
from recognizer.runs.progress import ProgressFactory, counted_progress, silent
from recognizer.runs.shards import (
    Shard,
    finish_run,
    kept_outcomes,
    other_roots,
    shard_of,
)
from recognizer.runs.stage_folders import local_place, stage1_place, stage2_place, stage2_settings
from recognizer.runs.stage_run import read_stage, stage_run
from recognizer.runs.worker_pool import Job, OnFrames, StopRunError, WorkerPool
from recognizer.scoring.ranking import SERVICES, rank_people
from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    ArtifactError,
    Meta,
    read_npz_meta,
    read_poses,
    write_poses,
)
from recognizer.storage.objects import StoreError
from recognizer.storage.results import Results, open_results
from recognizer.tracking.backward import Progress
from recognizer.tracking.offline import track_people
from recognizer.types import PoseSequence
from recognizer.video.hashes import check_hashes

T = TypeVar("T")
logger = logging.getLogger(__name__)

_FRAMES_A_REPORT = 1000
_PATIENCE_S = 2.0


def run_stage2(config: Config, progress: ProgressFactory = silent) -> Path:
    """Track the people of every video that stage 1 finished into a folder.

    Returns:
        The stage's folder; its manifest has the end state of every video.

    Raises:
        ConfigError: results go to object storage. Others as ``make_tracks``.

    """
    section = config.annotation
    key = "output_dir" if section.stage2_dir is None else "stage2_dir"
    local_place(section.stage2_dir or section.output_dir, f"annotation.{key}")
    return Path(make_tracks(config, progress))


def make_tracks(config: Config, progress: ProgressFactory = silent) -> Path | str:
    """Track the people of every video that stage 1 finished.

    Returns:
        The stage's folder, or as text its address in object storage; its manifest has the end
        state of every video.

    Raises:
        FileNotFoundError: stage 1 has not finished with this config.
        BlockingIOError: another run is at work there.
        RunError: results cannot be written.

    """
    poses_place, shard = stage1_place(config), shard_of(config.annotation)
    stage1 = read_stage(poses_place, "stage1", shard)
    place = stage2_place(config)
    settings = stage2_settings(config, stage1)
    include = config.annotation.include
    selected = [o for o in stage1.outcomes if is_included(o.video, include)]
    _warn_of_missing(config, shard, {outcome.video for outcome in stage1.outcomes})
    tracking = tracking_settings(config, stage1.settings)
    _warn_of_people_left_out(stage1.settings, tracking)
    with (
        stage_run(place, shard) as run,
        open_journal(run.root, settings, other_roots(run.folder, shard)) as journal,
    ):
        poses = open_results(poses_place, run.root)
        config = config.model_copy(update={"tracking": tracking})
        plan = _TrackWorkerPlan(config, settings, poses, run.results)
        stamps = _stamps(poses, selected)
        settled = _settled(selected, stamps, journal, plan, progress)
        jobs = [Job(o.video, o) for o in selected if o.video not in settled]
        with progress("stage 2: videos", len(selected)) as advance:
            outcomes = run_batch(
                list(settled.values()),
                jobs,
                _worker_pool(plan, poses_place, place),
                run.keeping(journal.recording(advance, stamps)),
            )
        others = {o.video for o in stage1.outcomes} - {o.video for o in selected}
        kept = kept_outcomes(run.folder, shard, others)
        finish_run(run.folder, shard, Manifest("stage2", settings, (*outcomes, *kept)))
    return place


def _stamps(results: Results, selected: Sequence[Outcome]) -> dict[str, str]:
    """Return the stamp of each video's result, "" for one that is not there."""
    names = {o.video: result_name(o.video, ".npz") for o in selected}
    there = results.listed(names.values())
    found = {video: there(name) for video, name in names.items()}
    return {video: "" if one is None else one.stamp for video, one in found.items()}


def _settled(
    selected: Sequence[Outcome],
    stamps: Mapping[str, str],
    journal: Journal,
    plan: "_TrackWorkerPlan",
    progress: ProgressFactory,
) -> dict[str, Outcome]:
    """Return the end states that are known before any work, by name."""
    settled: dict[str, Outcome] = {}
    done = _stamps(plan.results, selected)
    with counted_progress(progress, "stage 2: finished results", _PATIENCE_S) as on_progress:
        for number, before in enumerate(selected, 1):
            video = before.video
            if before.state == "refused":
                settled[video] = replace(before, reason=f"stage 1: {before.reason}")
            elif done[video] and (
                journal.outcome(video, stamps[video], done[video]) is not None
                or _is_finished(plan, video)
            ):
                settled[video] = replace(before, stamp=done[video])
            on_progress(number, len(selected))
    return settled


def _warn_of_missing(config: Config, shard: Shard | None, known: set[str]) -> None:
    """Warn of videos in the input folder that stage 1 has not read.

    A prefix in object storage is not listed for that: it may take minutes.
    """
    section = config.annotation
    local = isinstance(section.input, Path) and section.input.is_dir()
    if section.stage1_dir is not None or not local:
        return
    try:
        present = {v.relative for v in list_videos(section)}
        missing = {v for v in present if shard is None or shard.has(v)} - known
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


def _worker_pool(
    plan: "_TrackWorkerPlan", poses_place: Path | str, place: Path | str
) -> WorkerPool:
    section = plan.config.annotation
    arguments = [(plan,)] * worker_count(section)
    paths = WorkerPaths(place, (poses_place,), on_gpu=False)
    return worker_pool(section, _TrackWorker, arguments, paths)


def _is_finished(plan: "_TrackWorkerPlan", video: str) -> bool:
    """Tell whether a result of these settings exists, made from the present poses."""
    name = result_name(video, ".npz")
    try:
        with plan.poses.local(name) as path:
            poses_meta = read_npz_meta(path, POSE_SCHEMA)
        with plan.results.local(name) as path:
            meta = read_npz_meta(path, POSE_SCHEMA)
        return bool(meta["source"] == poses_meta["source"] and meta["settings"] == plan.settings)
    except StoreError:
        raise
    except (ArtifactError, OSError, KeyError):
        return False


@dataclass(frozen=True, slots=True)
class _TrackWorkerPlan:
    """Settings of one worker; ``poses``: what stage 1 made."""

    config: Config
    settings: Settings
    poses: Results
    results: Results


class _TrackWorker:
    """One worker: one pose file after another."""

    def __init__(self, plan: _TrackWorkerPlan) -> None:
        self._plan = plan

    def __call__(self, before: Outcome, on_frames: OnFrames) -> Outcome:
        plan = self._plan
        name = result_name(before.video, ".npz")
        on_frames(0)
        try:
            sequence, hashes, meta = self._read(before.video, name)
        except ArtifactError as error:
            return Outcome(
                before.video, "refused", f"stage 1 result: {error}; delete it, run stage 1"
            )
        except (ConfigError, OSError) as error:  # of this machine or the store, not of the poses
            raise StopRunError(f"poses of stage 1: {error}") from error
        tracked = track_people(sequence, plan.config.tracking, _reporting(on_frames))
        ranks, names = ranking_arrays(tracked, plan.config.scoring, lambda: on_frames(0))
        meta = {**meta, "settings": plan.settings, "measures": names}

        def write(final: Path, root: Path) -> None:
            write_poses(final, root, tracked, meta, {**hashes, **ranks})

        try:
            stamp = plan.results.save(name, write)
        except OSError as error:
            raise StopRunError(str(error)) from error
        on_frames(len(tracked) % _FRAMES_A_REPORT)
        return replace(before, stamp=stamp)

    def _read(self, video: str, name: str) -> tuple[PoseSequence, dict[str, NDArray[Any]], Meta]:
        """Return poses, hashes and metadata; errors name the video."""
        with self._plan.poses.local(name) as path:
            try:
                sequence, extra, meta = read_poses(path)
                return sequence, check_hashes(extra), meta
            except (ValueError, OSError) as error:
                raise ArtifactError(str(error).replace(str(path), video)) from error


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
