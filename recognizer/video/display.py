"""From a stored picture to the one a player shows: cropped, in square pixels, upright."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np

from recognizer.types import ImageArray

_MATRIX_ENTRIES = 9
_MAX_ASPECT = 16
_MAX_SIDE_PX = 16_384
_RIGHT_ANGLE_TAN = math.tan(math.radians(0.5))
_SAME_SHAPE = 0.02


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a picture is turned for showing: transposed, then mirrored, then tilted.

    Attributes:
        transpose: x and y change places.
        flip_x: then left and right change places.
        flip_y: then top and bottom change places.
        tilt: (a, b, c, d) for an angle that is no multiple of 90 degrees, in place of the
            others: the point (x, y), from the centre, is shown at (a x + c y, b x + d y).

    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    tilt: tuple[float, float, float, float] | None = None

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> "Orientation":
        """Read a display matrix (3 x 3, row by row, as in ISO 14496-12, 6.2.2).

        A stored point (x, y) is shown at (a x + c y, b x + d y) with a, b, c, d the entries
        0, 1, 3, 4. Scale and shift do not matter to us; the demuxer makes an unequal scale a
        sample aspect ratio. Angles within half a degree of a right one count as right.
        """
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        if a * d == b * c:  # nothing can be shown through it, such as all zeros
            return cls()
        straight = max(abs(b / a) if a else math.inf, abs(c / d) if d else math.inf)
        if straight < _RIGHT_ANGLE_TAN:
            return cls(False, a < 0, d < 0)
        crossed = max(abs(a / b) if b else math.inf, abs(d / c) if c else math.inf)
        if crossed < _RIGHT_ANGLE_TAN:
            return cls(True, c < 0, b < 0)
        x, y = math.hypot(a, b), math.hypot(c, d)
        return cls(tilt=(a / x, b / x, c / y, d / y))

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn in degrees; of a mirrored picture the turn after a left-right flip."""
        if self.tilt is not None:
            a, b, c, d = self.tilt
            x, y = (a, b) if a * d > b * c else (-a, -b)
            return round(math.degrees(math.atan2(y, x))) % 360
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def turn_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return the shown size of a stored size, and the other way round."""
        return (size_wh[1], size_wh[0]) if self.transpose else size_wh

    def apply(self, bgr: ImageArray) -> ImageArray:
        """Return the picture as it is shown, (H, W, 3) contiguous.

        A tilted one keeps its size, as in ffmpeg: its corners are cut, what is outside is black.
        """
        if self.tilt is not None:
            return self._tilted(bgr, self.tilt)
        shown = cv2.transpose(bgr) if self.transpose else bgr
        if self.flip_x or self.flip_y:
            shown = cv2.flip(shown, -1 if self.flip_x and self.flip_y else int(self.flip_x))
        return np.ascontiguousarray(shown)

    @staticmethod
    def _tilted(bgr: ImageArray, tilt: tuple[float, float, float, float]) -> ImageArray:
        height, width = bgr.shape[:2]
        linear = np.array(tilt, np.float64).reshape(2, 2).T
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        affine = np.column_stack([linear, centre - linear @ centre])
        return np.asarray(cv2.warpAffine(bgr, affine, (width, height)), np.uint8)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Return how a decoded frame is to be turned."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    matrix = np.frombuffer(bytes(data), np.int32)  # type: ignore[call-overload]
    if len(matrix) != _MATRIX_ENTRIES:
        return Orientation()
    return Orientation.from_matrix(matrix.tolist())


@dataclass(frozen=True, slots=True)
class Crop:
    """Pixels of the stored picture that are not shown, at each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        """Tell whether anything is cut."""
        return any((self.left, self.top, self.right, self.bottom))

    def inside(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return what is left of a size; below 1 where nothing is."""
        return size_wh[0] - self.left - self.right, size_wh[1] - self.top - self.bottom


@dataclass(frozen=True, slots=True)
class Display:
    """How the pictures of one video are shown.

    Attributes:
        stored_wh: size of the decoded pictures in pixels.
        crop: what the container cuts off.
        aspect: width of a stored pixel divided by its height.
        orientation: how the picture in square pixels is turned.

    """

    stored_wh: tuple[int, int]
    crop: Crop = Crop()
    aspect: Fraction = Fraction(1)
    orientation: Orientation = Orientation()

    @property
    def square_wh(self) -> tuple[int, int]:
        """Size in square pixels before turning; the narrow side is stretched, none is shrunk."""
        return square_size(self.crop.inside(self.stored_wh), self.aspect)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height that are shown."""
        return self.orientation.turn_size(self.square_wh)

    def is_alike(self, stored_wh: tuple[int, int], aspect: Fraction) -> bool:
        """Tell whether another stored picture shows the same view in another resolution."""
        if self.crop and stored_wh != self.stored_wh:
            return False
        width, height = square_size(self.crop.inside(stored_wh), aspect)
        shape, expected = width / height, self.square_wh[0] / self.square_wh[1]
        return abs(shape - expected) <= _SAME_SHAPE * expected


def square_size(size_wh: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """Return a size in square pixels, rounded down as ffmpeg and mpv do."""
    width, height = size_wh
    if aspect > 1:
        return width * aspect.numerator // aspect.denominator, height
    return width, height * aspect.denominator // aspect.numerator


def is_plausible(size_wh: tuple[int, int], aspect: Fraction) -> bool:
    """Tell whether pixels of such an aspect are meant, and not the work of damage."""
    if not Fraction(1, _MAX_ASPECT) <= aspect <= _MAX_ASPECT:
        return False
    return aspect == 1 or max(square_size(size_wh, aspect)) <= _MAX_SIDE_PX
