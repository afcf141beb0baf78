"""Drawn zones: kept in the store, read by the rules at once, there again after a restart."""

import sqlite3
import threading

import pytest

from recognizer.config.alerts import LiveZoneConfig, RulesConfig
from recognizer.live.drawn_zones import MAX_DRAWN, ZoneBook, ZoneLimitError, checked_zone
from recognizer.live.events import LiveEvent, NearMiss
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.store import Store
from recognizer.live.store_schema import StoreDamagedError, StoreError
from recognizer.live.zones import CameraZones
from tests.live.events import UTC_S, rows
from tests.live.windows import CLASSES, fed, person

LEFT, RIGHT = "[[0,0],[0.5,0],[0.5,1],[0,1]]", "[[0.5,0],[1,0],[1,1],[0.5,1]]"
CONFIGURED = LiveZoneConfig.model_validate(
    {"name": "screen", "kind": "ignore", "camera": "ha*", "polygon": [[0, 0], [0.1, 0], [0, 0.1]]}
)
HERE, THERE = person(1, x=0.25), person(2, x=0.75)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "events.db")
    yield opened
    opened.close()


def zone(polygon=LEFT, kind="include", name="door"):
    return checked_zone(name, kind, polygon)


def rules(zones):
    return CameraRules(
        Scene("hall", zones), "fight", CLASSES, RulesConfig(smoothing_s=0.0), lambda: "e1"
    )


def names(zones):
    return [one.name for one in zones.now]


def states(outcomes):
    return [(o.state, o.closed_by) for o in outcomes if isinstance(o, LiveEvent)]


def test_zones_are_there_again_after_a_restart_with_who_drew_them(tmp_path):
    store = Store(tmp_path / "events.db")
    book = ZoneBook(store, [CONFIGURED])
    first = book.add("hall", zone(), "kim", UTC_S)
    book.add("yard", zone(name="gate"), "kim", UTC_S)
    second = book.add("hall", zone(RIGHT, "ignore", "창문"), "kim", UTC_S)
    book.change(first.zone_id, "hall", zone(RIGHT, "rest", "bed"), "lee", UTC_S + 9)
    store.close()
    again = Store(tmp_path / "events.db")
    book = ZoneBook(again, [CONFIGURED])
    assert names(book.current("hall")) == ["screen", "bed", "창문"]
    assert [(o.zone_id, o.author, o.utc_s) for o in book.drawn("hall")] == [
        (first.zone_id, "lee", UTC_S + 9),
        (second.zone_id, "kim", UTC_S),
    ]
    assert names(book.current("yard")) == ["gate"]
    assert [one.name for one in book.configured("yard")] == []
    again.close()


def test_a_removed_zone_is_gone_and_who_removed_it_is_kept(store):
    book = ZoneBook(store)
    made = book.add("hall", zone(), "kim", UTC_S)
    book.remove(made.zone_id, "hall", "lee", UTC_S + 5)
    assert book.drawn("hall") == ZoneBook(store).drawn("hall") == ()
    kept = rows(store.path, "SELECT is_removed, author FROM zones ORDER BY seq")
    assert [tuple(row) for row in kept] == [(0, "kim"), (1, "lee")]
    for change in (
        lambda: book.remove(made.zone_id, "hall", "lee", UTC_S),
        lambda: book.change(made.zone_id, "hall", zone(), "lee", UTC_S),
    ):
        with pytest.raises(KeyError, match="expected the id of a drawn zone of hall"):
            change()


def test_a_zone_of_another_camera_is_not_changed(store):
    book = ZoneBook(store)
    made = book.add("hall", zone(), "kim", UTC_S)
    with pytest.raises(KeyError):
        book.change(made.zone_id, "yard", zone(RIGHT), "kim", UTC_S)
    with pytest.raises(KeyError):
        book.remove(made.zone_id, "yard", "kim", UTC_S)
    assert book.drawn("hall") == (made,)


def test_a_camera_has_at_most_50(store):
    book = ZoneBook(store)
    for number in range(MAX_DRAWN):
        book.add("hall", zone(name=f"z{number}"), "kim", UTC_S)
    with pytest.raises(ZoneLimitError, match="at most 50 zones of hall"):
        book.add("hall", zone(), "kim", UTC_S)
    book.add("yard", zone(), "kim", UTC_S)


def test_what_cannot_be_written_does_not_count(store):
    book = ZoneBook(store)
    current = book.current("hall")
    store.close()
    with pytest.raises(StoreError):
        book.add("hall", zone(), "kim", UTC_S)
    assert (names(current), book.drawn("hall")) == ([], ())


def test_a_row_that_holds_no_zone_is_damage(store):
    ZoneBook(store).add("hall", zone(), "kim", UTC_S)
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE zones SET polygon = '[[0, 0]]'")
    with pytest.raises(StoreDamagedError, match="3 to 100 corners"):
        ZoneBook(store)


# --- in the running rules ----------------------------------------------------------------


def test_a_drawn_zone_counts_from_the_next_window_on(store):
    book = ZoneBook(store)
    running = rules(book.current("hall"))
    book.add("hall", zone(LEFT, "ignore", "screen"), "kim", UTC_S)
    outcomes = fed(running, [0.9] * 6 + [0.0] * 20, [HERE])
    assert [(o.rule, o.zone) for o in outcomes if isinstance(o, NearMiss)] == [("zone", "screen")]
    assert states(outcomes) == []


def test_an_open_event_goes_on_when_its_zone_vanishes(store):
    book = ZoneBook(store)
    running = rules(book.current("hall"))
    made = book.add("hall", zone(), "kim", UTC_S)
    (new,) = fed(running, [0.9] * 4, [HERE])
    assert (new.state, new.zone) == ("new", "door")
    book.remove(made.zone_id, "hall", "kim", UTC_S)
    more = fed(running, [0.9] * 12 + [0.0] * 20, [HERE], first=4)
    assert states(more) == [("update", None), ("end", "quiet")]
    assert {one.event_id for one in more} == {"e1"}
    assert {one.zone for one in more} == {"door"}, "where it began"
    assert more[-1].end_s == pytest.approx(15 * 0.5 + 2)


def test_an_open_event_grows_quiet_when_its_people_count_no_more(store):
    book = ZoneBook(store)
    running = rules(book.current("hall"))
    assert states(fed(running, [0.9] * 4, [HERE])) == [("new", None)]
    book.add("hall", zone(RIGHT), "kim", UTC_S)  # only people there count now
    more = fed(running, [0.9] * 16, [HERE], first=4)
    assert states(more) == [("end", "quiet")]
    assert more[0].end_s == pytest.approx(3 * 0.5 + 2)


def test_windows_before_an_event_are_not_lost_by_a_change(store):
    book = ZoneBook(store)
    running = rules(book.current("hall"))
    assert fed(running, [0.9] * 3, [THERE]) == []
    book.add("hall", zone(RIGHT), "kim", UTC_S)
    (new,) = fed(running, [0.9], [THERE], first=3)
    assert (new.start_s, new.zone) == (0.0, "door")


def test_a_reader_sees_old_or_new_zones_never_a_mixture():
    old, new = (zone(), zone(name="b")), (zone(RIGHT), zone(RIGHT, name="b"))
    zones, stop, seen = CameraZones(old), threading.Event(), set()

    def swap():
        while not stop.is_set():
            zones.swap(new)
            zones.swap(old)

    thread = threading.Thread(target=swap)
    thread.start()
    for _ in range(5000):
        seen.add(zones.now)
    stop.set()
    thread.join()
    assert seen <= {old, new}
