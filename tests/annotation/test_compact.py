"""Compact copies of a stage's results: complete, marked as rounded, good enough to go on from."""

import numpy as np
import pytest

from annotation.compact import compact_results
from recognizer.config.file import load_config
from recognizer.runs.manifest import read_manifest
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.runs.stage_folders import stage2_dir
from recognizer.storage.artifacts import ArtifactError, read_poses
from tests.annotation import clips

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture
def dataset(tmp_path):
    path = clips.make_dataset(tmp_path, clips=2)
    (tmp_path / "data/Fight/text.mp4").write_text("not a video")
    run_stage1(load_config(path))
    return path


def test_stage_2_goes_on_from_compact_poses_in_a_folder_of_its_own(dataset, tmp_path):
    config = load_config(dataset)
    full, small = run_stage1(config), tmp_path / "small"
    compact_results(full, small)
    assert read_manifest(small).outcomes == read_manifest(full).outcomes  # the refused one too
    assert len(list(small.rglob("*.npz"))) == len(list(full.rglob("*.npz"))) == 4
    assert sorted(p.name for p in small.iterdir()) == ["Fight", "NonFight", "manifest.json"]
    other = load_config(dataset, [f"annotation.stage1_dir={small}"])
    assert stage2_dir(other) != stage2_dir(config)
    before, after = (read_poses(run_stage2(c) / "Fight/f0.mp4.npz") for c in (config, other))
    np.testing.assert_array_equal(after[0].poses.track_ids, before[0].poses.track_ids)
    assert np.abs(after[0].poses.keypoints - before[0].poses.keypoints).max() <= 1 / 32
    assert (before[2]["schema_version"], after[2]["schema_version"]) == (1, 1)
    assert "rounded_to" in after[2]["settings"]["stage1"]
    # Tracks have a compact form as well.
    compact_results(run_stage2(other), tmp_path / "tracks")
    tracks, extra, _ = read_poses(tmp_path / "tracks/Fight/f0.mp4.npz")
    np.testing.assert_array_equal(tracks.poses.track_ids, after[0].poses.track_ids)
    np.testing.assert_array_equal(extra["fight_involvement"], after[1]["fight_involvement"])


def test_a_second_copy_is_the_same_and_holds_nothing_stale(dataset, tmp_path):
    full, small = run_stage1(load_config(dataset)), tmp_path / "small"
    compact_results(full, small)
    before = {p: p.read_bytes() for p in small.rglob("*") if p.is_file()}
    (small / "Fight/gone.mp4.npz").write_bytes(b"of an earlier run")
    compact_results(full, small)
    assert {p: p.read_bytes() for p in small.rglob("*") if p.is_file()} == before
    compact_results(small, tmp_path / "again")
    for path, data in before.items():
        assert (tmp_path / "again" / path.relative_to(small)).read_bytes() == data


def test_what_cannot_be_copied_is_reported(dataset, tmp_path):
    full = run_stage1(load_config(dataset))
    with pytest.raises(ValueError, match="expected two folders"):
        compact_results(full, full)
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        compact_results(tmp_path / "data", tmp_path / "small")
    path = full / "Fight/f0.mp4.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArtifactError, match=r"f0\.mp4\.npz"):
        compact_results(full, tmp_path / "small")
    assert not (tmp_path / "small/manifest.json").exists()
