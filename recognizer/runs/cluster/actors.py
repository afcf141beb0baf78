"""The actors of a batch: one a slot of each fit node, made and ended as nodes join and leave."""

import logging
import pickle
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from recognizer.runs.cluster.host import WorkerHost
from recognizer.runs.cluster.nodes import pickled_task
from recognizer.runs.cluster.session import Node
from recognizer.runs.cluster.settings import Cluster
from recognizer.runs.worker_pool import Job, WorkerPool

logger = logging.getLogger(__name__)

Call = Literal["open", "run", "report"]


@dataclass(eq=False, slots=True)
class Actor:
    """A worker on a node, as the driver sees it.

    Attributes:
        node: where it is.
        handle: Ray's.
        ready: its worker is started.
        flying: numbers of the jobs it has; the first is the one that runs.
        asked_s: when it was asked for a report that has not come; None: it was not.

    """

    node: Node
    handle: Any
    ready: bool = False
    flying: deque[int] = field(default_factory=deque)
    asked_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of an actor came to; ``number`` is that of a job."""

    actor: Actor
    call: Call
    number: int
    future: "Future[Any]"


@dataclass(eq=False, slots=True)
class FitNode:
    """A node that was checked: its room, and where it keeps files that it lacked."""

    node: Node
    slots: int
    moved: Mapping[Path, Path]


class Actors:
    """Makes, calls and kills actors; their answers go into ``inbox``."""

    def __init__(self, pool: WorkerPool, cluster: Cluster, inbox: "SimpleQueue[Answer]") -> None:
        import ray

        # The driver alone decides what is tried again: Ray restarts and repeats nothing.
        self._remote = ray.remote(
            num_cpus=cluster.num_cpus,
            num_gpus=cluster.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"report": 1},
        )(WorkerHost)
        self._pool, self._cluster, self._inbox = pool, cluster, inbox
        self.alive: list[Actor] = []

    def fill(self, nodes: list[FitNode], needed: int) -> None:
        """Make actors until ``needed`` live or all slots are taken, the emptiest node first."""
        limit = self._cluster.max_workers
        needed = needed if limit is None else min(needed, limit)
        taken = {fit.node.id: 0 for fit in nodes}
        for actor in self.alive:
            if actor.node.id in taken:
                taken[actor.node.id] += 1
        while len(self.alive) < needed:
            free = [fit for fit in nodes if taken[fit.node.id] < fit.slots]
            if not free:
                return
            fit = min(free, key=lambda one: taken[one.node.id] / one.slots)
            taken[fit.node.id] += 1
            self.alive.append(self._make(fit))

    def _make(self, fit: FitNode) -> Actor:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        pool = self._pool
        task = pickled_task(pool.start, pool.arguments[0], fit.moved)
        place = NodeAffinitySchedulingStrategy(fit.node.id, soft=False)
        handle = self._remote.options(scheduling_strategy=place).remote(
            task, pool.stall_timeout_s, pool.memory_gb
        )
        actor = Actor(fit.node, handle)
        self._await(actor, "open", -1, handle.open.remote())
        return actor

    def send(self, actor: Actor, number: int, job: Job) -> None:
        """Give an actor a job."""
        actor.flying.append(number)
        self._await(actor, "run", number, actor.handle.run.remote(number, pickle.dumps(job)))

    def ask(self, actor: Actor, now_s: float) -> None:
        """Ask an actor how far its job is, unless it was asked already."""
        if actor.asked_s is None:
            actor.asked_s = now_s
            call = actor.handle.report.options(concurrency_group="report")
            self._await(actor, "report", -1, call.remote())

    def _await(self, actor: Actor, call: Call, number: int, reference: Any) -> None:
        def put(future: "Future[Any]") -> None:
            self._inbox.put(Answer(actor, call, number, future))

        reference.future().add_done_callback(put)

    def drop(self, actor: Actor) -> None:
        """Kill an actor and never call it again."""
        import ray

        if actor in self.alive:
            self.alive.remove(actor)
        ray.kill(actor.handle, no_restart=True)

    def stop(self) -> None:
        """Kill all of them."""
        for actor in list(self.alive):
            self.drop(actor)
