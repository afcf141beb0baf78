"""Progress and logging on rank 0, when several processes train together under torchrun."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from recognizer.runs.manifest import exclusive
from recognizer.runs.progress import OnProgress, ProgressFactory, counted_progress


@contextlib.contextmanager
def main_process_progress(
    work_dir: Path, progress: ProgressFactory, title: str
) -> Iterator[OnProgress | None]:
    """Give the callback for iterations, which draws the bar; None to all ranks but 0.

    Rank 0 locks the folder meanwhile; the others log warnings only.

    Raises:
        BlockingIOError: another run writes into the folder.

    """
    if os.environ.get("RANK", "0") != "0":
        logging.getLogger().setLevel(logging.WARNING)
        yield None
        return
    with exclusive(work_dir), counted_progress(progress, title) as on_progress:
        yield on_progress
