"""The tracked people of a camera's last seconds, in memory."""

import threading
from collections import deque

import numpy as np

from recognizer.sequences import slice_frames
from recognizer.types import PoseSequence


class PoseRing:
    """Keep a camera's last tracked frames.

    Args:
        keep_s: seconds to keep.

    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._parts: deque[PoseSequence] = deque()

    def add(self, part: PoseSequence) -> None:
        """Take the next tracked frames."""
        oldest_s = float(part.time_s[-1]) - self._keep_s
        with self._lock:
            self._parts.append(part)
            while float(self._parts[0].time_s[-1]) < oldest_s:
                self._parts.popleft()

    def restart(self) -> None:
        """Forget all frames: tracks start anew, and ids come a second time."""
        with self._lock:
            self._parts.clear()

    def between(self, first_s: float, last_s: float) -> list[PoseSequence]:
        """Return the frames of a time, first and last included, in parts of one picture size.

        The size is that of the first frame: the camera may have changed it later.
        """
        with self._lock:
            parts = [_inside(part, first_s, last_s) for part in self._parts]
        parts = [part for part in parts if len(part)]
        return [part for part in parts if part.size_wh == parts[0].size_wh]


def _inside(part: PoseSequence, first_s: float, last_s: float) -> PoseSequence:
    first = int(np.searchsorted(part.time_s, first_s, side="left"))
    stop = int(np.searchsorted(part.time_s, last_s, side="right"))
    return slice_frames(part, first, max(first, stop))
