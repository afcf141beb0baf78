"""Stage 1: video -> poses, one ``.npz`` per video, in worker processes.

A video that cannot be read is refused with its reason; of a damaged one the readable frames are
used, with a damage report. Finished videos are not repeated.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from recognizer.backends.network import ModelError
from recognizer.backends.pose_kind import describe_files
from recognizer.config.schema import Config
from recognizer.names import printable
from recognizer.pose.estimator import build_pose_model
from recognizer.pose.stream import estimate_poses
from recognizer.runs.batch import (
    WorkerPaths,
    run_batch,
    worker_count,
    worker_pool,
    worker_threads,
)
from recognizer.runs.inputs import Video, included_videos, list_videos, local_file
from recognizer.runs.journal import Journal, open_journal
from recognizer.runs.manifest import (
    MANIFEST,
    Manifest,
    Outcome,
    Settings,
    result_name,
)
from recognizer.runs.progress import ProgressFactory, counted_progress, silent
from recognizer.runs.shards import (
    finish_run,
    kept_outcomes,
    other_roots,
    shard_of,
)
from recognizer.runs.stage_folders import (
    local_place,
    pose_model_files,
    stage1_place,
    stage1_settings,
)
from recognizer.runs.stage_run import stage_run
from recognizer.runs.worker_pool import Job, OnFrames, StopRunError, WorkerPool
from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    ArtifactError,
    Meta,
    read_npz_meta,
    sha256_file,
    write_poses,
)
from recognizer.storage.objects import ObjectError, StoredObject, StoreError
from recognizer.storage.results import Listed, Results
from recognizer.types import FrameAccount, PoseSequence, PoseSequenceBuilder
from recognizer.video.hashes import HashRecorder
from recognizer.video.nvdec import check_nvdec
from recognizer.video.prefetch import prefetch
from recognizer.video.reader import VideoError, VideoInfo, VideoReader
from recognizer.video.writer import describe_holes

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class _PoseWorkerPlan:
    """Settings of one worker."""

    config: Config
    files: dict[str, Path]
    settings: Settings
    results: Results
    threads: int
    gpu: int | None


def run_stage1(config: Config, progress: ProgressFactory = silent) -> Path:
    """Extract the poses of every video below ``annotation.input`` into a folder.

    Returns:
        The stage's folder; its manifest has the end state of every video.

    Raises:
        ConfigError: results go to object storage. Others as ``extract_poses``.

    """
    section = config.annotation
    key = "output_dir" if section.stage1_dir is None else "stage1_dir"
    local_place(section.stage1_dir or section.output_dir, f"annotation.{key}")
    return Path(extract_poses(config, progress))


def extract_poses(config: Config, progress: ProgressFactory = silent) -> Path | str:
    """Extract the poses of every video below ``annotation.input``.

    Returns:
        The stage's folder, or as text its address in object storage; its manifest has the end
        state of every video.

    Raises:
        ConfigError, FileNotFoundError, ValueError: no videos, no model file.
        BlockingIOError: another run is at work there.
        RunError: the model does not load, or results cannot be written.

    """
    section, shard = config.annotation, shard_of(config.annotation)
    present = list_videos(section, selected=False)
    included = included_videos(present, section)
    videos = [v for v in included if shard is None or shard.has(v.relative)]
    files, settings = pose_model_files(config), stage1_settings(config)
    place = stage1_place(config)
    if what := describe_files(files):
        logger.info("models.pose_estimation: %s", what)
    with (
        stage_run(place, shard) as run,
        open_journal(run.root, settings, other_roots(run.folder, shard)) as journal,
    ):
        stamps = {v.relative: v.stamp for v in videos}  # before any is read
        settled = _settled(videos, stamps, journal, (run.results, settings), progress)
        todo = [v for v in videos if v.relative not in settled]
        todo.sort(key=lambda v: -v.size)  # the longest first: no long tail at the end
        with progress("stage 1: videos", len(videos)) as advance:
            outcomes = run_batch(
                list(settled.values()),
                [Job(v.relative, v) for v in todo],
                _worker_pool(config, files, settings, (place, run.results)),
                run.keeping(journal.recording(advance, stamps)),
            )
        # A narrower annotation.include keeps the end states of a wider run.
        others = {v.relative for v in present} - {v.relative for v in included}
        kept = kept_outcomes(run.folder, shard, others)
        finish_run(run.folder, shard, Manifest("stage1", settings, (*outcomes, *kept)))
    _log_notes(outcomes, place)
    return place


def _settled(
    videos: Sequence[Video],
    stamps: Mapping[str, str],
    journal: Journal,
    done: tuple[Results, Settings],
    progress: ProgressFactory,
) -> dict[str, Outcome]:
    """Return the end states that are known before any work, by name.

    Args:
        videos: the inputs.
        stamps: the stamp of each.
        journal: of this run.
        done: the results, and their settings.
        progress: shows how many were looked at, where that takes long.

    """
    results, settings = done
    settled: dict[str, Outcome] = {}
    names = {v.relative: result_name(v.relative, ".npz") for v in videos if not v.refusal}
    there = results.listed(names.values())
    with counted_progress(progress, "stage 1: finished results", _PATIENCE_S) as on_progress:
        for number, video in enumerate(videos, 1):
            name = video.relative
            refusal = video.refusal or results.refusal(names[name])
            found = None if refusal else there(names[name])
            if refusal:
                settled[name] = Outcome(name, "refused", refusal)
            elif found is not None:
                outcome = journal.outcome(name, stamps[name], found.stamp)
                if outcome is None:
                    outcome = _finished((results, names[name]), found, settings, video)
                if outcome is not None:
                    settled[name] = outcome
            on_progress(number, len(videos))
    return settled


def _log_notes(outcomes: Iterable[Outcome], place: Path | str) -> None:
    noted = [outcome for outcome in outcomes if outcome.notes]
    if noted:
        example = printable(f"{noted[0].video}: {'; '.join(noted[0].notes)}")
        logger.info("notes on %d videos in %s/%s, such as %s", len(noted), place, MANIFEST, example)


def _worker_pool(
    config: Config,
    files: dict[str, Path],
    settings: Settings,
    output: tuple[Path | str, Results],
) -> WorkerPool:
    place, results = output
    section = config.annotation
    # One single-threaded worker per core beats fewer with more threads, on short clips.
    threads = worker_threads(section)
    plans = []
    for i in range(worker_count(section, networks=True)):
        gpu = section.gpus[i % len(section.gpus)] if section.gpus else None
        plans.append((_PoseWorkerPlan(config, files, settings, results, threads, gpu),))
    paths = WorkerPaths(place, (section.input,), tuple(files.values()))
    return worker_pool(section, _PoseWorker, plans, paths)


def _finished(
    result: tuple[Results, str], found: Listed, settings: Settings, video: Video
) -> Outcome | None:
    """Return the outcome of a finished result of the same video and settings, else None."""
    try:
        with result[0].local(result[1]) as path:
            meta = read_npz_meta(path, POSE_SCHEMA)
        same = _is_source(video, meta["source"], found.modified_s)
        if not same or meta["video"] != video.relative or meta["settings"] != settings:
            return None
        if "pixel_aspect" not in meta["video_info"]:
            return None  # made when pictures were read as stored, not as displayed
        outcome = _outcome(video.relative, FrameAccount(**meta["frame_account"]), meta["frames"])
        return replace(outcome, stamp=found.stamp)
    except StoreError:
        raise
    except (ArtifactError, OSError, KeyError, TypeError):
        return None


def _is_source(video: Video, source: Meta, result_s: float) -> bool:
    """Tell whether a result is made from the present video, as in make.

    A file newer than its result is compared by content; a newer object is read again.
    """
    if isinstance(video.source, StoredObject):
        return video.source.size == source["size_bytes"] and video.source.modified_s <= result_s
    now = video.source.stat()
    same = bool(now.st_size == source["size_bytes"])
    if same and now.st_mtime > result_s:
        same = bool(sha256_file(video.source) == source["sha256"])
    return same


def _outcome(relative: str, account: FrameAccount, frames: int) -> Outcome:
    notes = tuple(account.facts)
    if account.intact:
        return Outcome(relative, "done", frames=frames, notes=notes)
    return Outcome(relative, "damaged", describe_damage(account), frames, notes)


def describe_damage(account: FrameAccount) -> str:
    """Return a sentence on the frames of a video that are missing or doubtful."""
    parts = []
    if account.damaged:
        parts.append(f"{account.damaged} packets could not be decoded")
    if account.corrupt:
        parts.append(f"{account.corrupt} pictures are flagged as corrupt")
    if account.ended_early:
        total = (
            "an unknown number" if account.container_frames is None else account.container_frames
        )
        parts.append(f"ended early: {account.decoded} of {total} frames")
    return "; ".join([*parts, *account.notes])


def decoder_gpu(config: Config, gpu: int | None) -> int | None:
    """Return the number of the GPU that decodes, None for the CPU.

    Args:
        config: the settings.
        gpu: the worker's, of ``annotation.gpus``; None: that of the pose network's device.

    Raises:
        VideoError: as ``check_nvdec``.

    """
    if config.annotation.decoder == "cpu":
        return None
    if gpu is None:
        pose = config.models.pose_estimation
        device = getattr(pose, pose.inference_mode).device
        gpu = int(device.partition(":")[2]) if device.startswith("cuda") else 0
    check_nvdec(gpu)
    return gpu


class _PoseWorker:
    """One worker: a model opened once, then one video after another."""

    def __init__(self, plan: _PoseWorkerPlan) -> None:
        import cv2

        cv2.setNumThreads(1)  # its pool would fight the other workers for the cores
        self._plan = plan
        pose = plan.config.models.pose_estimation
        self._decoder_gpu = decoder_gpu(plan.config, plan.gpu)
        self._model = build_pose_model(pose, plan.files, threads=plan.threads, gpu=plan.gpu)

    def __call__(self, video: Video, on_frames: OnFrames) -> Outcome:
        try:
            with local_file(video, self._plan.results.root, on_frames) as path:
                return self._estimate(video, path, on_frames)
        except StoreError as error:
            raise StopRunError(f"annotation.input: {error}") from error
        except OSError as error:  # the object, or the disk that should hold it
            if isinstance(video.source, StoredObject) and not isinstance(error, ObjectError):
                raise StopRunError(f"cannot write the fetched {video.relative}: {error}") from error
            return Outcome(video.relative, "refused", str(error))

    def _estimate(self, video: Video, path: Path, on_frames: OnFrames) -> Outcome:
        hashes = HashRecorder()
        try:
            sequence, account, info = self._poses(path, on_frames, hashes)
            on_frames(0)  # shows that work goes on before the file is read again
            source = {"sha256": sha256_file(path), "size_bytes": path.stat().st_size}
        except ModelError as error:
            raise StopRunError(str(error)) from error
        except (VideoError, OSError) as error:
            return Outcome(video.relative, "refused", _reason(error, path, video.relative))
        meta = {
            "video": video.relative,
            "source": source,
            "frames": len(sequence),
            "video_info": asdict(info),
            "frame_account": asdict(account),
            "settings": self._plan.settings,
        }
        on_frames(0)  # before it goes to a store, which may take long

        def write(final: Path, root: Path) -> None:
            write_poses(final, root, sequence, meta, hashes.arrays())

        try:
            stamp = self._plan.results.save(result_name(video.relative, ".npz"), write)
        except OSError as error:
            raise StopRunError(str(error)) from error
        return replace(_outcome(video.relative, account, len(sequence)), stamp=stamp)

    def _poses(
        self, path: Path, on_frames: OnFrames, hashes: HashRecorder
    ) -> tuple[PoseSequence, FrameAccount, VideoInfo]:
        section = self._plan.config.annotation
        builder = PoseSequenceBuilder()
        with VideoReader(
            path,
            sample_fps=section.sample_fps,
            threads=self._plan.threads,
            gpu=self._decoder_gpu,
        ) as reader:
            # With a core to spare, the next frames are decoded while the network works.
            spare = self._plan.threads > 1 or self._plan.gpu is not None
            frames = hashes.watch(reader)
            frames = prefetch(frames, 2 * section.batch_size) if spare else frames
            for part in estimate_poses(
                frames, self._model, batch_size=section.batch_size, movement=section.movement
            ):
                builder.extend(part)
                on_frames(len(part))
            sequence, account = builder.build(reader.size_wh), reader.account
            holes = describe_holes(sequence.time_s, sequence.frame_period_s)
            return sequence, replace(account, facts=(*account.facts, *holes)), reader.info


def _reason(error: Exception, path: Path, relative: str) -> str:
    """Return the error's text without this machine's folders, so that manifests compare."""
    text = str(error) if not isinstance(error, OSError) else f"{error.strerror or error}"
    return text.replace(str(path), relative)
