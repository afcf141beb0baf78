"""SIGINT and SIGTERM as an event: an error that a handler raises may be swallowed by an import."""

import signal
import threading
from types import FrameType


class _Handler:
    """Sets an event at a signal.

    An error raised instead can be lost in a library that is being imported. The main thread must
    neither wait for the event nor set it: the handler runs in it and takes the event's lock.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if not self._came:  # a second signal may come while the first one holds the lock
            self._came = True
            self.stop.set()

    @property
    def is_spent(self) -> bool:
        """Whether its event was set by a run that ended, not by a signal."""
        return self.stop.is_set() and not self._came


def heed_signals() -> threading.Event:
    """Return the event that SIGINT and SIGTERM set from now on; the same until a run has set it."""
    known = signal.getsignal(signal.SIGTERM)
    handler = known if isinstance(known, _Handler) and not known.is_spent else _Handler()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)
    return handler.stop
