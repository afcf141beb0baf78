"""Progress of runs: a bar on a terminal, lines in a log elsewhere."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from recognizer.names import printable
from recognizer.runs.manifest import Outcome, Progress

logger = logging.getLogger(__name__)

ProgressFactory = Callable[[str, int], AbstractContextManager[Progress]]
"""Called with a title that names what is counted and how many; gives the callback for each."""

OnProgress = Callable[[int, int], None]
"""Called with the number done and the total."""

_LOG_EVERY_S = 15.0


@contextlib.contextmanager
def silent(title: str, total: int) -> Iterator[Progress]:
    """Show nothing."""
    logger.debug("%s: %d inputs", title, total)
    yield lambda outcome, frames: None


def on_console(title: str, total: int) -> AbstractContextManager[Progress]:
    """Show a bar on a terminal, a log line every 15 s elsewhere."""
    return _bar(title, total) if sys.stderr.isatty() else _log_lines(title, total)


def _outcome_text(outcome: Outcome) -> str:
    return printable(f"{outcome.video}: {outcome.state}: {outcome.reason}")


def _speed_text(frames_per_s: float) -> str:
    return f"{frames_per_s:.{0 if frames_per_s >= 10 else 1}f} frames/s"


@contextlib.contextmanager
def _bar(title: str, total: int) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, speed="")
        started, frames_done = time.monotonic(), 0

        def advance(outcome: Outcome | None, frames: int) -> None:
            nonlocal frames_done
            frames_done += frames
            speed = frames_done / max(time.monotonic() - started, 1e-3)
            text = _speed_text(speed) if frames_done else ""
            bar.update(task, advance=outcome is not None, speed=text)
            if outcome is not None and outcome.state != "done":
                bar.console.log(_outcome_text(outcome), markup=False)

        yield advance


@contextlib.contextmanager
def _log_lines(title: str, total: int) -> Iterator[Progress]:
    started = last = time.monotonic()
    done = frames_done = 0

    def line() -> None:
        seconds = max(time.monotonic() - started, 1e-3)
        speed = f", {_speed_text(frames_done / seconds)}" if frames_done else ""
        logger.info("%s: %d of %d%s", title, done, total, speed)

    def advance(outcome: Outcome | None, frames: int) -> None:
        nonlocal last, done, frames_done
        frames_done += frames
        done += outcome is not None
        if outcome is not None and outcome.state != "done":
            logger.warning("%s", _outcome_text(outcome))
        if time.monotonic() - last > _LOG_EVERY_S:
            last = time.monotonic()
            line()

    yield advance
    line()


@contextlib.contextmanager
def counted_progress(
    progress: ProgressFactory, title: str, patience_s: float = 0.0
) -> Iterator[OnProgress]:
    """Give a callback for iterations whose number is known at the first; one bar a count to total.

    Args:
        progress: shows the bar.
        title: of the bar.
        patience_s: a count that is done sooner shows none.

    """
    with contextlib.ExitStack() as stack:
        advance: Progress | None = None
        started, shown = time.monotonic(), 0

        def on_progress(done: int, total: int) -> None:
            nonlocal advance, started, shown
            now = time.monotonic()
            if done == 1:
                started, shown = now, 0
            if advance is None and done <= total and now - started >= patience_s:
                advance = stack.enter_context(progress(title, total))
            if advance is not None:
                for _ in range(done - shown):  # a resumed training starts where it was
                    advance(Outcome(title, "done"), 0)
                shown = done
            if done == total:
                stack.close()
                advance = None

        yield on_progress
