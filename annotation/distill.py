"""Mode annotation.distill: footage -> COCO-format data, labelled by a strong, slow teacher.

<distill.output>/
images/<name>.jpg               pictures, one every distill.every_s
labels/<video>.json             labels of a video: what a second run does not repeat
person_keypoints_train.json     COCO's format, split by source
person_keypoints_val.json
distill.json                    settings, digests of the networks, counts, end states
contact_sheet.png               some pictures with their labels
"""

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from annotation.distill_dataset import (
    SPLITS,
    annotation_file,
    count_labels,
    split_sources,
    write_coco,
)
from annotation.distill_sheet import SHEET, write_sheet
from annotation.distill_video import IMAGES, VideoLabeller, picture_prefix
from annotation.sources import find_sources
from annotation.teacher import TEACHER_REVISION, build_teacher
from recognizer.backends.network import ModelError
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED, next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.pose.settings import pose_settings
from recognizer.runs.batch import (
    WorkerPaths,
    run_batch,
    worker_count,
    worker_pool,
    worker_threads,
)
from recognizer.runs.inputs import Video, list_videos, local_input
from recognizer.runs.manifest import Outcome, Settings, State, exclusive, result_path
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.shards import refuse_shard
from recognizer.runs.stage1 import describe_damage
from recognizer.runs.stage_folders import local_place, pose_model_files, stage1_settings
from recognizer.runs.worker_pool import Job, OnFrames, StopRunError, WorkerPool
from recognizer.storage.artifacts import sha256_file, write_json
from recognizer.video.reader import VideoError

logger = logging.getLogger(__name__)

MANIFEST, SCHEMA, LABELS_SCHEMA = "distill.json", "recognizer.distill", "recognizer.distill_labels"
LABELS = "labels"
_OWN = (MANIFEST, SHEET)  # beside the COCO files
JsonObject = dict[str, Any]


def distill(config: Config, progress: ProgressFactory = silent) -> int:
    """Label the videos of ``annotation.input`` and return the exit code.

    Raises:
        ConfigError: no network file, a one-stage network as the teacher, a video without a source,
            another data set in the folder.
        FileNotFoundError, ValueError: no videos.
        BlockingIOError: another run is at work in the folder.
        RunError: a network does not load, or results cannot be written.

    """
    refuse_shard(config, "annotation.distill")
    local_input(config.annotation)
    videos = list_videos(config.annotation)
    source_of = find_sources(config.dataset.split, [v.relative for v in videos], {})
    files = teacher_files(config)
    settings, folder = _settings(config, files), distill_dir(config)
    _check_folder(folder)
    if "second_opinion" not in files:
        logger.info("distill: without MoveNet's second opinion (distill.second_opinion is null)")
    with exclusive(folder), progress("distill: videos", len(videos)) as advance:
        _report_dropped(folder, {video.relative for video in videos})
        settled = {v.relative: _finished(folder, settings, v) for v in videos}
        outcomes = run_batch(
            [outcome for outcome in settled.values() if outcome is not None],
            [Job(v.relative, v) for v in videos if settled[v.relative] is None],
            _worker_pool(config, files, settings, folder),
            advance,
        )
        pictures = {
            o.video: _read_labels(folder, o.video)["pictures"]
            for o in outcomes
            if o.state != "refused"
        }
        split_of = split_sources((source_of[video] for video in pictures), config.distill.val_share)
        write_coco(folder, pictures, source_of, split_of)
        write_sheet(folder, pictures)
        manifest = _manifest(settings, outcomes, pictures, (source_of, split_of))
        write_json(folder / MANIFEST, folder, manifest)
    _report(config, folder, manifest)
    return EXIT_SOME_REFUSED if manifest["totals"]["refused"] else EXIT_DONE


def _check_folder(folder: Path) -> None:
    """Refuse a folder with files of these names that this mode did not write: they would go."""
    written = [*(annotation_file(folder, split) for split in SPLITS), *map(folder.joinpath, _OWN)]
    present = [file for file in written if file.exists()]
    if present and not _is_own(folder):
        raise ConfigError(
            f"distill.output: expected a folder of its own, found {present[0]} of another data "
            "set, which would be overwritten; set distill.output to a new folder"
        )


def _is_own(folder: Path) -> bool:
    """Return whether a file with this mode's schema is there: its summary or a video's labels."""
    marked = [(folder / MANIFEST, SCHEMA)]
    marked += [(file, LABELS_SCHEMA) for file in sorted((folder / LABELS).rglob("*.json"))]
    for file, schema in marked:
        with contextlib.suppress(OSError, ValueError):
            if _read_json(file).get("schema") == schema:
                return True
    return False


