"""New events for browsers that wait: server-sent events."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from recognizer.live.store_reads import EventRow, list_events

MAX_STREAMS = 64
_HEARTBEAT_S = 10.0
_LATEST = 20


class Changes:
    """Wake those who wait whenever the store changed; any thread may announce."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the page ends."""
        return self._closed

    def announce(self) -> None:
        """Wake all."""
        with self._lock:
            waiting = list(self._waiting.items())
        for event, loop in waiting:
            # A loop that ended a moment ago refuses; those who waited in it are gone.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """Wake all for the last time."""
        self._closed = True
        self.announce()

    def enter(self) -> asyncio.Event | None:
        """Return what is set at every change, to hand back; None: too many wait."""
        event = asyncio.Event()
        with self._lock:
            if self._closed or len(self._waiting) >= MAX_STREAMS:
                return None
            self._waiting[event] = asyncio.get_running_loop()
        return event

    def leave(self, event: asyncio.Event) -> None:
        """Hand back what ``enter`` returned."""
        with self._lock:
            self._waiting.pop(event, None)


async def new_events(
    path: Path,
    changes: Changes,
    changed: asyncio.Event,
    may_see: Callable[[], bool],
    text_of: Callable[[EventRow], str],
) -> AsyncIterator[str]:
    """Yield new events as server-sent events, until the page ends or the login does.

    Args:
        path: the store's database.
        changes: where ``changed`` comes from; it is handed back at the end.
        changed: set at every change.
        may_see: whether the visitor is logged in still.
        text_of: what the visitor reads of an event.

    """
    try:
        known = {row.event_id for row in await _latest(path)}
        yield ": begun\n\n"
        while not changes.closed and await run_in_threadpool(may_see):
            try:
                await asyncio.wait_for(changed.wait(), _HEARTBEAT_S)
            except TimeoutError:
                yield ": here\n\n"
                continue
            changed.clear()
            rows = await _latest(path)
            for row in reversed(rows):
                if row.event_id not in known:
                    data = json.dumps({"id": row.event_id, "text": text_of(row)})
                    yield f"event: new\ndata: {data}\n\n"
            known |= {row.event_id for row in rows}
    finally:
        changes.leave(changed)


async def _latest(path: Path) -> tuple[EventRow, ...]:
    return (await run_in_threadpool(list_events, path, None, None, _LATEST)).events
