"""What the page asks of the running program."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from recognizer.live.clips import find_event_file
from recognizer.live.fleet import CameraFleet
from recognizer.live.sinks.deliver import Delivery
from recognizer.live.still import jpeg_of
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
        sinks: what delivers notices, by the sinks' names.
        shows_pixels: whether pictures of the cameras may be shown.

    """

    def __init__(
        self,
        fleet: CameraFleet,
        latest: LatestPoses,
        clips_dir: Path | None,
        *,
        sinks: Mapping[str, Delivery] = MappingProxyType({}),
        shows_pixels: bool = False,
    ) -> None:
        self._fleet, self._latest, self._clips_dir = fleet, latest, clips_dir
        self._sinks, self._shows_pixels = sinks, shows_pixels

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

    def dead_sinks(self) -> list[str]:
        """Return the names of the sinks whose thread has ended."""
        return [name for name, delivery in self._sinks.items() if not delivery.alive]

    def still(self, camera: str) -> bytes | None:
        """Return a camera's last frame as JPEG; None: there is none, or it may not be shown."""
        image = self._fleet.last_image(camera) if self._shows_pixels else None
        return None if image is None else jpeg_of(image)

    def clip(self, event_id: str) -> Path | None:
        """Return the file of an event's clip; None: there is none."""
        return None if self._clips_dir is None else find_event_file(self._clips_dir, event_id)
