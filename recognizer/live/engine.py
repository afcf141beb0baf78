"""The loop of live detection: frames of all cameras in, events out.

One thread runs it. Cameras read in threads of their own, sinks deliver in threads of their own, and
neither can hold it up: it takes what the cameras have, and hands outcomes to a recorder.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

from recognizer.live.analysis import CameraAnalysis, CameraWindow, SharedPose
from recognizer.live.events import CloseCause, Outcome
from recognizer.live.gather import Gatherer
from recognizer.live.rules import CameraRules
from recognizer.live.values import Gap, LiveFrame

logger = logging.getLogger(__name__)

_WAIT_S = 0.2
Stage = Literal["decode", "pose", "score"]
"""What ``Recorder.lag`` is told of: seconds from a frame's capture until the network had it, until
its people were found, and until the windows that it completes were classified."""


class Recorder(Protocol):
    """Takes what the engine finds; none of its methods may wait for a network."""

    def outcomes(self, found: Sequence[Outcome]) -> None:
        """Take events as they change, and near misses."""

    def gap(self, gap: Gap, start_utc_s: float, end_utc_s: float | None) -> None:
        """Take a time without video, its times also as seconds since 1970."""

    def window(self, window: CameraWindow) -> None:
        """Take a classified window."""

    def lag(self, stage: Stage, seconds: float) -> None:
        """Take how long after its capture a frame passed a stage."""


@dataclass(slots=True)
class CameraState:
    """What the engine keeps of a camera.

    Attributes:
        analysis: its tracks and windows.
        rules: by service.
        begun_utc_s: when a file in a camera's place began, whose times count from 0; None: a
            camera, whose times are those of the monotonic clock.

    """

    analysis: CameraAnalysis
    rules: Mapping[str, CameraRules]
    begun_utc_s: float | None = None


class Engine:
    """Find the events of all cameras.

    Args:
        gatherer: gives the cameras' frames.
        pose: the network that they share.
        cameras: by name.
        recorder: takes what is found.
        utc: the wall clock, seconds since 1970.
        clock: the monotonic clock.

    """

    def __init__(
        self,
        gatherer: Gatherer,
        pose: SharedPose,
        cameras: Mapping[str, CameraState],
        recorder: Recorder,
        *,
        utc: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gatherer, self._pose, self._cameras = gatherer, pose, dict(cameras)
        self._recorder, self._utc, self._clock = recorder, utc, clock

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set or every camera has ended; open events are closed then.

        Raises:
            ModelError: a network whose output is not finite.

        """
        try:
            while not stop.is_set():
                batch = self._gatherer.batch(_WAIT_S)
                for gap in batch.gaps:
                    self._close(gap.camera, "gap")
                    self._note_gap(gap)
                if batch.frames:
                    self._take(batch.frames)
                if batch.is_last:
                    break
        finally:
            with ExitStack() as stack:  # calls all, also where one fails
                for name in self._cameras:
                    stack.callback(self._close, name, "stop")

    def _take(self, frames: Sequence[LiveFrame]) -> None:
        for live in frames:
            self._note_lag("decode", live)
        found = self._pose(frames)
        for live, poses in zip(frames, found, strict=True):
            self._note_lag("pose", live)
            windows = self._cameras[live.camera].analysis.update(live, poses)
            self._decide(live.camera, windows)
            if windows:
                self._note_lag("score", live)

    def _note_gap(self, gap: Gap) -> None:
        end_utc_s = None if gap.end_s is None else self._utc_of(gap.camera, gap.end_s)
        self._recorder.gap(gap, self._utc_of(gap.camera, gap.start_s), end_utc_s)

    def _utc_of(self, camera: str, time_s: float) -> float:
        """Return a camera's time as seconds since 1970, by the wall clock as it is set now."""
        begun_utc_s = self._cameras[camera].begun_utc_s
        if begun_utc_s is not None:
            return begun_utc_s + time_s
        return self._utc() - (self._clock() - time_s)

    def _note_lag(self, stage: Stage, live: LiveFrame) -> None:
        self._recorder.lag(stage, self._clock() - live.captured_s)

    def _decide(self, camera: str, windows: Sequence[CameraWindow]) -> None:
        state = self._cameras[camera]
        for one in windows:
            self._recorder.window(one)
            utc_s = self._utc_of(camera, one.window.stop_s)
            found = state.rules[one.service].update(one.window, utc_s, one.size_wh)
            if found:
                self._recorder.outcomes(found)

    def _close(self, camera: str, cause: CloseCause) -> None:
        """Classify what remains, end open events and start anew."""
        state = self._cameras[camera]
        self._decide(camera, state.analysis.finish())
        self._pose.forget(camera)
        found = [outcome for rules in state.rules.values() for outcome in rules.interrupt(cause)]
        if found:
            self._recorder.outcomes(found)
