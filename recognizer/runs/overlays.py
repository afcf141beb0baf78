"""Overlay videos: read the pictures of a result's frames, and write drawn ones as a video."""

import contextlib
import errno
from collections.abc import Generator, Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np

from recognizer.runs.worker_pool import OnFrames
from recognizer.storage.artifacts import atomic_path, sha256_file
from recognizer.types import ImageArray, PoseSequence
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter

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


class SourceVideoError(ValueError):
    """A source video that is missing or does not give the frames of the result."""


def write_frames(
    final: Path,
    root: Path,
    frames: Generator[tuple[ImageArray, float]],
    period_s: float,
    crf: int,
    on_frames: OnFrames,
) -> None:
    """Write pictures of one size with their times as a video, whole or not at all.

    Args:
        final: the ``.mp4`` to make.
        root: the folder whose scratch folder is used.
        frames: picture and time in seconds; closed at the end.
        period_s: nominal time from frame to frame.
        crf: H.264 quality.
        on_frames: called after every frame.

    Raises:
        SourceVideoError: no frames, or a size that H.264 does not allow.
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
                    on_frames(1)
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


def check_source(source: Path, meta: Mapping[str, Any]) -> None:
    """Refuse a source video that is missing or not the one that stage 1 read."""
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


def black_pictures(sequence: PoseSequence) -> Iterator[ImageArray]:
    """Yield a black picture for every frame of the result: the same array, not to be drawn on."""
    width, height = sequence.size_wh
    return repeat(np.zeros((height, width, 3), np.uint8), len(sequence))


def pictures_of(
    source: Path, sequence: PoseSequence, sample_fps: float | None
) -> Iterator[ImageArray]:
    """Yield the picture of every frame of the result.

    The reader gives the frames that stage 1 read, in the same order; times are compared as well,
    so that no skeleton is drawn on the wrong picture.
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
