"""Watch cameras in tests: everything that a fleet hands on, until something has come."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.fleet import CameraFleet
from recognizer.live.sources import PacketSink
from recognizer.live.values import CameraStatus, Gap, LiveFrame

_RATE_S = 0.15


@dataclass(eq=False)
class Watch:
    """A running fleet and all that came from it.

    ``gaps`` has the time on the monotonic clock at which each was handed on.
    """

    fleet: CameraFleet
    frames: list[LiveFrame] = field(default_factory=list)
    gaps: list[tuple[float, Gap]] = field(default_factory=list)
    is_finished: bool = False

    def until(self, is_done: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Collect until something holds; fails where it does not in time."""
        end_s = time.monotonic() + timeout_s
        while not is_done():
            assert time.monotonic() < end_s, (self.fleet.status(), self.gaps, len(self.frames))
            self._collect()

    def during(self, seconds: float) -> None:
        """Collect for some seconds."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._collect()

    def _collect(self) -> None:
        batch = self.fleet.gatherer.batch(0.05)
        self.gaps += [(time.monotonic(), gap) for gap in batch.gaps]
        self.frames += batch.frames
        self.is_finished = batch.is_last

    def of(self, camera: str) -> list[LiveFrame]:
        """Return the frames of one camera."""
        return [frame for frame in self.frames if frame.camera == camera]

    def gaps_of(self, camera: str) -> list[Gap]:
        """Return the gaps of one camera."""
        return [gap for _, gap in self.gaps if gap.camera == camera]

    def unreported(self, camera: str, gap_s: float = 1.0) -> list[tuple[float, float]]:
        """Return the times without frames of which gaps leave more than ``gap_s`` uncovered."""
        covered_s = 0.0
        holes = []
        gaps = sorted((g.start_s, g.end_s) for g in self.gaps_of(camera) if g.end_s is not None)
        for before, after in itertools.pairwise(f.frame.time_s for f in self.of(camera)):
            covered_s = before
            for start_s, end_s in gaps:
                if start_s <= covered_s + _RATE_S:  # the rate leaves out some frames
                    covered_s = max(covered_s, end_s)
            if after - max(before, covered_s) > gap_s:
                holes.append((before, after))
        return holes

    def status(self, camera: str) -> CameraStatus:
        """Return what one camera does."""
        return next(status for status in self.fleet.status() if status.name == camera)


@contextmanager
def watching(
    *cameras: CameraConfig,
    source: SourceConfig | None = None,
    sinks: dict[str, PacketSink] | None = None,
) -> Iterator[Watch]:
    """Run cameras; gives what they hand on."""
    fleet = CameraFleet(cameras, source or SourceConfig(), sinks=sinks)
    fleet.start()
    try:
        yield Watch(fleet)
    finally:
        fleet.stop()
