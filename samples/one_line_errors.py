"""Errors of a command, as one line on stderr and exit code 2."""

import functools
import sys
from collections.abc import Callable
from typing import TypeVar

from recognizer.runs.worker_pool import RunError

BAD_INPUT = 2
"""Exit code, argparse's own."""
MAX_LINES = 3  # of an error
Result = TypeVar("Result")


def one_line_errors(main: Callable[[], Result]) -> Callable[[], Result]:
    """Decorate a ``main``: errors of reading, and those that stop a run, are one line.

    Messages of many lines are cut after ``MAX_LINES``.
    """

    @functools.wraps(main)
    def run() -> Result:
        try:
            return main()
        except (ValueError, OSError, RunError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            text = "; ".join(lines[:MAX_LINES])
            more = f"; and {len(lines) - MAX_LINES} more" if len(lines) > MAX_LINES else ""
            sys.stderr.write(f"{type(error).__name__}: {text}{more}\n")
            raise SystemExit(BAD_INPUT) from None

    return run
