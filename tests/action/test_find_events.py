"""The events of a video and the people they name."""

from dataclasses import replace

from recognizer.action.events import find_events
from tests.analysis.records import CLASSES, RULES, person, sliding, window


def events_of(windows, **rules):
    return find_events(windows, CLASSES["fight"], {**RULES, **rules})


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
    events = find_events(windows, ["Normal", "Push", "Hit"], RULES)
    assert [(e.class_name, e.start_s) for e in events] == [("Push", 0.0), ("Hit", 3.0)]


def test_the_normal_class_is_never_an_event():
    assert events_of(sliding([0.0, 0.1])) == ()
