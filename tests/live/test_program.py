"""What a run does with what runs before it have left, and with its upkeep."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from recognizer.config.schema import Config
from recognizer.live import program
from recognizer.live.analysis import SharedPose
from recognizer.live.clips import event_file
from recognizer.live.engine import CameraState
from recognizer.live.program import remember_notices
from recognizer.live.store import Store
from recognizer.live.store_reads import list_events
from recognizer.live.watch import clean
from recognizer.types import Poses
from recognizer.video.writer import VideoWriter
from tests.live.events import OPEN, file_sink, whole
from tests.live.test_rules import camera
from tests.live.windows import fed

NOW_S = time.time()


class NoPeople:
    """A pose network that sees an empty scene."""

    kind = "rtmo"

    def __call__(self, images):
        return [Poses.empty() for _ in images]

    def for_video(self):
        return lambda images, times: self(images)


def test_a_watch_that_fails_is_shown_at_once_and_detection_goes_on(tmp_path, monkeypatch):
    class Failing:
        def __init__(self, *parts):
            pass

        def run(self, stop):
            raise OSError("no upkeep")

    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda given: shown.append(str(given.exc_value)))
    monkeypatch.setattr(program, "Watch", Failing)
    clip = tmp_path / "grey.mp4"
    with VideoWriter(clip, (64, 48), 10.0) as writer:
        for number in range(5):
            writer.write(np.full((48, 64, 3), 90, np.uint8), number / 10)
    live = {
        "cameras": [{"name": "hall", "path": str(clip), "speed": "fastest"}],
        "alerts": {"store": {"path": str(tmp_path / "events.sqlite3")}},
        "clips_dir": str(tmp_path / "clips"),
        "page": {"enabled": False},
    }
    config = Config.model_validate({"live": live})
    run = program.LiveProgram(config, config.live.cameras, SharedPose(NoPeople()), [])
    assert run.run(threading.Event()) == 0
    assert shown == ["no upkeep"]


def sent(store, name):
    """Note that a sink has all notices."""
    while (notice := store.next_notice(name)) is not None:
        store.mark_sent(notice, NOW_S)


@pytest.mark.parametrize(
    ("ago_s", "begun_utc_s", "muted"),
    [(5.0, None, True), (5000.0, None, False), (-3600.0, None, True), (5.0, 1e9, False)],
)
def test_the_last_notices_of_an_earlier_run_mute_those_of_this_one(
    tmp_path, ago_s, begun_utc_s, muted
):
    """A file in a camera's place begins anew each time."""
    store = Store(tmp_path / "events.sqlite3", [file_sink(tmp_path)])
    utc_s = time.time() - ago_s
    store.put([replace(OPEN, zone="", start_utc_s=utc_s - 3, end_utc_s=utc_s)], utc_s)
    rules = camera(cooldown_s=60.0)
    remember_notices(store.path, {"hall": CameraState(None, {"fight": rules}, begun_utc_s)})
    store.close()
    (event,) = fed(rules, [0.9] * 4, first=round(2 * time.monotonic()))
    assert event.muted == muted


def small(tmp_path):
    """Return a config of 3 MiB for database and clips."""
    live = Config().live
    alerts = live.alerts.model_copy(
        update={
            "store": live.alerts.store.model_copy(
                update={"path": tmp_path / "events.sqlite3", "quota_mib": 3, "retention_days": 9999}
            )
        }
    )
    return live.model_copy(update={"alerts": alerts, "clips_dir": tmp_path / "clips"})


def test_files_of_no_event_neither_count_for_the_quota_nor_go(tmp_path):
    """Those of another database, or of another program, cost no event."""
    section = small(tmp_path)
    store = Store(section.alerts.store.path)
    store.put([replace(one, muted=True) for one in whole("e1")], NOW_S)
    store.review("e1", "confirmed", "kim", NOW_S)
    foreign = [event_file(section.clips_dir, "hall", "e0"), section.clips_dir / "music" / "song"]
    for path in foreign:
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(8 << 20))
    clean(section, store)
    store.close()
    assert [one.event_id for one in list_events(store.path).events] == ["e1"]
    assert all(path.is_file() for path in foreign)


def test_clips_count_for_the_quota_and_go_with_their_events_oldest_first(tmp_path):
    section = small(tmp_path)
    store = Store(section.alerts.store.path, [file_sink(tmp_path)])
    names = ["unreviewed", "old", "middle", "unsent", "young"]
    for number, name in enumerate(names):
        if name == "unsent":
            sent(store, "log")
        store.put(whole(name, after_s=float(number)), NOW_S)
        if name != "unreviewed":
            store.review(name, "confirmed", "kim", NOW_S)
        path = event_file(tmp_path / "clips", "hall", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1 << 20))
    path.with_name("old.npz").write_bytes(bytes(1 << 20))  # beside a clip
    clean(section, store)  # 6 MiB and a little: "old" and "middle" go, the others may not
    left = {one.event_id for one in list_events(store.path).events}
    assert left == {"unreviewed", "unsent", "young"}
    clips = {path.stem for path in (tmp_path / "clips").glob("*/*")}
    assert clips == left
    sent(store, "log")
    clean(section, store)
    store.close()
    assert {path.stem for path in (tmp_path / "clips").glob("*/*")} == {"unreviewed", "young"}
