"""Windows over a video, in seconds whatever its frame rate.

A window is half-open: it holds the frames with ``start_s <= time_s < stop_s``. The video
spans from its first frame's time to one frame period after its last frame's.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from recognizer.checks import check_number, check_type
from recognizer.sequences import join_sequences, require_follows, slice_frames
from recognizer.types import PoseSequence, TimeArray

Span: TypeAlias = tuple[float, float]  # start_s, stop_s
TIME_DIGITS = 6  # of a window's start and stop
# Times come from integer ticks divided by a clock rate and windows from sums of seconds;
# both round. A microsecond is far below any frame period and far above the rounding.
_ROUNDING_S = 1e-6
_LEAST_STRIDE_S = 1e-3  # below any frame period that a camera has
_LAST_S = 1e10  # 300 years; a float of later times does not know the microseconds


def plan_windows(
    sequence: PoseSequence, length_s: float, stride_s: float | None = None
) -> list[Span]:
    """Return the windows (start_s, stop_s) that cover every frame of a video.

    Where frames remain, a last window is moved back so that it ends with the video. A video
    that is not longer than one window gives one window with everything, a video with no
    frames none; a window that falls into a hole of the recording is left out.

    Args:
        sequence: the video.
        length_s: length of a window, seconds.
        stride_s: from one start to the next, seconds; the length if None, so that only the
            last two windows may overlap.

    Raises:
        TypeError: an argument of another type.
        ValueError: a length or stride below a millisecond, a stride longer than the window, which
            would leave frames out, or a time beyond 1e10 s.

    """
    check_type("sequence", sequence, PoseSequence)
    planner = WindowPlanner(length_s, stride_s)
    windows = [span for time_s in sequence.time_s.tolist() for span in planner.update(time_s)]
    return windows + planner.finish(sequence.frame_period_s)


def span_of(sequence: PoseSequence) -> Span:
    """Return start and stop of a video, seconds; 0 and 0 for one without frames."""
    if len(sequence) == 0:
        return 0.0, 0.0
    begin = float(sequence.time_s[0])
    return begin, begin + sequence.duration_s


class WindowPlanner:
    """The windows of ``plan_windows``, each as soon as it is complete.

    Args and Raises: as of ``plan_windows``.

    """

    def __init__(self, length_s: float, stride_s: float | None = None) -> None:
        stride_s = length_s if stride_s is None else stride_s
        check_number("length_s", length_s)
        check_number("stride_s", stride_s)
        if not 0 < stride_s <= length_s:
            raise ValueError(
                "windows: expected 0 < stride_s <= window_s, so that no frame is left out, got "
                f"stride_s {stride_s:g} and window_s {length_s:g}"
            )
        if stride_s < _LEAST_STRIDE_S:
            raise ValueError(
                f"stride_s: expected {_LEAST_STRIDE_S:g} s or more, got {stride_s:g}; every frame "
                "would be in very many windows"
            )
        self._length_s, self._stride_s = length_s, stride_s
        self.reset()

    def reset(self) -> None:
        """Start again, as for another video."""
        self._times: list[float] = []  # those from keep_s on
        self._begin = 0.0
        self._next = 0  # the number of the next window

    @property
    def keep_s(self) -> float:
        """Time from which frames may belong to a window to come."""
        return self._begin + float(max(self._next - 1, 0)) * self._stride_s - 2 * _ROUNDING_S

    def update(self, time_s: float) -> Sequence[Span]:
        """Take the time of the next frame; return the windows that end before it.

        Raises:
            TypeError, ValueError: no number, or one that is not finite or beyond 1e10 s.

        """
        check_number("time_s", time_s)
        if not abs(time_s) <= _LAST_S:
            raise ValueError(f"time_s: expected at most {_LAST_S:g} s, got {time_s:g}")
        if not self._times:
            self._begin = time_s
        closed: Sequence[Span] = ()
        if time_s >= self._span(self._next)[1] - _ROUNDING_S:
            closed = self._close(time_s)
        self._times.append(time_s)
        return closed

    def finish(self, period_s: float) -> list[Span]:
        """Return the windows that remain at the end of the video, and reset.

        Args:
            period_s: how long the last frame lasts, seconds.

        """
        if not self._times:
            return []
        remaining = list(self._remaining(self._times[-1] - self._begin + period_s))
        self.reset()
        return remaining

    def _remaining(self, duration_s: float) -> Iterator[Span]:
        begin, last_s, end = self._begin, self._times[-1], self._begin + duration_s
        if duration_s <= self._length_s + _ROUNDING_S:
            if self._next == 0:
                yield begin, end
            return
        whole = int((duration_s - self._length_s + _ROUNDING_S) / self._stride_s)
        latest = int((last_s - begin) / self._stride_s + _ROUNDING_S) + 1
        for number in range(self._next, min(whole, latest) + 1):
            if self._holds_frames(span := self._span(number)):
                yield span
        if last_s >= begin + whole * self._stride_s + self._length_s - _ROUNDING_S:
            start = end - self._length_s
            if self._holds_frames(span := (start, start + self._length_s)):
                yield span

    def _close(self, time_s: float) -> list[Span]:
        closed = []
        while (span := self._span(self._next))[1] - _ROUNDING_S <= time_s:
            if self._holds_frames(span):
                closed.append(span)
            elif span[0] - _ROUNDING_S > self._times[-1]:  # a hole, perhaps of weeks
                far = int((time_s - self._begin - self._length_s) / self._stride_s) - 1
                self._next = max(self._next, far)
            self._next += 1
        del self._times[: bisect_left(self._times, self.keep_s, hi=len(self._times) - 1)]
        return closed

    def _span(self, number: int) -> Span:
        start = self._begin + float(number) * self._stride_s
        return start, start + self._length_s

    def _holds_frames(self, span: Span) -> bool:
        first, stop = (bisect_left(self._times, edge - _ROUNDING_S) for edge in span)
        return stop > first


class WindowCutter:
    """The frames of each window of a stream, as soon as the window is complete.

    The windows of a video given as one sequence are views of it; of one given in parts only the
    parts that later windows may need are kept.

    Args: as of ``plan_windows``.

    """

    def __init__(self, length_s: float, stride_s: float | None = None) -> None:
        self._planner = WindowPlanner(length_s, stride_s)
        self.reset()

    def reset(self) -> None:
        """Start again, as for another video."""
        self._planner.reset()
        self._parts: list[PoseSequence] = []
        self._period = MedianPeriod()
        self._is_whole = True  # nothing of the video was dropped

    def update(self, part: PoseSequence) -> Iterator[tuple[Span, PoseSequence]]:
        """Take the next frames; return the windows that are complete, with their frames.

        Raises:
            ValueError: another picture size than before, or times that fall.

        """
        check_type("part", part, PoseSequence)
        if not len(part):
            return iter(())
        if self._parts:
            last = self._parts[-1]
            require_follows(part, last.size_wh, float(last.time_s[-1]))
        self._parts.append(part)
        self._period.add(part.time_s)
        planner = self._planner
        spans = [span for time_s in part.time_s.tolist() for span in planner.update(time_s)]
        return self._cut(spans)

    def finish(self) -> Iterator[tuple[Span, PoseSequence]]:
        """Return the windows that remain at the end of the video, and reset."""
        if not self._parts:
            return iter(())
        video = join_sequences(self._parts)
        period_s = video.frame_period_s if self._is_whole else self._period.median_s
        windows = _cut(video, self._planner.finish(period_s))
        self.reset()
        return windows

    def _cut(self, spans: list[Span]) -> Iterator[tuple[Span, PoseSequence]]:
        if not spans:
            return iter(())
        windows = _cut(join_sequences(self._parts), spans)
        keep_s = self._planner.keep_s
        kept = [part for part in self._parts if part.time_s[-1] >= keep_s]
        self._is_whole &= len(kept) == len(self._parts)
        self._parts = kept
        return windows


class MedianPeriod:
    """The median time between the frames of a stream, from counts by the microsecond."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._steps: dict[float, tuple[float, int]] = {}  # rounded -> the first such, how many

    def add(self, time_s: TimeArray) -> None:
        """Take the times (T,) of the next frames, one or more."""
        before = time_s[:1] if self._last_s is None else self._last_s
        steps = np.diff(time_s, prepend=before)[int(self._last_s is None) :]
        for step in steps.tolist():
            first, count = self._steps.get(round(step, 6), (step, 0))
            self._steps[round(step, 6)] = first, count + 1
        self._last_s = float(time_s[-1])

    @property
    def median_s(self) -> float:
        """The median, seconds; 1/30 s with fewer than two frames."""
        if not self._steps:
            return 1 / 30
        values, counts = zip(*sorted(self._steps.values()), strict=True)
        reached = np.cumsum(counts)
        middle = [(reached[-1] - 1) // 2, reached[-1] // 2]
        return float(np.mean(np.array(values)[np.searchsorted(reached, middle, side="right")]))


def _cut(video: PoseSequence, spans: Sequence[Span]) -> Iterator[tuple[Span, PoseSequence]]:
    rounded = ((round(start, TIME_DIGITS), round(stop, TIME_DIGITS)) for start, stop in spans)
    return ((span, slice_sequence(video, *span)) for span in rounded)


def frame_range(sequence: PoseSequence, start_s: float, stop_s: float) -> tuple[int, int]:
    """Return the frames ``first <= t < stop`` whose time is in ``[start_s, stop_s)``."""
    edges = np.array([start_s, stop_s], np.float64) - _ROUNDING_S
    first, stop = np.searchsorted(sequence.time_s, edges, side="left")
    return int(first), max(int(first), int(stop))


def slice_sequence(sequence: PoseSequence, start_s: float, stop_s: float) -> PoseSequence:
    """Return the frames with ``start_s <= time_s < stop_s``; times stay those of the video.

    The arrays of people are views of the whole video's, not copies.

    Raises:
        TypeError: no pose sequence, or a time that is no number.
        ValueError: a time too large for a float.

    """
    check_type("sequence", sequence, PoseSequence)
    check_number("start_s", start_s)
    check_number("stop_s", stop_s)
    return slice_frames(sequence, *frame_range(sequence, start_s, stop_s))
