"""What people decide about live events becomes tracks, labels and sources."""

import contextlib
import csv
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from annotation.from_reviews import from_reviews, run_from_reviews
from annotation.reviews import read_records
from annotation.stage3 import run_stage3
from recognizer.config.file import ConfigError
from recognizer.dataset.mmaction import read_split
from recognizer.live.store import Store
from recognizer.live.store_schema import MIGRATIONS, StoreError
from recognizer.runs.manifest import exclusive, read_manifest, result_path
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import ArtifactError, read_poses
from recognizer.types import Poses
from tests.annotation.datasets import all_samples, digests, quick_pictures
from tests.annotation.reviewed import NOON, config, decide, event, keep
from tests.dataset.mmaction_reader import read_with_mmaction
from tests.dataset.tracked import sequence

__all__ = ["quick_pictures"]
DAY = "2026-11-28"


def table(folder, name):
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def states(folder):
    return {k: (r.state, r.label, r.reason) for k, r in read_records(folder).items()}


def test_decisions_become_labels_of_the_events_seconds(tmp_path):
    settings = config(tmp_path)
    wrong, right, unsure, new = (event(i, after_s=60.0 * i) for i in range(4))
    for one in (wrong, right, unsure, new):
        keep(settings, one)
    decide(
        settings, [(wrong, "false_alarm"), (right, "confirmed"), (unsure, "unsure"), (new, None)]
    )
    assert from_reviews(settings, silent) == 0
    folder = run_from_reviews(settings)
    names = [f"door/{DAY}/{one.event_id}" for one in (wrong, right)]
    labels = [(names[0], "1.0", "3.0", "NonFight"), (names[1], "1.0", "3.0", "Fight")]
    assert table(folder, "labels.csv") == labels
    assert table(folder, "sources.csv") == [(name, f"door/{DAY}") for name in names]
    assert [o.state for o in read_manifest(folder, "stage2").outcomes] == ["done", "done"]
    found = states(folder)
    assert found[unsure.event_id] == ("skipped", "", "reviewed as unsure")
    assert found[new.event_id] == ("skipped", "", "not reviewed")
    mine, arrays, meta = read_poses(result_path(folder, names[0], ".npz"))
    np.testing.assert_allclose(mine.time_s, sequence(4.0).time_s, atol=1e-9)
    assert np.array_equal(mine.poses.keypoints, sequence(4.0).poses.keypoints)
    assert set(arrays["fight_track_ids"]) == {0, 1}
    assert meta["measures"].keys() == {"fight", "falldown"}


def test_a_decision_of_another_program_is_no_false_alarm(tmp_path):
    settings = config(tmp_path)
    known, odd = event(1), event(2, after_s=60.0)
    for one in (known, odd):
        keep(settings, one)
    decide(settings, [(known, "confirmed"), (odd, "confirmed")])
    with contextlib.closing(sqlite3.connect(settings.live.alerts.store.path)) as db, db:
        db.execute("UPDATE events SET review = 'drop' WHERE id = ?", (odd.event_id,))
    found = states(run_from_reviews(settings))
    assert found[known.event_id] == ("done", "Fight", "")
    assert found[odd.event_id][:2] == ("skipped", "")
    assert "'drop'" in found[odd.event_id][2]


def test_the_folder_alone_is_a_data_set_that_mmaction2_reads(tmp_path, quick_pictures):
    settings = config(tmp_path)
    events = [event(i, f"카메라{i % 4}", after_s=60.0 * i) for i in range(8)]
    for one in events:
        keep(settings, one)
    verdicts = ["false_alarm" if i % 8 < 4 else "confirmed" for i in range(8)]
    decide(settings, zip(events, verdicts, strict=True))
    folder = run_from_reviews(settings)
    dataset = {
        "segments": str(folder / "labels.csv"),
        "split": {"sources": str(folder / "sources.csv"), "ratios": [0.5, 0.25, 0.25]},
    }
    pickles = run_stage3(config(tmp_path, annotation={"stage2_dir": str(folder)}, dataset=dataset))
    samples = all_samples(pickles)
    assert len(samples) == 8
    assert {sample.keypoints.shape[1] for sample in samples.values()} == {20}
    for name, sample in samples.items():
        number = int(name.split("@")[0].rsplit("/", 1)[1], 16)
        assert sample.label == int(number >= 4)
    answer = read_with_mmaction(pickles / "train.pkl")[str(pickles / "train.pkl")]
    assert answer["names"] == [sample.name for sample in read_split(pickles / "train.pkl")]
    of_split = [
        {name.split("/")[0] for name in (s.name for s in read_split(pickles / f"{split}.pkl"))}
        for split in ("train", "val", "test")
    ]
    assert sum(map(len, of_split)) == 4  # no camera's day in two


