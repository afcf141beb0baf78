"""Difference hashes of a video's pictures: 64 bits each, to find copies and the same scene.

The picture is averaged to 9 x 8 grey values; a bit says whether a value is larger than its left
neighbour. Encoding anew and scaling change few of the bits (Krawetz, "Kind of Like That", 2013).
No picture can be made from them.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.types import Frame, Image

PERIOD_S = 0.25
TIMES, VALUES = "hash_time_s", "hashes"  # members of stage 1's and 2's results
_SIZE_WH = (9, 8)
# BT.601, as pictures are read where nothing is tagged; BGR in 1/1024.
_WEIGHTS = np.array([117, 601, 306], np.int64)
# Levels between the darkest and the lightest value: what is flatter is noise, and hashes of two
# black pictures would look like a copy.
_LEAST_CONTRAST = 12
_ROUNDING_S = 1e-6


def difference_hash(image: Image) -> int | None:
    """Return the hash of a picture, None of one that is all but flat."""
    grey = (image.bgr(_SIZE_WH).astype(np.int64) @ _WEIGHTS) >> 10
    if np.ptp(grey) < _LEAST_CONTRAST:
        return None
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


class HashRecorder:
    """Hashes one picture every ``PERIOD_S`` of a video while its frames go by."""

    def __init__(self) -> None:
        self._times, self._values = array("d"), array("Q")
        self._next_s: float | None = None

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the same frames."""
        for frame in frames:
            if self._next_s is None:
                self._next_s = frame.time_s
            if frame.time_s >= self._next_s - _ROUNDING_S:
                self._add(frame)
            yield frame

    def _add(self, frame: Frame) -> None:
        start = self._next_s or 0.0
        passed = int((frame.time_s - start + _ROUNDING_S) / PERIOD_S) + 1
        self._next_s = start + passed * PERIOD_S
        value = difference_hash(frame.image)
        if value is not None:
            self._times.append(frame.time_s)
            self._values.append(value)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return times (H,) float64, seconds, and hashes (H,) uint64, by name of the member."""
        return {TIMES: np.array(self._times, np.float64), VALUES: np.array(self._values, np.uint64)}


def check_hashes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the two arrays of a result's members that are hashes; none of older results.

    Raises:
        ValueError: one without the other, or other shapes, types or times than
            ``HashRecorder.arrays`` gives.

    """
    there = {name: arrays[name] for name in (TIMES, VALUES) if name in arrays}
    if len(there) == 1:
        raise ValueError(f"expected {TIMES} and {VALUES}, got {next(iter(there))} alone")
    if not there:
        return {}
    times, values = there[TIMES], there[VALUES]
    fits = times.ndim == 1 and times.shape == values.shape
    if not fits or times.dtype != np.float64 or values.dtype != np.uint64:
        raise ValueError(
            f"{TIMES}, {VALUES}: expected (H,) float64 and (H,) uint64, got {times.shape} "
            f"{times.dtype} and {values.shape} {values.dtype}"
        )
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(f"{TIMES}: expected finite times that never fall")
    return there
