"""Stage 1: video -> poses, one ``.npz`` per video, in worker processes.

A video that cannot be read is refused with its reason; of a damaged one the readable frames are
used, with a damage report. Finished videos are not repeated.
"""

import logging
from collections.abc import Iterable
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
from recognizer.runs.inputs import Video, list_videos
from recognizer.runs.manifest import (
    MANIFEST,
    Manifest,
    Outcome,
    Settings,
    exclusive,
    outcomes_before,
    result_path,
    write_manifest,
)
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.stage_folders import pose_model_files, stage1_dir, stage1_settings
from recognizer.runs.worker_pool import Job, OnFrames, StopRunError, WorkerPool
from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    ArtifactError,
    read_npz_meta,
    sha256_file,
    write_poses,
)
from recognizer.types import FrameAccount, PoseSequence, PoseSequenceBuilder
from recognizer.video.hashes import HashRecorder
from recognizer.video.nvdec import check_nvdec
from recognizer.video.prefetch import prefetch
from recognizer.video.reader import VideoError, VideoInfo, VideoReader
from recognizer.video.writer import describe_holes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _PoseWorkerPlan:
    """Settings of one worker."""

    config: Config
    files: dict[str, Path]
    settings: Settings
    folder: Path
    threads: int
    gpu: int | None


def run_stage1(config: Config, progress: ProgressFactory = silent) -> Path:
    """Extract the poses of every video below ``annotation.input``.

    Returns:
        The stage's folder; its manifest has the end state of every video.

    Raises:
        ConfigError, FileNotFoundError, ValueError: no videos, no model file.
        RunError: the model does not load, or results cannot be written.

    """
    present = list_videos(config.annotation, selected=False)
    videos = list_videos(config.annotation)
    files, settings = pose_model_files(config), stage1_settings(config)
    folder = stage1_dir(config)
    if what := describe_files(files):
        logger.info("models.pose_estimation: %s", what)
    with exclusive(folder), progress("stage 1: videos", len(videos)) as advance:
        finished = {v.relative: _finished(folder, settings, v) for v in videos}
        todo = [v for v in videos if finished[v.relative] is None]
        todo.sort(key=lambda v: -_size(v.path))  # the longest first: no long tail at the end
        outcomes = run_batch(
            [outcome for outcome in finished.values() if outcome is not None],
            [Job(v.relative, v) for v in todo],
            _worker_pool(config, files, settings, folder),
            advance,
        )
        # A narrower annotation.include keeps the end states of a wider run.
        others = {v.relative for v in present} - {v.relative for v in videos}
        kept = [o for video, o in outcomes_before(folder).items() if video in others]
        write_manifest(folder, Manifest("stage1", settings, (*outcomes, *kept)))
    _log_notes(outcomes, folder)
    return folder


def _log_notes(outcomes: Iterable[Outcome], folder: Path) -> None:
    noted = [outcome for outcome in outcomes if outcome.notes]
    if noted:
        example = printable(f"{noted[0].video}: {'; '.join(noted[0].notes)}")
        logger.info("notes on %d videos in %s, such as %s", len(noted), folder / MANIFEST, example)


def _worker_pool(
    config: Config, files: dict[str, Path], settings: Settings, folder: Path
) -> WorkerPool:
    section = config.annotation
    # One single-threaded worker per core beats fewer with more threads, on short clips.
    threads = worker_threads(section)
    plans = []
    for i in range(worker_count(section)):
        gpu = section.gpus[i % len(section.gpus)] if section.gpus else None
        plans.append((_PoseWorkerPlan(config, files, settings, folder, threads, gpu),))
    paths = WorkerPaths(folder, (section.input,), tuple(files.values()))
    return worker_pool(section, _PoseWorker, plans, paths)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _finished(folder: Path, settings: Settings, video: Video) -> Outcome | None:
    """Return the outcome of a finished result of the same video and settings, else None."""
    path = result_path(folder, video.relative, ".npz")
    try:
        meta = read_npz_meta(path, POSE_SCHEMA)
        now, source = video.path.stat(), meta["source"]
        same = now.st_size == source["size_bytes"]
        # As in make: a file newer than its result is compared by content.
        if same and now.st_mtime > path.stat().st_mtime:
            same = sha256_file(video.path) == source["sha256"]
        if not same or meta["video"] != video.relative or meta["settings"] != settings:
            return None
        if "pixel_aspect" not in meta["video_info"]:
            return None  # made when pictures were read as stored, not as displayed
        return _outcome(video.relative, FrameAccount(**meta["frame_account"]), meta["frames"])
    except (ArtifactError, OSError, KeyError, TypeError):
        return None


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
        hashes = HashRecorder()
        try:
            sequence, account, info = self._poses(video, on_frames, hashes)
            on_frames(0)  # shows that work goes on before the file is read again
            source = {"sha256": sha256_file(video.path), "size_bytes": video.path.stat().st_size}
        except ModelError as error:
            raise StopRunError(str(error)) from error
        except (VideoError, OSError) as error:
            return Outcome(video.relative, "refused", _reason(error, video))
        meta = {
            "video": video.relative,
            "source": source,
            "frames": len(sequence),
            "video_info": asdict(info),
            "frame_account": asdict(account),
            "settings": self._plan.settings,
        }
        final = result_path(self._plan.folder, video.relative, ".npz")
        try:
            write_poses(final, self._plan.folder, sequence, meta, hashes.arrays())
        except OSError as error:
            raise StopRunError(f"cannot write {final}: {error}") from error
        return _outcome(video.relative, account, len(sequence))

    def _poses(
        self, video: Video, on_frames: OnFrames, hashes: HashRecorder
    ) -> tuple[PoseSequence, FrameAccount, VideoInfo]:
        section = self._plan.config.annotation
        builder = PoseSequenceBuilder()
        with VideoReader(
            video.path,
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


def _reason(error: Exception, video: Video) -> str:
    """Return the error's text without this machine's folders, so that manifests compare."""
    text = str(error) if not isinstance(error, OSError) else f"{error.strerror or error}"
    return text.replace(str(video.path), video.relative)
