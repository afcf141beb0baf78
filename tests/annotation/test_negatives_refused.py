"""What negatives must not be."""

import shutil

import numpy as np
import pytest

from annotation.pipeline import stage3
from recognizer.config.file import ConfigError
from recognizer.runs.manifest import result_path
from recognizer.runs.progress import silent
from tests.annotation.datasets import quick_pictures, read_metadata
from tests.annotation.made_tracks import CLIPS, FALLS, config, stage2
from tests.annotation.real_tracks import without_pictures

__all__ = ["quick_pictures"]


def test_a_source_that_copies_hide_behind_another_name_is_known(tmp_path):
    """Sources that share a file become one in the split; a table calls both by name."""
    clips = stage2(tmp_path / "clips", CLIPS, {"Fight/0.mp4": "ab", "Fight/1.mp4": "ab"})
    falls = stage2(tmp_path / "falls", FALLS)
    sources = {"Fight/0.mp4": "camA", "Fight/1.mp4": "camB", "a/0.mp4": "camB"}
    table = tmp_path / "sources.csv"
    table.write_text(
        "video,source\n"
        + "".join(f"{video},{sources.get(video, video)}\n" for video in (*CLIPS, *FALLS))
    )
    own = config(tmp_path, [falls], clips, {"sources": str(table)})
    with pytest.raises(ConfigError, match=r"a/0\.mp4 is of the source camB, which the data set"):
        without_pictures(own)


def test_made_up_falls_are_learnt_from(tmp_path):
    recorded = read_metadata(
        without_pictures(config(tmp_path, [stage2(tmp_path / "falls", FALLS)]))
    )
    assert {s["video"] for s in recorded["negatives"]["samples"].values()} == set(FALLS)


@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_tracks_that_cannot_be_read_are_reported_and_change_the_exit_code(tmp_path, caplog, damage):
    falls = stage2(tmp_path / "falls", FALLS)
    own = config(tmp_path, [falls])
    assert stage3(own, silent) == 0
    path = result_path(falls, "a/1.mp4", ".npz")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200])
    caplog.clear()
    for _ in range(2):  # finished, it says so again
        assert stage3(own, silent) == 3
        message = f"dataset.negatives: refused: {tmp_path.name}/falls: a/1.mp4: stage 2 result: "
        assert message in caplog.text
    (folder,) = (tmp_path / "output").rglob("summary.txt")
    assert "Refused or damaged:" in folder.read_text()
    assert "a/1.mp4: stage 2 result: " in folder.read_text()


@pytest.mark.parametrize(
    ("service", "classes"),
    [
        ("fight", ("Fight", "NonFight")),
        ("fight", ("violence", "normal")),
        ("falldown", ("Fall_Down", "ADL")),
    ],
)
def test_negatives_are_not_learnt_from_as_the_event(tmp_path, service, classes):
    clips = stage2(tmp_path / "clips", {f"{n}/{i}.mp4": 1.0 for n in classes for i in range(4)})
    falls, labels = stage2(tmp_path / "falls", FALLS), dict(zip(classes, (0, 1), strict=True))
    changes = {"service": service, "classes": labels}
    own = config(tmp_path, [falls], clips, **changes)
    with pytest.raises(ConfigError, match=rf"expected the normal class .*got '{classes[0]}'"):
        without_pictures(own)
    without_pictures(config(tmp_path, [], clips, **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"negatives_s": 0.9}, r"\(1 s, the median clip\), got 0\.9"),
        (
            {"negatives_s": 0.7, "window_s": 0.8},
            r"\(0\.8 s, dataset\.window_s\), got 0\.7",
        ),
    ],
)
def test_less_than_a_window_of_a_video_is_refused(tmp_path, changes, says):
    falls = stage2(tmp_path / "falls", FALLS)
    with pytest.raises(ConfigError, match=rf"dataset\.negatives_s: expected .*{says}"):
        without_pictures(config(tmp_path, [falls], **changes))
    without_pictures(config(tmp_path, [falls], **changes | {"negatives_s": 1.0}))