def test_the_same_reviews_give_the_same_bytes_others_change_what_they_say(tmp_path):
    settings = config(tmp_path)
    first, second = event(1), event(2, after_s=50.0)
    keep(settings, first)
    decide(settings, [(first, "false_alarm")])
    folder = run_from_reviews(settings)
    before = digests(folder)
    assert run_from_reviews(settings) == folder
    assert digests(folder) == before
    keep(settings, second)
    decide(settings, [(first, "confirmed"), (second, "false_alarm")])
    run_from_reviews(settings)
    assert [row[3] for row in table(folder, "labels.csv")] == ["Fight", "NonFight"]
    name = f"door/{DAY}/{first.event_id}.npz"
    assert digests(folder)[name] == before[name]
    other = settings.dataset.model_copy(update={"classes": {"Normal": 0, "Brawl": 1}})
    assert run_from_reviews(settings.model_copy(update={"dataset": other})) != folder
    assert len(list(folder.rglob("*.npz"))) == 2  # those of these classes stay
    decide(settings, [(first, "unsure"), (second, "unsure")])
    run_from_reviews(settings)
    assert table(folder, "labels.csv") == []
    assert not list(folder.rglob("*.npz"))


def test_what_the_database_has_removed_stays(tmp_path):
    settings = config(tmp_path)
    gone, here = event(1), event(2, after_s=50.0)
    kept = keep(settings, gone)
    keep(settings, here)
    decide(settings, [(gone, "confirmed"), (here, "false_alarm")])
    folder = run_from_reviews(settings)
    before = digests(folder)
    kept.unlink()
    assert digests(run_from_reviews(settings)) == before  # the file alone is gone
    with sqlite3.connect(settings.live.alerts.store.path) as db:
        db.execute("DELETE FROM events WHERE id = ?", (gone.event_id,))
    db.close()
    assert digests(run_from_reviews(settings)) == before


def test_a_killed_run_is_gone_on_with(tmp_path):
    settings = config(tmp_path)
    events = [event(i, after_s=50.0 * i) for i in range(3)]
    for one in events:
        keep(settings, one)
    decide(settings, [(one, "confirmed") for one in events])
    folder = run_from_reviews(settings)
    before = digests(folder)
    for name in ("manifest.json", "reviews.json", f"door/{DAY}/{events[1].event_id}.npz"):
        (folder / name).unlink()
    (folder / f"door/{DAY}/{events[2].event_id}.npz").write_bytes(b"half")
    (folder / ".scratch").mkdir()
    (folder / ".scratch" / "rest.npz").write_bytes(b"half")
    assert digests(run_from_reviews(settings)) == before


# --- each service for itself ---------------------------------------------------------


def test_an_event_of_one_service_says_nothing_about_the_other(tmp_path):
    settings = config(tmp_path)
    fight, fall = event(1), event(2, class_name="Falldown", after_s=50.0)
    for one in (fight, fall):
        keep(settings, one)
    decide(settings, [(fight, "false_alarm"), (fall, "false_alarm")])
    folder = run_from_reviews(settings)
    assert states(folder)[fall.event_id][0] == "skipped"
    assert "none of dataset.classes (Fight)" in states(folder)[fall.event_id][2]
    falls = {"service": "falldown", "classes": {"Normal": 0, "Falldown": 1}}
    other = run_from_reviews(config(tmp_path, dataset=falls))
    assert (folder.name[:6], other.name[:9]) == ("fight-", "falldown-")
    assert [row[3] for row in table(other, "labels.csv")] == ["Normal"]
    # The same class name for both services: the poses tell whose event it is.
    both = {"service": "falldown", "classes": {"Normal": 0, "Fight": 1, "Falldown": 2}}
    found = states(run_from_reviews(config(tmp_path, dataset=both)))
    assert found[fight.event_id] == ("skipped", "", "an event of dataset.service fight")


# --- sources and names ---------------------------------------------------------------


@pytest.mark.parametrize("camera", ["마당 1", "a/b", "..", " x ", 'c,"d', "50%", "a\\b\nc"])
def test_any_camera_name_is_a_folder_and_a_row(tmp_path, camera):
    settings = config(tmp_path)
    one = event(1, camera)
    keep(settings, replace(one, camera="kept"))
    decide(settings, [(one, "confirmed")])
    folder = run_from_reviews(settings)
    ((video, source),) = table(folder, "sources.csv")
    assert result_path(folder, video, ".npz").is_file()
    assert len(video.split("/")) == 3
    assert read_records(folder)[one.event_id].camera == camera
    ((labelled, *_),) = table(folder, "labels.csv")
    assert labelled == video == f"{source}/{one.event_id}"
    assert camera != "마당 1" or source == f"마당 1/{DAY}"


def test_two_events_of_one_second_and_one_over_midnight(tmp_path):
    settings = config(tmp_path)
    first, second = event(1), event(2)
    late = event(3, after_s=12 * 3600 - 5.0)
    next_day = event(4, after_s=12 * 3600 + 5.0, continues=late.event_id)
    for one in (first, second, late, next_day):
        keep(settings, one)
    decide(settings, [(one, "confirmed") for one in (first, second, late, next_day)])
    sources = dict(table(run_from_reviews(settings), "sources.csv"))
    assert len(sources) == 4
    assert set(sources.values()) == {f"door/{DAY}"}


# --- what cannot be used -------------------------------------------------------------


