"""The config of rules, zones, schedules, store and sinks: what it refuses and never shows."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from recognizer.config.alerts import (
    AlertsConfig,
    LiveZoneConfig,
    MqttSink,
    RulesConfig,
    ScheduleConfig,
    SecretConfig,
    WebhookSink,
)
from recognizer.live.schedule import schedules_of_camera
from recognizer.live.zones import count_people, zones_of_camera
from tests.live.windows import SIZE, person

SECRET = "correct horse battery"
STORE = {"path": "events.db"}


# --- rules ------------------------------------------------------------------------------


def test_the_defaults():
    rules = RulesConfig().rules_for("hall", "Fight")
    assert (rules.enter, rules.leave, rules.windows_needed, rules.windows_of) == (0.6, 0.4, 3, 5)
    assert (rules.merge_s, rules.quiet_s, rules.max_s, rules.cooldown_s) == (5, 5, 300, 60)
    assert (rules.shortest_s("Fight"), rules.shortest_s("Falldown")) == (1.5, 1.0)


def test_of_two_overrides_the_later_counts():
    config = RulesConfig.model_validate(
        {
            "enter": 0.7,
            "overrides": [
                {"camera": "ha*", "enter": 0.8, "min_s": 3.0},
                {"class_name": "Fight", "enter": 0.9},
            ],
        }
    )
    one, other = config.rules_for("hall", "Fight"), config.rules_for("yard", "Falldown")
    assert (one.enter, one.shortest_s("Fight")) == (0.9, 3.0)
    assert (other.enter, other.shortest_s("Falldown")) == (0.7, 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"leave": 0.7}, r"leave: expected at most enter \(0\.6\), got 0\.7"),
        ({"windows_needed": 6}, "windows_needed: expected at most windows_of"),
        ({"merge_s": 6.0}, "merge_s: expected at most quiet_s"),
        ({"min_s": 301.0}, "min_s: expected at most max_s"),
        ({"overrides": [{"enter": 0.3}]}, r"overrides\[0\].*leave: expected at most enter"),
        ({"enter": 1.1}, "enter"),
        ({"enter": "0.6"}, "enter"),
        ({"cooldown": 3.0}, "cooldown"),
    ],
)
def test_rules_that_contradict_one_another_are_refused(values, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        RulesConfig.model_validate(values)


# --- zones ---------------------------------------------------------------------------------


def zone(kind="include", camera="*", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1))):
    corners = [list(map(float, corner)) for corner in polygon]
    return LiveZoneConfig.model_validate(
        {"name": "door", "kind": kind, "camera": camera, "polygon": corners}
    )


@pytest.mark.parametrize(
    "polygon", [((0, 0), (1, 1)), ((0, 0), (1, 1), (1, 0), (0, 1)), ((0, 2),) * 3]
)
def test_wrong_polygons_are_refused(polygon):
    with pytest.raises(ValidationError, match="polygon"):
        zone(polygon=polygon)


def test_zones_are_of_the_cameras_that_fit():
    assert len(zones_of_camera([zone(camera="ha*"), zone(camera="yard")], "hall")) == 1


def test_without_zones_everyone_counts():
    people = (person(1, 0.1), person(2, 0.9))
    assert count_people(people, (), SIZE, rest=True).people == people
    assert not count_people((), (), SIZE, rest=True).refused


def test_an_empty_included_zone_refuses_a_window_without_people():
    zones = zones_of_camera([zone()], "hall")
    assert count_people((), zones, SIZE, rest=False).refused


def test_who_stands_below_a_screen_is_not_in_it():
    screen = zone("ignore", polygon=((0.3, 0.0), (0.7, 0.0), (0.7, 0.4), (0.3, 0.4)))
    zones = zones_of_camera([screen], "hall")
    passing, shown = person(1, 0.5, 0.6), person(2, 0.5, 0.35)
    counted = count_people((passing, shown), zones, SIZE, rest=False)
    assert [p.track_id for p in counted.people] == [1]
    assert count_people((shown,), zones, SIZE, rest=False).zone == "door"


# --- schedule ------------------------------------------------------------------------------


def at(text, zone="Asia/Seoul"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("time", "counts"),
    [
        ("2026-11-27T21:59", False),  # a Friday
        ("2026-11-27T22:00", True),
        ("2026-11-28T05:59", True),
        ("2026-11-28T06:00", False),
        ("2026-11-28T23:00", False),
        ("2026-11-29T01:00", False),
    ],
)
def test_hours_that_go_on_after_midnight_belong_to_their_day(time, counts):
    config = ScheduleConfig.model_validate(
        {"timezone": "Asia/Seoul", "hours": [{"days": ["fri"], "from": "22:00", "to": "06:00"}]}
    )
    (schedule,) = schedules_of_camera([config], "hall")
    assert schedule.counts_at(at(time)) == counts


def test_hours_follow_summer_time():
    hours = {"timezone": "Europe/Berlin", "hours": [{"from": "08:00", "to": "09:00"}]}
    (schedule,) = schedules_of_camera([ScheduleConfig.model_validate(hours)], "hall")
    for day in ("2026-01-15", "2026-07-15"):
        assert schedule.counts_at(at(f"{day}T08:30", "Europe/Berlin"))
        assert not schedule.counts_at(at(f"{day}T09:30", "Europe/Berlin"))


@pytest.mark.parametrize(
    "hours", [{"from": "24:01"}, {"to": "9:00"}, {"to": "٠٩:00"}, {"days": []}, {"days": ["mo"]}]
)
def test_wrong_hours_are_refused(hours):
    with pytest.raises(ValidationError, match="hours"):
        ScheduleConfig.model_validate({"hours": [hours]})


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ValidationError, match="expected a time zone such as Asia/Seoul"):
        ScheduleConfig.model_validate({"timezone": "Moon/Base"})


# --- sinks and secrets -------------------------------------------------------------------------


def test_sinks_are_told_apart_by_kind_and_named_once():
    sinks = [
        {"kind": "jsonl", "name": "a", "path": "a.jsonl"},
        {"kind": "mqtt", "name": "b", "host": "broker"},
    ]
    config = AlertsConfig.model_validate({"store": STORE, "sinks": sinks})
    assert [sink.kind for sink in config.sinks] == ["jsonl", "mqtt"]
    with pytest.raises(ValidationError, match="every name once, got a twice"):
        AlertsConfig.model_validate({"store": STORE, "sinks": [sinks[0], sinks[0]]})
    with pytest.raises(ValidationError, match="kind"):
        AlertsConfig.model_validate({"store": STORE, "sinks": [{"kind": "fax", "name": "a"}]})


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "https://", "http://kim:hunter2@host/", "http://host:99999/", "//host", "a b"],
)
def test_wrong_addresses_are_refused_without_showing_them(url):
    with pytest.raises(ValidationError) as caught:
        WebhookSink(name="hook", url=url)
    (error,) = caught.value.errors(include_input=False)
    assert error["loc"] == ("url",)
    assert "hunter2" not in error["msg"]
    assert "hunter2" not in str(caught.value)
    sink = {"kind": "webhook", "name": "hook", "url": url}
    with pytest.raises(ValidationError) as caught:
        AlertsConfig.model_validate({"store": STORE, "sinks": [sink]})
    assert "hunter2" not in str(caught.value)


def test_an_address_is_not_in_the_text_of_a_config():
    assert "token" not in repr(WebhookSink(name="hook", url="https://host/token"))


def test_a_secret_comes_from_a_variable_or_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    for source in (SecretConfig(env="HOOK_SECRET"), SecretConfig(file=file)):
        config = WebhookSink(name="hook", url="https://host/", secret=source)
        assert source.read() == SECRET
        assert SECRET not in f"{config!r} {config.model_dump()} {config.model_dump_json()}"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe secret", b"x" * 70_000])
def test_a_secret_that_cannot_be_read_is_an_error_without_it(tmp_path, content):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match="expected") as caught:
        SecretConfig(file=file).read()
    assert str(file) in str(caught.value)
    assert "xfe" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_missing_variable_is_named(monkeypatch):
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    with pytest.raises(ValueError, match="environment variable HOOK_SECRET, found none"):
        SecretConfig(env="HOOK_SECRET").read()


@pytest.mark.parametrize("values", [{}, {"env": "A", "file": "b"}, {"env": "A-B"}])
def test_a_secret_has_one_source(values):
    with pytest.raises(ValidationError):
        SecretConfig.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"password": {"env": "A"}},
        {"ca_file": "ca.pem"},
        {"topic": "a/+/b"},
        {"topic": "/a"},
        {"port": 0},
        {"password": "hunter2"},
    ],
)
def test_wrong_mqtt_settings_are_refused(values):
    with pytest.raises(ValidationError):
        MqttSink.model_validate({"name": "home", "host": "broker", **values})
