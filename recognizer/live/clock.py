"""From a connection's timestamps to seconds of the monotonic clock, smooth and never falling."""

from collections import deque
from statistics import median

_DRIFT = 0.05
_JUMP_S = 10.0
_LONGEST_GUESS_S = 0.2
_FRAMES_NEEDED, _FRAMES_MEASURED = 5, 25


class StreamClock:
    """Place the timestamps of one connection on the monotonic clock.

    Frames arrive in bursts and late; their timestamps do not. The least delay seen gives the
    distance between the two clocks; it may drift by 5 %. A timestamp that falls, or jumps by
    more than 10 s, places the stream anew.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._stamp_s = 0.0
        self._captured_s = 0.0
        self._latest_s = float("-inf")

    def time_s(self, stamp_s: float | None, captured_s: float) -> float:
        """Return when a frame was taken; never later than ``captured_s``, never falling.

        Args:
            stamp_s: its presentation time in the stream's own seconds, None if it has none.
            captured_s: when it came out of the decoder, on the monotonic clock, never falling.

        """
        if stamp_s is None:
            self._latest_s = max(self._latest_s, captured_s)
            return self._latest_s
        self._place(stamp_s, captured_s)
        self._stamp_s, self._captured_s = stamp_s, captured_s
        self._latest_s = max(self._latest_s, self.placed_s(stamp_s, captured_s))
        return self._latest_s

    def placed_s(self, stamp_s: float | None, otherwise_s: float) -> float:
        """Return where a timestamp lies, ``otherwise_s`` before the first frame."""
        if stamp_s is None or self._offset_s is None:
            return otherwise_s
        return stamp_s + self._offset_s

    def _place(self, stamp_s: float, captured_s: float) -> None:
        offset_s, before_s = captured_s - stamp_s, self._offset_s
        fell = stamp_s < self._stamp_s
        if before_s is None or fell or abs(offset_s - before_s) > _JUMP_S:
            self._offset_s = offset_s
            return
        slack_s = _DRIFT * (captured_s - self._captured_s)
        self._offset_s = min(offset_s, before_s + slack_s)


class FramePeriod:
    """Measure the usual time between the frames of a connection.

    What a stream says of its rate is a guess from its first packets, and may be far off.

    Args:
        guess_s: what the stream says; used for the first frames, at most 0.2 s.

    """

    def __init__(self, guess_s: float) -> None:
        self._guess_s = min(guess_s, _LONGEST_GUESS_S)
        self._steps: deque[float] = deque(maxlen=_FRAMES_MEASURED)
        self._last_s: float | None = None

    @property
    def seconds(self) -> float:
        """Median of the last times between frames."""
        return median(self._steps) if len(self._steps) >= _FRAMES_NEEDED else self._guess_s

    def add(self, time_s: float) -> None:
        """Note a frame's time; times never fall."""
        if self._last_s is not None:
            self._steps.append(time_s - self._last_s)
        self._last_s = time_s


class RateGate:
    """Choose frames that are evenly spaced, at most so many per second, without looking ahead.

    Args:
        fps: frames per second to keep.
        period_s: nominal time between the frames that come.

    """

    def __init__(self, fps: float, period_s: float) -> None:
        self._step_s = 1 / fps
        self._early_s = min(period_s, self._step_s) / 2
        self._due_s: float | None = None

    def passes(self, time_s: float) -> bool:
        """Tell whether a frame is kept; times never fall."""
        due_s = time_s if self._due_s is None else self._due_s
        if time_s < due_s - self._early_s:
            return False
        is_late = time_s > due_s + self._step_s
        self._due_s = (time_s if is_late else due_s) + self._step_s
        return True
