"""The database removed, replaced or moved while it is in use."""

import shutil

import pytest

from recognizer.live import recording
from recognizer.live.page.health import not_ready
from recognizer.live.recording import StoreRecorder
from recognizer.live.store import Store
from recognizer.live.store_reads import list_events
from recognizer.live.store_schema import (
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    StoreMovedError,
)
from tests.live.events import UTC_S, event, file_sink, rows


@pytest.fixture
def path(tmp_path):
    return tmp_path / "live" / "events.db"


@pytest.fixture
def store(path, tmp_path):
    opened = Store(path, [file_sink(tmp_path)])
    opened.put([event("e1")], UTC_S)
    yield opened
    opened.close()


class Ready:
    """A program whose cameras are read."""

    def ready(self):
        return True

    def dead_sinks(self):
        return ()


def keys(path):
    """Return what waits for the sink, once the database is whole."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "PRAGMA foreign_key_check") == []
    return [f"{e}:{n}" for e, n in rows(path, "SELECT event_id, revision FROM outbox ORDER BY seq")]


@pytest.mark.parametrize("ends", [("",), ("", "-wal"), ("", "-wal", "-shm"), ("", "-shm")])
def test_a_removed_database_is_written_again_with_all_it_held(store, path, caplog, ends):
    for end in ends:
        path.with_name(path.name + end).unlink()
    store.put([event("e1", "update", 1)], UTC_S)
    assert keys(path) == ["e1:0", "e1:1"]
    assert "removed while in use" in caplog.text
    with pytest.raises(StoreLockedError):
        Store(path)
    path.unlink()
    store.put([event("e1", "end", 2)], UTC_S)
    store.close()
    assert keys(path) == ["e1:0", "e1:1", "e1:2"]
    assert not path.with_name(path.name + ".new").exists()


def test_a_removed_database_is_noticed_without_a_write(store, path):
    path.unlink()
    store.check()
    assert keys(path) == ["e1:0"]


@pytest.mark.parametrize("with_wal", [True, False])
def test_another_database_in_its_place_is_used_and_open_events_go_on_in_it(
    store, path, tmp_path, caplog, with_wal
):
    """As where a copy is restored. The log of the old database must not be taken for its log."""
    other = Store(tmp_path / "other.db", [file_sink(tmp_path)])
    other.put([event("before", after_s=-100.0)], UTC_S)
    assert path.with_name(path.name + "-wal").stat().st_size > 0
    if with_wal:
        for end in ("-wal", "-shm"):
            place = tmp_path / f"other.db{end}"
            shutil.copy(place, path.with_name("copy"))
            path.with_name("copy").replace(path.with_name(path.name + end))
    else:
        other.close()
    (tmp_path / "other.db").replace(path)
    store.put([event("e1", "update", 1)], UTC_S)
    store.put_remote_id("log", "gone", "7")
    assert keys(path) == ["before:0", "e1:1"]
    assert store.remote_id("log", "gone") is None
    assert "another file stands in the place" in caplog.text
    store.put([event("e1", "end", 2)], UTC_S)
    store.close()
    assert {one.event_id: one.state for one in list_events(path).events} == {
        "e1": "end",
        "before": "new",
    }


def test_without_its_folder_changes_wait_and_are_written_when_it_is_back(
    store, path, tmp_path, monkeypatch
):
    monkeypatch.setattr(recording, "_AGAIN_S", 0.0)
    recorder = StoreRecorder(store, {})
    path.parent.rename(tmp_path / "elsewhere")
    recorder.outcomes([event("e1", "update", 1)])
    with pytest.raises(StoreMovedError, match="bring it back"):
        store.check()
    assert not path.parent.exists()
    assert "database" in not_ready(Ready(), path)
    (tmp_path / "elsewhere").rename(path.parent)
    recorder.outcomes([event("e1", "end", 2)])
    assert keys(path) == ["e1:0", "e1:1", "e1:2"]
    assert not_ready(Ready(), path) is None


def test_a_new_folder_in_place_of_the_old_gets_all(store, path, tmp_path):
    path.parent.rename(tmp_path / "elsewhere")
    path.parent.mkdir()
    store.put([event("e1", "end", 1)], UTC_S)
    assert keys(path) == ["e1:0", "e1:1"]
    with pytest.raises(StoreLockedError):
        Store(path)


def test_what_is_no_database_is_refused_and_costs_nothing(store, path):
    path.with_name("other").write_bytes(b"no database at all" * 100)
    path.with_name("other").replace(path)
    with pytest.raises(StoreDamagedError):
        store.put([event("e1", "update", 1)], UTC_S)
    path.unlink()
    store.put([event("e1", "update", 1)], UTC_S)
    assert keys(path) == ["e1:0", "e1:1"]


def test_a_folder_that_cannot_be_written_is_an_error_of_the_store(store, path, tmp_path):
    path.parent.rename(tmp_path / "elsewhere")
    path.parent.write_text("a file in its place")
    with pytest.raises(StoreError):
        store.put([event("e1", "update", 1)], UTC_S)
    path.parent.unlink()
    (tmp_path / "elsewhere").rename(path.parent)
    store.put([event("e1", "update", 1)], UTC_S)
    assert keys(path) == ["e1:0", "e1:1"]
