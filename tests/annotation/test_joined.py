"""Folders with labels of their own join a data set, and stay whole in its split."""

import json
from pathlib import Path

import numpy as np
import pytest

from annotation.preflight import check_labels
from annotation.stage3 import run_stage3
from recognizer.config.file import ConfigError
from recognizer.runs.stage_folders import stage3_dir
from recognizer.storage.artifacts import write_csv
from recognizer.types import Sample
from tests.annotation.datasets import (
    all_samples,
    clips,
    config,
    digests,
    quick_pictures,
    read_metadata,
)
from tests.dataset.tracked import sequence, write_stage2

__all__ = ["quick_pictures"]
pytestmark = pytest.mark.usefixtures("quick_pictures")
SETTINGS = {"stage1": {"models": {"pose": {"file": "x.onnx", "sha256": "00"}}, "sample_fps": None}}


def reviews(folder, days=4, events=2, settings=SETTINGS, camera="yard"):
    """Write a folder of some days of a camera: an event is by turns a false alarm and a fight."""
    videos = {
        f"{camera}/day{day}/{number}": sequence(4.0)
        for day in range(days)
        for number in range(events)
    }
    write_stage2(folder, videos, settings, first=1000)
    rows = [
        (video, 1.0, 3.0, "Fight" if i % 2 else "NonFight")
        for i, video in enumerate(sorted(videos))
    ]
    write_csv(folder / "labels.csv", folder, [("video", "start_s", "stop_s", "class"), *rows])
    sources = [(video, video.rsplit("/", 1)[0]) for video in videos]
    write_csv(folder / "sources.csv", folder, [("video", "source"), *sources])
    return folder


def test_joined_videos_are_members_and_their_days_stay_in_one_split(tmp_path):
    folder = reviews(tmp_path / "reviews")
    plain = run_stage3(config(tmp_path, clips(seconds=1.8)))
    joined = run_stage3(config(tmp_path, also=[str(folder)]))
    samples, own = all_samples(joined), all_samples(plain)
    added = samples.keys() - own.keys()
    assert len(added) == 8
    assert own.keys() <= samples.keys()
    assert all(equal(samples[name], own[name]) for name in own)
    metadata = read_metadata(joined)
    for name in added:
        row = metadata["samples"][name]
        assert (row["start_s"], row["stop_s"]) == (1.0, 3.0)
        assert row["source"] == row["video"].rsplit("/", 1)[0]
        assert samples[name].label == row["label"] == int(row["video"][-1])
        assert samples[name].keypoints.shape[1] == 20
    rows = [metadata["samples"][name] for name in added]
    assert len({(row["source"], row["split"]) for row in rows}) == 4
    assert metadata["totals"]["inputs"] == 28


def equal(one: Sample, other: Sample) -> bool:
    return one.label == other.label and one.keypoints.tobytes() == other.keypoints.tobytes()


def test_where_folders_make_the_split_joined_videos_are_learnt_from(tmp_path):
    videos = {
        f"{split}/{name}": value for split in ("train", "val") for name, value in clips(3).items()
    }
    folder = reviews(tmp_path / "reviews", camera="test")
    made = run_stage3(config(tmp_path, videos, also=[str(folder)]))
    metadata = read_metadata(made)
    assert metadata["split_by"] == "folders"
    splits = {row["split"] for row in metadata["samples"].values() if row["video"][:5] == "test/"}
    assert splits == {"train"}
    assert metadata["splits"]["val"]["samples"] == 6


def test_windows_of_joined_videos_follow_their_labels(tmp_path):
    folder = reviews(tmp_path / "reviews")
    made = run_stage3(
        config(tmp_path, clips(seconds=1.8), also=[str(folder)], window_s=1.0, stride_s=0.5)
    )
    rows = [r for r in read_metadata(made)["samples"].values() if r["video"][:5] == "yard/"]
    assert {(row["start_s"], row["stop_s"]) for row in rows} == {
        (start / 2, start / 2 + 1.0) for start in range(1, 6)
    }


def test_long_events_are_cut_to_the_length_of_the_clips_five_parts_at_most(tmp_path):
    folder = tmp_path / "reviews"
    seconds = {"yard/day0/0": 40.0, "yard/day1/0": 4.0, "yard/day2/0": 2.0}
    write_stage2(folder, {name: sequence(s) for name, s in seconds.items()}, SETTINGS, first=1000)
    rows = [(name, 0.0, s, "Fight") for name, s in seconds.items()]
    write_csv(folder / "labels.csv", folder, [("video", "start_s", "stop_s", "class"), *rows])
    sources = [(name, name[:-2]) for name in seconds]
    write_csv(folder / "sources.csv", folder, [("video", "source"), *sources])
    metadata = read_metadata(run_stage3(config(tmp_path, clips(seconds=1.8), also=[str(folder)])))
    own = [r for r in metadata["samples"].values() if r["video"] not in seconds]
    length = float(np.median([round(r["stop_s"] - r["start_s"], 3) for r in own]))
    parts = {
        name: sorted(
            (r["start_s"], r["stop_s"]) for r in metadata["samples"].values() if r["video"] == name
        )
        for name in seconds
    }
    assert [len(one) for one in parts.values()] == [5, round(4.0 / length), 1]
    for name in ("yard/day0/0", "yard/day1/0"):
        assert parts[name][0][0] == 0.0
        assert parts[name][-1][1] == pytest.approx(seconds[name], abs=1e-6)
        assert all(b - a == pytest.approx(length, abs=1e-6) for a, b in parts[name])
    assert parts["yard/day2/0"] == [(0.0, 2.0)]


