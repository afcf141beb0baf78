"""Pictures converted to BGR on demand, in the size asked for."""

import threading
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from recognizer.types import ImageArray
from recognizer.video import hdr
from recognizer.video.array_image import ArrayImage, check_size
from recognizer.video.display import Display

__all__ = ["ArrayImage", "Converter", "DecodedImage", "is_matrix_known", "source_matrix"]

_MAX_REFORMATTERS = 4
# Averaging keeps pixel centres in place and costs what swscale's FAST_BILINEAR costs, which
# moves the picture by up to 1.4 (small) pixels to the left: too much for keypoints.
_SCALING = Interpolation.AREA
_UNSPECIFIED = 2
# Colour matrices (ITU-T H.273, table 4) that swscale knows, and those it does not name.
_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}
# swscale blends the colours of formats with interleaved colour planes in another way: so that
# pictures of a GPU's decoder look as those of a CPU's, they are sorted into planes first.
_PLANAR = {"nv12": "yuv420p", "nv16": "yuv422p", "p010le": "yuv420p10le"}
_SAME_MATRIX = {3: Colorspace.ITU601, 10: Colorspace.BT2020}


class Converter:
    """Turn decoded frames of one video into BGR as it is shown; shared by all its frames.

    One scaling context per size is kept, so that a detector that asks for a small
    picture and a pose network that asks for the whole one do not rebuild it in turn.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self._reformatters: dict[tuple[int, int], VideoReformatter] = {}
        self._sorter = VideoReformatter()
        self._lock = threading.Lock()

    def bgr(self, frame: av.VideoFrame, size_wh: tuple[int, int] | None) -> ImageArray:
        """Return BGR pixels as shown, scaled to ``size_wh`` if given.

        Colour matrix and range are those the frame is tagged with; untagged means BT.601 with
        limited range, as in ffmpeg and OpenCV. High dynamic range becomes BT.709.

        Raises:
            ValueError: a size below one pixel, or a pixel format that cannot become BGR.

        """
        check_size(size_wh)
        display = self.display
        if display.crop or display.orientation.tilt is not None:
            return self._step_by_step(frame, size_wh)
        shown = size_wh or display.size_wh
        return display.orientation.apply(self._scaled(frame, display.orientation.turn_size(shown)))

    def _step_by_step(self, frame: av.VideoFrame, size_wh: tuple[int, int] | None) -> ImageArray:
        """Crop, scale to square pixels, turn, and only then scale to what was asked for."""
        display, crop = self.display, self.display.crop
        if crop:
            stored = self._scaled(frame, display.stored_wh)
            inside = stored[crop.top :, crop.left :][: -crop.bottom or None, : -crop.right or None]
            square = _resized(inside, display.square_wh)
        else:
            square = self._scaled(frame, display.square_wh)
        shown = display.orientation.apply(square)
        return np.ascontiguousarray(_resized(shown, size_wh or display.size_wh))

    def _scaled(self, frame: av.VideoFrame, size_wh: tuple[int, int]) -> ImageArray:
        transfer, matrix = int(frame.color_trc), source_matrix(frame)
        if transfer not in hdr.NAMES:
            bgr: ImageArray = self._pixels(frame, size_wh, "bgr24", matrix)
            return bgr
        rgb = self._pixels(frame, size_wh, "rgb48le", matrix)
        return hdr.to_sdr(rgb, transfer, int(frame.color_primaries))

    def _pixels(
        self,
        frame: av.VideoFrame,
        size_wh: tuple[int, int],
        pixel_format: str,
        matrix: Colorspace | None,
    ) -> NDArray[Any]:
        try:
            with self._lock:
                picture = self._reformatter(size_wh).reformat(
                    self._planar(frame),
                    *size_wh,
                    format=pixel_format,
                    interpolation=_SCALING,
                    src_colorspace=matrix,
                    threads=1,
                )
        except av.FFmpegError as error:
            raise ValueError(
                f"expected pixels that can become BGR, got format {frame.format.name} at "
                f"{frame.width}x{frame.height}: {error}"
            ) from error
        return picture.to_ndarray()

    def _planar(self, frame: av.VideoFrame) -> av.VideoFrame:
        planar = _PLANAR.get(frame.format.name)
        return frame if planar is None else self._sorter.reformat(frame, format=planar, threads=1)

    def _reformatter(self, size_wh: tuple[int, int]) -> VideoReformatter:
        if size_wh not in self._reformatters:
            if len(self._reformatters) >= _MAX_REFORMATTERS:
                self._reformatters.pop(next(iter(self._reformatters)))
            self._reformatters[size_wh] = VideoReformatter()
        return self._reformatters[size_wh]


def is_matrix_known(frame: av.VideoFrame) -> bool:
    """Tell whether the colours come out as the frame's matrix says; else BT.601 is taken."""
    return int(frame.colorspace) in _MATRICES | set(_SAME_MATRIX)


def source_matrix(frame: av.VideoFrame) -> Colorspace | None:
    """Return the matrix to read a frame by, None for that of its tag."""
    tag = int(frame.colorspace)
    if tag == _UNSPECIFIED and int(frame.color_trc) in hdr.NAMES:
        return Colorspace.BT2020
    if tag in _MATRICES:
        return None
    return _SAME_MATRIX.get(tag, Colorspace.ITU601)


class DecodedImage:
    """A decoded frame in the decoder's own format; satisfies ``recognizer.types.Image``."""

    __slots__ = ("_converter", "_frame")

    def __init__(self, frame: av.VideoFrame, converter: Converter) -> None:
        self._frame = frame
        self._converter = converter

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, as shown."""
        return self._converter.display.size_wh

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled to ``size_wh`` if given. Raises as Converter."""
        return self._converter.bgr(self._frame, size_wh)


def _resized(bgr: ImageArray, size_wh: tuple[int, int]) -> ImageArray:
    if (bgr.shape[1], bgr.shape[0]) == size_wh:
        return bgr
    larger = size_wh[0] > bgr.shape[1] or size_wh[1] > bgr.shape[0]
    how = cv2.INTER_LINEAR if larger else cv2.INTER_AREA
    return np.asarray(cv2.resize(bgr, size_wh, interpolation=how), np.uint8)