def test_videos_shorter_than_a_window_are_left_out_with_the_reason(tmp_path):
    falls = stage2(tmp_path / "falls", {**FALLS, "a/short.mp4": 0.9, "a/equal.mp4": 1.0})
    recorded = read_metadata(without_pictures(config(tmp_path, [falls])))["negatives"]
    assert {s["video"] for s in recorded["samples"].values()} == {*FALLS, "a/equal.mp4"}
    assert {s["stop_s"] - s["start_s"] for s in recorded["samples"].values()} == {1.0}
    assert recorded["folders"][0]["left_out"] == {"a/short.mp4": "shorter than a window of 1 s"}
    only = stage2(tmp_path / "only", {"a/short.mp4": 0.9})
    with pytest.raises(ConfigError, match=r"found none in 1 videos: 1 x shorter than a window"):
        without_pictures(config(tmp_path / "other", [only]))


def test_a_copy_of_a_folder_under_another_path_is_refused(tmp_path):
    falls = stage2(tmp_path / "falls", FALLS)
    shutil.copytree(falls, tmp_path / "again")
    own = config(tmp_path, [falls, tmp_path / "again"])
    with pytest.raises(ConfigError, match=rf"a/0\.mp4 is a copy of {tmp_path.name}/falls: a/0"):
        without_pictures(own)
    renamed = stage2(tmp_path / "renamed", {"b/9.mp4": 4.0, "b/10.mp4": 4.0}, {"b/9.mp4": "cd"})
    other = stage2(tmp_path / "other", {"c/9.mp4": 4.0}, {"c/9.mp4": "cd"})
    with pytest.raises(ConfigError, match=r"found 1 in .*c/9\.mp4 is a copy of .*: b/9\.mp4;"):
        without_pictures(config(tmp_path, [falls, renamed, other]))
    without_pictures(config(tmp_path, [falls, renamed]))


def test_videos_of_the_data_that_are_called_as_negatives_are_refused(tmp_path):
    clips = stage2(tmp_path / "clips", CLIPS | {"negatives/1/Fight/9.mp4": 1.0})
    falls = stage2(tmp_path / "falls", FALLS)
    with pytest.raises(ConfigError, match=r"below negatives/1/, .*rename the folder 'negatives'"):
        without_pictures(config(tmp_path, [falls], clips))
    without_pictures(config(tmp_path, [], clips))


def pictures(*values):
    """Return hashes of a picture every 0.25 s."""
    return {"hash_time_s": np.arange(len(values)) / 4, "hashes": np.array(values, np.uint64)}


def test_half_a_copy_of_a_clip_is_left_out_and_the_rest_learnt_from(tmp_path, caplog):
    random = np.random.default_rng(0)
    own, *others = random.integers(0, 2**63, (6, 4))
    half = [*own[:2], *others[0][:2]]
    clips = stage2(tmp_path / "clips", CLIPS, {}, {"Fight/2.mp4": pictures(*own)})
    hashes = {"a/half.mp4": pictures(*half), "a/0.mp4": pictures(*others[1])}
    falls = stage2(tmp_path / "falls", dict.fromkeys(hashes, 1.0), {}, hashes)
    more = stage2(tmp_path / "more", {"b/0.mp4": 1.0}, {}, {"b/0.mp4": pictures(*own)})
    recorded = read_metadata(without_pictures(config(tmp_path, [falls, more], clips)))["negatives"]
    assert [s["video"] for s in recorded["samples"].values()] == ["a/0.mp4"]
    reason = (
        "looks like Fight/2.mp4 of the data set (0 of 64 bits differ in half of their pictures)"
    )
    assert recorded["folders"][0]["left_out"] == {"a/half.mp4": reason}
    assert recorded["folders"][1]["left_out"] == {"b/0.mp4": reason}
    assert f"left out: {tmp_path.name}/falls: a/half.mp4: {reason}" in caplog.text
    with pytest.raises(
        ConfigError, match=r"found none but .* such as negatives/1/b/0\.mp4@.*: looks"
    ):
        without_pictures(config(tmp_path, [more], clips))