def test_new_labels_make_a_new_data_set_and_equal_ones_the_same(tmp_path):
    folder = reviews(tmp_path / "reviews")
    settings = config(tmp_path, clips(seconds=1.8), also=[str(folder)])
    made = run_stage3(settings)
    before = digests(made)
    assert run_stage3(settings) == made
    assert digests(made) == before
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace("NonFight", "Fight", 1))
    assert stage3_dir(settings) != made
    counts = read_metadata(run_stage3(settings))["splits"]
    assert sum(split["by_class"]["Fight"] for split in counts.values()) == 15
    assert "also" not in read_metadata(run_stage3(config(tmp_path)))["settings"]["dataset"]


def test_parts_without_people_have_the_names_of_their_parts(tmp_path):
    folder = reviews(tmp_path / "reviews")
    empty = sequence(4.0, present=lambda track_id, t: False)
    videos = {
        f"yard/day{d}/{n}": empty if (d, n) == (0, 0) else sequence(4.0)
        for d in range(4)
        for n in (0, 1)
    }
    write_stage2(folder, videos, SETTINGS, first=1000)
    metadata = read_metadata(run_stage3(config(tmp_path, clips(seconds=1.8), also=[str(folder)])))
    (name,) = metadata["nobody_tracked"]
    assert name == "yard/day0/0@1.000-3.000"
    assert metadata["nobody_tracked"][name]["split"] in ("train", "val", "test")


# --- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifest.json", "labels.csv", "sources.csv"])
def test_a_folder_that_lacks_a_file_is_refused(tmp_path, name):
    folder = reviews(tmp_path / "reviews")
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"found no {name} in"):
        run_stage3(config(tmp_path, clips(seconds=1.8), also=[str(folder)]))


def test_a_name_that_no_file_system_takes_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"dataset\.also: expected a folder .* \(File name too long"
    ):
        run_stage3(config(tmp_path, clips(seconds=1.8), also=[str(tmp_path / ("가" * 300))]))


def test_tracks_by_another_network_are_refused_another_rate_is_not(tmp_path, caplog):
    other = json.loads(json.dumps(SETTINGS).replace('"00"', '"11"'))
    with pytest.raises(ConfigError, match=r"stage1.models.pose.sha256: '11' instead of '00'"):
        run_stage3(
            config(
                tmp_path, clips(seconds=1.8), also=[str(reviews(tmp_path / "a", settings=other))]
            )
        )
    slower = {"sample_fps": 5.0, "movement": True, "turned_revision": 2}
    folder = reviews(tmp_path / "b", settings={"stage1": {**SETTINGS["stage1"], **slower}})
    assert run_stage3(config(tmp_path, also=[str(folder)])).is_dir()
    assert caplog.text.count("are of revision 2 of the search in turned pictures") == 1


def test_a_folder_or_a_video_twice_is_refused(tmp_path):
    folder = str(reviews(tmp_path / "reviews"))
    with pytest.raises(ConfigError, match="each once, got"):
        run_stage3(config(tmp_path, clips(seconds=1.8), also=[folder, folder]))
    with pytest.raises(ConfigError, match="each once, got"):
        run_stage3(reviews_alone(tmp_path, folder))
    copy = str(reviews(tmp_path / "copy"))
    with pytest.raises(ConfigError, match="found 8 in two folders, such as yard/day0/0"):
        run_stage3(config(tmp_path, also=[folder, copy]))


def reviews_alone(tmp_path, folder):
    settings = config(tmp_path, also=[folder])
    section = settings.annotation.model_copy(update={"stage2_dir": Path(folder)})
    return settings.model_copy(update={"annotation": section})


def test_labels_without_a_source_and_damaged_manifests_are_refused(tmp_path):
    folder = reviews(tmp_path / "reviews")
    rows = (folder / "sources.csv").read_text(encoding="utf-8-sig").splitlines()
    (folder / "sources.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(ConfigError, match=r"expected a row for every video of labels.csv, 1 are"):
        run_stage3(config(tmp_path, clips(seconds=1.8), also=[str(folder)]))
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ConfigError, match="not a readable manifest"):
        run_stage3(config(tmp_path, also=[str(folder)]))


def test_a_folder_that_cannot_join_is_refused_before_stage_1(tmp_path):
    for name in ("Fight", "NonFight"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        (tmp_path / "videos" / name / "a.mp4").touch()
    settings = config(tmp_path, also=[str(tmp_path / "none")])
    section = settings.annotation.model_copy(update={"input": tmp_path / "videos"})
    with pytest.raises(ConfigError, match="expected a folder with manifest"):
        check_labels(settings.model_copy(update={"annotation": section}))
