"""A picture that is an array already, whatever it came from; needs no decoder."""

import cv2
import numpy as np

from recognizer.checks import check_pixels
from recognizer.types import ImageArray


class ArrayImage:
    """A picture that is already an array; satisfies ``recognizer.types.Image``.

    Args:
        bgr: (H, W, 3) uint8.

    Raises:
        ValueError: another shape or type, or no pixel at all.

    """

    __slots__ = ("_bgr",)

    def __init__(self, bgr: ImageArray) -> None:
        check_pixels(bgr)
        self._bgr = bgr

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._bgr.shape[1], self._bgr.shape[0]

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled bilinearly to ``size_wh`` if given."""
        check_size(size_wh)
        if size_wh is None or size_wh == self.size_wh:
            return self._bgr
        scaled = cv2.resize(self._bgr, size_wh, interpolation=cv2.INTER_LINEAR)
        return np.asarray(scaled, np.uint8)


def check_size(size_wh: tuple[int, int] | None) -> None:
    """Refuse a size below one pixel; raises ValueError."""
    if size_wh is not None and min(size_wh) < 1:
        raise ValueError(f"size_wh: expected at least 1 x 1 pixels, got {size_wh}")
