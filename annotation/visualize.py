"""Overlay videos of a stage's results, for a person to look at.

``output/<dataset>/visualize/<stage folder>[-skeleton]/<path of the video>.mp4``: the
source video with skeletons, boxes, ids and involvement, or the same on black, which
needs no source video and shows nobody's face.
"""

import contextlib
import errno
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from annotation import stills
from annotation.inputs import video_path
from annotation.workspace import (
    Manifest,
    Outcome,
    Progress,
    dataset_dir,
    exclusive,
    read_manifest,
    result_path,
    stage1_dir,
    stage2_dir,
    write_manifest,
)
from recognizer.artifacts import (
    ArtifactError,
    atomic_path,
    json_bytes,
    read_poses,
    sha256_file,
    write_json,
)
from recognizer.config import Config
from recognizer.draw import draw_caption, draw_people
from recognizer.scoring.ranking import rank_people
from recognizer.types import ImageArray, PoseSequence
from recognizer.video.reader import VideoError, VideoReader
from recognizer.video.writer import VideoWriter

_SETTINGS = "settings.json"
_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EMFILE,
}
_LEGEND = "box: id, involvement; dashed: interpolated; grey: no track"
_LEGEND_WIDTH_PX = 320  # in a narrower picture it would leave no room for the rest


class SourceVideoError(ValueError):
    """A source video that is missing or does not give the frames of the result."""


def visualize(config: Config, progress: Progress | None = None) -> Path:
    """Draw the results of ``visualize.stage`` and return the folder of the overlays.

    Overlays that are there already are kept, unless they were made with other settings.
    A video whose source is missing or whose result cannot be read is recorded in
    ``manifest.json`` as refused; the others are drawn. With ``visualize.limit`` that
    many videos are chosen evenly from the whole list.

    Raises:
        FileNotFoundError: the stage has not finished.
        OSError: an overlay cannot be written (full disk, no permission); names its path.

    """
    stage_dir = stage1_dir(config) if config.visualize.stage == "stage1" else stage2_dir(config)
    stage = read_manifest(stage_dir)
    folder = dataset_dir(config) / "visualize" / _folder_name(config, stage_dir)
    settings = _settings(config, stage)
    chosen = _choose(stage.outcomes, config.visualize.limit)
    outcomes = []
    with exclusive(folder):
        _drop_other_settings(folder, settings, stage.outcomes)
        for entry in chosen:
            outcome = _one(config, stage_dir, folder, entry, progress)
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome, 0)
        write_manifest(folder, Manifest("visualize", settings, tuple(outcomes)))
    return folder


def _folder_name(config: Config, stage_dir: Path) -> str:
    return stage_dir.name + ("-skeleton" if config.visualize.skeleton_only else "")


def _settings(config: Config, stage: Manifest) -> dict[str, Any]:
    return {
        "visualize": config.visualize.model_dump(mode="json", exclude={"limit"}),
        "service": config.dataset.service,
        "scoring": config.scoring.model_dump(mode="json"),
        config.visualize.stage: stage.settings,
    }


