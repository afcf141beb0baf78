"""Small videos of every kind a folder of CCTV clips may hold, whole, odd and damaged.

``make_corpus`` fills a folder; ``burn_number`` and ``read_number`` put a frame number into
the pixels and read it back after lossy coding, so that a test knows which frame it got.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE_WH = (160, 96)
FRAMES = 150
FPS = 30
_BITS = 12
_CELL = 16


@dataclass(frozen=True, slots=True)
class BadVideo:
    """A file of the corpus.

    Attributes:
        path: where it lies.
        frames: pictures that were put in, before the damage.
        kind: ``whole`` (all frames must come), ``damaged`` or ``refused`` (no video at all).

    """

    path: Path
    frames: int
    kind: str


def burn_number(index: int, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """Return a BGR picture with a moving pattern and ``index`` in black and white cells."""
    width, height = size_wh
    y, x = np.mgrid[0:height, 0:width]
    grey = 128 + 60 * np.sin((x + 3 * index) / 9) * np.cos((y - 2 * index) / 7)
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[..., 1] = np.roll(grey, 11, axis=1)
    for bit in range(_BITS):
        top, left = _CELL * (bit // 6), _CELL * (bit % 6)
        picture[top : top + _CELL, left : left + _CELL] = 235 if index >> bit & 1 else 20
    return picture.clip(0, 255).astype(np.uint8)


def read_number(bgr: np.ndarray) -> int:
    """Return the number that ``burn_number`` put into a picture."""
    number = 0
    for bit in range(_BITS):
        top, left = _CELL * (bit // 6), _CELL * (bit % 6)
        cell = bgr[top + 4 : top + _CELL - 4, left + 4 : left + _CELL - 4]
        number |= int(cell.mean() > 128) << bit
    return number


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a whole video is encoded."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    bframes: int = 2
    gop: int = 30
    options: tuple[tuple[str, str], ...] = ()
    container_options: tuple[tuple[str, str], ...] = ()
    rotation_ccw: int = 0
    size_wh: tuple[int, int] = SIZE_WH


X264 = (("preset", "ultrafast"), ("crf", "26"))


def encode(
    path: Path,
    recipe: Recipe = Recipe(),
    frames: Iterable[int] = range(FRAMES),
    time_of: Callable[[int], Fraction] = lambda i: Fraction(i, FPS),
    time_base: Fraction = Fraction(1, FPS),
) -> Path:
    """Write numbered frames; ``time_of`` gives the seconds at which frame k is shown."""
    with av.open(str(path), "w", options=dict(recipe.container_options)) as container:
        stream = container.add_stream(recipe.codec, rate=FPS)
        stream.width, stream.height = recipe.size_wh
        stream.pix_fmt = recipe.pix_fmt
        stream.gop_size = recipe.gop
        stream.max_b_frames = recipe.bframes
        stream.options = dict(X264 if recipe.codec == "libx264" else ()) | dict(recipe.options)
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if recipe.rotation_ccw:
            stream.set_display_rotation(recipe.rotation_ccw)
        for index in frames:
            frame = av.VideoFrame.from_ndarray(burn_number(index, recipe.size_wh), format="bgr24")
            frame.pts = round(time_of(index) / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
