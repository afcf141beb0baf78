"""A log that never holds up the program: where its reader is stuck, lines are dropped and counted.

A terminal that is stopped, or a full pipe, blocks whoever writes to it, and with it every thread
that logs.
"""

import logging
import logging.handlers
import queue
import threading
from types import TracebackType
from typing import Self

_LINES = 10_000
_END_S = 1.0


class _Dropping(logging.handlers.QueueHandler):
    """Hands lines on, and drops them where too many wait."""

    def __init__(self, lines: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__(lines)
        self._lines, self._dropped = lines, 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a line on, the number of those that were dropped before it first."""
        try:
            if self._dropped:
                self._lines.put_nowait(_dropped(self._dropped))
                self._dropped = 0
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1


class PatientLog:
    """While it is entered, the root logger's handlers are served by a thread of their own."""

    def __init__(self, lines: int = _LINES) -> None:
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(lines)
        self._handlers: list[logging.Handler] = []
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    @property
    def hangs(self) -> bool:
        """Whether a line is stuck still, after the end."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._handlers, root.handlers = root.handlers, [_Dropping(self._lines)]
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        root = logging.getLogger()
        try:
            self._lines.put(None, timeout=_END_S)
        except queue.Full:
            return  # the handlers are stuck: nothing may be logged to them any more
        self._thread.join(_END_S)
        if not self.hangs:
            root.handlers = self._handlers

    def _run(self) -> None:
        while (record := self._lines.get()) is not None:
            for handler in self._handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)


def _dropped(number: int) -> logging.LogRecord:
    text = f"{number} lines of the log were dropped: nothing read them"
    return logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)
