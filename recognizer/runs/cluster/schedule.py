"""Jobs on a Ray cluster: the driver feeds actors, and decides what is tried again.

A job that kills three workers is given up; the death of a node is no attempt of its jobs. An actor
that Ray cannot reach is killed and gets nothing more: its jobs go to others some seconds later. If
it still works, it writes the same bytes. Nodes that join get workers, those that leave are not
missed.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue

from recognizer.runs.cluster.actors import Actor, Actors, Answer
from recognizer.runs.cluster.attempts import Attempts
from recognizer.runs.cluster.host import Reply, Report
from recognizer.runs.cluster.membership import Membership
from recognizer.runs.cluster.session import marker_in, ray_session
from recognizer.runs.cluster.settings import Cluster
from recognizer.runs.worker_pool import (
    MAX_DEATHS_AT_START,
    Job,
    RunError,
    WorkerEvent,
    WorkerPool,
)

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_LOOK_S = 1.0
_UNREACHABLE_S = 60.0
_QUARANTINE_S = 10.0
_IN_FLIGHT = 2


def run_on_cluster(
    jobs: Sequence[Job], pool: WorkerPool, cluster: Cluster
) -> Iterator[WorkerEvent]:
    """Run every job once in one of the cluster's workers and yield its progress and end.

    Raises:
        RunError: as ``run_jobs``; no Ray at the address, or no node that is fit for a worker.

    """
    if not jobs:
        return
    with ExitStack() as stack:
        stack.enter_context(ray_session(cluster.address))
        marker = stack.enter_context(marker_in(cluster.folder))
        run = _Run(jobs, pool, cluster, Membership(cluster, marker))
        stack.callback(run.stop)
        yield from run.events()


class _Run:
    def __init__(
        self, jobs: Sequence[Job], pool: WorkerPool, cluster: Cluster, members: Membership
    ) -> None:
        self._jobs = jobs
        self._waiting = deque(range(len(jobs)))
        self._left = len(jobs)
        self._frames: dict[int, int] = {}  # of running jobs, reported so far
        self._attempts = Attempts()
        self._inbox: SimpleQueue[Answer] = SimpleQueue()
        self._actors = Actors(pool, cluster, self._inbox)
        self._members = members
        self._quarantined: list[tuple[Actor, float]] = []
        self._deaths_at_start = 0
        self._any_ready = False

    def events(self) -> Iterator[WorkerEvent]:
        logger.info("%s", self._members.introduce(len(self._jobs)))
        looked_s = -_LOOK_S
        while self._left:
            now_s = time.monotonic()
            if now_s - looked_s >= _LOOK_S:
                looked_s = now_s
                yield from self._look(now_s)
            try:
                answer = self._inbox.get(timeout=_POLL_S)
            except Empty:
                continue
            yield from self._take(answer)

    def stop(self) -> None:
        self._actors.stop()

    def _look(self, now_s: float) -> Iterator[WorkerEvent]:
        """Follow the cluster: who joined, who left, who does not answer."""
        self._members.look(now_s, idle=not self._actors.alive)
        living = self._members.living
        for actor in list(self._actors.alive):
            if actor.node.id not in living:
                self._quarantine(actor, now_s, "its node is gone")
            elif actor.asked_s is not None and now_s - actor.asked_s > _UNREACHABLE_S:
                self._quarantine(actor, now_s, f"no answer for {_UNREACHABLE_S:g} s")
            elif actor.flying:
                self._actors.ask(actor, now_s)
        for actor, until_s in list(self._quarantined):
            if now_s >= until_s or actor.node.id not in living:
                self._quarantined.remove((actor, until_s))
                yield from self._take_back(actor)
        self._actors.fill(self._members.fit, self._left)

    # --- answers ---------------------------------------------------------------------

    def _take(self, answer: Answer) -> Iterator[WorkerEvent]:
        from ray.exceptions import ActorUnavailableError, RayError

        actor = answer.actor
        if actor not in self._actors.alive:
            return  # dropped: what it was doing is done elsewhere
        try:
            value = answer.future.result()
        except ActorUnavailableError as error:
            self._quarantine(actor, time.monotonic(), _first_line(error))
        except RayError as error:
            yield from self._died(actor, error)
        else:
            if isinstance(value, Report):
                yield from self._take_report(actor, value)
            elif answer.call == "open":
                self._take_start(actor, value)
            else:
                yield from self._take_end(actor, answer.number, value)

    def _take_report(self, actor: Actor, report: Report) -> Iterator[WorkerEvent]:
        actor.asked_s = None
        if report.number is not None and report.number in actor.flying:
            frames = self._new_frames(report.number, report.frames)
            yield WorkerEvent(self._jobs[report.number], frames=frames)

    def _new_frames(self, number: int, frames: int) -> int:
        before = self._frames.get(number, 0)
        self._frames[number] = max(before, frames)
        return max(0, frames - before)

    def _take_start(self, actor: Actor, reply: Reply) -> None:
        if reply.ending == "ready":
            actor.ready, self._deaths_at_start, self._any_ready = True, 0, True
            self._feed(actor)
            return
        self._actors.drop(actor)
        self._failed_start(actor, str(reply.value), final=reply.ending == "stop")

    def _failed_start(self, actor: Actor, why: str, *, final: bool) -> None:
        name = actor.node.name
        if final and not self._any_ready:
            raise RunError(f"{name}: {why}")
        if final:  # it works elsewhere
            self._members.set_aside(actor.node, why)
            return
        self._deaths_at_start += 1
        logger.warning("%s: a worker died while it started (%s)", name, why)
        if self._deaths_at_start >= MAX_DEATHS_AT_START:
            raise RunError(f"{name}: workers die while they start ({why})")

    def _take_end(self, actor: Actor, number: int, reply: Reply) -> Iterator[WorkerEvent]:
        actor.flying.remove(number)
        job, value = self._jobs[number], reply.value
        frames = self._new_frames(number, reply.frames)
        del self._frames[number]
        if reply.ending == "stop":
            raise RunError(value)
        if reply.ending == "died":
            yield from self._failed(number, value, frames)
        else:
            self._left -= 1
            self._attempts.forget(number)
            if reply.ending == "lost":
                yield WorkerEvent(job, frames, lost=value)
            else:
                yield WorkerEvent(job, frames, value)
        self._feed_all()

    def _failed(self, number: int, how: str, frames: int = 0) -> Iterator[WorkerEvent]:
        """Try a job again that killed its worker, or give it up."""
        job = self._jobs[number]
        lost = self._attempts.killed_worker(number, how)
        logger.warning("%s: its worker died (%s)", job.name, how)
        if not lost:
            self._waiting.appendleft(number)
            return
        self._left -= 1
        yield WorkerEvent(job, frames, lost=lost)

    # --- actors that are gone ----------------------------------------------------------

    def _died(self, actor: Actor, error: Exception) -> Iterator[WorkerEvent]:
        how = _first_line(error)
        if self._members.is_gone(actor.node, error):
            self._quarantine(actor, time.monotonic(), how)
            return
        self._actors.drop(actor)
        if not actor.ready:
            self._failed_start(actor, how, final=False)
            return
        running, *others = actor.flying or (None,)
        self._waiting.extendleft(reversed(others))
        if running is not None:
            self._frames.pop(running, None)
            yield from self._failed(running, how)
        self._feed_all()

    def _quarantine(self, actor: Actor, now_s: float, why: str) -> None:
        """Feed an actor no more that may still be at work; its jobs go back a little later."""
        logger.warning("%s: a worker is out of reach (%s)", actor.node.name, why)
        self._actors.drop(actor)
        self._quarantined.append((actor, now_s + _QUARANTINE_S))

    def _take_back(self, actor: Actor) -> Iterator[WorkerEvent]:
        for position, number in reversed(list(enumerate(actor.flying))):
            self._frames.pop(number, None)
            lost = self._attempts.lost_node(number) if position == 0 else ""
            if lost:
                self._left -= 1
                yield WorkerEvent(self._jobs[number], lost=lost)
            else:
                self._waiting.appendleft(number)
        self._feed_all()

    # --- feeding -----------------------------------------------------------------------

    def _feed_all(self) -> None:
        for actor in self._actors.alive:
            if not self._waiting:
                return
            self._feed(actor)

    def _feed(self, actor: Actor) -> None:
        """Give a ready actor its next jobs; near the end one at a time, so that none queues."""
        while actor.ready and self._waiting:
            most = _IN_FLIGHT if len(self._waiting) >= len(self._actors.alive) else 1
            if len(actor.flying) >= most:
                return
            number = self._waiting.popleft()
            self._actors.send(actor, number, self._jobs[number])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if line.startswith(("The actor is", "The actor died because"))
    ]
    return (telling or lines or [type(error).__name__])[0][:300]
