"""What the page needs of the running program."""

from pathlib import Path
from typing import Protocol

from recognizer.live.values import CameraStatus
from recognizer.types import PoseSequence


class LiveState(Protocol):
    """The running detection, asked from several threads at once; every answer comes at once."""

    def cameras(self) -> list[CameraStatus]:
        """Return a snapshot of every camera, without credentials."""
        ...

    def latest(self, camera: str) -> PoseSequence | None:
        """Return the poses of a camera's last frames; None: there are none, or no such camera."""
        ...

    def ready(self) -> bool:
        """Return whether networks are loaded and cameras are read."""
        ...

    def dead_sinks(self) -> list[str]:
        """Return the names of the sinks that deliver no more, because their thread has ended."""
        ...

    def still(self, camera: str) -> bytes | None:
        """Return a camera's last frame as JPEG; None: there is none, or no such camera.

        With the page's ``skeleton_only`` there is none of any camera.
        """
        ...

    def clip(self, event_id: str) -> Path | None:
        """Return the file of an event's clip; None: there is none.

        With the page's ``skeleton_only`` it shows skeletons alone, else the camera's own video.
        """
        ...
