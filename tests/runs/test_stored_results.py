"""Stages 1 and 2 with results in object storage: the bytes of a local run, one run at a time."""

import shutil

import pytest

import main
from recognizer.config.file import load_config
from recognizer.runs.stage1 import extract_poses, run_stage1
from recognizer.runs.stage2 import make_tracks, run_stage2
from recognizer.storage import objects
from tests import object_server
from tests.annotation import clips
from tests.object_server import BUCKET

OUT = f"s3://{BUCKET}/out"


@pytest.fixture
def store(monkeypatch):
    with object_server.running() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(objects, "_RETRIES", {"max_retries": 0})
        objects._open.cache_clear()
        yield server
    objects._open.cache_clear()


@pytest.fixture
def dataset(tmp_path):
    path = clips.make_dataset(tmp_path, clips=2)
    (tmp_path / "data/Fight/text.mp4").write_text("not a video")
    return path


def stored(dataset, *more):
    return load_config(dataset, [f"annotation.output_dir={OUT}", "annotation.workers=1", *more])


def uploaded(dataset, store):
    folder = dataset.parent / "data"
    for path in folder.rglob("*.mp4"):
        store.objects[f"data/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return f"annotation.input=s3://{BUCKET}/data"


def kept(store):
    """Return what lies below the output, journals aside, by its name there."""
    return {
        key.removeprefix("out/"): data
        for key, data in store.objects.items()
        if key.startswith("out/") and not key.endswith(".journal")
    }


def local_bytes(dataset, *runs):
    config = load_config(dataset, ["annotation.workers=1"])
    for run in runs:
        run(config)
    found = clips.contents(dataset.parent / "out")
    shutil.rmtree(dataset.parent / "out")
    return found


def puts(store):
    return [r for r in store.requests if r.startswith('"PUT') and ".npz" in r]


def test_results_are_the_bytes_of_a_local_run(dataset, store):
    expected = local_bytes(dataset, run_stage1, run_stage2)
    config = stored(dataset, uploaded(dataset, store))
    extract_poses(config)
    make_tracks(config)
    assert kept(store) == expected
    assert len(puts(store)) == 8
    assert not (dataset.parent / "out").exists()

    store.requests.clear()
    extract_poses(config)
    make_tracks(config)
    assert puts(store) == []
    assert [r for r in store.requests if ".npz" in r] == [], "the journal is enough"
    assert ["text.mp4" in r for r in store.requests if ".mp4" in r] == [True], "tried again"
    assert kept(store) == expected


def test_the_command_writes_to_object_storage_and_names_what_comes_next(dataset, store, caplog):
    caplog.set_level("INFO")
    words = ["--config", str(dataset), "--set", uploaded(dataset, store)]
    words += ["--set", f"annotation.output_dir={OUT}", "--set", "annotation.workers=1"]
    assert main.main(["--mode", "annotation.stage1", *words]) == 3
    assert main.main(["--mode", "annotation.stage2", *words]) == 3
    assert f"5 inputs, 96 frames: 4 done, 0 damaged, 1 refused; see {OUT}/dots/" in caplog.text
    (line,) = [r.getMessage() for r in caplog.records if "annotation.stage3" in r.getMessage()]
    assert f"annotation.stage2_dir={OUT}/dots/stage2_tracking/bytetrack-" in line
    assert "annotation.output_dir=<folder>" in line
