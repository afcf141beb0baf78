"""All cameras of an installation: started together, watched by one thread."""

import threading
import time
from collections.abc import Mapping, Sequence

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.camera import Camera
from recognizer.live.gather import Gatherer
from recognizer.live.slot import FrameSlot
from recognizer.live.sources import PacketSink
from recognizer.live.values import CameraStatus
from recognizer.types import Image

_TICK_S = 0.2
_STOP_S = 5.0


class CameraFleet:
    """Read all cameras; a dead one costs the others nothing.

    Args:
        cameras: which; names must differ.
        source: how they are read.
        sinks: by camera name, who takes its packets.
        max_frames: frames in a batch.

    Attributes:
        gatherer: gives their frames in batches.

    Raises:
        ValueError: two cameras have one name.

    """

    def __init__(
        self,
        cameras: Sequence[CameraConfig],
        source: SourceConfig,
        *,
        sinks: Mapping[str, PacketSink] | None = None,
        max_frames: int = 16,
    ) -> None:
        names = [camera.name for camera in cameras]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"cameras: expected names that differ, got {twice!r} twice")
        ready = threading.Condition()
        self.cameras = tuple(
            Camera(
                config, source, _slot(config, source, ready), sink=(sinks or {}).get(config.name)
            )
            for config in cameras
        )
        slots = [camera.slot for camera in self.cameras]
        self.gatherer = Gatherer(slots, ready, max_frames=max_frames, gather_s=source.gather_s)
        self._stop = threading.Event()
        self._watchdog: threading.Thread | None = None

    def start(self) -> None:
        """Start all cameras that are enabled, and the watchdog."""
        for camera in self.cameras:
            camera.start()
        self._watchdog = threading.Thread(target=self._watch, name="camera watchdog", daemon=True)
        self._watchdog.start()

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """Stop all cameras; returns after ``timeout_s`` even where a reader hangs."""
        self._stop.set()
        end_s = time.monotonic() + timeout_s
        for camera in self.cameras:
            camera.stop()
        if self._watchdog is not None:
            self._watchdog.join(timeout_s)
        for camera in self.cameras:
            camera.join(max(end_s - time.monotonic(), 0))

    def status(self) -> list[CameraStatus]:
        """Return a snapshot of every camera."""
        return [camera.status() for camera in self.cameras]

    def last_image(self, camera: str) -> Image | None:
        """Return the picture of a camera's last frame; None: there is none, or no such camera."""
        return next((one.last_image() for one in self.cameras if one.config.name == camera), None)

    def _watch(self) -> None:
        while not self._stop.wait(_TICK_S):
            for camera in self.cameras:
                camera.tick()


def _slot(camera: CameraConfig, source: SourceConfig, ready: threading.Condition) -> FrameSlot:
    is_live = camera.path is None
    if not is_live:
        return FrameSlot(source.queue, ready)
    return FrameSlot(source.queue, ready, source.max_age_s)
