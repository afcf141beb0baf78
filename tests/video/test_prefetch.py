"""Everything arrives once, in order; ends and errors are passed on; nothing hangs."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.video.prefetch import prefetch

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


def fetchers() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.integers(), max_size=30), st.integers(1, 40))
def test_all_items_in_order(items: list[int | None], depth: int) -> None:
    assert list(prefetch(iter(items), depth)) == items
    assert fetchers() == 0


def test_an_empty_queue_is_not_the_end() -> None:
    def slow() -> Iterator[int]:
        for i in range(4):
            time.sleep(0.03)
            yield i

    assert list(prefetch(slow(), 3)) == [0, 1, 2, 3]


def test_at_most_depth_items_wait() -> None:
    fetched = []

    def counting() -> Iterator[int]:
        for i in range(100):
            fetched.append(i)
            yield i

    ahead = prefetch(counting(), 4)
    for i in range(20):
        assert next(ahead) == i
        time.sleep(0.002)
        # Those taken, those that wait, and one that waits for room.
        assert len(fetched) <= i + 1 + 4 + 1
    ahead.close()


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_come_after_the_items_before_them(error: BaseException) -> None:
    def failing() -> Iterator[int]:
        yield from range(3)
        raise error

    ahead = prefetch(failing(), 2)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)):
        next(ahead)
    assert fetchers() == 0


@pytest.mark.parametrize("taken", [0, 1, 10])
def test_closing_stops_the_thread_at_once(taken: int) -> None:
    ahead = prefetch(itertools.count(), 3)
    assert [next(ahead) for _ in range(taken)] == list(range(taken))
    time.sleep(0.02)
    start = time.monotonic()
    ahead.close()
    assert time.monotonic() - start < 1
    assert fetchers() == 0


def test_dropping_the_generator_stops_the_thread() -> None:
    for value in prefetch(itertools.count(), 3):
        if value == 5:
            break
    deadline = time.monotonic() + 2
    while fetchers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fetchers() == 0


def test_an_error_of_the_consumer_stops_the_thread() -> None:
    def consume() -> None:
        for value in prefetch(itertools.count(), 2):
            1 / (value - 3)

    with pytest.raises(ZeroDivisionError):
        consume()
    assert fetchers() == 0


def test_it_works_ahead() -> None:
    def slow() -> Iterator[int]:
        for i in range(10):
            time.sleep(0.02)
            yield i

    start = time.monotonic()
    for _ in prefetch(slow(), 2):
        time.sleep(0.02)
    # One after another would take 0.4 s.
    assert time.monotonic() - start < 0.35


def test_depth_is_checked() -> None:
    with pytest.raises(ValueError, match="depth"):
        prefetch(iter([]), 0)
