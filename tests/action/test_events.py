"""Windows to intervals, intervals to scores: tables of cases, and what must always hold."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.action.events import (
    VideoTimeline,
    alarm_rate_curve,
    event_scores,
    match_events,
    merge_windows,
)

NAN = float("nan")
# Windows of 2 s, one each second.
SLIDING = [(float(t), t + 2.0) for t in range(8)]


def spans(intervals):
    return [(i.start_s, i.stop_s) for i in intervals]


@pytest.mark.parametrize(
    ("probabilities", "options", "expected"),
    [
        pytest.param([0.1] * 8, {}, [], id="nothing above"),
        pytest.param([0.9] * 8, {}, [(0, 9)], id="everything above is one"),
        pytest.param([0, 0.5, 0, 0, 0, 0, 0, 0], {}, [(1, 3)], id="the threshold itself counts"),
        pytest.param([0, 0.9, 0, 0.9, 0, 0, 0, 0], {}, [(1, 5)], id="touching windows join"),
        pytest.param([0, 0.9, 0, 0, 0.9, 0, 0, 0], {}, [(1, 3), (4, 6)], id="a second apart"),
        pytest.param(
            [0, 0.9, 0, 0, 0.9, 0, 0, 0], {"merge_gap_s": 1.0}, [(1, 6)], id="a gap joined"
        ),
        pytest.param(
            [0, 0.9, 0, 0, 0.9, 0, 0, 0], {"merge_gap_s": 0.99}, [(1, 3), (4, 6)], id="gap too wide"
        ),
        pytest.param(
            [0.9, 0, 0, 0, 0.9, 0.9, 0, 0], {"min_event_s": 2.5}, [(4, 7)], id="short ones dropped"
        ),
        pytest.param(
            [0.9, 0, 0, 0.9, 0, 0, 0, 0],
            {"min_event_s": 5.0, "merge_gap_s": 1.0},
            [(0, 5)],
            id="joined before dropped",
        ),
        pytest.param([NAN, 0.9, NAN, NAN, 0, 0, 0, 0], {}, [(1, 3)], id="not judged is no alarm"),
    ],
)
def test_windows_become_intervals(probabilities, options, expected):
    assert spans(merge_windows(SLIDING, probabilities, threshold=0.5, **options)) == expected


def test_an_interval_knows_its_windows_and_its_peak():
    (interval,) = merge_windows(SLIDING[:4], [0.6, 0.8, 0.2, 0.8], threshold=0.5)
    assert interval.windows == (0, 1, 3)
    assert (interval.peak, interval.peak_window) == (0.8, 1)


def test_no_windows_no_intervals():
    assert merge_windows([], [], threshold=0.0) == []


@pytest.mark.parametrize(
    ("windows", "probabilities", "message"),
    [
        ([(0, 1)], [0.1, 0.2], "one for each of 1 windows"),
        ([(1, 1)], [0.1], "every stop after its start"),
        ([(0, 1, 2)], [0.1], r"\(N, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(windows, probabilities, message):
    with pytest.raises(ValueError, match=message):
        merge_windows(windows, probabilities, threshold=0.5)


@pytest.mark.parametrize(
    ("found", "truth", "tolerance_s", "right", "hit"),
    [
        pytest.param([], [], 0, [], [], id="nothing at all"),
        pytest.param([(1, 3)], [], 0, [False], [], id="a false alarm"),
        pytest.param([], [(1, 3)], 0, [], [False], id="a missed event"),
        pytest.param([(1, 3)], [(2, 9)], 0, [True], [True], id="a part is enough"),
        pytest.param([(1, 3)], [(3, 4)], 0, [False], [False], id="touching is not overlapping"),
        pytest.param([(1, 3)], [(3.5, 4)], 0.6, [True], [True], id="within the tolerance after"),
        pytest.param([(5, 6)], [(3.5, 4)], 1.1, [True], [True], id="within the tolerance before"),
        pytest.param([(5, 6)], [(3.5, 4)], 1.0, [False], [False], id="just outside of it"),
        pytest.param([(0, 9)], [(1, 2), (5, 6)], 0, [True], [True, True], id="one finds two"),
        pytest.param([(1, 2), (3, 4)], [(0, 9)], 0, [True, True], [True], id="two on one event"),
        pytest.param(
            [(1, 2), (7, 8)], [(1, 2), (4, 5)], 0, [True, False], [True, False], id="a mixture"
        ),
    ],
)
def test_events_are_matched(found, truth, tolerance_s, right, hit):
    got_right, got_hit = match_events(found, truth, tolerance_s=tolerance_s)
    assert got_right.tolist() == right
    assert got_hit.tolist() == hit


def footage(probabilities, truth, span_s=(0.0, 9.0)):
    return VideoTimeline(
        np.array(SLIDING[: len(probabilities)]),
        np.array(probabilities),
        np.array(truth, float).reshape(-1, 2),
        span_s,
    )


def test_scores_over_videos():
    videos = [
        footage([0, 0.9, 0, 0, 0, 0.7, 0, 0], [(1, 2)]),  # one right, one false
        footage([0.0] * 8, [(4, 8)]),  # missed
        footage([0, 0, 0, 0.6, 0, 0, 0, 0], []),  # one false in normal footage
    ]
    scores = event_scores(videos, threshold=0.5)
    assert (scores.events, scores.found, scores.alarms, scores.false_alarms) == (2, 1, 3, 2)
    assert scores.normal_hours == pytest.approx((8 + 5 + 9) / 3600)
    assert scores.recall == 0.5
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.false_alarms_per_hour == pytest.approx(2 / (22 / 3600))
    strict = event_scores(videos, threshold=0.8)
    assert (strict.found, strict.false_alarms) == (1, 0)


def test_what_cannot_be_known_is_none():
    scores = event_scores([footage([0.0] * 8, [(0, 9)])], threshold=0.5)
    assert scores.recall == 0.0
    assert scores.precision is None
    assert scores.false_alarms_per_hour is None
    assert event_scores([footage([0.9] * 8, [])], threshold=0.5).recall is None


def test_overlapping_truth_is_counted_once_as_time():
    scores = event_scores([footage([0.0], [(1, 4), (2, 3), (3, 6)])], threshold=0.5)
    assert scores.normal_hours == pytest.approx(4 / 3600)


# --- what must always hold -----------------------------------------------------------

PROBABILITIES = st.lists(st.floats(0, 1), min_size=0, max_size=30)
THRESHOLDS = st.floats(0.01, 1)
SECONDS = st.floats(0, 5)


def windows_for(probabilities, stride):
    return [(k * stride, k * stride + 2.0) for k in range(len(probabilities))]


@given(PROBABILITIES, THRESHOLDS, SECONDS, SECONDS, st.floats(0.1, 3))
def test_intervals_are_apart_long_enough_and_complete(values, threshold, gap, shortest, stride):
    windows = windows_for(values, stride)
    every = merge_windows(windows, values, threshold=threshold, merge_gap_s=gap)
    counted = sorted(w for interval in every for w in interval.windows)
    assert counted == [k for k, value in enumerate(values) if value >= threshold]
    for interval in every:
        assert interval.peak == max(values[w] for w in interval.windows) >= threshold
        assert interval.start_s == min(windows[w][0] for w in interval.windows)
        assert interval.stop_s == max(windows[w][1] for w in interval.windows)
    for before, after in pairwise(every):
        assert after.start_s - before.stop_s > gap
    kept = merge_windows(
        windows, values, threshold=threshold, merge_gap_s=gap, min_event_s=shortest
    )
    assert kept == [i for i in every if i.stop_s - i.start_s >= shortest - 2e-6]


@given(PROBABILITIES, THRESHOLDS, SECONDS, st.randoms(use_true_random=False))
def test_the_order_of_windows_does_not_matter(values, threshold, gap, random):
    windows = windows_for(values, 1.0)
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)
    options = {"threshold": threshold, "merge_gap_s": gap}
    one = merge_windows(windows, values, **options)
    other = merge_windows([windows[k] for k in shuffled], [values[k] for k in shuffled], **options)
    assert spans(one) == spans(other)
    assert [i.peak for i in one] == [i.peak for i in other]


@given(PROBABILITIES, st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 5)), max_size=5), SECONDS)
def test_a_higher_threshold_finds_no_more_and_a_tolerance_no_less(values, truth, tolerance):
    events = np.array([(start, start + length) for start, length in truth]).reshape(-1, 2)
    video = VideoTimeline(np.array(windows_for(values, 1.0)), np.array(values), events, (0.0, 40.0))
    curve = alarm_rate_curve([video], np.linspace(0, 1, 11), merge_gap_s=0.5)
    found = [scores.found for scores in curve]
    assert found == sorted(found, reverse=True)
    for scores in curve:
        wider = event_scores(
            [video], threshold=scores.threshold, merge_gap_s=0.5, tolerance_s=tolerance
        )
        assert wider.found >= scores.found
        assert wider.false_alarms <= scores.false_alarms <= scores.alarms
