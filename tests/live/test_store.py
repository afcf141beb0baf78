"""The store: transactions, errors, reads, retention."""

import random
import sqlite3
import threading
from dataclasses import replace

import pytest

from recognizer.live import store_schema
from recognizer.live.events import NearMiss
from recognizer.live.store import Store
from recognizer.live.store_reads import (
    Filter,
    count_events,
    list_events,
    list_gaps,
    list_near_misses,
    list_reviews,
    outbox_depths,
    read_event,
)
from recognizer.live.store_schema import (
    StoreDamagedError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)
from tests.live.events import UTC_S, event, file_sink, rows, whole

MISS = NearMiss("hall", "Fight", "", 1.0, 3.0, UTC_S, UTC_S + 2, 0.7, "windows")
DAY = 86400.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "live" / "events.db"


@pytest.fixture
def store(path, tmp_path):
    opened = Store(path, [file_sink(tmp_path, "one"), file_sink(tmp_path, "two", cameras="y*")])
    yield opened
    opened.close()


def sent(store, sink="one"):
    """Take all notices of a sink from the outbox."""
    keys = []
    while (notice := store.next_notice(sink)) is not None:
        keys.append(notice.key)
        store.mark_sent(notice, UTC_S)
    return keys


# --- writing -------------------------------------------------------------------------


def test_an_event_is_read_as_it_was_written(store, path):
    store.put(whole("e1"), UTC_S)
    assert read_event(path, "e1") == whole("e1")[-1]
    assert count_events(path) == {("Fight", "end"): 1}
    with pytest.raises(KeyError, match="e2"):
        read_event(path, "e2")


def test_notices_go_to_the_sinks_of_the_camera_in_order(store):
    store.put([*whole("e1"), event("e2", camera="yard")], UTC_S)
    assert sent(store) == ["e1:0", "e1:1", "e1:2", "e2:0"]
    assert sent(store, "two") == ["e2:0"]


def test_a_muted_event_is_written_without_notices(store, path):
    store.put([event(muted=True), MISS], UTC_S)
    assert sent(store) == []
    assert list_events(path).events[0].muted
    assert list_near_misses(path) == (MISS,)


def test_a_state_written_twice_is_there_once(store, path):
    for _ in range(2):
        store.put(whole("e1"), UTC_S)
    store.put([event("e1", "update", 1)], UTC_S)
    assert sent(store) == ["e1:0", "e1:1", "e1:2"]
    assert read_event(path, "e1").state == "end"


