"""One worker process on a node of the cluster; a Ray actor of the driver.

The actor itself loads no network: its process stays small and answers while the worker works, and
a worker that dies, hangs or fills its memory is told apart as in a local run.
"""

import multiprocessing as mp
import os
import sys
from dataclasses import dataclass
from math import isinf
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Literal

from recognizer.installation import FILES
from recognizer.runs.worker_pool import cause_of_death, serve_pickled, silence

Ending = Literal["ready", "result", "lost", "stop", "died"]


@dataclass(frozen=True, slots=True)
class Reply:
    """How a start or a job ended.

    Attributes:
        ending: ``ready``: the worker is; ``result``, ``lost``, ``stop``: as the worker sends them;
            ``died``: the worker did.
        value: the result, or why there is none.
        frames: of the job, in all.

    """

    ending: Ending
    value: Any = None
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """How far the running job is: its number, and its frames so far; None between two jobs."""

    number: int | None
    frames: int


class WorkerHost:
    """Starts a worker, sends it one job after another, replaces it when it died."""

    def __init__(self, task: bytes, stall_timeout_s: float, memory_gb: float | None) -> None:
        self._task, self._memory_gb = task, memory_gb
        self._stall_timeout_s = stall_timeout_s
        self._worker: tuple[SpawnProcess, Connection] | None = None
        self._report = Report(None, 0)

    def open(self) -> Reply:
        """Start the worker and wait until it is ready."""
        # A spawned process imports the main module of its parent: here Ray's, and so all of Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)
        if str(FILES) not in sys.path:  # the modes of an installed program
            sys.path.append(str(FILES))
        context = mp.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._task, self._memory_gb, os.getpid())
        process = context.Process(target=serve_pickled, args=arguments, daemon=True)
        process.start()
        theirs.close()  # so that the worker's death shows as the end of our pipe
        self._worker = (process, ours)
        return self._end(process, ours)

    def run(self, number: int, job: bytes) -> Reply:
        """Run a pickled ``Job`` and return its end; ``number`` names it in reports."""
        self._report = Report(number, 0)
        try:
            if self._worker is None and (start := self.open()).ending != "ready":
                return start
            return self._send(job)
        finally:
            self._report = Report(None, 0)

    def report(self) -> Report:
        """Return how far the running job is."""
        return self._report

    def _send(self, job: bytes) -> Reply:
        if self._worker is None:
            raise RuntimeError("expected a worker that is ready, found none")
        process, pipe = self._worker
        try:
            pipe.send_bytes(job)
        except OSError:
            return self._dead(process, pipe)
        return self._end(process, pipe)

    def _end(self, process: SpawnProcess, pipe: Connection) -> Reply:
        """Count frames until the worker sends something else."""
        limit_s = None if isinf(self._stall_timeout_s) else self._stall_timeout_s
        while True:
            try:
                if not pipe.poll(limit_s):
                    return self._dead(process, pipe, silent=True)
                ending, value = pipe.recv()
            except (EOFError, OSError):
                return self._dead(process, pipe)
            if ending != "frames":
                return Reply(ending, value, self._report.frames)
            self._report = Report(self._report.number, self._report.frames + value)

    def _dead(self, process: SpawnProcess, pipe: Connection, *, silent: bool = False) -> Reply:
        if not silent:
            process.join(10)  # its pipe may close a little before its end
        process.kill()
        process.join(10)
        pipe.close()
        self._worker = None
        how = silence(self._stall_timeout_s) if silent else cause_of_death(process.exitcode)
        return Reply("died", how, self._report.frames)
