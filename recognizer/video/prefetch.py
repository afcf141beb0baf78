"""Work ahead of the consumer, so that decoding and inference overlap."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class _Item(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Finished:
    error: BaseException | None


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Yield the items while a thread fetches up to ``depth`` of them ahead.

    The thread starts with the first item asked for. An exception of ``items`` is raised
    here after all items before it. Closing this generator, or dropping it, stops the thread
    after the item it is fetching, and waits for that; ``items`` itself is not closed.

    Args:
        items: is used by the thread only, until this generator ends.
        depth: items that may wait, 1 or more.

    Raises:
        ValueError: depth below 1.

    """
    if depth < 1:
        raise ValueError(f"depth: expected 1 or more, got {depth}")
    return _prefetch(items, depth)


def _prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    waiting: queue.Queue[_Item[T] | _Finished] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(
        target=_fetch, args=(items, waiting, stop), name="prefetch", daemon=True
    )
    thread.start()
    try:
        while True:
            # The end is a marker of its own: an empty queue only means that we are faster.
            match waiting.get():
                case _Item(value):
                    yield value
                case _Finished(error):
                    if error is not None:
                        raise error
                    return
    finally:
        stop.set()
        # A put that waits for room sees the stop only after a while: make room.
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        thread.join()


def _fetch(
    items: Iterator[T], waiting: "queue.Queue[_Item[T] | _Finished]", stop: threading.Event
) -> None:
    end = _Finished(None)
    try:
        for value in items:
            if not _put(_Item(value), waiting, stop):
                return
    except BaseException as error:  # noqa: BLE001 - handed to the consumer, whatever it is
        end = _Finished(error)
    _put(end, waiting, stop)


def _put(
    entry: _Item[T] | _Finished, waiting: "queue.Queue[_Item[T] | _Finished]", stop: threading.Event
) -> bool:
    while not stop.is_set():
        try:
            waiting.put(entry, timeout=_LOOK_EVERY_S)
        except queue.Full:
            continue
        return True
    return False
