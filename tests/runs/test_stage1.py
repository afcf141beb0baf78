"""Stage 1 as a whole: real videos, a real network file, real processes, real faults."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recognizer.config.file import ConfigError, load_config
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.stage1 import _worker_pool, run_stage1
from recognizer.runs.stage_folders import stage1_dir
from recognizer.storage.artifacts import read_poses
from tests import networks
from tests.annotation import clips
from tests.bad_videos import make_corpus

pytestmark = pytest.mark.usefixtures("forked_workers")

ROOT = Path(__file__).resolve().parents[2]
# Kind of a video -> the end states it may have. A damaged one is done where no frame is lost.
STATES = {"whole": {"done"}, "damaged": {"done", "damaged", "refused"}, "refused": {"refused"}}
MAIN = [sys.executable, str(ROOT / "main.py"), "--mode", "annotation.stage1", "--config"]


@pytest.fixture
def dataset(tmp_path):
    return clips.make_dataset(tmp_path)


def states(folder):
    return {o.video: o.state for o in read_manifest(folder).outcomes}


def test_the_dot_is_found_in_every_frame_at_its_time(dataset):
    config = load_config(dataset)
    folder = run_stage1(config)
    assert states(folder) == {
        f"{c}/{c[0].lower()}{i}.mp4": "done" for c in ("Fight", "NonFight") for i in range(3)
    }
    sequence, _, meta = read_poses(result_path(folder, "Fight/f1.mp4", ".npz"))
    assert len(sequence) == 24
    assert sequence.size_wh == clips.SIZE_WH
    np.testing.assert_allclose(sequence.time_s, np.arange(24) / clips.FPS, atol=1e-6)
    dots = np.array([clips.dot_place(t, 1) for t in range(24)])
    assert np.abs(sequence.poses.keypoints[:, 0] - dots).max() <= 6
    assert meta["frame_account"]["decoded"] == meta["frame_account"]["container_frames"] == 24
    assert meta["source"]["size_bytes"] == (dataset.parent / "data/Fight/f1.mp4").stat().st_size


def test_nobody_in_any_frame_goes_through(tmp_path):
    folder = run_stage1(load_config(clips.make_dataset(tmp_path, clips=1, score=0.1)))
    sequence, _, _ = read_poses(result_path(folder, "Fight/f0.mp4", ".npz"))
    assert (len(sequence), len(sequence.poses)) == (24, 0)


def test_people_are_measured_unless_the_config_says_no(dataset):
    """The dot moves (2, 1) pixels a frame: at 20 frames/s every second frame has a pair."""
    folder = run_stage1(load_config(dataset))
    sequence, _, meta = read_poses(result_path(folder, "Fight/f1.mp4", ".npz"))
    movement = sequence.poses.movement
    assert movement.shape == (len(sequence.poses), 6)
    assert np.isnan(movement[sequence.frame_of_row % 2 == 1]).all()
    assert meta["settings"]["movement"] is True
    unmeasured = run_stage1(load_config(dataset, ["annotation.movement=false"]))
    assert unmeasured != folder
    sequence, _, meta = read_poses(result_path(unmeasured, "Fight/f1.mp4", ".npz"))
    assert sequence.poses.movement is None
    assert "movement" not in meta["settings"], "as in results of before"


def test_finished_videos_are_not_done_again_and_changed_ones_are(dataset):
    config = load_config(dataset)
    folder = run_stage1(config)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")}
    run_stage1(config)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.npz")} == before
    clips.write_clip(dataset.parent / "data/Fight/f0.mp4", 9, 12)
    run_stage1(config)
    changed = [p.name for p in before if p.stat().st_mtime_ns != before[p]]
    assert changed == ["f0.mp4.npz"]
    assert len(read_poses(folder / "Fight/f0.mp4.npz")[0]) == 12


def test_a_damaged_result_is_made_again(dataset):
    config = load_config(dataset)
    folder = run_stage1(config)
    good = clips.contents(folder)
    victim = folder / "Fight/f0.mp4.npz"
    victim.write_bytes(victim.read_bytes()[:500])
    run_stage1(config)
    assert clips.contents(folder) == good


def test_a_folder_named_by_hand_keeps_no_results_of_other_settings(dataset):
    place = f"annotation.stage1_dir={dataset.parent / 'by_hand'}"
    folder = run_stage1(load_config(dataset, [place]))
    run_stage1(load_config(dataset, [place, "annotation.sample_fps=5.0"]))
    assert len(read_poses(folder / "Fight/f0.mp4.npz")[0]) == 6


def test_the_worker_count_changes_no_byte(dataset):
    config = load_config(dataset)
    folder = run_stage1(config)
    two = clips.contents(folder)
    shutil.rmtree(folder)
    run_stage1(load_config(dataset, ["annotation.workers=1", "annotation.batch_size=3"]))
    assert clips.contents(folder) == two


def test_odd_and_damaged_videos_each_get_one_end_state(tmp_path):
    config = clips.make_dataset(tmp_path, clips=1)
    corpus = make_corpus(tmp_path / "data" / "NonFight")
    (tmp_path / "data/NonFight/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    suffixes = ", ".join({b.path.suffix for b in corpus if b.path.suffix})
    folder = run_stage1(load_config(config, [f"annotation.video_suffixes=[{suffixes}]"]))
    outcomes = {o.video: o for o in read_manifest(folder).outcomes}
    assert len(corpus) >= 70
    for bad in (b for b in corpus if b.path.is_file()):  # a folder named .mp4 is no input
        outcome = outcomes[f"NonFight/{bad.path.name}"]
        assert outcome.state in STATES[bad.kind], bad
        assert bool(outcome.reason) == (outcome.state != "done"), bad
        assert "Traceback" not in outcome.reason
        assert "internal error" not in outcome.reason
        if outcome.state == "refused":
            continue
        sequence, _, meta = read_poses(result_path(folder, outcome.video, ".npz"))
        account = meta["frame_account"]
        assert len(sequence) == outcome.frames > 0
        if outcome.state == "done":
            assert account["decoded"] + sum(account["skipped"].values()) >= bad.frames, bad
    assert outcomes["NonFight/gone.mp4"].state == "refused"
    assert outcomes["Fight/f0.mp4"].state == "done"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused_by_name(dataset):
    path = dataset.parent / "data/Fight/f0.mp4"
    path.chmod(0)
    folder = run_stage1(load_config(dataset))
    assert states(folder)["Fight/f0.mp4"] == "refused"


def test_a_missing_model_file_says_where_it_was_looked_for(dataset):
    key = "models.pose_estimation.onnx.model_path"
    with pytest.raises(ConfigError, match=rf"{key}.*none\.onnx.*{dataset.parent}"):
        run_stage1(load_config(dataset, [f"{key}=none.onnx"]))


def test_a_model_of_another_kind_stops_the_run_with_the_remedy(dataset):
    networks.heatmap(dataset.parent / "dot.onnx")
    with pytest.raises(ConfigError, match=r"says rtmo, .*dot\.onnx is a network of kind: topdown"):
        run_stage1(load_config(dataset, ["models.pose_estimation.kind=rtmo"]))
    with pytest.raises(ConfigError, match=r"needs a person detector\.\n.*yolox_nano\.onnx"):
        run_stage1(load_config(dataset))


@pytest.mark.parametrize(
    ("sets", "gpus"),
    [
        ([], [None] * len(os.sched_getaffinity(0))),
        (["annotation.workers=3", "annotation.gpus=[0, 1]"], [0, 1, 0]),
        (["annotation.workers=1", "annotation.gpus=[2]"], [2]),
        (["annotation.gpus=[1]"], [1]),  # not one per core: each holds the network on its GPU
        (["annotation.gpus=[0, 1, 2, 3]"], [0, 1, 2, 3]),
    ],
)
def test_workers_take_the_gpus_in_turn(dataset, sets, gpus):
    config = load_config(dataset, ["annotation.workers=auto", *sets])
    force = _worker_pool(config, {}, {}, (dataset.parent, dataset.parent))
    assert [plan.gpu for (plan,) in force.arguments] == gpus


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """Ten times the frames may cost their poses (300 bytes a person) and no pictures."""
    peaks = []
    for frames in (150, 1500):
        config = clips.make_dataset(tmp_path / str(frames), clips=0)
        clips.write_clip(tmp_path / str(frames) / "data/Fight/f.mp4", 1, frames)
        process = subprocess.Popen([*MAIN, str(config)], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] - peaks[0] < 16 * 1024  # kB; 1350 pictures of this size are 25 MB


def main(config, *sets, **options):
    command = [*MAIN, str(config)]
    for text in sets:
        command += ["--set", text]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, **options
    )


def test_a_full_disk_ends_with_a_message_and_nothing_half_written(dataset):
    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    out = main(dataset, preexec_fn=small_disk)
    assert out.returncode == 1
    assert "cannot write" in out.stderr
    assert "Traceback" not in out.stderr
    assert not list((dataset.parent / "out").rglob("*.npz"))
    assert main(dataset).returncode == 0


def test_an_output_place_that_cannot_be_written_is_named(dataset):
    (dataset.parent / "file").touch()
    out = main(dataset, f"annotation.output_dir={dataset.parent / 'file'}")
    assert out.returncode == 1
    assert str(dataset.parent / "file") in out.stderr
    assert "Traceback" not in out.stderr


def test_refused_videos_show_in_the_exit_code(dataset):
    (dataset.parent / "data/Fight/text.mp4").write_text("not a video")
    out = main(dataset)
    assert out.returncode == 3
    assert "Fight/text.mp4: refused: " in out.stderr


def test_a_video_is_refused_where_its_result_would_be_removed_with_scratch_files(dataset):
    for name in (".scratch", ".shards", ".locks", "manifest.json"):
        shutil.copytree(dataset.parent / "data/Fight", dataset.parent / "data" / name)
    shutil.copytree(dataset.parent / "data/Fight", dataset.parent / "data/NonFight/.scratch")
    found = states(run_stage1(load_config(dataset)))
    refused = {video for video, state in found.items() if state == "refused"}
    assert {video.partition("/")[0] for video in refused} == {
        ".scratch",
        ".shards",
        ".locks",
        "manifest.json",
    }
    assert len(refused) == 12
    assert len(found) == 21


def kill_and_finish(dataset, kills, seed):
    """Kill the run at random moments, let it finish, return its files."""
    rng = random.Random(seed)
    for _ in range(kills):
        process = subprocess.Popen(
            [*MAIN, str(dataset)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.3, 2.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 60
    while (out := main(dataset)).returncode != 0:  # an orphan may hold on for a second
        assert time.monotonic() < deadline, out.stderr
        time.sleep(0.5)
    return clips.contents(dataset.parent / "out")


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_end_is_the_same(tmp_path, kills):
    undisturbed = clips.make_dataset(tmp_path / "a", clips=6, frames=60)
    # Copied, not made again: x264 writes other bytes each time.
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    disturbed = tmp_path / "b" / undisturbed.name
    assert main(undisturbed).returncode == 0
    assert kill_and_finish(disturbed, kills, seed=1) == clips.contents(undisturbed.parent / "out")


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGSTOP])
def test_killed_or_stopped_workers_lose_nothing(dataset, signal_sent):
    process = subprocess.Popen(
        [*MAIN, str(dataset), "--set", "annotation.stall_timeout_s=3.0"], stderr=subprocess.PIPE
    )
    hit = 0
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        for pid in _workers(process.pid):
            if hit < 1:
                os.kill(pid, signal_sent)
                hit += 1
        time.sleep(0.05)
    assert process.wait(timeout=90) == 0
    assert hit
    folder = stage1_dir(load_config(dataset))
    assert set(states(folder).values()) == {"done"}


def _workers(parent):
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in command:
            yield int(stat.parent.name)
