"""Worker processes: a job is given up after it kills two workers; the run continues.

``multiprocessing.Pool`` waits for ever for a killed worker and ``ProcessPoolExecutor`` gives up
every job, so the parent here watches each worker's pipe and exit itself. Every wait has a limit: a
worker that sends nothing for ``stall_timeout_s`` is killed. Workers end when their parent does.
"""

import contextlib
import logging
import multiprocessing as mp
import os
import pickle
import resource
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from recognizer.runs.cluster.settings import Cluster

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 2
MAX_DEATHS_AT_START = 3
_POLL_S = 1.0
_OUT_OF_MEMORY_EXIT = 70

OnFrames = Callable[[int], None]
"""Called with the number of frames done since the last call; 0 only shows that work goes on."""

Handler = Callable[[Any, OnFrames], Any]
"""Called with a job's payload and ``OnFrames``; returns the job's result."""


class RunError(RuntimeError):
    """A fault that ends the whole run: the model does not load, the disk is full."""


class StopRunError(Exception):
    """Raised by a handler when no further job can succeed; stops the run with its text."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work: a name for reports, and the handler's argument."""

    name: str
    payload: Any


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Progress or the end of a job.

    Attributes:
        job: the job.
        frames: frames done since the last event of the job.
        result: the handler's, once it has returned.
        lost: why the job has no result: it killed its worker twice, or raised.

    """

    job: Job
    frames: int = 0
    result: Any = None
    lost: str = ""


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """How to start workers.

    Attributes:
        start: module-level function that makes a worker's handler from its arguments.
        arguments: one tuple per worker, so that each can have its own device.
        stall_timeout_s: a worker silent for longer is killed.
        memory_gb: address space a worker may use, None for no limit.
        cluster: the Ray cluster that runs the workers, all with the first of ``arguments``; None:
            they are processes of this machine.

    """

    start: Callable[..., Handler]
    arguments: Sequence[tuple[object, ...]]
    stall_timeout_s: float = 120.0
    memory_gb: float | None = None
    cluster: Cluster | None = None


@dataclass(eq=False, slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    arguments: tuple[object, ...]
    job: Job | None = None
    ready: bool = False
    last_message_s: float = field(default_factory=time.monotonic)


def run_jobs(jobs: Sequence[Job], pool: WorkerPool) -> Iterator[WorkerEvent]:
    """Run every job once in one of the workers and yield its progress and end.

    Raises:
        RunError: a worker cannot start, or a handler raised ``StopRunError``.

    """
    run = _Run(jobs, pool)
    try:
        yield from run.events()
    finally:
        run.stop()


class _Run:
    def __init__(self, jobs: Sequence[Job], pool: WorkerPool) -> None:
        self._waiting = deque(jobs)
        self._left = len(jobs)
        self._attempts: dict[str, int] = {}
        self._pool = pool
        self._deaths_at_start = 0
        arguments = pool.arguments[: max(1, min(len(jobs), len(pool.arguments)))]
        self._workers = [self._spawn(args) for args in arguments] if jobs else []

    def events(self) -> Iterator[WorkerEvent]:
        while self._left:
            ready = wait([w.pipe for w in self._workers], timeout=_POLL_S)
            for worker in list(self._workers):
                if worker.pipe in ready:
                    yield from self._listen(worker)
                elif self._is_silent(worker):
                    yield from self._replace_worker(worker, silent=True)

    def _is_silent(self, worker: _Worker) -> bool:
        """Tell whether a worker that starts or has a job sent nothing for too long."""
        if worker.ready and worker.job is None:
            return False
        return time.monotonic() - worker.last_message_s > self._pool.stall_timeout_s

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(10)
            worker.pipe.close()

    def _spawn(self, arguments: tuple[object, ...]) -> _Worker:
        context = mp.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(theirs, self._pool.start, arguments, self._pool.memory_gb, os.getpid()),
            daemon=True,
        )
        # A worker that starts ignores Ctrl-C from its first instruction on.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()  # so that the worker's death shows as the end of our pipe
        return _Worker(process, ours, arguments)

    def _listen(self, worker: _Worker) -> Iterator[WorkerEvent]:
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._replace_worker(worker)
            return
        worker.last_message_s = time.monotonic()
        job = worker.job
        if kind == "ready":
            worker.ready, self._deaths_at_start = True, 0
            self._assign(worker)
        elif kind == "stop" or job is None:
            raise RunError(value)
        elif kind == "frames":
            yield WorkerEvent(job, frames=value)
        else:
            self._left -= 1
            worker.job = None
            yield (
                WorkerEvent(job, result=value) if kind == "result" else WorkerEvent(job, lost=value)
            )
            self._assign(worker)

    def _assign(self, worker: _Worker) -> None:
        if not self._waiting:
            return
        worker.job = self._waiting.popleft()
        worker.last_message_s = time.monotonic()  # it may have been idle for long
        try:
            worker.pipe.send(worker.job)
        except OSError:  # it died between two jobs; its pipe's end shows that
            logger.warning("worker %d died before its next job", worker.process.pid)

    def _replace_worker(self, worker: _Worker, *, silent: bool = False) -> Iterator[WorkerEvent]:
        """Replace a dead or silent worker; its job gets one more try."""
        worker.process.kill()
        worker.process.join(10)
        worker.pipe.close()
        self._workers.remove(worker)
        limit_s = self._pool.stall_timeout_s
        how = silence(limit_s) if silent else cause_of_death(worker.process.exitcode)
        if not worker.ready:
            self._deaths_at_start += 1
            if self._deaths_at_start >= MAX_DEATHS_AT_START:
                raise RunError(f"workers die while they start ({how})")
        job = worker.job
        if job is not None:
            attempts = self._attempts[job.name] = self._attempts.get(job.name, 0) + 1
            logger.warning("%s: its worker died (%s), try %d", job.name, how, attempts)
            if attempts < _MAX_ATTEMPTS:
                self._waiting.appendleft(job)
            else:
                self._left -= 1
                yield WorkerEvent(job, lost=f"killed its worker {attempts} times; last: {how}")
        for idle in self._workers:
            if idle.ready and idle.job is None:
                self._assign(idle)
        if self._waiting or len(self._workers) < self._left:
            self._workers.append(self._spawn(worker.arguments))


def silence(limit_s: float) -> str:
    """Return why a worker that sent nothing for ``limit_s`` seconds was killed."""
    return (
        f"silent for {limit_s:g} s (annotation.stall_timeout_s; on an overloaded machine set it "
        "higher)"
    )


def cause_of_death(exit_code: int | None) -> str:
    """Return what the exit code of a worker process means."""
    if exit_code == _OUT_OF_MEMORY_EXIT:
        return "out of memory"
    if exit_code is not None and exit_code < 0:
        known = -exit_code in set(signal.Signals)
        name = signal.Signals(-exit_code).name if known else f"signal {-exit_code}"
        return f"{name}: killed from outside or by the memory guard"
    return f"exit code {exit_code}"


# --- inside the worker -------------------------------------------------------------


def _serve(
    pipe: Connection,
    start: Callable[..., Handler],
    arguments: tuple[object, ...],
    memory_gb: float | None,
    parent: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    if memory_gb is not None:
        limit = int(memory_gb * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        handler = start(*arguments)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY_EXIT)
    except Exception as error:
        logger.debug("start", exc_info=True)
        pipe.send(("stop", str(error) or repr(error)))
        return
    with contextlib.suppress(EOFError, OSError):  # the parent is gone: so is the work
        pipe.send(("ready", None))
        while True:
            job: Job = pipe.recv()
            pipe.send(_work(handler, job, lambda frames: pipe.send(("frames", frames))))


def serve_pickled(pipe: Connection, task: bytes, memory_gb: float | None, parent: int) -> None:
    """Be a worker of ``pickle.loads(task)``, a start function and its arguments.

    The process that starts it need not import what they name.
    """
    try:
        start, arguments = pickle.loads(task)
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        pipe.send(("stop", f"expected what the driver can import here, too: {error}"))
        return
    _serve(pipe, start, arguments, memory_gb, parent)


def _work(handler: Handler, job: Job, on_frames: OnFrames) -> tuple[str, Any]:
    try:
        return "result", handler(job.payload, on_frames)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY_EXIT)
    except StopRunError as error:
        return "stop", str(error)
    except Exception as error:  # noqa: BLE001 - one job's fault must not end the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"  # noqa: PTH119
        return "lost", f"internal error in {where}: {type(error).__name__}: {error}"


def _leave_with(parent: int) -> None:
    """End this process once the parent is gone, also when it was killed."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)
