"""Which nodes of a cluster are fit for work, checked once each; network files sent to them."""

import logging
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import recognizer
from recognizer.runs.cluster import probe
from recognizer.runs.cluster.session import Node
from recognizer.runs.cluster.settings import Cluster
from recognizer.storage.artifacts import sha256_file

logger = logging.getLogger(__name__)


@runtime_checkable
class _HasFiles(Protocol):
    """A worker's plan with the network files that it opens, by role."""

    files: Mapping[str, Path]


class NodeCheck:
    """Asks nodes what ``probe`` looks for; answers come as futures, so that none is waited for."""

    def __init__(self, cluster: Cluster, marker: tuple[str, str]) -> None:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(probe)
        self._cluster, self._marker = cluster, marker
        self._digests = {str(path): sha256_file(path) for path in cluster.files}
        self._sent: dict[str, Any] = {}  # path -> Ray's reference of its content

    def begin(self, node: Node) -> "Future[tuple[list[str], list[str]]]":
        """Ask a node; the future gives its faults and the network files it lacks."""
        reads = [str(path) for path in self._cluster.reads]
        ask = _on(node, probe.examine_node)
        return _future(ask.remote(recognizer.__version__, self._marker, reads, dict(self._digests)))

    def send(self, node: Node, lacking: list[str]) -> "Future[list[str]]":
        """Send network files to a node; the future gives the paths that it keeps them under."""
        import ray

        for path in lacking:
            if path not in self._sent:
                self._sent[path] = ray.put(Path(path).read_bytes())
            logger.info("%s: gets %s", node.name, Path(path).name)
        names = [(self._digests[path], Path(path).name) for path in lacking]
        keep = _on(node, probe.keep_files)
        return _future(keep.remote(names, *(self._sent[path] for path in lacking)))


def _on(node: Node, function: Callable[..., Any]) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return ray.remote(function).options(
        num_cpus=0,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
    )


def _future(reference: Any) -> "Future[Any]":
    future: Future[Any] = reference.future()
    return future


def pickled_task(
    start: Callable[..., object], arguments: tuple[object, ...], moved: Mapping[Path, Path]
) -> bytes:
    """Return a worker's start function and arguments, network files where the node has them."""
    return pickle.dumps((start, tuple(_relocated(one, moved) for one in arguments)))


def _relocated(plan: object, moved: Mapping[Path, Path]) -> object:
    if not moved or not isinstance(plan, _HasFiles) or not is_dataclass(plan):
        return plan
    files = {role: moved.get(path, path) for role, path in plan.files.items()}
    return replace(plan, files=files)
