"""Batches over all cameras, fair to each and waiting for none."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recognizer.live.slot import FrameSlot
from recognizer.live.values import Gap, LiveFrame


@dataclass(frozen=True, slots=True)
class Batch:
    """What came from the cameras: gaps first, then at most one frame of each.

    Attributes:
        gaps: each belongs before its camera's frame of this batch.
        frames: in round-robin order.
        is_last: every camera has ended; nothing more comes.

    """

    gaps: tuple[Gap, ...] = ()
    frames: tuple[LiveFrame, ...] = ()
    is_last: bool = False


class Gatherer:
    """Collect batches from the slots of all cameras.

    Args:
        slots: one per camera, all made with ``ready``.
        ready: the slots' condition.
        max_frames: frames in a batch, 1 or more.
        gather_s: how long to wait for further cameras after the first frame.
        clock: the monotonic clock.

    Raises:
        ValueError: max_frames below 1.

    """

    def __init__(
        self,
        slots: Sequence[FrameSlot],
        ready: threading.Condition,
        *,
        max_frames: int = 16,
        gather_s: float = 0.03,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_frames < 1:
            raise ValueError(f"max_frames: expected 1 or more, got {max_frames}")
        self._slots = tuple(slots)
        self._ready = ready
        self._max_frames = max_frames
        self._gather_s = gather_s
        self._clock = clock
        self._next = 0

    def batch(self, timeout_s: float) -> Batch:
        """Return the next batch; an empty one after ``timeout_s`` without anything."""
        with self._ready:
            self._wait(lambda: self._waiting() > 0 or self._is_finished, timeout_s)
            if self._waiting():
                self._wait(lambda: self._waiting() >= self._enough, self._gather_s)
        gaps, frames = self._take()
        return Batch(tuple(gaps), tuple(frames), not (gaps or frames) and self._is_finished)

    @property
    def _enough(self) -> int:
        return min(self._max_frames, sum(not slot.is_finished for slot in self._slots))

    @property
    def _is_finished(self) -> bool:
        return all(slot.is_finished for slot in self._slots)

    def _waiting(self) -> int:
        return sum(slot.has_items for slot in self._slots)

    def _wait(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        end_s = self._clock() + timeout_s
        while not is_done() and (left_s := end_s - self._clock()) > 0:
            self._ready.wait(left_s)

    def _take(self) -> tuple[list[Gap], list[LiveFrame]]:
        gaps: list[Gap] = []
        frames: list[LiveFrame] = []
        start, number = self._next, len(self._slots)
        for step in range(number):
            index = (start + step) % number
            if len(frames) >= self._max_frames:
                self._next = index
                return gaps, frames
            while (item := self._slots[index].take(self._clock())) is not None:
                if isinstance(item, LiveFrame):
                    frames.append(item)
                    break
                gaps.append(item)
        self._next = (start + 1) % number if number else 0
        return gaps, frames
