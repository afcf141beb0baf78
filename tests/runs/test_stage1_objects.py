"""Stage 1 on videos in object storage: the bytes of a local run, and a store that fails."""

import shutil

import pytest

from recognizer.config.file import ConfigError, load_config
from recognizer.runs.inputs import list_videos, local_file, video_path
from recognizer.runs.stage1 import _worker_pool, run_stage1
from recognizer.runs.stage_folders import pose_model_files, stage1_dir, stage1_settings
from recognizer.runs.worker_pool import StopRunError
from recognizer.storage.results import FolderResults
from tests import object_server
from tests.annotation import clips
from tests.object_server import BUCKET

ADDRESS = f"s3://{BUCKET}/data"


@pytest.fixture
def store(monkeypatch):
    with object_server.reached(monkeypatch) as server:
        yield server


@pytest.fixture
def dataset(tmp_path, store):
    """Return a config whose videos are uploaded."""
    path = clips.make_dataset(tmp_path, clips=2)
    (tmp_path / "data/Fight/empty.mp4").touch()
    store.objects = {
        f"data/{p.relative_to(tmp_path / 'data').as_posix()}": p.read_bytes()
        for p in (tmp_path / "data").rglob("*.mp4")
    }
    store.objects |= {"data/Fight/": b"", "data/Fight/f0.mp4/": b"", "data/notes.txt": b"none"}
    return path


def stored(dataset, *more):
    return load_config(dataset, [f"annotation.input={ADDRESS}", "annotation.workers=1", *more])


def reads(store):
    return [r for r in store.requests if r.startswith('"GET') and ".mp4" in r]


def test_poses_are_the_bytes_of_a_local_run(dataset, store):
    local = load_config(dataset, ["annotation.workers=1"])
    folder = run_stage1(local)
    before = clips.contents(folder)
    shutil.rmtree(folder)
    assert run_stage1(stored(dataset)) == folder
    assert clips.contents(folder) == before
    assert len(reads(store)) == 4, "each once; the empty one needs no request"

    run_stage1(stored(dataset))
    assert len(reads(store)) == 4, "finished ones are not fetched again"
    store.objects["data/NonFight/n0.mp4"] = store.objects["data/NonFight/n1.mp4"]
    run_stage1(stored(dataset))
    assert len(reads(store)) == 5
    assert "NonFight/n0.mp4" in reads(store)[-1]


@pytest.fixture
def worker(dataset):
    """Return a worker of stage 1 in this process, and the folder of its results."""
    config = stored(dataset)
    folder = stage1_dir(config)
    output = folder, FolderResults(folder, folder)
    pool = _worker_pool(config, pose_model_files(config), stage1_settings(config), output)
    return pool.start(*pool.arguments[0]), folder


def videos_of(dataset):
    return {v.relative: v for v in list_videos(stored(dataset).annotation)}


def test_an_object_that_changes_is_refused_by_name(dataset, store, worker):
    video = videos_of(dataset)["Fight/f1.mp4"]
    store.objects["data/Fight/f1.mp4"] = b"another"
    outcome = worker[0](video, lambda frames: None)
    assert (outcome.video, outcome.state) == ("Fight/f1.mp4", "refused")
    assert "has changed since it was listed" in outcome.reason


def test_a_store_that_goes_away_stops_the_run(dataset, store, worker):
    videos = videos_of(dataset)
    assert worker[0](videos["Fight/f0.mp4"], lambda frames: None).state == "done"
    store.refused = (404, "NoSuchBucket")
    with pytest.raises(StopRunError, match=rf"annotation.input: {ADDRESS}: no such bucket"):
        worker[0](videos["Fight/f1.mp4"], lambda frames: None)
    assert list((worker[1] / ".scratch").iterdir()) == []


def test_a_part_of_a_key_that_no_folder_can_have_is_refused(dataset, store):
    store.objects[f"data/{'x' * 256}/a.mp4"] = b"?"
    videos = videos_of(dataset)
    assert "longer than 255 bytes" in videos[f"{'x' * 256}/a.mp4"].refusal
    assert videos["Fight/f0.mp4"].refusal == ""


def test_a_fetched_video_is_removed_also_after_an_error(dataset, store, tmp_path):
    video = videos_of(dataset)["Fight/f0.mp4"]
    place = local_file(video, tmp_path, lambda frames: None)
    path = place.__enter__()
    assert path.suffix == ".mp4"
    assert path.read_bytes() == store.objects["data/Fight/f0.mp4"]
    error = OSError("full")
    assert not place.__exit__(OSError, error, error.__traceback__)
    assert not path.exists()


def test_no_video_below_the_prefix(store, dataset):
    with pytest.raises(ValueError, match=rf"expected videos .* below s3://{BUCKET}/none, found"):
        list_videos(stored(dataset, f"annotation.input=s3://{BUCKET}/none").annotation)
    with pytest.raises(ValueError, match=r"matching Other/\*"):
        list_videos(stored(dataset, "annotation.include=['Other/*']").annotation)


def test_a_mode_that_reads_local_videos_alone_says_so(dataset):
    with pytest.raises(ConfigError, match="expected a local folder for this mode"):
        video_path(stored(dataset).annotation, "Fight/f0.mp4")


@pytest.mark.parametrize(
    "text",
    [
        "s3:///prefix",
        "ftp://host/x",
        "s3://key:secret@bucket/x",
        "s3://bucket/x?y=1",
        "s3://",
        "s3:/bucket/x",
        "S3:bucket/x",
    ],
)
def test_an_address_that_is_none_of_a_store_is_refused_without_its_secret(dataset, text):
    with pytest.raises(
        ConfigError, match=r"annotation\.input: expected a folder, or s3://"
    ) as caught:
        load_config(dataset, [f"annotation.input={text}"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["a//b", "../a", "a/./b", ".."])
def test_an_address_that_no_client_reads_is_refused_at_once(dataset, prefix):
    with pytest.raises(ConfigError, match=r"annotation\.input: expected a prefix without empty"):
        load_config(dataset, [f"annotation.input=s3://bucket/{prefix}"])
    for right in ("", "/", "/a..b/.c/"):
        config = load_config(dataset, [f"annotation.input=s3://bucket{right}"])
        assert config.annotation.input == f"s3://bucket{right}".rstrip("/")
