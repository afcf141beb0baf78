"""Detection goes on while the database is away, and nothing of it is lost."""

import sqlite3
import time

import pytest

from recognizer.live import recording
from recognizer.live.errors import Reason
from recognizer.live.events import LiveEvent
from recognizer.live.recording import StoreRecorder
from recognizer.live.store import Store
from recognizer.live.store_reads import list_events, list_gaps
from recognizer.live.values import Gap


def event(number, state="new", revision=0):
    return LiveEvent(
        event_id=f"{number:032x}",
        revision=revision,
        state=state,
        camera="door",
        class_name="Fight",
        zone="",
        start_s=float(number),
        end_s=number + 2.0,
        start_utc_s=1e9 + number,
        end_utc_s=1e9 + number + 2,
        peak_probability=0.9,
        peak_s=1.0,
    )


@pytest.mark.parametrize("comes_back", ["while it runs", "at the end"])
def test_what_a_locked_database_does_not_take_is_written_later(tmp_path, monkeypatch, comes_back):
    monkeypatch.setattr(recording, "_AGAIN_S", 0.05)
    path = tmp_path / "events.sqlite3"
    store = Store(path, busy_s=0.05)
    recorder = StoreRecorder(store, {})
    recorder.outcomes([event(0)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    recorder.outcomes([event(1)])
    recorder.gap(Gap("door", 1.0, 2.0, Reason.ENDED), 1e9, 1e9 + 1)
    recorder.outcomes([event(0, "end", 1)])
    assert [one.state for one in list_events(path).events] == ["new"]
    other.execute("ROLLBACK")
    other.close()
    if comes_back == "while it runs":
        time.sleep(0.06)
        recorder.outcomes([event(2)])
    recorder.close()
    store.close()
    states = {one.event_id: one.state for one in list_events(path).events}
    assert states[event(0).event_id] == "end"
    assert states[event(1).event_id] == "new"
    assert len(states) == (3 if comes_back == "while it runs" else 2)
    assert len(list_gaps(path)) == 1
