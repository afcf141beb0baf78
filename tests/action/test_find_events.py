"""The events of a video and the people they name."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.action.events import EventMerger, merge_to_events, merge_windows
from tests.analysis.records import CLASSES, RULES, person, sliding, window


def events_of(windows, **rules):
    return merge_to_events(windows, CLASSES["fight"], {**RULES, **rules})


def test_an_event_names_everybody_of_its_windows_once():
    windows = sliding([0.1, 0.9, 0.7, 0.1])
    first = person(3, 1.2, 2.8, 0.4, box=(10.0, 10.0, 20.0, 30.0))
    again = person(3, 2.0, 3.9, 0.6, box=(5.0, 12.0, 18.0, 40.0))
    other = person(1, 1.0, 2.0, 0.6)
    bystander = person(9, 0.0, 2.0, 1.0)
    people = [(bystander,), (first,), (again, other), ()]
    windows = [replace(w, people=who) for w, who in zip(windows, people, strict=True)]
    (event,) = events_of(windows)
    assert (event.start_s, event.stop_s, event.windows) == (1.0, 4.0, 2)
    assert (event.peak_probability, event.peak_s) == (0.9, 2.0)
    assert [p.track_id for p in event.people] == [1, 3]  # equal involvement: by id
    assert event.people[1] == person(3, 1.2, 3.9, 0.6, box=(5.0, 10.0, 20.0, 40.0))


def test_nobody_and_too_few_frames_are_no_event():
    windows = [
        window(0.0, 0.0, state="nobody"),
        window(2.0, 1.0, state="too_few_frames"),
        window(4.0, 0.9),
    ]
    (event,) = events_of(windows)
    assert (event.start_s, event.stop_s) == (4.0, 6.0)


def test_each_event_class_has_its_own_events():
    values = [(0.6, 0.1), (0.1, 0.0), (0.0, 0.0), (0.0, 0.8)]
    windows = [
        replace(w, probabilities={"Normal": 0.1, "Push": push, "Hit": hit})
        for w, (push, hit) in zip(sliding([0.0] * 4), values, strict=True)
    ]
    events = merge_to_events(windows, ["Normal", "Push", "Hit"], RULES)
    assert [(e.class_name, e.start_s) for e in events] == [("Push", 0.0), ("Hit", 3.0)]


def test_the_normal_class_is_never_an_event():
    assert events_of(sliding([0.0, 0.1])) == ()


PROBABILITIES = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    values=PROBABILITIES,
    stride=st.sampled_from([0.5, 1.0, 2.0]),
    gap=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    least=st.sampled_from([0.0, 2.5, 4.0]),
)
def test_events_are_the_merged_windows(values, stride, gap, least):
    windows = [window(k * stride, value) for k, value in enumerate(values)]
    merged = merge_windows(
        [(w.start_s, w.stop_s) for w in windows],
        values,
        threshold=0.5,
        merge_gap_s=gap,
        min_event_s=least,
    )
    events = events_of(windows, merge_gap_s=gap, min_event_s=least)
    assert [(e.start_s, e.stop_s, e.peak_probability, e.windows) for e in events] == [
        (i.start_s, i.stop_s, i.peak, len(i.windows)) for i in merged
    ]
    peaks = [(windows[i.peak_window].start_s + 1.0) for i in merged]
    assert [e.peak_s for e in events] == pytest.approx(peaks)


def test_an_event_is_settled_by_the_first_window_that_is_too_far_away():
    merger = EventMerger(CLASSES["fight"], threshold=0.5, merge_gap_s=1.0)
    settled = {w.start_s: merger.update(w) for w in sliding([0.9, 0.1, 0.1, 0.1, 0.1, 0.9])}
    (event,) = settled.pop(4.0)  # it ended at 2.0 and could go on until 3.0
    assert (event.start_s, event.stop_s) == (0.0, 2.0)
    assert not any(settled.values())
    assert [e.start_s for e in merger.finish()] == [5.0]
    assert merger.finish() == []


def test_an_open_event_is_known_before_it_is_settled():
    merger = EventMerger(CLASSES["fight"], threshold=0.5, min_event_s=2.5)
    assert merger.open_events == []
    merger.update(window(0.0, 0.6, people=(4,)))
    assert merger.open_events == []  # still too short
    merger.update(window(1.0, 0.8, people=(7,)))
    (event,) = merger.open_events
    assert (event.stop_s, event.peak_probability, len(event.people)) == (3.0, 0.8, 2)
    assert merger.finish() == [event]


def test_a_merger_refuses_windows_out_of_order_until_reset():
    merger = EventMerger(CLASSES["fight"], threshold=0.5)
    merger.update(window(5.0, 0.9))
    with pytest.raises(ValueError, match=r"not before that of the last one \(5 s\), got 0 s"):
        merger.update(window(0.0, 0.9))
    merger.reset()
    assert merger.open_events == merger.update(window(0.0, 0.9)) == []
    assert [e.start_s for e in merger.finish()] == [0.0]


def test_memory_of_a_long_event_does_not_grow():
    merger = EventMerger(CLASSES["fight"], threshold=0.5)
    for k in range(2000):
        assert merger.update(window(float(k), 0.9, people=(k % 3,))) == []
    (event,) = merger.finish()
    assert (event.windows, event.stop_s, len(event.people)) == (2000, 2001.0, 3)


def test_an_event_is_one_line_of_text():
    (event,) = events_of(sliding([0.1, 0.9, 0.1], people=(3,)))
    assert str(event) == "Fight 1.00-3.00 s, probability 0.90, people 3"
    lying = replace(event, class_name="Lying", grade="lying")
    assert str(lying) == "Lying 1.00-3.00 s, share of time 0.90, people 3"
