"""The program at a terminal: standard streams, the log, and the line of ``--version``."""

import contextlib
import importlib.metadata
import logging
import os
import platform
import sys

from recognizer import __version__
from recognizer.command import EXIT_DONE
from recognizer.installation import ONNX_RUNTIMES
from recognizer.names import printable
from recognizer.signals import heed_signals

_STDERR = 2  # its number
_LIVE = "inference.realtime"
_FAILED = 1


def version_text() -> str:
    """Return the versions of the program, Python and what runs networks, in one line."""
    parts = [f"recognizer {__version__}", f"Python {platform.python_version()}"]
    for package in (*ONNX_RUNTIMES, "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(parts) + "\n"


class _Formatter(logging.Formatter):
    """Log lines without control characters, which a file name or a message may hold."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines of a message that has several."""
        return printable(super().format(record), keep="\n\t")


def start(mode: str, *, debug: bool) -> None:
    """Log to stderr, from DEBUG on or from INFO on; note signals for live detection."""
    if mode == _LIVE:
        heed_signals()
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


def open_closed_streams() -> None:
    """Open the null device in place of standard streams that the caller closed.

    Else files that the program opens take their numbers, and libraries write messages into them.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the process
    sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115


def show(text: str) -> int:
    """Write a text to stdout; return the exit code. A reader that has read enough is no fault."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:  # at its end Python flushes once more: that must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"stdout cannot be written: {error.strerror}\n")
            return _FAILED
    return EXIT_DONE
