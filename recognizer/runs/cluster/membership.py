"""Which nodes the cluster has now, and which of them are fit for work."""

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from recognizer.runs.cluster.actors import FitNode
from recognizer.runs.cluster.nodes import NodeCheck
from recognizer.runs.cluster.session import Node, living_nodes
from recognizer.runs.cluster.settings import Cluster, describe
from recognizer.runs.worker_pool import RunError

logger = logging.getLogger(__name__)

_CHECK_S = 60.0
_NO_NODE_S = 600.0
_FREE_S = 5.0
_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Pending:
    """A node that is being checked, or that is sent the network files it lacks."""

    node: Node
    check: "Future[tuple[list[str], list[str]]]"
    sending: "Future[list[str]] | None" = None


class Membership:
    """Follows the nodes of the cluster; each that has room for a worker is checked once."""

    def __init__(self, cluster: Cluster, marker: tuple[str, str]) -> None:
        self._cluster = cluster
        self._check = NodeCheck(cluster, marker)
        self._known: set[str] = set()
        self._pending: list[_Pending] = []
        self._empty_since_s: float | None = None
        self.living: set[str] = set()
        self.fit: list[FitNode] = []

    def introduce(self, inputs: int) -> str:
        """Check all nodes that are there and return what the cluster has and the job will take.

        Raises:
            RunError: a node that has room lacks what workers need, or none has room.

        """
        nodes = self._begin(_nodes_when_free())
        for pending in self._pending:
            try:
                faults, lacking = pending.check.result(_CHECK_S)
                if faults:
                    raise RunError(f"node {pending.node.name}: {'; '.join(faults)}")
                self._accept(pending.node, lacking, self._send(pending, lacking, _CHECK_S))
            except TimeoutError:
                self.set_aside(pending.node, f"it did not answer in {_CHECK_S:g} s")
            except _ray_error() as error:
                self.set_aside(pending.node, str(error).strip().splitlines()[0])
        self._pending = []
        if not self.fit:
            remedy = "set annotation.ray_num_cpus or annotation.ray_num_gpus lower, or add nodes"
            if any(self._cluster.slots(node.cpus, node.gpus) for node in nodes):
                remedy = "wait until other jobs of the cluster have ended, or add nodes"
            raise RunError(
                f"annotation.executor: ray: expected a node with room for a worker of "
                f"{self._cluster.amount()}, found {_shown(nodes)}{_taken(nodes)}; {remedy}"
            )
        return self._introduction(nodes, inputs)

    def _introduction(self, nodes: list[Node], inputs: int) -> str:
        import ray

        where = self._cluster.address or "on this machine"
        workers = sum(fit.slots for fit in self.fit)
        workers = min(workers, inputs, self._cluster.max_workers or workers)
        text = f"Ray {ray.__version__} {where}: {_shown(nodes)}{_taken(nodes)}; "
        text += f"{inputs} inputs for {workers} "
        text += f"worker{'' if workers == 1 else 's'} of {self._cluster.amount()}"
        full = sum(not self._slots(node) for node in nodes)
        return f"{text}; nodes without room for one: {full}" if full else text

    def _begin(self, nodes: list[Node]) -> list[Node]:
        """Check nodes that joined; one that is full is looked at again until it has room."""
        self.living = {node.id for node in nodes}
        for node in nodes:
            if node.id not in self._known and self._slots(node):
                self._known.add(node.id)
                self._pending.append(_Pending(node, self._check.begin(node)))
        return nodes

    def _slots(self, node: Node) -> int:
        return self._cluster.slots(node.free_cpus, node.free_gpus)

    def _send(self, pending: _Pending, lacking: list[str], timeout_s: float) -> list[str]:
        return self._check.send(pending.node, lacking).result(timeout_s) if lacking else []

    def _accept(self, node: Node, lacking: list[str], kept: list[str]) -> None:
        moved = {Path(own): Path(there) for own, there in zip(lacking, kept, strict=True)}
        self.fit.append(FitNode(node, self._slots(node), moved))

    def set_aside(self, node: Node, why: str) -> None:
        """Give a node no more work."""
        logger.warning("node %s is set aside: %s", node.name, why)
        self.fit = [fit for fit in self.fit if fit.node.id != node.id]

    def is_gone(self, node: Node, error: Exception) -> bool:
        """Tell whether an actor's error is the death of its node."""
        from ray.exceptions import ActorUnschedulableError, NodeDiedError, RayActorError

        if isinstance(error, ActorUnschedulableError | NodeDiedError):
            return True
        if isinstance(error, RayActorError) and error.preempted:
            return True
        if "node has died" in str(error):
            return True
        return node.id not in {one.id for one in living_nodes()}

    def look(self, now_s: float, *, idle: bool) -> None:
        """Follow who joined and who left.

        Raises:
            RunError: no node for work in ten minutes.

        """
        self._begin(living_nodes())
        self.fit = [fit for fit in self.fit if fit.node.id in self.living]
        for pending in list(self._pending):
            self._pending.remove(pending)
            try:
                self._go_on(pending)
            except _ray_error() as error:  # it left again
                self.set_aside(pending.node, str(error).strip().splitlines()[0])
        if self.fit or not idle:
            self._empty_since_s = None
        elif self._empty_since_s is None:
            self._empty_since_s = now_s
            logger.warning("no node of the cluster is left for work; waiting for one to join")
        elif now_s - self._empty_since_s > _NO_NODE_S:
            raise RunError(
                f"no node of the cluster was there for work in {_NO_NODE_S:g} s; start some: the "
                "same command goes on from here"
            )

    def _go_on(self, pending: _Pending) -> None:
        """Take the next step with a node that joined, without waiting for any."""
        if not pending.check.done():
            self._pending.append(pending)
            return
        faults, lacking = pending.check.result()
        if faults:
            self.set_aside(pending.node, "; ".join(faults))
        elif lacking and pending.sending is None:
            sending = self._check.send(pending.node, lacking)
            self._pending.append(_Pending(pending.node, pending.check, sending))
        elif pending.sending is not None and not pending.sending.done():
            self._pending.append(pending)
        else:
            kept = pending.sending.result() if pending.sending else []
            self._accept(pending.node, lacking, kept)
            fit = self.fit[-1]
            logger.info("node %s joins: %d workers", fit.node.name, fit.slots)


def _nodes_when_free() -> list[Node]:
    """Return the nodes once nothing of them is taken, or after some seconds.

    Ray counts what an earlier batch's workers took as taken for a moment after their end.
    """
    deadline = time.monotonic() + _FREE_S
    while True:
        nodes = living_nodes()
        if all(node.is_free for node in nodes) or time.monotonic() > deadline:
            return nodes
        time.sleep(0.1)


def _taken(nodes: list[Node]) -> str:
    """Return what is free for messages, "" where all is."""
    if all(node.is_free for node in nodes):
        return ""
    free = describe(sum(node.free_cpus for node in nodes), sum(node.free_gpus for node in nodes))
    return f", of which {free} are free: other jobs have the rest"


def _shown(nodes: list[Node]) -> str:
    shown = [f"{node.name}: {describe(node.cpus, node.gpus)}" for node in nodes[:_MAX_SHOWN]]
    more = [f"and {len(nodes) - _MAX_SHOWN} more"] if len(nodes) > _MAX_SHOWN else []
    totals = describe(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
    count = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"
    return f"{count} ({'; '.join([*shown, *more])}; in all {totals})"


def _ray_error() -> type[Exception]:
    from ray.exceptions import RayError

    error: type[Exception] = RayError
    return error
