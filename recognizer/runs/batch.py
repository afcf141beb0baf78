"""One stage over all its inputs: finished ones are kept, workers do the rest."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recognizer.checks import MAX_THREADS
from recognizer.config.file import ConfigError
from recognizer.config.schema import AnnotationConfig
from recognizer.installation import cpu_cores
from recognizer.runs.cluster.settings import Cluster
from recognizer.runs.manifest import Outcome, Progress
from recognizer.runs.worker_pool import Handler, Job, WorkerEvent, WorkerPool, run_jobs

logger = logging.getLogger(__name__)


def run_batch(
    settled: Sequence[Outcome], jobs: Sequence[Job], pool: WorkerPool, advance: Progress
) -> tuple[Outcome, ...]:
    """Run the jobs and return one end state for every input.

    Args:
        settled: end states that are known already.
        jobs: the other inputs; their handler returns an ``Outcome``.
        pool: how to start workers.
        advance: called after every input and for frames in between.

    Raises:
        RunError: no worker can go on.

    """
    outcomes = list(settled)
    if settled and jobs:
        logger.info("%d of %d inputs are settled already", len(settled), len(settled) + len(jobs))
    for outcome in settled:
        advance(outcome, 0)
    for event in _events(jobs, pool):
        result: Outcome | None = event.result
        if event.lost:
            result = Outcome(event.job.name, "refused", event.lost)
        if result is not None:
            outcomes.append(result)
        advance(result, event.frames)
    return tuple(outcomes)


def _events(jobs: Sequence[Job], pool: WorkerPool) -> Iterator[WorkerEvent]:
    if pool.cluster is None:
        return run_jobs(jobs, pool)
    from recognizer.runs.cluster.schedule import run_on_cluster

    return run_on_cluster(jobs, pool, pool.cluster)


@dataclass(frozen=True, slots=True)
class WorkerPaths:
    """What workers write and read, wherever they run.

    Attributes:
        folder: their results; as text an address in object storage.
        reads: their inputs: files, folders, or addresses in object storage.
        files: the network files that their plan names.
        on_gpu: they run networks, so that Ray gives them ``annotation.ray_num_gpus``.

    """

    folder: Path | str
    reads: tuple[Path | str, ...] = ()
    files: tuple[Path, ...] = ()
    on_gpu: bool = True


def worker_pool(
    section: AnnotationConfig,
    start: Callable[..., Handler],
    arguments: Sequence[tuple[object, ...]],
    paths: WorkerPaths,
) -> WorkerPool:
    """Return how a stage's workers are started, here or on a cluster.

    Args:
        section: executor, limits of time and memory.
        start: as of ``WorkerPool``; on a cluster an importable function.
        arguments: as of ``WorkerPool``, of ``worker_count`` workers.
        paths: what they write and read.

    Raises:
        ConfigError: ``annotation.gpus`` for workers whose GPUs Ray chooses.

    """
    cluster = None
    if section.executor == "ray":
        if section.gpus:
            raise ConfigError(
                f"annotation.gpus: expected [] with annotation.executor: ray, got {section.gpus}; "
                "Ray chooses GPUs: set annotation.ray_num_gpus, such as 1"
            )
        cluster = Cluster(
            section.ray_address,
            section.ray_num_cpus,
            section.ray_num_gpus if paths.on_gpu else 0.0,
            None if section.workers == "auto" else section.workers,
            paths.folder,
            tuple(one for one in paths.reads if isinstance(one, Path)),
            paths.files,
        )
    return WorkerPool(start, arguments, section.stall_timeout_s, section.worker_memory_gb, cluster)


def worker_count(section: AnnotationConfig, *, networks: bool = False) -> int:
    """Return the number of workers: one per core, or one per GPU of ``annotation.gpus``.

    On a cluster it is that of different workers: all are started alike.

    Args:
        section: ``annotation``.
        networks: they run networks, so that ``annotation.gpus`` counts.

    """
    if section.executor == "ray":
        return 1
    if section.workers != "auto":
        return section.workers
    return len(section.gpus) if networks and section.gpus else cpu_cores()


def worker_threads(section: AnnotationConfig) -> int:
    """Return the threads of one worker that runs networks, >= 1: its share of the cores."""
    cores = int(section.ray_num_cpus) if section.executor == "ray" else cpu_cores()
    return max(1, min(cores // worker_count(section, networks=True), MAX_THREADS))
