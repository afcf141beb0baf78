"""Progress of the stages: a bar on a terminal, a line now and then in a log."""

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
"""Called with a title that names what is counted and how many there are; is told of each."""

_LOG_EVERY_S = 15.0


@contextlib.contextmanager
def silent(title: str, total: int) -> Iterator[Progress]:
    """Hear of everything and show nothing."""
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