def _report_dropped(folder: Path, videos: set[str]) -> None:
    """Log which videos of an earlier run are no longer in the input, and so leave the data set."""
    try:
        earlier = _read_json(folder / MANIFEST)["videos"]
        dropped = sorted(set(map(str, earlier)) - videos)
    except (OSError, ValueError, KeyError, TypeError):
        return  # none, or one cut off: this run writes it anew
    if dropped:
        logger.warning(
            "distill: %d videos of the last run are not in annotation.input, such as %s: their "
            "pictures stay, the data set goes on without them",
            len(dropped),
            dropped[0],
        )


def distill_dir(config: Config) -> Path:
    """Return the folder of the data set."""
    return (
        config.distill.output
        or local_place(config.annotation.output_dir, "annotation.output_dir") / "distill"
    )


def teacher_files(config: Config) -> dict[str, Path]:
    """Return the teacher's network files by role: pose, detector, second_opinion if there is one.

    Raises:
        ConfigError: a file that is not there, or a one-stage pose network.

    """
    files = pose_model_files(config)
    if pose_settings(config, files).kind != "topdown":
        raise ConfigError(
            f"annotation.distill: expected a network of kind topdown as the teacher, which sees "
            f"one person at a time also turned and mirrored, got {files['pose']}; set "
            "models.pose_estimation.onnx.model_path to one such as SDPose or PP-TinyPose (--config "
            "configs/presets/tinypose.yaml)"
        )
    if config.distill.second_opinion is not None:
        files["second_opinion"] = find_model_file(
            config.distill.second_opinion, config.models.folders(), "distill.second_opinion"
        )
    return files


def _settings(config: Config, files: Mapping[str, Path]) -> Settings:
    """Return all that decides a video's labels."""
    stage1 = stage1_settings(config)
    settings = {key: stage1[key] for key in ("pose", "models")}
    if second := files.get("second_opinion"):
        settings["models"]["second_opinion"] = {"file": second.name, "sha256": sha256_file(second)}
    decides = config.distill.model_dump(
        mode="json", exclude={"output", "second_opinion", "val_share"}
    )
    return {**settings, "distill": decides, "revision": TEACHER_REVISION}


def _worker_pool(
    config: Config, files: dict[str, Path], settings: Settings, folder: Path
) -> WorkerPool:
    section = config.annotation
    threads = worker_threads(section)
    plans = []
    for i in range(worker_count(section, networks=True)):
        gpu = section.gpus[i % len(section.gpus)] if section.gpus else None
        plans.append((_DistillWorkerPlan(config, files, settings, folder, threads, gpu),))
    paths = WorkerPaths(folder, (section.input,), tuple(files.values()))
    return worker_pool(section, _DistillWorker, plans, paths)


# --- one video ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _DistillWorkerPlan:
    """Settings of one worker."""

    config: Config
    files: dict[str, Path]
    settings: Settings
    folder: Path
    threads: int
    gpu: int | None


class _DistillWorker:
    """One worker: the teacher opened once, then one video after another."""

    def __init__(self, plan: _DistillWorkerPlan) -> None:
        import cv2

        cv2.setNumThreads(1)  # its pool would fight the other workers for the cores
        self._plan, files = plan, dict(plan.files)
        second = files.pop("second_opinion", None)
        pose = pose_settings(plan.config, files)
        teacher = build_teacher(pose, files, second, threads=plan.threads, gpu=plan.gpu)
        self._label = VideoLabeller(teacher, plan.config.distill, plan.folder, plan.threads)

    def __call__(self, video: Video, on_frames: OnFrames) -> Outcome:
        folder = self._plan.folder
        try:
            pictures, account = self._label(video.relative, video.path, on_frames)
            source = {"sha256": sha256_file(video.path), "size_bytes": video.path.stat().st_size}
        except ModelError as error:
            raise StopRunError(str(error)) from error
        except (VideoError, OSError) as error:
            reason = str(error).replace(str(video.path), video.relative)
            return Outcome(video.relative, "refused", reason)
        state: State = "done" if account.intact else "damaged"
        reason = "" if account.intact else describe_damage(account)
        outcome = Outcome(video.relative, state, reason, len(pictures), tuple(account.facts))
        value = {
            "schema": LABELS_SCHEMA,
            "settings": self._plan.settings,
            "source": source,
            "outcome": asdict(outcome),
            "pictures": pictures,
        }
        final = _labels_path(folder, video.relative)
        try:
            write_json(final, folder, value)
        except OSError as error:
            raise StopRunError(f"cannot write {final}: {error}") from error
        _forget_pictures(folder, video.relative, {picture["file_name"] for picture in pictures})
        return outcome


