"""One thread a sink: notices go from the outbox to the sink, in order, until they arrive."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from recognizer.live.sinks.sink import Sink, SinkError
from recognizer.live.store import Notice, Store
from recognizer.live.store_schema import StoreError

logger = logging.getLogger(__name__)
STOP_S = 5.0
_DRAIN_S = 1.5  # to send what waits; a program that is stopped may leave less, by ``until_s``
_POLL_S = 5.0  # in case a notice was written by another way than this process's store


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long to wait after the n-th failure in a row.

    Attributes:
        first_s: after the first.
        most_s: the longest; each wait is twice the one before.
        jitter: part by which a wait is longer or shorter at random.
        give_up_s: a notice that a failing sink has not had for so long is given up, if the sink
            has failed for so long in this process too: the wall clock may be set meanwhile.

    """

    first_s: float = 1.0
    most_s: float = 60.0
    jitter: float = 0.2
    give_up_s: float = 24 * 3600.0

    def wait_s(self, failures: int, chance: float) -> float:
        """Return the wait; ``chance`` in [0, 1) chooses within the jitter."""
        wait_s = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return wait_s * (1 + self.jitter * (2 * chance - 1))


class Delivery:
    """Sends a sink's notices from a thread of its own.

    Args:
        store: holds the outbox.
        name: the sink's, as in the outbox.
        sink: takes the notices; closed by ``stop``.
        back_off: how to wait after failures.
        now_utc_s: the wall clock.
        monotonic_s: a clock that is never set.

    """

    def __init__(
        self,
        store: Store,
        name: str,
        sink: Sink,
        back_off: BackOff | None = None,
        now_utc_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._name, self._sink = store, name, sink
        self._back_off = back_off or BackOff()
        self._now_utc_s, self._monotonic_s = now_utc_s, monotonic_s
        self._failing_since_s: float | None = None
        self._stopping, self._changed = threading.Event(), threading.Event()
        self._closed = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._store.listen(self._changed.set)
        self._thread.start()

    @property
    def name(self) -> str:
        """What its thread is called."""
        return self._thread.name

    @property
    def alive(self) -> bool:
        """Whether the thread runs, for a health check."""
        return self._thread.is_alive()

    def stop(self, until_s: float | None = None) -> bool:
        """End the thread; a notice under way is sent again at the next start.

        Returns False where a sink hangs still; its thread ends with the process.

        Args:
            until_s: when it has to be over, on the monotonic clock; None: in 5 s.

        """
        self._stopping.set()
        self._changed.set()
        now_s = time.monotonic()
        until_s = now_s + STOP_S if until_s is None else until_s
        # Time for a notice under way to arrive.
        self._thread.join(timeout=max(0.0, (until_s - now_s) / 2))
        self._closed.set()
        self._sink.close()
        self._thread.join(timeout=max(0.0, until_s - time.monotonic()))
        if self._thread.is_alive():
            logger.warning("sink %s: hangs; its notice is sent again at the next start", self._name)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                wait_s = self._step()
            except (StoreError, OSError, ValueError, TypeError, LookupError) as error:
                self._failures += 1
                wait_s = self._back_off.wait_s(self._failures, random.random())
                logger.warning("sink %s: %s; trying again in %.0f s", self._name, error, wait_s)
                self._stopping.wait(wait_s)
            else:
                if wait_s is None:
                    self._changed.wait(_POLL_S)
                else:
                    self._stopping.wait(wait_s)
        self._drain()

    def _drain(self) -> None:
        """Send what was written last, as long as the sink takes it at once."""
        until_s = time.monotonic() + _DRAIN_S
        with contextlib.suppress(StoreError, OSError, ValueError, TypeError, LookupError):
            while self._may_send(until_s) and self._step() == 0.0:
                pass

    def _may_send(self, until_s: float) -> bool:
        closed = self._closed.is_set() or self._failures > 0
        return not closed and time.monotonic() < until_s

    def _step(self) -> float | None:
        """Send one notice; return seconds to wait before the next, None: until there is one."""
        notice = self._store.next_notice(self._name)
        if notice is None:
            return None
        try:
            self._sink.send(notice)
        except SinkError as error:
            return self._failed(notice, error)
        self._failures, self._failing_since_s = 0, None
        self._store.mark_sent(notice, self._now_utc_s())
        return 0.0

    def _failed(self, notice: Notice, error: SinkError) -> float:
        now, clock_s = self._now_utc_s(), self._monotonic_s()
        since = now if notice.waiting_since_utc_s is None else notice.waiting_since_utc_s
        if self._failing_since_s is None:
            self._failing_since_s = clock_s
        if error.final or self._back_off.give_up_s <= min(
            now - since, clock_s - self._failing_since_s
        ):
            self._store.mark_dead(notice, str(error), now)
            logger.error("sink %s: gave up notice %s: %s", self._name, notice.key, error)
            return 0.0
        self._store.mark_failed(self._name, notice, str(error), now)
        self._failures += 1
        wait_s = self._back_off.wait_s(self._failures, random.random())
        logger.warning("sink %s: %s; trying again in %.0f s", self._name, error, wait_s)
        return wait_s
