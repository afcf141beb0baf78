"""A picture cut into overlapping squares, for a detector whose input is small and square.

A wide picture letterboxed into a square is shrunk by its longer side; a square cut out of it
only by its shorter side, so that people in it are larger and more of them are found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from recognizer.types import FloatArray, Image, ImageArray

_OVERLAP = 0.2  # of a square's side at least: people at a border are whole in the next one
_NEARLY_SQUARE = 1.15  # below this ratio of the sides squares would show nothing larger
_AT_BORDER_PX = 4.0


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """A square of a picture: its pixels, and where its top left corner lies."""

    pixels: ImageArray
    left: int
    top: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def bgr(self, size_wh: tuple[int, int] | None = None) -> ImageArray:
        """Return BGR pixels (H, W, 3), scaled to ``size_wh`` if given."""
        if size_wh is None or size_wh == self.size_wh:
            return self.pixels
        shrinks = size_wh[0] < self.size_wh[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(self.pixels, size_wh, interpolation=how), np.uint8)


def cut_tiles(image: Image) -> list[Tile]:
    """Return the squares that cover a picture; none where it is nearly square itself."""
    width, height = image.size_wh
    side, length = sorted((width, height))
    if length < _NEARLY_SQUARE * side:
        return []
    count = max(2, int(np.ceil((length - side) / (side * (1 - _OVERLAP)))) + 1)
    pixels = image.bgr()
    starts = np.linspace(0, length - side, count).astype(int).tolist()
    if width >= height:
        return [Tile(pixels[:, at : at + side], at, 0) for at in starts]
    return [Tile(pixels[at : at + side], 0, at) for at in starts]


def whole_boxes(boxes: FloatArray, tile: Tile, size_wh: tuple[int, int]) -> Sequence[bool]:
    """Tell which boxes (N, 4) of a tile do not end at a border inside the picture.

    Such a box shows a part of a person whom the next tile or the whole picture shows better.
    """
    size = np.array(tile.size_wh)
    corner = np.array([tile.left, tile.top])
    starts_inside = (boxes[:, :2] < _AT_BORDER_PX) & (corner > 0)
    ends_inside = (boxes[:, 2:] > size - _AT_BORDER_PX) & (corner + size < np.array(size_wh))
    whole: Sequence[bool] = ~(starts_inside | ends_inside).any(axis=1)
    return whole