def test_poses_that_cannot_be_used_are_refused_and_cost_no_other(tmp_path):
    settings = config(tmp_path)
    good, missing, damaged, others, short, swapped = (event(i, after_s=9.0 * i) for i in range(6))
    keep(settings, good)
    path = keep(settings, damaged)
    path.write_bytes(path.read_bytes()[:-200])
    high = config(tmp_path, tracking={"track_high_thresh": 0.55})
    keep(high, others)
    keep(settings, short, sequence(1.2))
    keep(settings, good).replace(path.with_name(f"{swapped.event_id}.npz"))
    keep(settings, good)
    decide(settings, [(o, "confirmed") for o in (good, missing, damaged, others, short, swapped)])
    assert from_reviews(settings, silent) == 3
    found = states(run_from_reviews(settings))
    assert found[good.event_id][:2] == ("done", "Fight")
    says = [
        (missing, "its poses are missing"),
        (damaged, "its poses: not a readable result file"),
        (others, "other settings (tracking.track_high_thresh 0.55, not 0.5)"),
        (short, "too short: 2 frames of the event have poses, fewer than dataset.min_frames = 4"),
        (swapped, f"that of the event {good.event_id}"),
    ]
    for one, text in says:
        assert found[one.event_id][0] == "refused"
        assert text in found[one.event_id][2]
    assert len(list((tmp_path / "out").rglob("*.npz"))) == 1
    assert str(tmp_path) not in found[damaged.event_id][2]


def test_of_a_long_event_the_beginning_is_labelled_with_a_remark(tmp_path):
    settings = config(tmp_path)
    one = event(1, lasts_s=100.0)
    keep(settings, one)
    decide(settings, [(one, "confirmed")])
    record = read_records(run_from_reviews(settings))[one.event_id]
    assert (record.start_s, record.stop_s) == (1.0, pytest.approx(26.0, abs=0.2))
    assert record.notes[0] == "poses of 25.1 of its 100.0 s"
    assert "no movement" in record.notes[1]


def test_movement_comes_along_unless_it_is_switched_off(tmp_path):
    settings = config(tmp_path)
    poses = sequence(4.0)
    rows = len(poses.poses)
    moved = np.arange(rows * 6, dtype=np.float32).reshape(rows, 6)
    people = Poses(**{n: getattr(poses.poses, n) for n in _PEOPLE}, movement=moved)
    one = event(1)
    keep(settings, one, replace(poses, poses=people))
    decide(settings, [(one, "confirmed")])
    for measured in (True, False):
        other = config(tmp_path, annotation={"movement": measured})
        folder = run_from_reviews(other)
        mine, _, _ = read_poses(result_path(folder, f"door/{DAY}/{one.event_id}", ".npz"))
        assert (mine.poses.movement is not None) == measured
        assert not measured or np.array_equal(mine.poses.movement, moved)
        assert ("movement" in read_manifest(folder).settings["stage1"]) == measured


_PEOPLE = ("keypoints", "keypoint_scores", "boxes", "box_scores", "track_ids")


def test_a_store_that_is_not_ours_or_holds_nothing_is_a_clear_error(tmp_path):
    settings = config(tmp_path)
    path = settings.live.alerts.store.path
    with pytest.raises(ConfigError, match="expected the database of live detection, found none"):
        run_from_reviews(settings)
    decide(settings, [(event(1), None)])
    with pytest.raises(ValueError, match="events that were reviewed, found none among 1"):
        run_from_reviews(settings)
    assert not (tmp_path / "out").exists()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match=f"version {len(MIGRATIONS)} or before, found version 99"):
        run_from_reviews(settings)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="expected a database"):
        run_from_reviews(settings)


def test_a_normal_class_that_is_the_event_is_refused(tmp_path):
    decide(config(tmp_path), [(event(1), "confirmed")])
    swapped = config(tmp_path, dataset={"classes": {"Fight": 0, "NonFight": 1}})
    with pytest.raises(ConfigError, match="expected the normal class under label 0"):
        run_from_reviews(swapped)


def test_it_reads_while_live_detection_writes_and_one_run_at_a_time(tmp_path):
    settings = config(tmp_path)
    one = event(1)
    keep(settings, one)
    decide(settings, [(one, "confirmed")])
    store = Store(settings.live.alerts.store.path)
    try:
        folder = run_from_reviews(settings)
        store.review(one.event_id, "false_alarm", "me", NOON)
        run_from_reviews(settings)
    finally:
        store.close()
    assert [row[3] for row in table(folder, "labels.csv")] == ["NonFight"]
    with exclusive(folder), pytest.raises(BlockingIOError, match="another run is at work"):
        run_from_reviews(settings)


def test_damaged_records_say_what_to_do(tmp_path):
    settings = config(tmp_path)
    one = event(1)
    keep(settings, one)
    decide(settings, [(one, "confirmed")])
    folder = run_from_reviews(settings)
    for text in (
        "{",
        "[]",
        '{"schema": "x"}',
        '{"schema": "recognizer.reviews", "events": {"a": 1}}',
    ):
        (folder / "reviews.json").write_text(text)
        with pytest.raises(ArtifactError, match="and run again"):
            run_from_reviews(settings)
