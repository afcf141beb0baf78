"""From a stream's timestamps to seconds that never fall, and to a regular grid."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import TypeVar

_MAX_WRAP_STEP_S = 60.0
_GRID_SLACK_S = 1e-6
_REGULAR_SHARE = 0.8
_REGULAR_TOLERANCE = 0.25
_ALIKE = 0.01  # of a frame period: no camera is so fast
_RUN = 3  # equal long gaps in a row: the rate changed; losses are seldom so regular
_RUN_TOLERANCE = 0.02

T = TypeVar("T")


class PresentationClock:
    """Turn presentation timestamps into seconds since the stream's start.

    Zero is the stream's own start time, so the first picture to be shown is at about 0 even
    where the container delays the stream against others; where the first pictures could
    not be decoded the first frame is later than 0. Edit lists have been applied by then, as
    ffmpeg applies them. A timestamp that the frames before and after it contradict is
    replaced by their middle; a fall that stays (a camera that restarted, a counter that
    wrapped) continues one frame period after the last frame. Where three or more frames in a
    row have one timestamp, it is that of the first, and each other comes one frame period after
    the one before it. All are counted.

    Args:
        time_base: seconds per timestamp unit.
        start: the stream's start in such units, None if unknown.
        period_s: nominal time between frames.
        wrap: number of units after which the counter starts again, None if it never does.

    """

    def __init__(
        self, time_base: Fraction, start: int | None, period_s: float, wrap: int | None = None
    ) -> None:
        self._time_base = time_base
        self._start = start
        self._period = max(round(period_s / time_base), 1)
        self._wrap = wrap
        self._period_s = period_s
        self._previous: int | None = None
        self._after_s = 0.0  # the last frame's time after that of a timestamp that stands still
        self._latest_s = 0.0
        self._origin: int | None = None
        self._shift = 0
        self._last = 0
        self.outliers = 0
        self.falls = 0
        self.guessed = 0
        self.repeated = 0
        self.gaps: Counter[int] = Counter()
        self.in_runs: Counter[int] = Counter()
        self._run: list[int] = []

    def time_s(self, stamp: int | None, following: int | None) -> float:
        """Return the time of the next frame.

        Args:
            stamp: its timestamp, None if it has none.
            following: the timestamp of the frame after it, None if unknown.

        """
        if self._origin is None:
            self._latest_s = self._first(stamp, following)
        elif self._stands_still(stamp, following):
            self.repeated += 1
            self._after_s += self._period_s
            self._latest_s = self._seconds(self._last) + self._after_s
        else:
            self._latest_s = max(self._next(stamp, following), self._latest_s)
        self._previous = stamp
        return self._latest_s

    def _stands_still(self, stamp: int | None, following: int | None) -> bool:
        """Tell whether a timestamp is that of its neighbours; two alike are left as they are."""
        going_on = self._are_alike(stamp, following) or self._after_s > 0
        return going_on and self._are_alike(self._previous, stamp)

    def _are_alike(self, stamp: int | None, following: int | None) -> bool:
        if stamp is None or following is None:
            return False  # writers that need rising timestamps add one unit to equal ones
        return 0 <= following - stamp <= _ALIKE * self._period

    def _next(self, stamp: int | None, following: int | None) -> float:
        begun = self._last + round(self._after_s / self._time_base)
        if stamp is None or (self._previous is not None and stamp < self._previous):
            self._last = begun
        if stamp is None:
            self.guessed += 1
            ticks = begun + self._period
        else:
            ticks = self._settle(stamp, following)
        ticks = max(ticks, self._last)
        self._note_gap(max(ticks - begun, 0))
        self._last, self._after_s = ticks, 0.0
        return self._seconds(ticks)

    def _note_gap(self, gap: int) -> None:
        self.gaps[gap] += 1
        if self._run and abs(gap - self._run[0]) > max(_RUN_TOLERANCE * gap, 1):
            self._run.clear()
        if len(self._run) < _RUN:
            self._run.append(gap)
            if len(self._run) == _RUN:
                self.in_runs.update(self._run)
        else:
            self.in_runs[gap] += 1

    def _first(self, stamp: int | None, following: int | None) -> float:
        if stamp is None:
            self.guessed += 1
            stamp = self._start if self._start is not None else 0
        elif following is not None and following < stamp:
            self.outliers += 1
            stamp = following
        self._origin = stamp if self._start is None else min(self._start, stamp)
        self._last = stamp
        return self._seconds(stamp)

    def _settle(self, stamp: int, following: int | None) -> int:
        ticks = stamp + self._shift
        after = None if following is None else following + self._shift
        if after is not None and after >= self._last and not self._last <= ticks <= after:
            self.outliers += 1
            return (self._last + after) // 2
        if ticks >= self._last:
            return ticks
        if self._wrap is not None:
            step = ticks + self._wrap - self._last
            if 0 <= step * self._time_base <= _MAX_WRAP_STEP_S:
                self._shift += self._wrap
                return ticks + self._wrap
        self.falls += 1
        self._shift += self._last + self._period - ticks
        return self._last + self._period

    def _seconds(self, ticks: int) -> float:
        return float((ticks - (self._origin or 0)) * self._time_base)


def frames_in_gaps(gaps: Mapping[int, int], in_runs: Mapping[int, int] | None = None) -> int:
    """Return how many frames are missing between those of a stream of constant rate.

    Args:
        gaps: how often each time between neighbours occurred, in any unit.
        in_runs: how often of these it was one of several equal ones in a row: there the rate
            is another, and nothing is missing.

    Returns:
        0 where fewer than four in five gaps are alike: such a stream has no rate.

    """
    total = sum(gaps.values())
    middle, seen = 0, 0
    for gap in sorted(gaps):
        seen += gaps[gap]
        if 2 * seen >= total:
            middle = gap
            break
    slack = max(_REGULAR_TOLERANCE * middle, 1)
    alike = sum(n for gap, n in gaps.items() if abs(gap - middle) <= slack)
    if middle == 0 or alike < _REGULAR_SHARE * total:
        return 0
    steady = in_runs or {}
    return sum(
        (round(gap / middle) - 1) * (n - steady.get(gap, 0))
        for gap, n in gaps.items()
        if gap > middle + slack
    )


def on_grid(items: Iterable[tuple[float, T]], rate: float) -> Iterator[T]:
    """Yield the items nearest to the points ``k / rate`` of a regular grid in seconds.

    Every item belongs to the point whose half-open interval
    ``[(k - 1/2) / rate, (k + 1/2) / rate)`` holds its time; the nearest of a point's items
    is kept, the earlier of two equally near ones. A point without an item stays empty, and
    so does one that lies behind the end of the stream, one step after the last item.

    Args:
        items: (time in seconds from 0, value), times never falling.
        rate: points per second.

    """
    best: T | None = None
    best_point, best_distance = -1, 0.0
    last_s = step_s = 0.0
    for time_s, value in items:
        step_s, last_s = time_s - last_s, time_s
        point = int(time_s * rate + 0.5)
        distance = abs(time_s * rate - point)
        if point == best_point and distance >= best_distance:
            continue
        if best is not None and point != best_point:
            yield best
        best, best_point, best_distance = value, point, distance
    inside = best_point == 0 or best_point / rate < last_s + step_s - _GRID_SLACK_S
    if best is not None and inside:
        yield best
