"""Stream timestamps on the monotonic clock, and the grid of frames asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.live.clock import FramePeriod, RateGate, StreamClock


def test_bursts_are_smoothed_to_the_streams_own_times():
    clock = StreamClock()
    stamps = np.arange(200) / 25
    # Ten frames at a time arrive together, each as the last of them was taken.
    captured = 1000 + (np.arange(200) // 10 * 10 + 9) / 25
    times = [clock.time_s(s, c) for s, c in zip(stamps, captured, strict=True)]
    steps = np.diff(times[10:])
    assert steps == pytest.approx(1 / 25, abs=0.021)
    assert times[-1] == pytest.approx(1000 + stamps[-1], abs=0.04)


def test_a_clock_that_runs_slow_is_followed():
    clock = StreamClock()
    stamps = np.arange(10_000) / 25
    captured = 50 + stamps * 1.001
    times = np.array([clock.time_s(s, c) for s, c in zip(stamps, captured, strict=True)])
    assert np.abs(times - captured).max() < 1e-6


@pytest.mark.parametrize("jump_s", [-3.0, -100.0, 100.0, 2**33 / 90_000])
def test_a_jump_of_the_timestamps_does_not_move_the_times(jump_s):
    clock = StreamClock()
    stamps = np.arange(100) / 25
    captured = 50 + stamps
    stamps[50:] += jump_s
    times = np.array([clock.time_s(s, c) for s, c in zip(stamps, captured, strict=True)])
    assert times == pytest.approx(captured)


@given(
    st.lists(st.tuples(st.none() | st.floats(-1e5, 1e5), st.floats(0, 20)), min_size=1, max_size=60)
)
def test_times_never_fall_and_are_never_in_the_future(frames):
    clock, captured, before = StreamClock(), 100.0, float("-inf")
    for stamp, step in frames:
        captured += step
        time_s = clock.time_s(stamp, captured)
        assert before <= time_s <= captured + 1e-6
        before = time_s


def test_the_period_is_measured_and_a_wrong_guess_forgotten():
    period = FramePeriod(100.0)
    assert period.seconds == 0.2
    for time_s in (0.0, 0.04, 0.08, 3.0, 3.04, 3.08):
        period.add(time_s)
    assert period.seconds == pytest.approx(0.04)
    for number in range(25):
        period.add(4.0 + number)
    assert period.seconds == 1.0


@pytest.mark.parametrize(
    ("source_fps", "asked", "kept"),
    [(25, 12.5, 125), (30, 15, 150), (30, 12.5, 125), (10, 15, 100), (25, 25, 250)],
)
def test_the_rate_asked_for_is_kept(source_fps, asked, kept):
    gate = RateGate(asked, 1 / source_fps)
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, source_fps * 10)
    times = 7654.3 + np.arange(source_fps * 10) / source_fps + jitter
    passed = times[[gate.passes(t) for t in times]]
    assert len(passed) == pytest.approx(kept, abs=2)
    assert np.diff(passed).max() < 1 / min(asked, source_fps) + 1 / source_fps
