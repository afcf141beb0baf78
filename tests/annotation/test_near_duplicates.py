"""Near-duplicates in stage 3: found across sources and splits, said, and no obstacle."""

import csv

import pytest

from annotation.pipeline import report_stage3
from recognizer.runs.progress import silent
from recognizer.runs.stage_folders import stage3_dir
from tests.annotation.datasets import clips, config, read_metadata
from tests.annotation.datasets import quick_pictures as quick_pictures
from tests.dataset.tracked import write_stage2

pytestmark = pytest.mark.usefixtures("quick_pictures")


def scattered(videos):
    """Return a hash of its own for each video: half of the bits differ."""
    return {v: [0x9E3779B97F4A7C15 * (i + 1) % 2**64] * 4 for i, v in enumerate(sorted(videos))}


def run(tmp_path, hashes, **dataset):
    videos = clips(10)
    settings = config(tmp_path, videos, **dataset)
    write_stage2(tmp_path / "stage2", videos, hashes=hashes)
    report_stage3(settings, silent)
    folder = stage3_dir(settings)
    with (folder / "report" / "near_duplicates.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return read_metadata(folder), rows, (folder / "report" / "summary.txt").read_text()


def test_a_copy_in_another_split_is_named(tmp_path, caplog):
    first, _, _ = run(tmp_path / "before", scattered(clips(10)))
    assert first["near_duplicates"]["pairs"] == []
    split_of = {name: own["split"] for name, own in first["samples"].items()}
    learnt = min(name for name, split in split_of.items() if split == "train")
    tested = min(name for name, split in split_of.items() if split == "test")
    hashes = scattered(clips(10))
    hashes[tested] = [hashes[learnt][0] ^ 0b111] * 4
    metadata, rows, summary = run(tmp_path, hashes)
    recorded = metadata["near_duplicates"]
    assert (recorded["compared"], recorded["found"], recorded["between_splits"]) == (20, 1, 1)
    (pair,) = recorded["pairs"]
    assert (set(pair["clips"]), pair["distance_bits"]) == ({learnt, tested}, 3.0)
    assert {rows[0]["clip"], rows[0]["clip_2"]} == {learnt, tested}
    assert {rows[0]["split"], rows[0]["split_2"]} == {"train", "test"}
    warning = "1 pairs of clips of different sources look alike, 1 of them"
    assert caplog.text.count(warning) == 1
    assert "1 pairs of different sources among 20 clips" in summary
    assert any("look alike" in text for text in metadata["warnings"])


def test_without_hashes_it_is_unknown_and_reported(tmp_path, caplog):
    metadata, rows, summary = run(tmp_path, None)
    recorded = metadata["near_duplicates"]
    assert (recorded["compared"], recorded["without_hash"], recorded["found"], rows) == (
        0,
        20,
        0,
        [],
    )
    assert "unknown of 20 clips without hashes" in summary
    assert "look alike" not in caplog.text


def test_it_can_be_switched_off(tmp_path):
    hashes = {video: [7, 7] for video in clips(10)}
    metadata, _, summary = run(tmp_path, hashes, duplicate_distance=None)
    assert metadata["near_duplicates"]["found"] == 0
    assert "not looked for" in summary
    metadata, _, _ = run(tmp_path / "on", hashes)
    assert metadata["near_duplicates"]["found"] == 190
