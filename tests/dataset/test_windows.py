from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.dataset.windows import (
    MedianPeriod,
    WindowCutter,
    WindowPlanner,
    frame_range,
    plan_windows,
    slice_sequence,
    span_of,
)
from recognizer.sequences import slice_frames
from recognizer.types import Poses, PoseSequence
from tests.dataset.tracked import SIZE_WH, sequence


def at_times(times):
    times = np.asarray(times, np.float64)
    zeros = np.zeros(len(times), np.bool_)
    return PoseSequence(Poses.empty(), np.zeros(len(times) + 1, np.int64), times, zeros, SIZE_WH)


@given(
    steps=st.lists(st.floats(0.001, 0.5), max_size=200),
    length=st.floats(0.05, 20),
    stride=st.floats(0.05, 1),
    start=st.floats(0, 100),
)
def test_windows_cover_every_frame(steps, length, stride, start):
    video = at_times(start + np.cumsum([0.0, *steps]))
    windows = plan_windows(video, length, stride * length)
    covered = np.zeros(len(video), int)
    for window in windows:
        first, stop = frame_range(video, *window)
        assert stop > first, "no window without frames"
        covered[first:stop] += 1
    assert covered.all()
    assert windows == sorted(windows)
    assert windows[-1][1] <= start + sum(steps) + video.frame_period_s + 1e-6
    if video.duration_s >= length:
        assert all(stop - begin == pytest.approx(length) for begin, stop in windows)
    else:
        assert windows == [(pytest.approx(start), pytest.approx(start + video.duration_s))]


@pytest.mark.parametrize(("length", "stride"), [(2.0, 1.0), (1.5, None), (3.0, 0.7)])
def test_meaning_does_not_change_with_fps(length, stride):
    plans = {
        fps: plan_windows(at_times(np.arange(round(7.2 * fps)) / fps), length, stride)
        for fps in (10, 15, 25, 30)
    }
    for fps, plan in plans.items():
        assert np.asarray(plan) == pytest.approx(np.asarray(plans[10]), abs=1e-9), f"{fps} fps"
        video = at_times(np.arange(round(7.2 * fps)) / fps)
        for window in plan:
            first, stop = frame_range(video, *window)
            assert stop - first == pytest.approx(length * fps, abs=1)


def test_stride():
    video = at_times(np.arange(60) / 10)
    assert plan_windows(video, 2.0, 1.0) == [(float(k), float(k + 2)) for k in range(5)]
    assert plan_windows(video, 2.0) == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]


def test_last_window_is_moved_back_to_the_end():
    windows = plan_windows(at_times(np.arange(50) / 10), 2.0, 2.0)
    assert np.asarray(windows) == pytest.approx(np.array([(0, 2), (2, 4), (3, 5)]))


def test_no_second_window_for_a_rest_without_frames():
    """29.97 frames/s: 60 frames last 2.002 s, and all of them are in the first 2 s."""
    assert plan_windows(at_times(np.arange(60) * 1001 / 30000), 2.0) == [(0.0, 2.0)]


def test_windows_are_half_open():
    video = at_times(np.arange(30) / 10)
    assert frame_range(video, 1.0, 2.0) == (10, 20)
    assert frame_range(video, 1.05, 1.05) == (11, 11)


def test_a_hole_in_the_recording_gives_no_empty_window():
    video = at_times([*np.arange(20) / 10, *(60 + np.arange(20) / 10)])
    windows = plan_windows(video, 1.0, 1.0)
    assert np.asarray(windows)[:, 0] == pytest.approx([0, 1, 60, 61])


def test_a_hole_of_weeks_makes_no_millions_of_windows():
    windows = plan_windows(at_times([0.0, 0.1, 0.2, 1e7, 1e7 + 0.1]), 1.0, 0.5)
    assert 2 <= len(windows) <= 8
    assert windows[0][0] == 0
    assert windows[-1][1] > 1e7


def test_no_frames_no_windows():
    assert plan_windows(at_times([]), 2.0) == []


@pytest.mark.parametrize(
    ("length", "stride"), [(0.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, 1.5), (1.0, float("nan"))]
)
def test_refuses_windows_that_leave_frames_out(length, stride):
    with pytest.raises(ValueError, match="stride_s"):
        plan_windows(at_times([0.0, 0.1]), length, stride)


def test_slice_keeps_people_times_and_shares_memory():
    video = sequence(seconds=3, fps=10, people=3, present=lambda i, t: (i + round(t * 10)) % 2)
    cut = slice_sequence(video, 0.75, 2.0)
    assert len(cut) == 12
    assert cut.time_s[0] == pytest.approx(0.8)
    for t in range(len(cut)):
        np.testing.assert_array_equal(cut.frame(t).keypoints, video.frame(t + 8).keypoints)
    assert np.shares_memory(cut.poses.keypoints, video.poses.keypoints)


def test_slice_of_nothing_is_empty():
    cut = slice_sequence(sequence(seconds=1), 5.0, 6.0)
    assert (len(cut), len(cut.poses)) == (0, 0)


