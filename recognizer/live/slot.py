"""The newest frames of a camera, until the network has time for them."""

import threading
from collections import Counter, deque

from recognizer.live.errors import Reason
from recognizer.live.values import DropCause, Gap, Item, LiveFrame

_LOOK_EVERY_S = 0.1


class FrameSlot:
    """Hold the newest frames of one camera; gaps are kept in their place among them.

    Args:
        capacity: frames that may wait, 1 or more.
        ready: notified whenever something changes; one for all cameras of a gatherer.
        max_age_s: older frames are dropped when they are taken; None: no frame is ever dropped.

    Raises:
        ValueError: capacity below 1.

    """

    def __init__(
        self,
        capacity: int,
        ready: threading.Condition,
        max_age_s: float | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected 1 or more, got {capacity}")
        self._capacity = capacity
        self._ready = ready
        self._max_age_s = max_age_s
        self._gap_s: float | None = None
        self._last_s: float | None = None  # up to here everything was taken
        self._items: deque[Item] = deque()
        self._drops: Counter[DropCause] = Counter()
        self._frames = 0
        self._is_closed = False

    def report_gaps(self, gap_s: float | None) -> None:
        """Put a gap between two frames further apart, where those between were dropped here."""
        with self._ready:
            self._gap_s = gap_s

    def put(self, item: Item) -> None:
        """Add a frame or gap; the oldest frame makes room."""
        with self._ready:
            if isinstance(item, LiveFrame) and self._frames >= self._capacity:
                self._drop_oldest()
            self._append(item)

    def put_waiting(self, item: LiveFrame, stop: threading.Event) -> bool:
        """Add a frame once there is room; False: ``stop`` was set before."""
        with self._ready:
            while self._frames >= self._capacity:
                if stop.is_set():
                    return False
                self._ready.wait(_LOOK_EVERY_S)
            self._append(item)
        return True

    def take(self, now_s: float) -> Item | None:
        """Return the oldest item and remove it; None: there is none.

        Args:
            now_s: the monotonic clock's time; frames captured ``max_age_s`` before are dropped.

        """
        with self._ready:
            while self._items:
                item = self._items.popleft()
                if isinstance(item, Gap):
                    self._last_s = item.end_s
                    return item
                if self._is_stale(item, now_s):
                    self._frames -= 1
                    self._drops[DropCause.STALE] += 1
                    continue
                if (gap := self._gap_before(item)) is not None:
                    self._items.appendleft(item)
                    return gap
                self._frames -= 1
                self._ready.notify_all()
                return item
        return None

    def _is_stale(self, item: LiveFrame, now_s: float) -> bool:
        return self._max_age_s is not None and now_s - item.captured_s > self._max_age_s

    def _gap_before(self, item: LiveFrame) -> Gap | None:
        last_s, self._last_s = self._last_s, item.frame.time_s
        if self._gap_s is None or last_s is None or item.frame.time_s - last_s <= self._gap_s:
            return None
        return Gap(item.camera, last_s, item.frame.time_s, Reason.OVERLOAD)

    def count(self, cause: DropCause, number: int = 1) -> None:
        """Count frames that were dropped before they came here."""
        with self._ready:
            self._drops[cause] += number

    def drops(self) -> dict[DropCause, int]:
        """Return how many frames were dropped, by cause."""
        with self._ready:
            return {cause: self._drops[cause] for cause in DropCause}

    def close(self) -> None:
        """Say that nothing more comes; what waits can still be taken."""
        with self._ready:
            self._is_closed = True
            self._ready.notify_all()

    @property
    def has_items(self) -> bool:
        """Tell whether a frame or gap waits."""
        return bool(self._items)

    @property
    def is_finished(self) -> bool:
        """Tell whether nothing waits and nothing more comes."""
        return self._is_closed and not self._items

    def _append(self, item: Item) -> None:
        self._items.append(item)
        self._frames += isinstance(item, LiveFrame)
        self._ready.notify_all()

    def _drop_oldest(self) -> None:
        for index, item in enumerate(self._items):
            if isinstance(item, LiveFrame):
                del self._items[index]
                self._frames -= 1
                self._drops[DropCause.QUEUE_FULL] += 1
                return
