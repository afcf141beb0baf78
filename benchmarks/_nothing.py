"""A worker of ray_executor.py whose jobs take no time; workers import it by this name."""

from recognizer.runs.manifest import Outcome
from recognizer.runs.worker_pool import Handler, OnFrames


def start_nothing() -> Handler:
    """Return a handler that does nothing."""

    def handle(payload: str, on_frames: OnFrames) -> Outcome:
        return Outcome(payload, "done")

    return handle
