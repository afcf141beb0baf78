"""What an analysis says at its end: each event by video, time, class, probability and people."""

from dataclasses import replace

from analysis.record import Event, Person
from analysis.summary import SHOWN, event_lines
from tests.analysis.records import record, result, window

RULES = {"fight": {"threshold": 0.5}, "falldown": {"threshold": 0.625}}


def event(start_s, people=(3, 5)):
    seen = tuple(Person(i, 0.9, (0, 0, 1, 1), start_s, start_s + 1) for i in people)
    return Event("Fight", start_s, start_s + 4.5, 0.987, start_s + 1, 3, seen)


def with_events(video, events):
    service = replace(result([window(0.0, 0.1)]), events=tuple(events))
    return record({"fight": service}, video=video)


def test_events_are_named():
    lines = event_lines([with_events("a/x.mp4", [event(3.0)]), with_events("b.mp4", [])], RULES)
    assert lines == [
        "1 event in 1 of 2 videos:",
        "  a/x.mp4  3.00-7.50 s  Fight 0.99  people (track ids): 3, 5",
    ]


def test_of_many_events_the_first_are_named_and_the_table_has_the_rest():
    many = [with_events("a.mp4", [event(float(i)) for i in range(SHOWN)]),
            with_events("b.mp4", [event(0.0), event(9.0)])]  # fmt: skip
    lines = event_lines(many, RULES)
    assert lines[0] == f"{SHOWN + 2} events in 2 of 2 videos:"
    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  and 2 more in summary.csv"


def test_nothing_found_is_said_with_the_thresholds():
    lines = event_lines([with_events("a.mp4", [])], RULES)
    assert lines == ["no event in 1 of 1 videos (thresholds: fight 0.5, falldown 0.625)"]
