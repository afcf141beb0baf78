"""The values that the camera side hands on: frames, gaps, and the state of a camera."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from recognizer.live.errors import Reason
from recognizer.types import Frame


class DropCause(StrEnum):
    """Why a frame was not handed on."""

    QUEUE_FULL = "queue_full"
    STALE = "stale"
    DECODE = "decode"
    RATE = "rate"


class CameraState(StrEnum):
    """What a camera is doing."""

    OFF = "off"
    CONNECTING = "connecting"
    STREAMING = "streaming"
    WAITING = "waiting"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, eq=False, slots=True)
class LiveFrame:
    """A frame of a camera.

    Attributes:
        camera: the camera's name.
        frame: picture, number within the camera, and time: seconds of the monotonic clock for a
            camera, from the file's start for a file.
        captured_s: when it was decoded, on the monotonic clock.
        connection: counts the camera's connections from 1.

    """

    camera: str
    frame: Frame
    captured_s: float
    connection: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without video: events are closed, tracker and windows start anew.

    A gap comes twice: when it is noticed, with ``end_s`` None, and once video is back; one that is
    over when it is noticed comes once. So do a change of the picture's size or codec and the end
    of a file, with equal times.

    Attributes:
        camera: the camera's name.
        start_s: time of the last frame before it, or of the first try to open the camera.
        end_s: time of the first frame after it; None: there is none yet.
        reason: why.

    """

    camera: str
    start_s: float
    end_s: float | None
    reason: Reason


Item: TypeAlias = LiveFrame | Gap


@dataclass(frozen=True, slots=True)
class CameraError:
    """Why a camera was lost.

    Attributes:
        reason: what kind of failure it was.
        text: the message, in English and without credentials.

    """

    reason: Reason
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """A snapshot of a camera for metrics and the page.

    Attributes:
        name: the camera's name.
        address: where it is, without credentials.
        state: what it is doing.
        fps: frames per second handed on during the last seconds.
        size_wh: width and height of the last frame in pixels, None before the first.
        codec: of the last frame, None before the first.
        frames: frames handed on since the start.
        drops: frames not handed on, by cause.
        reconnects: connections lost or refused, by reason.
        connection: number of the current or last connection, 0 before the first.
        last_frame_age_s: seconds since the last frame, None before the first.
        last_error: why it was lost last; None: it never was.
        abandoned: readers that hang inside a library and were given up.

    """

    name: str
    address: str
    state: CameraState
    fps: float
    size_wh: tuple[int, int] | None
    codec: str | None
    frames: int
    drops: Mapping[DropCause, int]
    reconnects: Mapping[Reason, int]
    connection: int
    last_frame_age_s: float | None
    last_error: CameraError | None
    abandoned: int

    @property
    def dropped(self) -> int:
        """Frames that were lost; those above the camera's ``fps`` were never to be handed on."""
        return sum(n for cause, n in self.drops.items() if cause != DropCause.RATE)