def _labels_path(folder: Path, video: str) -> Path:
    return result_path(folder / LABELS, video, ".json")


def _forget_pictures(folder: Path, video: str, kept: set[str]) -> None:
    """Remove the pictures of a video that its labels, now written, no longer name."""
    for path in (folder / IMAGES).glob(f"{picture_prefix(video)}*.jpg"):
        if path.name not in kept:
            path.unlink()


def _read_labels(folder: Path, video: str) -> JsonObject:
    return _read_json(_labels_path(folder, video))


def _read_json(path: Path) -> JsonObject:
    """Read an object that this mode wrote.

    Raises:
        OSError: no such file, or one that cannot be read.
        ValueError: not a file of an object in JSON.

    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a file, got a folder, device or pipe")
    try:
        value = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path}: expected JSON of this mode, got one nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object, got {type(value).__name__}")
    return value


def _finished(folder: Path, settings: Settings, video: Video) -> Outcome | None:
    """Return the end state of a video that is labelled with these settings already, else None."""
    try:
        value = _read_labels(folder, video.relative)
        now, source = video.path.stat(), value["source"]
        same = value["schema"] == LABELS_SCHEMA and value["settings"] == settings
        same = same and now.st_size == source["size_bytes"]
        # As in make: a file newer than its labels is compared by content.
        if same and now.st_mtime > _labels_path(folder, video.relative).stat().st_mtime:
            same = sha256_file(video.path) == source["sha256"]
        files = [folder / IMAGES / picture["file_name"] for picture in value["pictures"]]
        if not same or not all(file.is_file() and file.stat().st_size for file in files):
            return None
        outcome = value["outcome"]
        if outcome["state"] not in ("done", "damaged"):
            return None
        count_labels(value["pictures"])  # reads every key that the data set is made of
        return Outcome(**{**outcome, "notes": tuple(outcome["notes"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # labelled anew


# --- all videos --------------------------------------------------------------------


def _manifest(
    settings: Settings,
    outcomes: Sequence[Outcome],
    pictures: Mapping[str, Sequence[JsonObject]],
    sources: tuple[Mapping[str, str], Mapping[str, str]],
) -> JsonObject:
    """Return what distill.json holds; ``sources``: the source by video, the split by source."""
    source_of, split_of = sources
    states = Counter(outcome.state for outcome in outcomes)
    videos = {}
    for outcome in sorted(outcomes, key=lambda o: o.video):
        own: JsonObject = {"state": outcome.state, "reason": outcome.reason}
        if outcome.video in pictures:
            own["source"] = source_of[outcome.video]
            own["split"] = split_of[own["source"]]
            own |= count_labels(pictures[outcome.video])
        videos[outcome.video] = own
    by_split = {
        split: count_labels(
            picture
            for video, own in pictures.items()
            if split_of[source_of[video]] == split
            for picture in own
        )
        for split in SPLITS
    }
    totals = {state: states[state] for state in ("done", "damaged", "refused")}
    return {
        "schema": SCHEMA,
        "settings": settings,
        "totals": {**totals, "videos": len(outcomes), "sources": len(split_of), **by_split},
        "videos": videos,
    }


def _report(config: Config, folder: Path, manifest: JsonObject) -> None:
    totals = manifest["totals"]
    for split in SPLITS:
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in totals[split].items())
        logger.info("distill: %s: %s", split, counts)
    if not totals["val"]["people"]:
        logger.warning(
            "distill: %s holds no people to validate on: expected two sources or more with people, "
            "got %d sources; add footage of another camera, or set dataset.split.sources",
            annotation_file(folder, "val").name,
            totals["sources"],
        )
    states = ", ".join(f"{totals[state]} {state}" for state in ("done", "damaged", "refused"))
    logger.info("distill: %d videos: %s", totals["videos"], states)
    logger.info("distill: %s and %s: look at the labels first", folder / SHEET, folder / MANIFEST)
    options = [
        f"{split}_dataloader.dataset.{key}"
        for split in ("train", "val", "test")
        for key in (
            f"ann_file={annotation_file(folder, 'train' if split == 'train' else 'val').name}",
            f"data_prefix.img={IMAGES}/",
        )
    ]
    changes = {
        "train.config_file": ["<a config of configs/body_2d_keypoint>"],
        "train.data_root": folder,
        "train.cfg_options": options,
    }
    logger.info("next: %s", next_command(config, "train.check", changes))
