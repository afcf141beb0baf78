"""The poses of events are kept as the pipeline tracks them, and go with their event."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recognizer.config.live import EvidenceConfig
from recognizer.config.schema import Config
from recognizer.dataset.windows import frame_range
from recognizer.live.clips import POSES, find_event_file
from recognizer.live.evidence import EvidenceError
from recognizer.live.kept_poses import (
    KeptPosesSource,
    PoseOrigin,
    kept_settings,
    read_kept_poses,
)
from recognizer.live.pose_ring import PoseRing
from recognizer.live.run import realtime
from recognizer.live.store import Store
from recognizer.live.store_reads import list_events, read_event
from recognizer.models import open_pose_model
from recognizer.pose.stream import estimate_poses
from recognizer.runs.progress import silent
from recognizer.sequences import join_sequences, slice_frames
from recognizer.storage.artifacts import ArtifactError, write_poses
from recognizer.tracking.online import track_stream
from recognizer.video.reader import VideoReader
from tests.dataset.tracked import sequence
from tests.live.test_recording import event

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "samples" / "models" / "small_pose.onnx"
CLIP = ROOT.parent / "shared" / "assets" / "fight_surv" / "Fight" / "fi010.mp4"
needs_assets = pytest.mark.skipif(not CLIP.is_file(), reason="needs ../shared/assets")


def config(folder: Path, **live: object) -> Config:
    section = {
        "cameras": [{"name": "마당", "path": str(CLIP), "speed": "fastest", "fps": 60}],
        "alerts": {
            "rules": {"windows_needed": 1, "min_s": 0.0, "enter": 0.5, "windows_of": 1},
            "store": {"path": str(folder / "events.sqlite3")},
        },
        "clips": "none",
        "clips_dir": str(folder / "clips"),
        "page": {"enabled": False},
        **live,
    }
    return Config.model_validate({"live": section})


def fight_of(folder: Path) -> str:
    rows = list_events(folder / "events.sqlite3").events
    return next(row.event_id for row in rows if row.class_name == "Fight")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run without clips."""
    folder = tmp_path_factory.mktemp("live")
    assert realtime(config(folder), silent) == 0
    return folder


@needs_assets
def test_kept_poses_are_the_pipelines_tracks_of_the_same_seconds(ran):
    event = read_event(ran / "events.sqlite3", fight_of(ran))
    path = find_event_file(ran / "clips", event.event_id, POSES)
    kept = read_kept_poses(path)
    pose = open_pose_model(SMALL, threads=1)
    with VideoReader(CLIP) as reader:
        poses = estimate_poses(reader, pose, movement=True)
        whole = join_sequences(list(track_stream(poses, look_ahead_s=0.0, kind=pose.kind)))
    first, stop = frame_range(whole, event.start_s - 5.0, event.end_s + 5.0 + 1e-5)
    expected = slice_frames(whole, first, stop)
    assert (kept.event_id, kept.service, path.parent.name) == (event.event_id, "fight", "마당")
    assert len(expected) > 25
    assert kept.sequence.size_wh == expected.size_wh
    for name in ("time_s", "frame_offsets", "corrupt"):
        np.testing.assert_array_equal(getattr(kept.sequence, name), getattr(expected, name))
    for name in ("keypoints", "keypoint_scores", "boxes", "box_scores", "track_ids", "movement"):
        mine, theirs = getattr(kept.sequence.poses, name), getattr(expected.poses, name)
        np.testing.assert_array_equal(mine, theirs)
    assert np.isfinite(kept.sequence.poses.movement).any()
    assert kept.settings == kept_settings(config(ran), movement=True)


@needs_assets
def test_poses_are_not_kept_where_that_is_off(tmp_path):
    assert realtime(config(tmp_path, keep_poses=False), silent) == 0
    assert fight_of(tmp_path)
    assert not list(tmp_path.rglob("*.npz"))


@needs_assets
def test_poses_are_removed_with_their_event(ran, tmp_path):
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    event_id, path = fight_of(tmp_path), tmp_path / "events.sqlite3"
    before = {file.stem for file in (tmp_path / "clips").rglob("*.npz")}
    store = Store(path)
    store.review(event_id, "confirmed", "me", time.time())
    store.close()
    cameras = [{"name": "yard", "path": str(CLIP), "speed": "real"}]
    alerts = {"store": {"path": str(path), "retention_days": 1e-9}}
    assert realtime(config(tmp_path, cameras=cameras, alerts=alerts), silent) == 0
    after = {file.stem for file in (tmp_path / "clips").rglob("*.npz")}
    assert before - after == {event_id}


def test_what_is_no_event_of_ours_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    write_poses(path, tmp_path, sequence(), {"settings": {}})
    with pytest.raises(ArtifactError, match="expected the poses of an event, found others"):
        read_kept_poses(path)
    meta = {"settings": {}, "event": {"id": "1", "service": "theft"}}
    write_poses(path, tmp_path, sequence(), meta)
    with pytest.raises(ArtifactError, match="fight or falldown, got 'theft'"):
        read_kept_poses(path)


def test_after_a_gap_the_same_id_is_another_person(tmp_path):
    ring = PoseRing(60.0)
    ring.add(sequence(2.0))
    ring.restart()
    later = sequence(2.0)
    ring.add(replace(later, time_s=later.time_s + 3.0))
    (part,) = ring.between(0.0, 10.0)
    assert part.time_s[0] == 3.0


def test_a_class_of_two_services_is_not_kept(tmp_path):
    ring = PoseRing(60.0)
    ring.add(sequence(4.0))
    source = KeptPosesSource(ring, EvidenceConfig(), PoseOrigin({}, {}))
    write = source.cut(event(1), 3.0)
    with pytest.raises(EvidenceError, match="expected a class of one service, got Fight"):
        write(tmp_path / "x.npz", tmp_path)
