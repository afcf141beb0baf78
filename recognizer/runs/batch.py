"""One stage over all its inputs: finished ones are kept, workers do the rest."""

import logging
from collections.abc import Sequence

from recognizer.config.schema import AnnotationConfig
from recognizer.installation import cpu_cores
from recognizer.runs.manifest import Outcome, Progress
from recognizer.runs.worker_pool import Job, WorkerPool, run_jobs

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
    for event in run_jobs(jobs, pool):
        result: Outcome | None = event.result
        if event.lost:
            result = Outcome(event.job.name, "refused", event.lost)
        if result is not None:
            outcomes.append(result)
        advance(result, event.frames)
    return tuple(outcomes)


def worker_count(section: AnnotationConfig) -> int:
    """Return the number of workers: one per core, or per GPU if there are more of these."""
    if section.workers != "auto":
        return section.workers
    return max(cpu_cores(), len(section.gpus))
