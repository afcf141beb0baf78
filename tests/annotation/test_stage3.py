import fcntl
import hashlib
import json
import resource
import zipfile
from collections import Counter

import numpy as np
import pytest

from annotation.stage3 import run_stage3
from recognizer.config.file import ConfigError
from recognizer.runs.manifest import Outcome, read_manifest, result_path
from recognizer.runs.stage_folders import stage3_dir
from tests.annotation.datasets import (
    all_samples,
    clips,
    config,
    digests,
    quick_pictures,
    read_metadata,
)
from tests.dataset.mmaction_reader import read_with_mmaction
from tests.dataset.tracked import sequence, write_stage2

SPLITS = ("train", "val", "test")
__all__ = ["quick_pictures"]
pytestmark = pytest.mark.usefixtures("quick_pictures")


# --- what comes out ----------------------------------------------------------------


def test_clips_become_three_pickles_that_mmaction_reads(tmp_path):
    videos = clips(10)
    videos["Fight/gone.mp4"] = Outcome("Fight/gone.mp4", "refused", "stage 1: no video stream")
    videos["Fight/hurt.mp4"] = sequence(1.0)
    folder = run_stage3(config(tmp_path, videos))
    metadata = read_metadata(folder)
    assert metadata["totals"] == {
        "inputs": 22,
        "done": 21,
        "damaged": 0,
        "refused": 1,
        "samples": 21,
        "parts_left_out": 0,
        "windows_without_class": 0,
        "windows_without_people": 0,
    }
    assert metadata["failures"] == {"Fight/gone.mp4": "stage 1: no video stream"}
    assert {n: s.label for n, s in all_samples(folder).items()} == {
        name: int(name.startswith("Fight")) for name in videos if name != "Fight/gone.mp4"
    }
    paths = [folder / f"{split}.pkl" for split in SPLITS]
    answer = read_with_mmaction(*paths)
    for split, path in zip(SPLITS, paths, strict=True):
        seen, recorded = answer[str(path)], metadata["splits"][split]
        assert len(seen["names"]) == recorded["samples"] > 0
        assert Counter(seen["labels"]) == Counter(
            {metadata["classes"][name]: n for name, n in recorded["by_class"].items()}
        )
        assert seen["shapes"] == [[1, 4, 16, 17, 3]]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == recorded["sha256"]
        assert {metadata["samples"][name]["split"] for name in seen["names"]} == {split}


def test_metadata_tells_where_everything_came_from(tmp_path):
    folder = run_stage3(config(tmp_path, clips(10), num_person=2))
    metadata = read_metadata(folder)
    assert (metadata["schema"], metadata["schema_version"]) == ("recognizer.dataset", 1)
    assert metadata["settings"]["stage2"]["stage1"]["models"]["pose"]["sha256"] == "00"
    assert metadata["settings"]["dataset"]["num_person"] == 2
    assert metadata["class_balance"] == {"Fight": 0.5, "NonFight": 0.5}
    assert np.mean(list(metadata["class_weights"].values())) == pytest.approx(1)
    assert [line.split()[-3:] for line in metadata["no_leak"][1:4]] == [["0", "0", "0"]] * 3
    recorded = metadata["samples"]["Fight/02.mp4"]
    assert recorded == {
        "video": "Fight/02.mp4",
        "source": "Fight/02.mp4",
        "class": "Fight",
        "label": 1,
        "split": recorded["split"],
        "start_s": 0.0,
        "stop_s": 1.4,
        "frames": 14,
        "people": 2,
        "track_ids": recorded["track_ids"],
        "size_wh": [320, 240],
        "fps": 10.0,
    }
    assert str(tmp_path) not in (folder / "metadata.json").read_text()
    assert [o.state for o in read_manifest(folder).outcomes] == ["done"] * 20


def test_the_most_involved_come_first(tmp_path):
    """Person 0 hurries, 1 and 2 hardly move: the scorer's order is the order of the slots."""
    folder = run_stage3(config(tmp_path, clips(10, seconds=2.0), num_person=1))
    metadata, samples = read_metadata(folder), all_samples(folder)
    people = {n: s["track_ids"] for n, s in metadata["samples"].items()}
    assert all(len(ids) == 1 for ids in people.values())
    for name, sample in samples.items():
        video = sequence(2.0, people=3).frame(0)
        place = video.keypoints[people[name][0]]
        np.testing.assert_array_equal(sample.keypoints[0, 0], place)


