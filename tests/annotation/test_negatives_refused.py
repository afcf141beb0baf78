"""What negatives must not be."""

import pytest

from recognizer.config_file import ConfigError
from tests.annotation.datasets import facts
from tests.annotation.made_tracks import CLIPS, FALLS, config, stage2
from tests.annotation.real_tracks import without_pictures


def test_a_source_that_copies_hide_behind_another_name_is_known(tmp_path):
    """Sources that share a file become one in the split; a table calls both by name."""
    clips = stage2(tmp_path / "clips", CLIPS, {"Fight/0.mp4": "ab", "Fight/1.mp4": "ab"})
    falls = stage2(tmp_path / "falls", FALLS)
    sources = {"Fight/0.mp4": "camA", "Fight/1.mp4": "camB", "a/0.mp4": "camB"}
    table = tmp_path / "sources.csv"
    table.write_text("video,source\n" + "".join(
        f"{video},{sources.get(video, video)}\n" for video in (*CLIPS, *FALLS)
    ))  # fmt: skip
    own = config(tmp_path, [falls], clips, {"sources": str(table)})
    with pytest.raises(ConfigError, match=r"a/0\.mp4 is of the source camB, which the data set"):
        without_pictures(own)


def test_made_up_falls_are_learnt_from(tmp_path):
    told = facts(without_pictures(config(tmp_path, [stage2(tmp_path / "falls", FALLS)])))
    assert {s["video"] for s in told["negatives"]["samples"].values()} == set(FALLS)
