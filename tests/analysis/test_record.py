"""The JSON of a video: it is what the published schema says, and comes back whole."""

import copy
import json
from dataclasses import replace

import pytest

from recognizer.analysis.record import (
    SCHEMA_FILE,
    Event,
    read_record,
    record_bytes,
    to_json,
    write_record,
)
from recognizer.analysis.zones import Zone
from recognizer.storage.artifacts import ArtifactError
from tests.analysis.records import person, record, result, sliding, window
from tests.analysis.schema import problems

SCHEMA = json.loads(SCHEMA_FILE.read_bytes())


def full_record():
    fight = sliding([0.1, 0.9, 0.8, 0.2], people=(3, 1))
    falls = [
        window(0.0, 0.0, service="falldown", state="nobody"),
        window(2.0, 0.0, service="falldown", state="too_few_frames"),
    ]
    return record({"fight": result(fight), "falldown": result(falls, service="falldown")})


def graded_record():
    """Return a record with both grades, a suppressed event and zones."""
    square = ((0.1, 0.2), (0.5, 0.2), (0.5, 0.75))
    who = (person(3, 4.0, 16.0),)
    lying = Event("Lying", 4.0, 17.5, 0.8, 14.0, 0, who, "lying", follows_fall_s=2.0)
    fall = Event("Falldown", 2.0, 5.0, 0.9, 3.0, 2, who, "fall")
    falls = result(sliding([0.1, 0.9], service="falldown"), service="falldown")
    falls = replace(
        falls,
        events=(fall, lying),
        suppressed=(replace(fall, zone="bed"),),
        lying={"long_lie_s": 10.0, "gap_s": 5.0},
    )
    zones = (Zone("rest", "bed", square), Zone("ignore", "창문", square))
    return replace(record({"falldown": falls}, stop_s=20.0), zones=zones)


def as_read(value):
    return json.loads(record_bytes(value))


RECORDS = [full_record, graded_record]


@pytest.mark.parametrize("make", RECORDS)
def test_a_record_is_what_the_schema_says(make):
    assert problems(as_read(make()), SCHEMA) == []


@pytest.mark.parametrize("make", RECORDS)
def test_a_record_comes_back_whole(tmp_path, make):
    value = make()
    write_record(tmp_path / "a" / "b.json", tmp_path, value)
    assert read_record(tmp_path / "a" / "b.json") == value
    assert as_read(value) == json.loads(json.dumps(to_json(value)))


def test_one_window_stands_on_one_line():
    lines = record_bytes(full_record()).decode().splitlines()
    assert sum('"probabilities"' in line for line in lines) == 6
    assert len(lines) < 70


def test_a_name_that_is_no_unicode_is_escaped(tmp_path):
    value = replace(full_record(), video="Fight/b\udce9.mp4")
    write_record(tmp_path / "x.json", tmp_path, value)
    assert read_record(tmp_path / "x.json").video == value.video


BREAKS = {
    "another schema": lambda v: v.update(schema="other"),
    "another version": lambda v: v.update(schema_version=2),
    "no video": lambda v: v.pop("video"),
    "unknown key": lambda v: v.update(more=1),
    "state": lambda v: v.update(state="refused"),
    "size": lambda v: v.update(size_wh=[96]),
    "digest": lambda v: v["source"].update(sha256="xyz"),
    "unknown service": lambda v: v["services"].update(theft=v["services"]["fight"]),
    "no service": lambda v: v["services"].clear(),
    "probability above 1": lambda v: window_of(v)["probabilities"].update(Fight=1.2),
    "probability as text": lambda v: window_of(v)["probabilities"].update(Fight="0.5"),
    "window state": lambda v: window_of(v).update(state="unsure"),
    "frames": lambda v: window_of(v).update(frames=1.5),
    "window without people": lambda v: window_of(v).pop("people"),
    "box of three": lambda v: window_of(v)["people"][0].update(box=[1, 2, 3]),
    "involvement": lambda v: window_of(v)["people"][0].update(involvement=-0.1),
    "event without class": lambda v: v["services"]["fight"]["events"][0].pop("class"),
    "one class": lambda v: v["services"]["fight"]["classifier"].update(classes=["Fight"]),
    "stride 0": lambda v: v["services"]["fight"]["classifier"].update(stride_s=0),
    "flag for a number": lambda v: v["services"]["fight"]["rules"].update(threshold=True),
}


GRADED_BREAKS = {
    "unknown grade": lambda e, v: e.update(grade="slip"),
    "fall as text": lambda e, v: e.update(follows_fall_s="2.0"),
    "no grade of a fall before it": lambda e, v: e.update(follows_fall_s=None),
    "corner outside": lambda e, v: v["zones"][0]["polygon"][0].__setitem__(0, 1.5),
    "line": lambda e, v: v["zones"][0]["polygon"].pop(),
    "unknown zone": lambda e, v: v["zones"][0].update(kind="danger"),
    "more about lying": lambda e, v: v["services"]["falldown"]["lying"].update(angle=3),
    "suppressed without times": lambda e, v: v["services"]["falldown"]["suppressed"][0].pop(
        "start_s"
    ),
}


@pytest.mark.parametrize("name", GRADED_BREAKS)
def test_the_schema_refuses_odd_grades_and_zones(name):
    value = copy.deepcopy(as_read(graded_record()))
    GRADED_BREAKS[name](value["services"]["falldown"]["events"][1], value)
    assert problems(value, SCHEMA)


def test_events_of_fights_have_no_grade():
    (event,) = as_read(full_record())["services"]["fight"]["events"]
    assert not {"grade", "follows_fall_s", "zone"} & set(event)


def window_of(value):
    return value["services"]["fight"]["windows"][1]


@pytest.mark.parametrize("name", BREAKS)
def test_the_schema_refuses(name):
    value = copy.deepcopy(as_read(full_record()))
    BREAKS[name](value)
    assert problems(value, SCHEMA)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"[" * 5000,
        b'{"schema": "recognizer.analysis", "schema_version": 1}',
        b'{"schema": "recognizer.analysis", "schema_version": 2}',
        b'{"schema": "other", "schema_version": 1}',
    ],
    ids=lambda data: data[:30].decode(),
)
def test_what_is_no_record_is_refused(tmp_path, data):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(ArtifactError):
        read_record(path)


def test_a_record_of_another_shape_is_refused(tmp_path):
    value = as_read(full_record())
    value["services"]["fight"]["windows"][0]["more"] = 1
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="not a readable analysis"):
        read_record(path)


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        ("start_s", 99.0),
        ("start_s", "soon"),
        ("stop_s", None),
        ("probabilities", {"Fight": 0.5}),
        ("probabilities", {"NonFight": "1", "Fight": "0"}),
        ("probabilities", {"NonFight": -1.0, "Fight": 2.0}),
    ],
)
def test_a_record_changed_by_hand_is_refused_and_so_made_again(tmp_path, key, odd):
    value = as_read(full_record())
    value["services"]["fight"]["windows"][1][key] = odd
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="not a readable analysis"):
        read_record(path)


@pytest.mark.parametrize("odd", ["a", None, -5.0, float("inf")])
def test_a_record_of_no_time_is_refused(tmp_path, odd):
    value = as_read(full_record())
    value["stop_s"] = odd
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="not a readable analysis"):
        read_record(path)