def test_window_of_a_video(tmp_path):
    videos = {f"{n}/{i}.mp4": sequence(3.5) for n in ("Fight", "NonFight") for i in range(5)}
    folder = run_stage3(config(tmp_path, videos, window_s=2.0, stride_s=1.0))
    samples = all_samples(folder)
    names = sorted(n for n in samples if n.startswith("Fight/0"))
    assert names == [
        "Fight/0.mp4@0.000-2.000",
        "Fight/0.mp4@1.000-3.000",
        "Fight/0.mp4@1.500-3.500",
    ]
    assert all(s.keypoints.shape[1] == 20 for s in samples.values())
    by_video = {}
    for sample in read_metadata(folder)["samples"].values():
        by_video.setdefault(sample["video"], set()).add(sample["split"])
    assert all(len(splits) == 1 for splits in by_video.values()), "no video in two splits"


@pytest.mark.parametrize("fps", [10, 15, 25, 30])
def test_windows_mean_the_same_at_every_fps(tmp_path, fps):
    videos = {
        f"{n}/{i}.mp4": sequence(3.6, fps=fps) for n in ("Fight", "NonFight") for i in range(3)
    }
    metadata = read_metadata(run_stage3(config(tmp_path, videos, window_s=2.0)))
    windows = {
        (s["start_s"], s["stop_s"], tuple(sorted(s["track_ids"])))
        for s in metadata["samples"].values()
    }
    assert windows == {(0.0, 2.0, (0, 1)), (1.6, 3.6, (0, 1))}


# --- the split ---------------------------------------------------------------------


def test_sources_stay_together(tmp_path):
    table = tmp_path / "sources.csv"
    videos = clips(12)
    source_of = {v: f"cam{int(v[-6:-4]) // 2}" for v in videos}
    table.write_text("video,source\n" + "".join(f"{v},{s}\n" for v, s in source_of.items()))
    metadata = read_metadata(run_stage3(config(tmp_path, videos, {"sources": str(table)})))
    split_of = {}
    for sample in metadata["samples"].values():
        assert sample["source"] == source_of[sample["video"]]
        split_of.setdefault(sample["source"], set()).add(sample["split"])
    assert len(split_of) == 6
    assert all(len(splits) == 1 for splits in split_of.values())
    assert all(min(metadata["splits"][s]["by_class"].values()) > 0 for s in SPLITS)
    assert metadata["warnings"] == []


def test_a_video_without_source_stops_the_run(tmp_path):
    table = tmp_path / "sources.csv"
    table.write_text("video,source\nFight/00.mp4,a\n")
    settings = config(tmp_path, clips(2), {"sources": str(table)})
    with pytest.raises(ConfigError, match=r"3 are missing: Fight/01\.mp4, NonFight/00\.mp4"):
        run_stage3(settings)
    assert not list(stage3_dir(settings).glob("*.[pj]*"))


def test_the_data_sets_own_folders_are_the_split(tmp_path):
    videos = {f"{s}/{v}": clip for s in ("train", "val") for v, clip in clips(3).items()}
    metadata = read_metadata(run_stage3(config(tmp_path, videos)))
    assert metadata["split_by"] == "folders"
    assert all(s["video"].startswith(s["split"] + "/") for s in metadata["samples"].values())
    assert metadata["warnings"] == ["test is empty"]
    assert metadata["splits"]["test"]["samples"] == 0


def test_auto_splits_by_source_where_one_video_has_no_folder(tmp_path):
    videos = {f"train/{v}": clip for v, clip in clips(5).items()} | clips(1)
    settings = config(tmp_path, videos)
    assert read_metadata(run_stage3(settings))["split_by"] == "source"
    with pytest.raises(ConfigError, match=r"folders.*in 2: Fight/00\.mp4"):
        run_stage3(config(tmp_path, None, {"by": "folders"}))


def test_own_folders_that_leak_are_refused(tmp_path):
    videos = {f"{s}/{v}": clip for s in SPLITS for v, clip in clips(2).items()}
    settings = config(tmp_path, videos, {"source_regex": r"(\d+)\.mp4"})
    with pytest.raises(ValueError, match="both train and val: 00, 01"):
        run_stage3(settings)
    assert not list(stage3_dir(settings).glob("*.[pj]*"))


def test_copies_of_one_file_stay_in_one_split(tmp_path):
    videos = clips(6)
    write_stage2(tmp_path / "stage2", videos)
    copies = ["Fight/00.mp4", "Fight/03.mp4", "NonFight/05.mp4"]
    for name in copies:  # the same content as stage 1 saw it
        change_meta(result_path(tmp_path / "stage2", name, ".npz"))
    metadata = read_metadata(run_stage3(config(tmp_path)))
    assert metadata["copies"] == [copies]
    assert len({metadata["samples"][name]["split"] for name in copies}) == 1
    assert any("copies of one file" in text for text in metadata["warnings"])


def change_meta(path):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(members["meta.json"])
    meta["source"]["sha256"] = "the same"
    members["meta.json"] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


# --- what cannot be used -----------------------------------------------------------


