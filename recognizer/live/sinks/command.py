"""A program run for every notice, which it reads as JSON from its standard input."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence

from recognizer.live.sinks.sink import SinkError, notice_bytes
from recognizer.live.store import Notice


class Command:
    """Runs a program without a shell; what it prints is not kept.

    Args:
        argv: the program and its arguments.
        timeout_s: after it, the program and all that it started in its group are killed.

    """

    def __init__(self, argv: Sequence[str], timeout_s: float) -> None:
        self._argv, self._timeout_s = list(argv), timeout_s
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._closed = False

    def send(self, notice: Notice) -> None:
        """Run the program.

        Raises:
            SinkError: it cannot be started, takes too long, or ends with another status than 0.

        """
        name = self._argv[0]
        with self._lock:
            if self._closed:
                raise SinkError(f"{name}: not started: the sink is closed")
            try:
                running = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env={**os.environ, "RECOGNIZER_KEY": notice.key},
                )
            except OSError as error:
                raise SinkError(f"{name}: cannot be started: {error.strerror}") from error
            self._running = running
        try:
            running.communicate(notice_bytes(notice) + b"\n", timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            raise SinkError(f"{name}: was not over after {self._timeout_s:g} s, killed") from None
        finally:
            self._end(running)
        if running.returncode:
            raise SinkError(f"{name}: expected exit status 0, got {running.returncode}")

    def close(self) -> None:
        """Kill the program that runs."""
        with self._lock:
            self._closed = True
            if self._running is not None:
                _kill(self._running)

    def _end(self, running: subprocess.Popen[bytes]) -> None:
        """Kill what is left of the program's group, and reap the program."""
        with self._lock:
            self._running = None
            _kill(running)
        running.wait()
        if running.stdin is not None:
            with contextlib.suppress(OSError):  # its end is broken where the program is killed
                running.stdin.close()


def _kill(running: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
