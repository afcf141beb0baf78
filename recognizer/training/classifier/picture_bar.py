"""Progress of looking at a data set's pictures before a training or test."""

import contextlib
import time
from collections.abc import Callable, Iterator

from recognizer.runs.manifest import Outcome, Progress
from recognizer.runs.progress import ProgressFactory

_TITLE = "looking at pictures"
_PATIENCE_S = 2.0


@contextlib.contextmanager
def picture_bar(progress: ProgressFactory) -> Iterator[Callable[[int, int], None]]:
    """Give what hears of pictures, one data set after another; short ones show no bar."""
    with contextlib.ExitStack() as stack:
        advance: Progress | None = None
        started, told = 0.0, 0

        def heard(done: int, total: int) -> None:
            nonlocal advance, started, told
            now = time.monotonic()
            if done == 1:
                started, told = now, 0
            if advance is None and now - started > _PATIENCE_S:
                advance = stack.enter_context(progress(_TITLE, total))
            if advance is not None:
                for _ in range(done - told):
                    advance(Outcome(_TITLE, "done"), 0)
                told = done
            if done == total:
                stack.close()
                advance = None

        yield heard
