"""What an analysis says at its end: each event by video, time, class, probability and people."""

from dataclasses import replace
from pathlib import Path

import pytest

from recognizer.action.results import Event, Person
from recognizer.analysis.record import probability_text
from recognizer.analysis.summary import (
    COLUMNS,
    SHOWN,
    VideoSummary,
    event_lines,
    other_rule,
    summary_rows,
)
from recognizer.runs.manifest import Outcome
from tests.analysis.records import record, result, window

RULES = {"fight": {"threshold": 0.5}, "falldown": {"threshold": 0.625}}


def event(start_s, people=(3, 5)):
    seen = tuple(Person(i, 0.9, (0, 0, 1, 1), start_s, start_s + 1) for i in people)
    return Event("Fight", start_s, start_s + 4.5, 0.987, start_s + 1, 3, seen)


def with_events(video, events):
    service = replace(result([window(0.0, 0.1)]), events=tuple(events))
    return VideoSummary.of(record({"fight": service}, video=video), Path("not/there.mp4"))


def test_events_are_named():
    lines = event_lines([with_events("a/x.mp4", [event(3.0)]), with_events("b.mp4", [])], RULES)
    assert lines == [
        "1 event in 1 of 2 videos, 20 s:",
        "  a/x.mp4  3.00-7.50 s  Fight 0.99  people (track ids): 3, 5",
    ]


def test_of_many_events_the_first_are_named_and_the_table_has_the_rest():
    many = [
        with_events("a.mp4", [event(float(i)) for i in range(SHOWN)]),
        with_events("b.mp4", [event(0.0), event(9.0)]),
    ]
    lines = event_lines(many, RULES)
    assert lines[0] == f"{SHOWN + 2} events in 2 of 2 videos, 20 s:"
    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  and 2 more in summary.csv"


def test_nothing_found_is_reported_with_the_thresholds():
    lines = event_lines([with_events("a.mp4", [])], RULES)
    assert lines == ["no event in 1 of 1 videos, 10 s (thresholds: fight 0.5, falldown 0.625)"]


def judged(video="a.mp4", **peaks):
    """Return what is found where each service judged one window, with this probability."""
    services = {
        name: result([window(0.0, peak, service=name)], service=name, rules={**RULES_OF, **rule})
        for name, peak in peaks.items()
        for rule in [RULES[name]]
    }
    return VideoSummary.of(record(services, video=video), Path("not/there.mp4"))


RULES_OF = {"merge_gap_s": 0.0, "min_event_s": 0.0}
NO_PEOPLE = VideoSummary("n.mp4", {"fight": (), "falldown": ()}, {}, None)


@pytest.mark.parametrize(
    ("found", "text", "changes"),
    [
        (
            [judged(fight=0.3, falldown=0.9)],
            "more events of falldown (threshold 0.625)",
            {"inference.falldown.threshold": 0.31},
        ),
        (
            [judged(fight=0.3, falldown=0.9)] * 2,
            "fewer events of falldown (threshold 0.625)",
            {"inference.falldown.threshold": 0.76},
        ),
        (
            [judged(fight=0.504, falldown=0.1)] * 2,
            "fewer events of fight (threshold 0.5)",
            {"inference.fight.threshold": 0.502},
        ),
        (
            [judged(fight=0.1, falldown=0.1), judged("b.mp4", fight=0.2, falldown=0.555)],
            "falldown is most probable in b.mp4, 0.555",
            {"inference.falldown.threshold": 0.55},
        ),
        (
            [judged(fight=0.00345, falldown=0.0), NO_PEOPLE],
            "fight is most probable in a.mp4, 0.00345",
            {"inference.fight.threshold": 0.003},
        ),
        (
            [VideoSummary("a.mp4", {"fight": (), "falldown": ()}, {"fight": 0.8}, None)],
            "fight is most probable in a.mp4, 0.8, but shorter than inference.min_event_s",
            {"inference.min_event_s": 0},
        ),
    ],
)
def test_the_next_run_shows_other_events(found, text, changes):
    assert other_rule(found, RULES) == (text, changes)


