"""The end of a run: work that may hang, and parts that stop together by one deadline."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Generic, NoReturn, Self, TypeVar

logger = logging.getLogger(__name__)

END_S = 3.5  # of the 5 s from a signal to the end; the log and the interpreter need the rest
_LAST_S = 0.3  # for the part that all others use
_LOOK_S = 0.1
_T = TypeVar("_T")


class Work(Generic[_T]):
    """A function run in a thread of its own, which the process's end does not wait for.

    Args:
        name: of the thread.
        function: what is run, at once.

    """

    def __init__(self, name: str, function: Callable[[], _T]) -> None:
        self._function = function
        self._results: list[_T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the function has ended."""
        return not self._thread.is_alive()

    def wait(self, stop: threading.Event) -> None:
        """Wait until the function has ended, or ``stop`` is set."""
        while not self.is_over and not stop.is_set():
            self._thread.join(_LOOK_S)

    def wait_until(self, until_s: float) -> None:
        """Wait until the function has ended, or the monotonic clock shows ``until_s``."""
        self._thread.join(max(until_s - time.monotonic(), 0.0))

    def result(self) -> _T:
        """Return what the function returned, once it is over.

        Raises:
            BaseException: what the function raised.

        """
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        with self:
            self._results.append(self._function())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> bool:
        self._error = error  # raised again by result(), in the thread that asks
        return True


class Closing:
    """Stops the parts of a run at once, and one that they use behind them.

    Args:
        name: of the part that is stopped last.
        last: stops it.

    Attributes:
        until_s: when all must be over, on the monotonic clock; None: from the end on, ``END_S``.

    """

    def __init__(self, name: str, last: Callable[[], object]) -> None:
        self._last_name, self._last = name, last
        self._parts: list[tuple[str, Callable[[float], object]]] = []
        self.until_s: float | None = None

    def add(self, name: str, stop: Callable[[float], object]) -> None:
        """Add a part; ``stop`` is told by when, on the monotonic clock, it has to return."""
        self._parts.append((name, stop))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        until_s = self.until_s if self.until_s is not None else time.monotonic() + END_S
        works = [(name, Work(f"stop {name}", partial(stop, until_s))) for name, stop in self._parts]
        for _name, work in works:
            work.wait_until(until_s)
        last_until_s = max(until_s, time.monotonic()) + _LAST_S
        works.append((self._last_name, Work(f"stop {self._last_name}", self._last)))
        works[-1][1].wait_until(last_until_s)
        for name, work in works:
            if not work.is_over:
                logger.warning("%s: does not stop in time; it ends with the process", name)
        for _name, work in works:
            if work.is_over:
                work.result()


def end_process(code: int, *, flush: bool) -> NoReturn:
    """End the process at once: a thread that runs in a network would crash an orderly end.

    Args:
        code: the exit code.
        flush: write what the log and the standard streams hold; not where they are stuck.

    """
    if flush:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
