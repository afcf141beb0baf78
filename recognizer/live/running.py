"""What the page asks of the running program."""

import threading
from collections.abc import Callable
from pathlib import Path

from recognizer.live.clips import find_event_file
from recognizer.live.fleet import CameraFleet
from recognizer.live.values import CameraState, CameraStatus
from recognizer.types import PoseSequence


class LatestPoses:
    """The last tracked frames of each camera."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, PoseSequence] = {}

    def listener(
        self, camera: str, further: Callable[[PoseSequence], None] = lambda part: None
    ) -> Callable[[PoseSequence], None]:
        """Return what takes the tracked frames of a camera, and hands them on."""

        def take(part: PoseSequence) -> None:
            with self._lock:
                self._parts[camera] = part
            further(part)

        return take

    def of(self, camera: str) -> PoseSequence | None:
        """Return the last frames of a camera; None: there are none."""
        with self._lock:
            return self._parts.get(camera)


class RunningProgram:
    """A ``page.state.LiveState``.

    Args:
        fleet: the cameras.
        latest: their poses.
        clips_dir: folder of the clips of events; None: they are not to be shown.

    """

    def __init__(self, fleet: CameraFleet, latest: LatestPoses, clips_dir: Path | None) -> None:
        self._fleet, self._latest, self._clips_dir = fleet, latest, clips_dir

    def cameras(self) -> list[CameraStatus]:
        """Return a snapshot of every camera."""
        return self._fleet.status()

    def latest(self, camera: str) -> PoseSequence | None:
        """Return the poses of a camera's last frames."""
        return self._latest.of(camera)

    def ready(self) -> bool:
        """Return whether a camera is read, or all have been."""
        states = {one.state for one in self._fleet.status()}
        return bool(states & {CameraState.STREAMING, CameraState.ENDED})

    def clip(self, event_id: str) -> Path | None:
        """Return the file of an event's clip; None: there is none."""
        return None if self._clips_dir is None else find_event_file(self._clips_dir, event_id)