@pytest.mark.parametrize(
    ("value", "threshold", "form", "text"),
    [
        (0.499, 0.5, ".2f", "0.499"),
        (0.499999, 0.5, ".2f", "0.499999"),
        (0.5, 0.5, ".2f", "0.50"),
        (0.625, 0.625, ".2f", "0.625"),
        (0.494, 0.5, ".2f", "0.49"),
        (0.9999, 1.0, ".2f", "0.9999"),
        (0.49999, 0.5, ".3g", "0.49999"),
        (0.00345, 0.5, ".3g", "0.00345"),
        (0.49996, 0.5, ".4f", "0.49996"),
    ],
)
def test_a_rounded_probability_stays_on_its_side_of_the_threshold(value, threshold, form, text):
    assert probability_text(value, threshold, form) == text


def test_a_near_miss_is_not_rounded_to_the_threshold():
    text, _ = other_rule([judged(fight=0.4999, falldown=0.1)], RULES)
    assert text == "fight is most probable in a.mp4, 0.4999"
    outcome = Outcome("a.mp4", "done", "", 20)
    row = summary_rows(outcome, record({"fight": result([window(0.0, 0.49996)])}), ["fight"])[0]
    assert row[COLUMNS.index("peak_probability")] == "0.49996"


@pytest.mark.parametrize(
    "found",
    [[], [NO_PEOPLE], [judged(fight=0.0, falldown=0.0)], [judged(fight=0.5, falldown=0.1)] * 2],
)
def test_where_no_threshold_shows_other_events_none_is_proposed(found):
    assert other_rule(found, RULES) is None


def test_windows_are_not_kept_until_the_end():
    kept = judged(fight=0.9, falldown=0.2)
    assert kept.peaks == {"fight": 0.9, "falldown": 0.2}
    assert len(kept.events["fight"]) == 1
    assert not hasattr(kept, "services")


def lying(start_s, follows_fall_s=None, zone=None):
    return replace(
        event(start_s, (3,)),
        class_name="Lying",
        windows=0,
        grade="lying",
        follows_fall_s=follows_fall_s,
        zone=zone,
    )


def test_lying_is_named_with_its_length_and_the_fall_before_it():
    found = with_events("a.mp4", [lying(3.0, 1.25), lying(20.0)])
    assert event_lines([found], RULES)[1:] == [
        "  a.mp4  3.00-7.50 s  Lying for 4.5 s after the fall at 1.25 s  people (track ids): 3",
        "  a.mp4  20.00-24.50 s  Lying for 4.5 s  people (track ids): 3",
    ]


def test_no_other_threshold_is_proposed_because_of_lying():
    falls = replace(judged(fight=0.1, falldown=0.3), events={"fight": (), "falldown": (lying(1),)})
    assert other_rule([falls], RULES)[1] == {"inference.falldown.threshold": 0.3}


def test_the_table_has_lying_and_what_is_suppressed():
    falls = result([window(0.0, 0.1, service="falldown")], service="falldown")
    falls = replace(falls, events=(lying(3.0),), suppressed=(lying(9.0, zone="bed"),))
    outcome = Outcome("a.mp4", "done", "", 20)
    (row,) = summary_rows(outcome, record({"falldown": falls}), ["falldown"])
    cells = dict(zip(COLUMNS, row, strict=True))
    assert (cells["events"], cells["lying"]) == (1, 1)
    assert cells["times_s"] == "3.00-7.50 Lying"
    assert cells["suppressed"] == "9.00-13.50 Lying (bed)"
    (refused,) = summary_rows(Outcome("b.mp4", "refused", "odd", 0), None, ["falldown"])
    assert dict(zip(COLUMNS, refused, strict=True))["reason"] == "odd"
