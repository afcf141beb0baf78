"""From cameras to pickles: real clips, real networks, and what a person decided."""

import time
from pathlib import Path

import pytest

from annotation.from_reviews import run_from_reviews
from annotation.stage3 import run_stage3
from recognizer.config.schema import Config
from recognizer.live.run import realtime
from recognizer.live.store import Store, Verdict
from recognizer.live.store_reads import Filter, list_events
from recognizer.runs.manifest import result_path
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import read_poses
from tests.annotation.datasets import all_samples, quick_pictures, read_metadata
from tests.dataset.mmaction_reader import read_with_mmaction

__all__ = ["quick_pictures"]
FIGHTS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "fight_surv" / "Fight"
CAMERAS: dict[str, tuple[str, Verdict]] = {
    "마당": ("fi010.mp4", "confirmed"),
    "gate": ("fi013.mp4", "false_alarm"),
}
pytestmark = pytest.mark.skipif(not FIGHTS.is_dir(), reason="needs ../shared/assets")


def config(folder: Path, **dataset: object) -> Config:
    cameras = [
        {"name": name, "path": str(FIGHTS / file), "speed": "fastest"}
        for name, (file, _) in CAMERAS.items()
    ]
    rules = {"windows_needed": 1, "min_s": 0.0, "enter": 0.5, "windows_of": 1}
    live = {
        "cameras": cameras,
        "alerts": {"rules": rules, "store": {"path": str(folder / "events.sqlite3")}},
        "clips_dir": str(folder / "clips"),
        "page": {"enabled": False},
    }
    annotation = {"output_dir": str(folder / "out")}
    return Config.model_validate({"live": live, "annotation": annotation, "dataset": dataset})


def test_what_cameras_saw_and_a_person_decided_is_learnt_from(tmp_path, quick_pictures):
    assert realtime(config(tmp_path), silent) == 0
    path = tmp_path / "events.sqlite3"
    store = Store(path)
    for row in list_events(path, Filter(class_name="Fight")).events:
        store.review(row.event_id, CAMERAS[row.camera][1], "me", time.time())
    store.close()
    folder = run_from_reviews(config(tmp_path))
    split = {"sources": str(folder / "sources.csv"), "ratios": [0.5, 0.5, 0.0]}
    alone = config(tmp_path, segments=str(folder / "labels.csv"), split=split)
    section = alone.annotation.model_copy(update={"stage2_dir": folder})
    pickles = run_stage3(alone.model_copy(update={"annotation": section}))
    samples = all_samples(pickles)
    assert {name.split("/")[0]: one.label for name, one in samples.items()} == {
        "마당": 1,
        "gate": 0,
    }
    metadata = read_metadata(pickles)["samples"]
    for name, sample in samples.items():
        tracks, _, _ = read_poses(result_path(folder, metadata[name]["video"], ".npz"))
        span = (metadata[name]["start_s"] - 1e-6, metadata[name]["stop_s"] - 1e-6)
        inside = (tracks.time_s >= span[0]) & (tracks.time_s < span[1])
        assert sample.keypoints.shape[1] == inside.sum() > 20
        assert sample.movement is not None
    read = read_with_mmaction(*(pickles / f"{split}.pkl" for split in ("train", "val")))
    assert sorted(name for one in read.values() for name in one["names"]) == sorted(samples)
