"""Who speaks when several processes train together under torchrun: the first one."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from recognizer.runs.manifest import Outcome, Progress, exclusive
from recognizer.runs.progress import ProgressFactory

Heard = Callable[[int, int], None]


@contextlib.contextmanager
def main_process_progress(
    work_dir: Path, progress: ProgressFactory, title: str
) -> Iterator[Heard | None]:
    """Give what hears of iterations and draws the bar; None to all processes but the first.

    The first process holds the folder for itself meanwhile.

    Raises:
        BlockingIOError: another run writes into the folder.

    """
    if os.environ.get("RANK", "0") != "0":
        logging.getLogger().setLevel(logging.WARNING)
        yield None
        return
    with exclusive(work_dir), _bar(progress, title) as heard:
        yield heard


@contextlib.contextmanager
def _bar(progress: ProgressFactory, title: str) -> Iterator[Heard]:
    """Give what hears of iterations; the bar starts when their number is known."""
    with contextlib.ExitStack() as stack:
        advance: Progress | None = None
        last = 0

        def heard(done: int, total: int) -> None:
            nonlocal advance, last
            if advance is None:
                advance = stack.enter_context(progress(title, total))
            for _ in range(done - last):  # a resumed training starts where it was
                advance(Outcome(title, "done"), 0)
            last = done

        yield heard