def test_bad_inputs_are_recorded_and_cost_nobody_else(tmp_path):
    videos = clips(4)
    videos |= {
        "Fight/nobody.mp4": sequence(people=0),
        "Fight/short.mp4": sequence(0.3),
        "Fight/damaged.mp4": sequence(),
        "Fight/missing.mp4": sequence(),
        "Fight/objects.mp4": sequence(),
        "Fight/nan.mp4": sequence(),
        "odd/x.mp4": sequence(),
        "Fight/NonFight/y.mp4": sequence(),
    }
    videos["Fight/nan.mp4"].poses.keypoints[0, 0, 0] = np.nan
    write_stage2(tmp_path / "stage2", videos)
    damaged = tmp_path / "stage2" / "Fight" / "damaged.mp4.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    (tmp_path / "stage2" / "Fight" / "missing.mp4.npz").unlink()
    np.savez(
        tmp_path / "stage2" / "Fight" / "objects.mp4.npz",
        keypoints=np.array([{}], object),
        allow_pickle=True,
    )
    metadata = read_metadata(run_stage3(config(tmp_path)))
    assert metadata["totals"]["samples"] == 8
    reasons = metadata["failures"]
    assert reasons["Fight/nobody.mp4"] == "nobody was tracked"
    assert reasons["Fight/short.mp4"] == "fewer than dataset.min_frames = 4 frames"
    assert "not a readable result file" in reasons["Fight/damaged.mp4"]
    assert "found none" in reasons["Fight/missing.mp4"]
    assert "stage 2 result" in reasons["Fight/objects.mp4"]
    assert "finite" in reasons["Fight/nan.mp4"]
    assert "its folders: odd" in reasons["odd/x.mp4"]
    assert "Fight and NonFight" in reasons["Fight/NonFight/y.mp4"]
    assert len(reasons) == metadata["totals"]["refused"] == 8
    assert str(tmp_path) not in json.dumps(metadata)


def test_names_cannot_leave_the_folder_and_odd_ones_work(tmp_path):
    odd = ["Fight/\udcff.mp4", "Fight/-rf *.mp4", "Fight/" + "x" * 250 + ".mp4", "Fight/a\nb.mp4"]
    videos = clips(2) | {name: sequence() for name in odd}
    write_stage2(tmp_path / "stage2", videos)
    manifest = tmp_path / "stage2" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    bad = ["../../Fight/evil.mp4", "/Fight/evil.mp4", "Fight/../evil.mp4", "Fight/\0.mp4"]
    content["inputs"] |= {name: {"state": "done", "reason": "", "frames": 9} for name in bad}
    manifest.write_text(json.dumps(content))
    folder = run_stage3(config(tmp_path))
    metadata = read_metadata(folder)
    assert metadata["totals"]["samples"] == 4 + len(odd)
    assert sorted(metadata["failures"]) == sorted(bad)
    assert all("inside the input folder" in reason for reason in metadata["failures"].values())
    assert "Fight/\\udcff.mp4" in all_samples(folder)


NOT_ENOUGH = {
    "no class folder": ({"a.mp4": sequence()}, "no sample at all.*no folder of its path"),
    "all refused": (
        {"Fight/a.mp4": Outcome("Fight/a.mp4", "refused", "stage 1: empty file")},
        "no sample at all.*1 x stage 1: empty file",
    ),
    "one class": ({f"Fight/{i}.mp4": sequence() for i in range(5)}, r"no sample of NonFight \(5"),
    "nobody": ({f"Fight/{i}.mp4": sequence(people=0) for i in range(5)}, "5 x nobody was tracked"),
    "two videos": ({"Fight/a.mp4": sequence(), "NonFight/b.mp4": sequence()}, "least 3 sources"),
}


@pytest.mark.parametrize("name", NOT_ENOUGH)
def test_too_little_is_an_error_that_leaves_nothing(tmp_path, name):
    videos, message = NOT_ENOUGH[name]
    settings = config(tmp_path, videos)
    with pytest.raises(ValueError, match=message):
        run_stage3(settings)
    assert [p.name for p in stage3_dir(settings).iterdir()] == [".lock"]


def test_a_stride_that_leaves_frames_out_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stride_s: expected at most window_s"):
        config(tmp_path, clips(3), window_s=1.0, stride_s=1.5)


def test_stage_2_must_have_finished(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"run the stage before this one \(--mode annotation\.stage2\)"
    ):
        run_stage3(config(tmp_path))


def test_a_full_disk_leaves_no_finished_folder(tmp_path):
    settings = config(tmp_path, clips(5))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run_stage3(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = stage3_dir(settings)
    assert not (folder / "train.pkl").exists()
    assert not (folder / "metadata.json").exists()
    assert digests(run_stage3(settings))["metadata.json"]


def test_a_second_run_at_the_same_time_is_refused(tmp_path):
    settings = config(tmp_path, clips(3))
    folder = stage3_dir(settings)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run"):
            run_stage3(settings)