def _choose(outcomes: tuple[Outcome, ...], limit: int | None) -> list[Outcome]:
    """Return at most ``limit`` inputs, spread over the list so that all classes show."""
    if limit is None or limit >= len(outcomes):
        return list(outcomes)
    return [outcomes[(2 * i + 1) * len(outcomes) // (2 * limit)] for i in range(limit)]


def _drop_other_settings(
    folder: Path, settings: dict[str, Any], outcomes: tuple[Outcome, ...]
) -> None:
    """Remove overlays made with other settings, so that all in a folder belong together."""
    path = folder / _SETTINGS
    if path.is_file() and path.read_bytes() == json_bytes(settings):
        return
    for outcome in outcomes:
        result_path(folder, outcome.video, ".mp4").unlink(missing_ok=True)
    write_json(path, folder, settings)


def _one(
    config: Config, stage_dir: Path, folder: Path, entry: Outcome, progress: Progress | None
) -> Outcome:
    """Draw one video unless it is there, and return its end state."""
    if entry.state == "refused":
        return Outcome(entry.video, "refused", f"no result to draw: {entry.reason}")
    result = result_path(stage_dir, entry.video, ".npz")
    if _is_current(result_path(folder, entry.video, ".mp4"), result):
        return Outcome(entry.video, "done", frames=entry.frames, notes=entry.notes)
    try:
        sequence, _, meta = read_poses(result)
    except (ArtifactError, OSError) as error:
        return Outcome(entry.video, "refused", _without_folder(error, result, entry.video))
    source = video_path(config.annotation, entry.video)
    try:
        if config.visualize.skeleton_only:
            pictures = _black(sequence)
        else:
            check_source(source, meta)
            pictures = pictures_of(source, sequence, sample_fps_of(meta))
        _write(config, sequence, pictures, folder, entry.video, progress)
    except (SourceVideoError, VideoError) as error:
        return Outcome(entry.video, "refused", _without_folder(error, source, entry.video))
    return Outcome(entry.video, "done", frames=len(sequence), notes=entry.notes)


def _is_current(final: Path, result: Path) -> bool:
    """Tell whether the overlay is there and, as make would say, not older than the result."""
    try:
        return final.stat().st_mtime_ns >= result.stat().st_mtime_ns
    except OSError:
        return False


def _without_folder(error: Exception, path: Path, name: str) -> str:
    """Return an error's text without this machine's folders, so that manifests compare."""
    return str(error).replace(str(path), name)


def _write(
    config: Config,
    sequence: PoseSequence,
    pictures: Iterator[ImageArray],
    folder: Path,
    video: str,
    progress: Progress | None,
) -> None:
    """Write the overlay of one video under its final name, or nothing."""
    final = result_path(folder, video, ".mp4")
    involvement: dict[int, float] | None = None
    if config.visualize.stage == "stage2":
        involvement = rank_people(sequence, config.dataset.service, config.scoring).by_id()
    frames = _overlays(sequence, pictures, involvement, video)
    tell = (lambda n: progress(None, n)) if progress is not None else (lambda n: None)
    write_frames(final, folder, frames, sequence.frame_period_s, config.visualize.crf, tell)


def write_frames(
    final: Path,
    root: Path,
    frames: Generator[tuple[ImageArray, float]],
    period_s: float,
    crf: int,
    tell: Callable[[int], None],
) -> None:
    """Write pictures of one size with their times as a video, whole or not at all.

    Args:
        final: the ``.mp4`` to make.
        root: the folder whose scratch folder is used.
        frames: picture and time in seconds; closed at the end.
        period_s: time from frame to frame, as players are told.
        crf: H.264 quality.
        tell: hears of every frame.

    Raises:
        SourceVideoError: no frames, or nothing that H.264 can hold.
        OSError: the file cannot be written; names its path.

    """
    try:
        with contextlib.closing(frames), atomic_path(final, root) as scratch:
            first = next(frames, None)
            if first is None:
                raise SourceVideoError("the result has no frame to draw")
            height, width = first[0].shape[:2]
            with _open_writer(scratch, (width, height), period_s, crf) as writer:
                for image, time_s in chain([first], frames):
                    writer.write(image, time_s)
                    tell(1)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:  # FFmpeg's own
            raise SourceVideoError(f"cannot be written as video: {error.strerror}") from error
        raise OSError(
            error.errno, f"cannot write the overlay video ({error.strerror})", str(final)
        ) from error


def _open_writer(path: Path, size_wh: tuple[int, int], period_s: float, crf: int) -> VideoWriter:
    period_s = float(np.clip(period_s, 1e-3, 60.0))
    try:
        return VideoWriter(path, size_wh, 1 / period_s, crf=crf)
    except ValueError as error:
        raise SourceVideoError(f"cannot become an H.264 video: {error}") from error


def _overlays(
    sequence: PoseSequence,
    pictures: Iterator[ImageArray],
    involvement: Mapping[int, float] | None,
    video: str,
) -> Generator[tuple[ImageArray, float]]:
    """Yield every frame of the result, drawn, with its time in seconds."""
    for t, image in enumerate(pictures):
        time_s = float(sequence.time_s[t])
        caption = f"{video}  {time_s:.2f} s"
        if sequence.corrupt[t]:  # first: where the picture is narrow, the name is shortened
            caption = f"damaged frame  {caption}"
        drawn = draw_people(image, sequence.frame(t), involvement)
        if involvement is not None and image.shape[1] >= _LEGEND_WIDTH_PX:
            drawn = draw_caption(drawn, _LEGEND, line=1)
        yield draw_caption(drawn, caption), time_s


def _black(sequence: PoseSequence) -> Iterator[ImageArray]:
    """Yield a black picture for every frame of the result."""
    width, height = sequence.size_wh
    return repeat(np.zeros((height, width, 3), np.uint8), len(sequence))


def check_source(source: Path, meta: Mapping[str, Any]) -> None:
    """Refuse a source video that is not there or not the one that stage 1 read."""
    if not source.is_file():
        raise SourceVideoError(
            "expected the source video below annotation.input, found none; set annotation.input, "
            "or visualize.skeleton_only to draw without it"
        )
    try:
        digest = sha256_file(source)
    except OSError as error:
        raise SourceVideoError(f"the source video cannot be read: {error.strerror}") from error
    if digest != meta.get("source", {}).get("sha256", digest):
        raise SourceVideoError("the source video is not the one that stage 1 read; run it again")


def sample_fps_of(meta: Mapping[str, Any]) -> float | None:
    """Return the frame rate to which stage 1 thinned the video, None if it did not."""
    return stills.sample_fps_of(meta.get("settings", {}))


def pictures_of(
    source: Path, sequence: PoseSequence, sample_fps: float | None
) -> Iterator[ImageArray]:
    """Yield the picture of every frame of the result.

    The reader gives the frames that stage 1 saw, in the same order; times are compared
    all the same, so that a skeleton never lies on the wrong picture.
    """
    tolerance_s = max(sequence.frame_period_s / 4, 0.002)
    with VideoReader(source, sample_fps=sample_fps) as reader:
        for time_s in sequence.time_s:
            frame = next((f for f in reader if f.time_s >= time_s - tolerance_s), None)
            if frame is None or frame.time_s > time_s + tolerance_s:
                raise SourceVideoError(
                    f"expected a frame at {time_s:.3f} s as in stage 1, the video has none there"
                )
            same = frame.image.size_wh == sequence.size_wh
            yield frame.image.bgr(None if same else sequence.size_wh)
