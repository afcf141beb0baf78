"""Seconds never fall, and follow the stamps wherever these make sense."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.video.timing import PresentationClock, frames_in_gaps, on_grid

BASE = Fraction(1, 90_000)
FRAME = 3_000
WRAP = 2**33


def run_clock(
    stamps: list[int | None], start: int | None, wrap: int | None = None
) -> tuple[list[float], PresentationClock]:
    clock = PresentationClock(BASE, start, 1 / 30, wrap)
    following = [*stamps[1:], None]
    times = [clock.time_s(s, f) for s, f in zip(stamps, following, strict=True)]
    return [round(t * 30, 3) for t in times], clock


@pytest.mark.parametrize(
    ("stamps", "start", "frames"),
    [
        pytest.param([0, 1, 2, 3], 0, [0, 1, 2, 3], id="plain"),
        pytest.param([5, 6, 9, 10], 5, [0, 1, 4, 5], id="variable rate, later start"),
        pytest.param([-3, -2, -1, 0], -3, [0, 1, 2, 3], id="negative"),
        pytest.param([7, 8, 9], 4, [3, 4, 5], id="first frames lost"),
        pytest.param([2, 3, 4], 5, [0, 1, 2], id="start too late"),
        pytest.param([3, 4, 5], None, [0, 1, 2], id="start unknown"),
        pytest.param([0, 1, 1, 2], 0, [0, 1, 1, 2], id="the same time twice"),
        pytest.param([0, 0, 0, 0], 0, [0, 1, 2, 3], id="all the same"),
        pytest.param([0, 1, 1, 1, 4, 5], 0, [0, 1, 2, 3, 4, 5], id="bursts"),
        pytest.param([0, 0, 0, 0, 1, 2, 5], 0, [0, 1, 2, 3, 3, 3, 5], id="stood still, then late"),
        pytest.param([0, 0, 0, None, None], 0, [0, 1, 2, 3, 4], id="the same, then missing"),
        pytest.param([5, 5, 5, 0, 1], 5, [0, 1, 2, 3, 4], id="stood still, then restarted"),
        pytest.param([0, 1, 900, 3, 4], 0, [0, 1, 2, 3, 4], id="one stamp far ahead"),
        pytest.param([5, 6, 0, 8, 9], 5, [0, 1, 2, 3, 4], id="one stamp far behind"),
        pytest.param([900, 1, 2, 3], 0, [1, 1, 2, 3], id="first stamp far ahead"),
        pytest.param([7, 8, 0, 1, 2], 7, [0, 1, 2, 3, 4], id="camera restarted"),
        pytest.param([None, None, None], None, [0, 1, 2], id="no stamps"),
        pytest.param([0, None, 2, None], 0, [0, 1, 2, 3], id="some stamps missing"),
    ],
)
def test_clock(stamps: list[int | None], start: int | None, frames: list[float]) -> None:
    ticks = [None if s is None else s * FRAME for s in stamps]
    times, _ = run_clock(ticks, None if start is None else start * FRAME)
    assert times == frames


def test_the_clock_counts_what_it_corrects() -> None:
    stamps = [0, FRAME, 900 * FRAME, 3 * FRAME, None, FRAME, 2 * FRAME]
    _, clock = run_clock(stamps, 0)
    assert (clock.outliers, clock.falls, clock.guessed) == (1, 1, 1)


def test_a_wrapped_counter_goes_on_exactly() -> None:
    stamps = [WRAP - 2 * FRAME, WRAP - FRAME, 10, FRAME + 10, 5 * FRAME]
    times, clock = run_clock(stamps, WRAP - 2 * FRAME, WRAP)
    assert times == pytest.approx([0, 1, 2 + 10 / FRAME, 3 + 10 / FRAME, 7], abs=1e-3)
    assert clock.falls == 0


@given(
    st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=40),
    st.none() | st.integers(-(2**40), 2**40),
    st.sampled_from([None, WRAP]),
)
def test_time_never_falls_and_starts_at_zero_or_later(
    stamps: list[int | None], start: int | None, wrap: int | None
) -> None:
    times, _ = run_clock(stamps, start, wrap)
    assert times[0] >= 0
    assert np.all(np.isfinite(times))
    assert np.all(np.diff(times) >= 0)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("count", [3, 36, 1000])
def test_a_stamp_that_stands_still_is_counted(count: int, step: int) -> None:
    times, clock = run_clock([7 + step * i for i in range(count)], 7)
    assert times == list(range(count))
    assert (clock.repeated, clock.falls, clock.outliers) == (count - 1, 0, 0)


def test_bursts_lose_no_frame() -> None:
    stamps = [FRAME * (i - i % 4) for i in range(40)]
    times, clock = run_clock(stamps, 0)
    assert times == list(range(40))
    assert frames_in_gaps(clock.gaps, clock.in_runs) == 0


@given(st.lists(st.integers(31, 500) | st.just(0), min_size=1, max_size=60))
def test_rising_stamps_are_kept_exactly(steps: list[int]) -> None:
    # two alike are kept, three are not
    steps = [step or 31 * int(i > 0 and steps[i - 1] == 0) for i, step in enumerate(steps)]
    stamps = np.cumsum(steps).tolist()
    times, clock = run_clock(stamps, stamps[0])
    assert times == [round((s - stamps[0]) / FRAME, 3) for s in stamps]
    assert (clock.outliers, clock.falls) == (0, 0)


@pytest.mark.parametrize(
    ("gaps", "lost"),
    [
        pytest.param({}, 0, id="one frame"),
        pytest.param({3000: 149}, 0, id="regular"),
        pytest.param({33: 100, 34: 49}, 0, id="rounded to milliseconds"),
        pytest.param({33: 95, 34: 49, 200: 1}, 5, id="five missing"),
        pytest.param({3000: 140, 6000: 2, 12000: 1}, 5, id="three holes"),
        pytest.param({3000: 70, 12000: 50}, 0, id="variable rate"),
        pytest.param({1: 100, 2: 20}, 0, id="coarse clock"),
        pytest.param({0: 10}, 0, id="all at once"),
    ],
)
def test_frames_in_gaps(gaps: dict[int, int], lost: int) -> None:
    assert frames_in_gaps(gaps) == lost


times_of_frames = st.lists(st.floats(0, 0.5), min_size=1, max_size=80).map(
    lambda steps: (np.cumsum(steps) - steps[0]).tolist()
)


@given(times_of_frames, st.floats(0.2, 40))
def test_the_grid_keeps_the_nearest_frame_of_every_point(times: list[float], rate: float) -> None:
    kept = list(on_grid(((t, i) for i, t in enumerate(times)), rate))
    assert kept == sorted(set(kept))
    points = [int(t * rate + 0.5) for t in times]
    expected = sorted(set(points))
    end = 2 * times[-1] - (times[-2] if len(times) > 1 else 0)
    assert [points[i] for i in kept] in (expected, expected[:-1])
    assert [points[i] for i in kept] == expected or expected[-1] / rate >= end - 1e-5
    for i in kept:
        rivals = [j for j in range(len(times)) if points[j] == points[i]]
        best = min(abs(times[j] * rate - points[j]) for j in rivals)
        assert abs(times[i] * rate - points[i]) == best


@pytest.mark.parametrize(
    ("fps", "rate", "count"),
    [(30, 30, 300), (30, 10, 100), (30, 7.5, 75), (25, 10, 100), (10, 30, 100), (30, 0.5, 5)],
)
def test_the_grid_keeps_a_steady_share(fps: int, rate: float, count: int) -> None:
    kept = list(on_grid(((i / fps, i) for i in range(fps * 10)), rate))
    assert len(kept) == count
    errors = np.asarray(kept) / fps - np.arange(len(kept)) / min(rate, fps)
    assert np.abs(errors).max() <= 0.5 / fps + 1e-9