def planned_at_once(video, length_s, stride_s):
    """Return the windows by another way: from all times at once, instead of one after another."""
    begin, end = span_of(video)
    if video.duration_s <= length_s + 1e-6:
        return [(begin, end)]
    whole = int((video.duration_s - length_s + 1e-6) / stride_s)
    near = np.unique(((video.time_s - begin) / stride_s + 1e-6).astype(np.int64))
    numbers = np.unique(near[:, None] - np.arange(int(np.ceil(length_s / stride_s)) + 1))
    starts = [begin + float(k) * stride_s for k in numbers if 0 <= k <= whole]
    if frame_range(video, begin + whole * stride_s + length_s, end)[0] < len(video):
        starts.append(end - length_s)
    windows = [(start, start + length_s) for start in starts]
    return [w for w in windows if np.diff(frame_range(video, *w))[0] > 0]


# Steps of a steady camera, of a jittery one, and holes.
STEPS = st.one_of(st.just(0.04), st.floats(0.001, 0.5), st.sampled_from([7.0, 86400.0]))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=120),
    length=st.sampled_from([0.5, 2.0, 3.3]),
    stride=st.sampled_from([0.3, 0.5, 1.0]),
    start=st.floats(0, 1e6),
)
def test_windows_one_after_another_are_those_of_all_times_at_once(steps, length, stride, start):
    video = at_times(start + np.cumsum([0.0, *steps]))
    assert plan_windows(video, length, stride * length) == planned_at_once(
        video, length, stride * length
    )


def test_a_window_is_planned_with_the_first_frame_after_it():
    planner = WindowPlanner(2.0, 1.0)
    planned = {t: planner.update(t / 10) for t in range(45)}
    assert {t: spans for t, spans in planned.items() if spans} == {
        20: [(0.0, 2.0)],
        30: [(1.0, 3.0)],
        40: [(2.0, 4.0)],
    }
    assert planner.finish(0.1) == [(2.5, 4.5)]
    assert planner.finish(0.1) == []  # it has forgotten the video
    assert planner.update(100.0) == ()


@pytest.mark.parametrize(("length", "stride"), [(1.0, 0.5), (1.0, 1.0), (2.5, 0.3), (7.0, 0.5)])
@pytest.mark.parametrize("size", [1, 7, 25, 100])
def test_a_stream_gives_the_windows_of_the_whole_video(size, length, stride):
    video = sequence(seconds=6.3, people=2)
    jitter = np.array([0.0, 0.004, -0.003, 0.002])[np.arange(len(video)) % 4]
    video = replace(video, time_s=video.time_s + 5.0 + jitter)
    expected = [
        ((round(a, 6), round(b, 6)), slice_sequence(video, round(a, 6), round(b, 6)))
        for a, b in plan_windows(video, length, stride * length)
    ]
    cutter = WindowCutter(length, stride * length)
    windows = []
    for first in range(0, len(video), size):
        windows += cutter.update(slice_frames(video, first, min(first + size, len(video))))
    windows += cutter.finish()
    assert [span for span, _ in windows] == [span for span, _ in expected]
    for (_, cut), (_, whole) in zip(windows, expected, strict=True):
        np.testing.assert_array_equal(cut.time_s, whole.time_s)
        np.testing.assert_array_equal(cut.poses.keypoints, whole.poses.keypoints)


def test_a_cutter_refuses_what_does_not_follow_and_starts_anew_after_reset():
    video = sequence(seconds=3.0)
    cutter = WindowCutter(1.0)
    list(cutter.update(slice_frames(video, 10, 20)))
    with pytest.raises(ValueError, match=r"not before the last frame's \(1.9\), got 0"):
        cutter.update(slice_frames(video, 0, 10))
    cutter.reset()
    spans = [span for span, _ in (*cutter.update(video), *cutter.finish())]
    assert spans == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert list(cutter.finish()) == list(cutter.update(slice_frames(video, 0, 0))) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.033, 0.034, 0.04, 0.1]), max_size=40), st.integers(1, 9))
def test_the_median_period_of_a_stream_is_that_of_the_video(steps, size):
    video = at_times(np.cumsum([3.0, *steps]))
    period = MedianPeriod()
    for first in range(0, len(video), size):
        period.add(video.time_s[first : first + size])
    assert period.median_s == pytest.approx(video.frame_period_s, abs=1e-9)


VIDEO = at_times(np.arange(50) / 10)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("video.npz", 2.0), TypeError, "sequence: expected PoseSequence, got 'video.npz'"),
        ((None, 2.0), TypeError, "sequence: expected PoseSequence, got None"),
        ((VIDEO, "2"), TypeError, "length_s: expected Real, got '2'"),
        ((VIDEO, 2.0, [1.0]), TypeError, r"stride_s: expected Real, got \[1.0\]"),
        ((VIDEO, 2.0, 1e-9), ValueError, "stride_s: expected 0.001 s or more, got 1e-09"),
        ((VIDEO, float("nan")), ValueError, "expected 0 < stride_s <= window_s"),
    ],
)
def test_what_no_windows_can_be_planned_of_is_refused_at_once(arguments, error, text):
    with pytest.raises(error, match=text):
        plan_windows(*arguments)


@pytest.mark.parametrize(
    ("time_s", "error"),
    [("0.1", TypeError), (None, TypeError), (1e22, ValueError), (float("nan"), ValueError)],
)
def test_a_time_that_is_none_is_refused_by_the_planner(time_s, error):
    planner = WindowPlanner(2.0)
    planner.update(0.0)
    with pytest.raises(error, match="time_s: expected"):
        planner.update(time_s)


def test_times_since_1970_are_times():
    begin = 1.7e9
    assert plan_windows(at_times(begin + np.arange(40) / 10), 2.0) == [
        (begin, begin + 2),
        (begin + 2, begin + 4),
    ]
