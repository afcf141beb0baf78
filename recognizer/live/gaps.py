"""When a time without frames has become a gap, and when it is over."""

from recognizer.live.errors import Reason
from recognizer.live.values import Gap

_MIN_PERIODS = 3

Form = tuple[str, tuple[int, int]]


class GapDetector:
    """Watch the times of a camera's frames.

    Args:
        camera: the camera's name.
        gap_s: a longer time between frames is a gap; None: none is, as in files.

    """

    def __init__(self, camera: str, gap_s: float | None) -> None:
        self._camera = camera
        self._gap_s = gap_s
        self._last_s = 0.0
        self._open: Gap | None = None
        self._limit_s = gap_s
        self._reason: Reason | None = None
        self._form: Form | None = None

    def begin(self, now_s: float) -> None:
        """Start: until the first frame, gaps begin here."""
        self._last_s = now_s if self._gap_s is not None else 0.0

    def expect(self, period_s: float) -> float | None:
        """Note the usual time between frames; return the longest time that is no gap."""
        if self._gap_s is not None:
            self._limit_s = max(self._gap_s, _MIN_PERIODS * period_s)
        return self._limit_s

    def lost(self, reason: Reason) -> None:
        """Note why the connection was lost."""
        self._reason = reason

    def tick(self, now_s: float) -> Gap | None:
        """Return a gap that was not reported yet, as one without an end."""
        is_opened_first = self._form is None and self._reason is None
        if self._open is not None or is_opened_first or not self._is_gap(now_s):
            return None
        self._open = Gap(self._camera, self._last_s, None, self._reason or Reason.STALLED)
        return self._open

    def is_straggler(self, time_s: float, captured_s: float) -> bool:
        """Tell whether a frame is from before a gap that was reported, and only came out late."""
        late_s = captured_s - time_s
        return (
            self._open is not None
            and self._is_gap(self._last_s + late_s)
            and not self._is_gap(time_s)
        )

    def frame(self, time_s: float, form: Form) -> list[Gap]:
        """Return the gaps that end with this frame.

        Args:
            time_s: its time, never falling.
            form: its codec and size.

        """
        gaps: list[Gap] = []
        if self._open is not None or (self._form is not None and self._is_gap(time_s)):
            reason = self._open.reason if self._open is not None else self._reason
            reason = reason or Reason.STALLED
            gaps.append(Gap(self._camera, self._last_s, time_s, reason))
        elif self._form is not None and form != self._form:
            gaps.append(Gap(self._camera, time_s, time_s, Reason.CHANGED))
        self._last_s, self._form = time_s, form
        self._open = self._reason = None
        return gaps

    def end(self, reason: Reason) -> Gap:
        """Return the gap that ends everything."""
        return Gap(self._camera, self._last_s, self._last_s, reason)

    def _is_gap(self, now_s: float) -> bool:
        return self._limit_s is not None and now_s - self._last_s > self._limit_s
