"""What a training of all runs shows, and how far it is."""

import time
from dataclasses import dataclass, field
from typing import Any

STUCK = 0.85  # of the loss of empty heatmaps: above it, nothing is learnt
RESERVE = 12.0  # seconds for the last evaluation and the pictures, where none was timed yet
WRITING = 6.0  # of them for results and pictures
RUNNING, STOPPED = "running", "stopped at its limit"


@dataclass
class Clock:
    """How far a training is: by steps where their number is given, else by time.

    Attributes:
        until: end of the time, by ``time.monotonic``.
        steps: how many, or 0.
        reserve: seconds of that time that are kept for its end.

    """

    until: float
    steps: int
    reserve: float = RESERVE
    begun: float = field(default_factory=time.monotonic)

    def progress(self, step: int) -> float:
        """Return the share in [0, 1]."""
        if self.steps:
            return min(1.0, step / self.steps)
        span = self.until - self.reserve - self.begun
        return min(1.0, (time.monotonic() - self.begun) / max(span, 1e-3))

    def keep(self, seconds: float) -> None:
        """Keep time for an evaluation twice as long as one that took ``seconds``."""
        self.reserve = max(self.reserve, 2 * seconds + WRITING)

    @property
    def over(self) -> bool:
        """Tell whether a training by steps has come to the reserve before its last step."""
        return bool(self.steps) and time.monotonic() > self.until - self.reserve


@dataclass
class Record:
    """What a training of all runs shows, as it goes on."""

    names: list[str]
    about: dict[str, Any]
    windows: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    def stop(self) -> None:
        """Say that the time was over before the training was, if it was not."""
        if self.about["outcome"] == RUNNING:
            self.about["outcome"] = STOPPED

    def give_up_if_stuck(self, progress: float) -> None:
        """Say that a training that still runs ends here, where no training has left the plateau."""
        if self.about["outcome"] == RUNNING and stuck(self.windows):
            self.about["outcome"] = f"plateau of empty heatmaps at {progress:.0%} of its time"

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            **self.about,
            "names": self.names,
            "windows": self.windows,
            "evaluations": self.evaluations,
        }


def is_whole(about: dict[str, Any]) -> bool:
    """Tell whether a training went to its end, or to the end of the patience with it."""
    return about.get("outcome", RUNNING) not in (RUNNING, STOPPED)


def stuck(windows: list[dict[str, Any]]) -> bool:
    """Tell whether no run's last window is below the loss of empty heatmaps."""
    last = windows[-1]
    lowest = min(
        (
            v["heatmap_loss"]
            for v in last["runs"].values()
            if v["heatmap_loss"] == v["heatmap_loss"]
        ),
        default=1.0,
    )
    return bool(lowest > STUCK * last["empty"])
