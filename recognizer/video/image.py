"""Pictures that become BGR pixels only when, and only as large as, somebody asks."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from recognizer.types import ImageArray

_MAX_REFORMATTERS = 4
_MATRIX_ENTRIES = 9
# Averaging keeps pixel centres in place and costs what swscale's FAST_BILINEAR costs, which
# moves the picture by up to 1.4 (small) pixels to the left: too much for keypoints.
_SCALING = Interpolation.AREA


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture is turned for showing: transposed first, then mirrored.

    Attributes:
        transpose: x and y change places.
        flip_x: then left and right change places.
        flip_y: then top and bottom change places.

    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> "Orientation | None":
        """Read a display matrix (3 x 3, row by row, as in ISO 14496-12, 6.2.2).

        A stored point (x, y) is shown at (a x + c y, b x + d y) with a, b, c, d the entries
        0, 1, 3, 4. Scale and shift do not matter to us.

        Returns:
            None where the angle is no multiple of 90 degrees.

        """
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
        if straight == crossed == 0:
            return cls()
        if min(straight, crossed) * 50 > max(straight, crossed):
            return None
        if straight > crossed:
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn in degrees; of a mirrored picture the turn after a left-right flip."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def turn_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return the shown size of a stored size, and the other way round."""
        return (size_wh[1], size_wh[0]) if self.transpose else size_wh

    def apply(self, bgr: ImageArray) -> ImageArray:
        """Return the picture as it is shown, (H, W, 3) contiguous."""
        shown: Any = cv2.transpose(bgr) if self.transpose else bgr
        if self.flip_x or self.flip_y:
            shown = cv2.flip(shown, -1 if self.flip_x and self.flip_y else int(self.flip_x))
        return np.ascontiguousarray(shown)


def orientation_of(frame: av.VideoFrame) -> Orientation | None:
    """Return how a decoded frame is to be turned; None for an angle that is not right."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    matrix = np.frombuffer(bytes(data), np.int32)
    return Orientation.from_matrix(matrix.tolist()) if len(matrix) == _MATRIX_ENTRIES else None


class Converter:
    """Turn decoded frames of one video into BGR; shared by all its frames.

    One scaling context per wanted size is kept, so that a detector that asks for a small
    picture and a pose network that asks for the whole one do not rebuild it in turn.
    """

    def __init__(self, orientation: Orientation) -> None:
        self.orientation = orientation
        self._reformatters: dict[tuple[int, int], VideoReformatter] = {}
        self._lock = threading.Lock()

    def bgr(self, frame: av.VideoFrame, size_wh: tuple[int, int] | None) -> ImageArray:
        """Return BGR pixels, scaled to ``size_wh`` (after rotation) and turned.

        Colour matrix and range are those the frame is tagged with; untagged means BT.601 with
        limited range, as in ffmpeg and OpenCV.

        Raises:
            ValueError: a size below one pixel, or a pixel format that cannot become BGR.

        """
        _check_size(size_wh)
        stored = (frame.width, frame.height)
        wanted = stored if size_wh is None else self.orientation.turn_size(size_wh)
        try:
            with self._lock:
                picture: Any = self._reformatter(wanted).reformat(
                    frame, *wanted, format="bgr24", interpolation=_SCALING,
                    threads=1,
                )  # fmt: skip
        except av.FFmpegError as error:
            raise ValueError(
                f"expected pixels that can become BGR, got format {frame.format.name} at "
                f"{frame.width}x{frame.height}: {error}"
            ) from error
        return self.orientation.apply(picture.to_ndarray())

    def _reformatter(self, size_wh: tuple[int, int]) -> VideoReformatter:
        if size_wh not in self._reformatters:
            if len(self._reformatters) >= _MAX_REFORMATTERS:
                self._reformatters.pop(next(iter(self._reformatters)))
            self._reformatters[size_wh] = VideoReformatter()
        return self._reformatters[size_wh]


class DecodedImage:
    """A decoded frame in the decoder's own format; satisfies ``recognizer.types.Image``."""

    __slots__ = ("_converter", "_frame")

    def __init__(self, frame: av.VideoFrame, converter: Converter) -> None:
        self._frame = frame
        self._converter = converter

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, after rotation."""
        return self._converter.orientation.turn_size((self._frame.width, self._frame.height))

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled to ``size_wh`` if given. Raises as Converter."""
        return self._converter.bgr(self._frame, size_wh)


class ArrayImage:
    """A picture that is already an array; satisfies ``recognizer.types.Image``.

    Args:
        bgr: (H, W, 3) uint8.

    Raises:
        ValueError: another shape or type, or no pixel at all.

    """

    __slots__ = ("_bgr",)

    def __init__(self, bgr: ImageArray) -> None:
        fits = isinstance(bgr, np.ndarray) and bgr.dtype == np.uint8
        if not fits or bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.size == 0:
            came = f"{bgr.shape} {bgr.dtype}" if hasattr(bgr, "dtype") else repr(bgr)[:50]
            raise ValueError(f"image: expected (H, W, 3) uint8 BGR pixels, got {came}")
        self._bgr = bgr

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._bgr.shape[1], self._bgr.shape[0]

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled bilinearly to ``size_wh`` if given."""
        _check_size(size_wh)
        if size_wh is None or size_wh == self.size_wh:
            return self._bgr
        scaled: Any = cv2.resize(self._bgr, size_wh, interpolation=cv2.INTER_LINEAR)
        return np.asarray(scaled, np.uint8)


def _check_size(size_wh: tuple[int, int] | None) -> None:
    if size_wh is not None and min(size_wh) < 1:
        raise ValueError(f"size_wh: expected at least 1 x 1 pixels, got {size_wh}")
