"""A worker's handler that sleeps, dies or raises as its order says."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recognizer.runs.worker_pool import StopRunError


def pass_time(what: str, report: Callable[[int], object]) -> None:
    if what == "sleep":
        time.sleep(60)
    elif what == "long":
        for _ in range(30):
            time.sleep(0.2)
            report(1)


def raise_or_pass(what: str, report: Callable[[int], object]) -> None:
    if what == "raise":
        raise KeyError("lost key")
    if what == "disk":
        raise StopRunError("disk full")
    pass_time(what, report)


def send_to_parent(number: signal.Signals) -> None:
    os.kill(os.getppid(), number)
    time.sleep(60)


class Handler:
    """Does what the job's text says; a marker file tells the second try from the first."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __call__(self, order: str, report: Callable[[int], object]) -> str:
        what, _, name = order.partition(" ")
        marker = self.folder / name
        first = not marker.exists()
        marker.touch()
        report(3)
        if what == "late-kill-once" and first:
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "kill" or (what == "kill-once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "stop" or (what == "stop-once" and first):
            os.kill(os.getpid(), signal.SIGSTOP)
        elif what.endswith("-host-once") and first:
            send_to_parent(signal.SIGKILL if what.startswith("kill") else signal.SIGSTOP)
        elif what == "memory":
            np.ones(2**40, np.uint8)
        else:
            raise_or_pass(what, report)
        return f"{name} by a worker"
