"""Stage 2 on real stage-1 files: ids, nothing lost, hostile and damaged inputs, resume."""

import io
import shutil
import zipfile

import numpy as np
import pytest

from recognizer.config.file import load_config
from recognizer.runs import stage2
from recognizer.runs.manifest import read_manifest
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import POSE_SCHEMA, read_npz, read_poses, write_npz
from tests.annotation import clips

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def with_poses(tmp_path_factory, forked_workers):
    config = clips.make_dataset(tmp_path_factory.mktemp("made"), clips=2)
    run_stage1(load_config(config))
    return config


@pytest.fixture
def dataset(with_poses, tmp_path):
    """Return the config of a copy of videos and their poses."""
    shutil.copytree(with_poses.parent, tmp_path / "copy")  # with its times
    return tmp_path / "copy" / with_poses.name


def test_the_same_people_in_the_same_order_now_with_an_id(dataset):
    config = load_config(dataset)
    poses, tracks = run_stage1(config), run_stage2(config)
    before, _, _ = read_poses(poses / "Fight/f0.mp4.npz")
    after, extra, meta = read_poses(tracks / "Fight/f0.mp4.npz")
    seen = after.poses[after.poses.box_scores > 0]
    np.testing.assert_array_equal(seen.keypoints, before.poses.keypoints)
    np.testing.assert_array_equal(after.time_s, before.time_s)
    assert (seen.track_ids > 0).any()
    assert set(extra["fight_track_ids"]) == set(seen.track_ids[seen.track_ids >= 0])
    assert extra["fight_measures"].shape == (len(extra["fight_track_ids"]), 4)
    assert extra["falldown_measures"].shape[1] == 5
    assert meta["settings"]["stage1"] == read_manifest(poses).settings


def test_refused_videos_stay_refused_and_every_input_is_accounted_for(dataset):
    (dataset.parent / "data/Fight/text.mp4").write_text("not a video")
    config = load_config(dataset)
    run_stage1(config)
    outcomes = {o.video: o for o in read_manifest(run_stage2(config)).outcomes}
    assert len(outcomes) == 5
    assert outcomes["Fight/text.mp4"].state == "refused"
    assert outcomes["Fight/text.mp4"].reason.startswith("stage 1: ")


def test_finished_tracks_are_kept_and_new_poses_are_tracked_again(dataset):
    config = load_config(dataset)
    folder = run_stage2(config)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}
    run_stage2(config)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")} == before
    clips.write_clip(dataset.parent / "data/Fight/f0.mp4", 9, 12)
    run_stage1(config)
    run_stage2(config)
    changed = [p.name for p in before if p.stat().st_mtime_ns != before[p]]
    assert changed == ["f0.mp4.npz"]


def test_another_tracker_setting_leaves_the_poses_alone(dataset):
    first = load_config(dataset)
    other = load_config(dataset, ["tracking.match_thresh=0.6"])
    poses = {p: p.stat().st_mtime_ns for p in run_stage1(first).rglob("*.npz")}
    assert run_stage2(first) != run_stage2(other)
    assert {p: p.stat().st_mtime_ns for p in run_stage1(other).rglob("*.npz")} == poses


class Hostile:
    """Unpickling this would run a command that leaves a marker."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        import os

        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("kind", ["objects", "damaged", "empty", "text", "missing", "other arrays"])
def test_a_hostile_or_damaged_pose_file_is_refused_and_never_executed(dataset, tmp_path, kind):
    config = load_config(dataset)
    victim = run_stage1(config) / "Fight/f0.mp4.npz"
    marker = tmp_path / "executed"
    good = victim.read_bytes()
    match kind:
        case "objects":
            with zipfile.ZipFile(victim) as archive:
                members = {n: archive.read(n) for n in archive.namelist()}
            buffer = io.BytesIO()
            np.save(buffer, np.array([Hostile(marker)], object), allow_pickle=True)
            members["keypoints.npy"] = buffer.getvalue()
            with zipfile.ZipFile(victim, "w") as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
        case "damaged":
            victim.write_bytes(good[: len(good) // 2])
        case "empty":
            victim.write_bytes(b"")
        case "text":
            victim.write_text("not a pose record")
        case "missing":
            victim.unlink()
        case "other arrays":
            np.savez(victim, a=np.zeros(3))
    outcomes = {o.video: o for o in read_manifest(run_stage2(config)).outcomes}
    assert not marker.exists()
    assert outcomes["Fight/f0.mp4"].state == "refused"
    assert "internal error" not in outcomes["Fight/f0.mp4"].reason
    assert {o.state for v, o in outcomes.items() if v != "Fight/f0.mp4"} == {"done"}


def test_without_stage_1_the_message_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage before"):
        run_stage2(load_config(clips.make_dataset(tmp_path, clips=1)))


def test_nobody_at_all_is_tracked_as_nobody(tmp_path):
    config = load_config(clips.make_dataset(tmp_path, clips=1, score=0.0))
    run_stage1(config)
    sequence, extra, _ = read_poses(run_stage2(config) / "Fight/f0.mp4.npz")
    assert (len(sequence), len(sequence.poses), len(extra["fight_track_ids"])) == (24, 0, 0)


def test_a_narrower_include_forgets_nothing_of_a_wider_run(dataset):
    wide, narrow = load_config(dataset), load_config(dataset, ["annotation.include=[Fight/*]"])
    run_stage2(wide)
    for run in (run_stage1, run_stage2):
        assert len(read_manifest(run(narrow)).outcomes) == 4
        assert len(read_manifest(run(wide)).outcomes) == 4


def test_videos_without_poses_are_named(dataset, caplog):
    clips.write_clip(dataset.parent / "data/Fight/new.mp4", 9, 12)
    run_stage2(load_config(dataset))
    assert "1 videos of annotation.input have no poses yet, such as Fight/new.mp4" in caplog.text


def test_finished_poses_need_no_model_file(dataset):
    (dataset.parent / "dot.onnx").unlink()
    assert len(read_manifest(run_stage2(load_config(dataset))).outcomes) == 4


def test_finished_poses_need_no_videos(dataset):
    for path in (dataset.parent / "data").rglob("*.mp4"):
        path.unlink()
    assert len(read_manifest(run_stage2(load_config(dataset))).outcomes) == 4


def test_frames_count_once_and_seen_again_are_a_sign_of_life():
    reported = []
    progress = stage2._reporting(reported.append)
    for _ in range(2):
        assert len(list(progress(range(2500)))) == 2500
    assert reported == [1000, 1000, 0, 0]


@pytest.mark.parametrize(
    ("member", "change", "expected"),
    [
        ("hashes", lambda value: value.astype(np.float64), "float64 and (H,) uint64"),
        ("movement", lambda value: np.full_like(value, np.inf), "rows of finite numbers or of NaN"),
    ],
)
def test_hostile_members_refuse_their_video_alone(dataset, member, change, expected):
    config = load_config(dataset)
    poses = run_stage1(config)
    path = poses / "Fight/f0.mp4.npz"
    arrays, meta = read_npz(path, POSE_SCHEMA)
    arrays.setdefault("movement", np.zeros((len(arrays["boxes"]), 6), np.float32))
    write_npz(path, poses, {**arrays, member: change(arrays[member])}, meta)
    outcomes = {o.video: o for o in read_manifest(run_stage2(config)).outcomes}
    assert expected in outcomes["Fight/f0.mp4"].reason
    assert [o.state for o in outcomes.values()].count("refused") == 1