def test_what_cannot_be_written_leaves_nothing_of_its_step(store, path):
    wrong = replace(event("e2"), peak_probability=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        store.put([event("e1"), wrong], UTC_S)
    assert list_events(path).events == ()
    assert sent(store) == []
    store.put([event("e1")], UTC_S)  # it goes on


def test_events_left_open_are_ended_with_a_notice(path, tmp_path):
    sinks = [file_sink(tmp_path, "one")]
    first = Store(path, sinks)
    first.put([*whole("e1"), *whole("e2")[:2]], UTC_S)
    first.close()
    again = Store(path, sinks)
    assert again.close_left_open(UTC_S + 60) == 1
    assert again.close_left_open(UTC_S + 60) == 0
    ended = read_event(path, "e2")
    assert (ended.state, ended.closed_by, ended.end_utc_s) == ("end", "restart", UTC_S + 3.5)
    assert sent(again)[-1] == "e2:2"
    again.close()


def test_reviews_are_kept_and_the_last_counts(store, path):
    store.put(whole("e1"), UTC_S)
    store.review("e1", "unsure", "kim", UTC_S)
    store.review("e1", "false_alarm", "lee", UTC_S + 1, "a hug")
    assert [r.verdict for r in list_reviews(path, "e1")] == ["unsure", "false_alarm"]
    assert list_events(path).events[0].review == "false_alarm"
    store.put(whole("e2"), UTC_S)
    assert count_events(path) == {("Fight", "end"): 1, ("Fight", "reviewed"): 1}
    with pytest.raises(KeyError, match="'e9'"):
        store.review("e9", "unsure", "kim", UTC_S)


def test_a_gap_is_written_once_and_ended_later(store, path):
    store.put_gap("hall", UTC_S, None, "timeout")
    assert list_gaps(path)[0].end_utc_s is None
    store.put_gap("hall", UTC_S, UTC_S + 9, "timeout")
    store.put_gap("hall", UTC_S, UTC_S + 99, "timeout")
    assert [(g.end_utc_s, g.reason) for g in list_gaps(path, "hall")] == [(UTC_S + 9, "timeout")]
    assert list_gaps(path, "yard") == ()


def test_given_up_notices_can_be_tried_again_behind_the_others(store, path):
    store.put([event("e1")], UTC_S)
    store.mark_dead(store.next_notice("one"), "away", UTC_S)
    store.put([event("e2")], UTC_S)
    assert [(d.sink, d.pending, d.dead, d.last_error) for d in outbox_depths(path)] == [
        ("one", 1, 1, "away")
    ]
    assert store.retry_dead("one") == 1
    assert store.retry_dead("two") == 0
    store.put([event("e3")], UTC_S)
    assert sent(store) == ["e2:0", "e1:0", "e3:0"]


def test_notices_of_a_sink_that_is_gone_can_be_dropped(store, path):
    store.put([*whole("e1"), event("e2", camera="yard")], UTC_S)
    store.mark_dead(store.next_notice("one"), "away", UTC_S)
    assert store.drop_notices("one") == 4
    assert [d.sink for d in outbox_depths(path)] == ["two"]


def test_threads_write_and_read_at_once(store, path):
    def write(name):
        for number in range(20):
            store.put(whole(f"{name}{number}"), UTC_S)
            list_events(path)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count_events(path) == {("Fight", "end"): 60}
    assert len(sent(store)) == 180


# --- reading ---------------------------------------------------------------------------


def test_pages_hold_every_event_once_latest_first(store, path):
    for number in range(25):  # three at a time begin in the same moment
        store.put(whole(f"e{number:02}", after_s=float(number // 3)), UTC_S)
    seen, after = [], None
    while True:
        page = list_events(path, after=after, limit=4)
        seen += page.events
        if (after := page.following) is None:
            break
    assert len({e.event_id for e in seen}) == len(seen) == 25
    order = [(e.start_utc_s, e.event_id) for e in seen]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (Filter(), {"a", "b", "c"}),
        (Filter(camera="yard"), {"b"}),
        (Filter(state="new"), {"c"}),
        (Filter(review=""), {"b", "c"}),
        (Filter(review="confirmed"), {"a"}),
        (Filter(class_name="Fall"), set()),
        (Filter(zone="door", from_utc_s=UTC_S + 1), {"b", "c"}),
        (Filter(until_utc_s=UTC_S + 1), {"a"}),
        (Filter(camera="' OR 1 --"), set()),
    ],
)
def test_filters(store, path, chosen, ids):
    store.put(whole("a"), UTC_S)
    store.put([replace(e, camera="yard") for e in whole("b", after_s=5.0)], UTC_S)
    store.put([event("c", after_s=9.0)], UTC_S)
    store.review("a", "confirmed", "kim", UTC_S)
    assert {e.event_id for e in list_events(path, chosen).events} == ids


@pytest.mark.parametrize("limit", [0, 501])
def test_pages_have_a_largest_size(store, path, limit):
    with pytest.raises(ValueError, match="limit: expected 1 to 500"):
        list_events(path, limit=limit)


def test_lists_are_read_by_an_index(store, path):
    """However many events there are: no list sorts or scans them all."""
    for chosen in ("1", "camera = 'hall'", "review IS NULL", "(start_utc_s, id) < (1.0, 'a')"):
        plan = rows(
            path,
            f"EXPLAIN QUERY PLAN SELECT id FROM events WHERE {chosen} "
            "ORDER BY start_utc_s DESC, id DESC LIMIT 51",
        )
        text = " ".join(row[3] for row in plan)
        assert "USING" in text
        assert "TEMP B-TREE" not in text


# --- retention -----------------------------------------------------------------------------


def test_what_is_unreviewed_open_or_unsent_is_kept(store, path):
    store.put([*whole("old"), *whole("unreviewed"), *whole("unsent"), event("open"), MISS], UTC_S)
    store.put(whole("young", after_s=20 * DAY), UTC_S)
    for name in ("old", "unsent", "open", "young"):
        store.review(name, "confirmed", "kim", UTC_S)
    while (notice := store.next_notice("one")) is not None:
        done = store.mark_dead if notice.event.event_id == "unsent" else store.mark_sent
        done(notice, *(["away"] if notice.event.event_id == "unsent" else []), UTC_S)
    store.put_gap("hall", UTC_S, UTC_S + 1, "timeout")
    cleaned = store.clean(UTC_S + 30 * DAY, 20 * DAY, 2**40)
    assert cleaned.events == ("old",)
    assert (cleaned.near_misses, cleaned.gaps, cleaned.over_quota_bytes) == (1, 1, 0)
    assert {e.event_id for e in list_events(path).events} == {
        *("unreviewed", "unsent", "open", "young"),
    }
    assert rows(path, "SELECT count(*) FROM event_updates WHERE event_id = 'old'") == [(0,)]


def test_the_quota_removes_the_oldest_that_may_go(store, path):
    curve = tuple((i / 2, 0.9) for i in range(600))
    for number in range(300):
        states = [replace(e, probabilities=curve) for e in whole(f"e{number}", after_s=number)]
        store.put(states, UTC_S)
    sent(store)
    for number in range(299):
        store.review(f"e{number}", "confirmed", "kim", UTC_S)
    size = path.stat().st_size
    cleaned = store.clean(UTC_S, DAY, size // 2)
    assert cleaned.events == tuple(f"e{n}" for n in range(len(cleaned.events)))
    assert 100 <= len(cleaned.events) < 299
    assert cleaned.over_quota_bytes == 0
    store.close()
    assert path.stat().st_size <= size // 2
    again = Store(path)
    assert again.clean(UTC_S, DAY, 1).over_quota_bytes > 0
    assert [e.event_id for e in list_events(path).events] == ["e299"]
    again.close()


# --- errors ------------------------------------------------------------------------------------


def test_a_later_version_and_another_program_are_refused(path):
    Store(path).close()
    rows(path, f"PRAGMA user_version = {len(store_schema.MIGRATIONS) + 1}")
    with pytest.raises(StoreVersionError, match="later release"):
        Store(path)
    path.unlink()
    rows(path, "CREATE TABLE mine (x)")
    with pytest.raises(StoreVersionError, match="another program"):
        Store(path)


def test_an_older_version_is_brought_forward(path, monkeypatch):
    Store(path).close()
    more = (*store_schema.MIGRATIONS, ("ALTER TABLE gaps ADD COLUMN note TEXT",))
    monkeypatch.setattr(store_schema, "MIGRATIONS", more)
    Store(path).close()
    Store(path).close()
    assert rows(path, "PRAGMA user_version") == [(len(more),)]
    assert rows(path, "SELECT note FROM gaps") == []


def test_a_migration_is_whole_or_nothing(path, monkeypatch):
    Store(path).close()
    wrong = ("ALTER TABLE gaps ADD COLUMN note TEXT", "ALTER TABLE nothing ADD COLUMN x")
    released = len(store_schema.MIGRATIONS)
    monkeypatch.setattr(store_schema, "MIGRATIONS", (*store_schema.MIGRATIONS, wrong))
    with pytest.raises(store_schema.StoreError, match=str(path)):
        Store(path)
    assert rows(path, "PRAGMA user_version") == [(released,)]
    with pytest.raises(sqlite3.OperationalError, match="note"):
        rows(path, "SELECT note FROM gaps")


def test_a_file_that_is_no_database_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDamagedError, match="Move it away"):
        Store(path)


def test_damage_inside_is_noticed(path):
    store = Store(path)
    for number in range(50):
        store.put(whole(f"e{number}"), UTC_S)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 : len(data)] = random.Random(0).randbytes(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreDamagedError, match="Move it away"):
        list_events(path)


def test_a_row_that_holds_no_event_is_damage(store, path):
    store.put([event()], UTC_S)
    for body in ("{", "[]", '{"people": []}'):
        store._file.at_its_place().execute("UPDATE event_updates SET body = ?", (body,))
        with pytest.raises(StoreDamagedError, match="expected an event as JSON"):
            store.next_notice("one")


def test_a_closed_store_says_so(path):
    store = Store(path)
    store.close()
    with pytest.raises(store_schema.StoreError, match="closed"):
        store.put([event()], UTC_S)


def test_a_full_disk_keeps_what_was_written(store, path):
    store.put([event("e1")], UTC_S)
    (pages,) = store._file.at_its_place().execute("PRAGMA page_count").fetchone()
    store._file.at_its_place().execute(f"PRAGMA max_page_count = {pages}")
    many = [one for number in range(100) for one in whole(f"f{number}")]
    with pytest.raises(StoreFullError, match="Free space"):
        store.put(many, UTC_S)
    store._file.at_its_place().execute("PRAGMA max_page_count = 1000000")
    store.put([event("e2")], UTC_S)
    assert sent(store) == ["e1:0", "e2:0"]
    assert {e.event_id for e in list_events(path).events} == {"e1", "e2"}


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFullError, match="cannot be made"):
        Store(tmp_path / "file" / "events.db")


def test_a_lock_of_another_program_is_an_error(path):
    store = Store(path, busy_s=0.1)
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLockedError, match="another process locks it"):
        store.put([event()], UTC_S)
    other.rollback()
    other.close()
    store.put([event()], UTC_S)
    store.close()


def test_two_processes_do_not_share_a_database(store, path):
    with pytest.raises(StoreLockedError, match="another one writes it"):
        Store(path)
