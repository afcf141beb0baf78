"""Write H.264 mp4 files that browsers play."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from recognizer.checks import check_number, check_pixels
from recognizer.types import ImageArray

# 1/90000 s holds the frame times of all common rates, and browsers know it.
_TIME_BASE = Fraction(1, 90_000)
_BT709 = 1  # the same number for primaries, transfer and matrix (ITU-T H.273)
_MAX_SIDE = 16_384
_MAX_GAP_S, _MAX_GAP_PERIODS, _LONGEST_GAP_S = 60.0, 10, 600.0


def max_gap_s(period_s: float) -> float:
    """Return the longest time between frames that is kept: a minute, more for slow video."""
    return min(max(_MAX_GAP_S, _MAX_GAP_PERIODS * period_s), _LONGEST_GAP_S)


def describe_holes(time_s: NDArray[np.float64], period_s: float) -> tuple[str, ...]:
    """Describe the holes of a video that ``VideoWriter`` shows shorter than they are.

    Args:
        time_s: (T,) times of its frames in seconds.
        period_s: nominal time from frame to frame.

    """
    longest = max_gap_s(period_s)
    holes = np.diff(time_s)[np.diff(time_s) > longest]
    if not len(holes):
        return ()
    return (
        f"{len(holes)} holes of more than {longest:.0f} s, {holes.sum():.0f} s in all, are "
        f"{longest:.0f} s long in overlay videos; the times written there are the true ones",
    )


class VideoWriter:
    """Write frames with their times to an H.264 mp4.

    ``yuv420p`` with the index in front, so that it plays while it loads. Odd sizes are padded by
    one black row or column, as H.264 needs even ones. Times are kept, so that a variable
    frame rate stays one; they count from the first frame's. A longer gap than ``max_gap_s()``
    is shortened to it, as mp4 cannot hold hours.

    The file is complete only after a normal end of the ``with`` block: give it a scratch
    path (``recognizer.storage.artifacts.atomic_path``).

    Args:
        path: an ``.mp4`` to make.
        size_wh: width and height of the frames in pixels.
        fps: nominal frames per second; only gives the duration of the last frame.
        crf: quality, 0 (lossless) to 51 (worst).

    Raises:
        ValueError: a size or rate that no video has.
        OSError: the file cannot be written (disk full, not permitted); names the path.

    """

    def __init__(
        self, path: str | Path, size_wh: tuple[int, int], fps: float, *, crf: int = 23
    ) -> None:
        if not all(0 < side <= _MAX_SIDE for side in size_wh):
            raise ValueError(f"size_wh: expected 1 to {_MAX_SIDE} pixels a side, got {size_wh}")
        if not 0 < fps <= 1000:
            raise ValueError(f"fps: expected a rate from 0 to 1000, got {fps}")
        self.path = path = Path(path)
        self._is_closed = False
        self._size_wh = size_wh
        width, height = (side + side % 2 for side in size_wh)
        self._canvas = np.zeros((height, width, 3), np.uint8)
        self._last: int | None = None
        self._start_s = 0.0
        self._max_gap = round(max_gap_s(1 / fps) / _TIME_BASE)
        self._step = max(round(1 / fps / _TIME_BASE), 1)
        try:
            self._container = av.open(
                f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}
            )
            self._stream = self._add_stream(width, height, fps, crf)
            self._container.start_encoding()  # opens the file, so that a bad path shows now
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error
        self._reformatter = VideoReformatter()

    def _add_stream(self, width: int, height: int, fps: float, crf: int) -> VideoStream:
        rate = Fraction(fps).limit_denominator(1001)
        stream = self._container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast", "crf": str(crf)}
        # Untagged colours are read as BT.601 by some players and as BT.709 by others.
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = ColorRange.MPEG
        return stream

    def write(self, bgr: ImageArray, time_s: float) -> None:
        """Append a frame.

        Args:
            bgr: (H, W, 3) uint8 of the writer's size.
            time_s: when it is shown; not later than the frame before shifts it by 1/90000 s.

        Raises:
            TypeError: a time that is no number.
            ValueError: another shape or type, a time that is not finite, or a closed writer.
            OSError: as at the constructor.

        """
        if self._is_closed:
            raise ValueError(f"{self.path}: expected an open writer, the writer is closed")
        width, height = self._size_wh
        check_pixels(bgr)
        if bgr.shape != (height, width, 3):
            raise ValueError(
                f"image: expected ({height}, {width}, 3) uint8, got {bgr.shape} {bgr.dtype}"
            )
        check_number("time_s", time_s)
        if not np.isfinite(time_s):
            raise ValueError(f"time_s: expected a finite number of seconds, got {time_s}")
        if self._last is None:
            self._start_s = time_s
        stamp = round((time_s - self._start_s) / _TIME_BASE)
        stamp = stamp if self._last is None else self._after_last(stamp)
        self._canvas[:height, :width] = bgr
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(self._canvas, format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base, frame.duration = stamp, _TIME_BASE, self._step
        self._last = stamp
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _after_last(self, stamp: int) -> int:
        """Return when the next frame is shown: after the last one, but not too long after."""
        last = self._last or 0
        excess = stamp - last - self._max_gap
        if excess > 0:
            self._start_s += float(excess * _TIME_BASE)
            return last + self._max_gap
        return max(stamp, last + 1)

    def close(self) -> None:
        """Write what is left and the index; a closed writer stays as it is.

        Raises:
            OSError: the file is not complete.

        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OSError:
        number = getattr(error, "errno", None)
        text = getattr(error, "strerror", None) or str(error)
        return OSError(number, f"cannot write the video: {text}", str(self.path))

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file; after an error in the block only let go of it."""
        if kind is None:
            self.close()
            return
        self._is_closed = True
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            return  # the error that is on its way says more
