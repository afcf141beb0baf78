"""Stages 1 and 2 with results in object storage: the bytes of a local run, one run at a time."""

import shutil

import pytest

import main
from recognizer.config.file import load_config
from recognizer.runs import stage2
from recognizer.runs import stage_run as stage_run_module
from recognizer.runs.journal import open_journal
from recognizer.runs.manifest import Manifest, Outcome
from recognizer.runs.shards import Shard, finish_run
from recognizer.runs.stage1 import extract_poses, run_stage1
from recognizer.runs.stage2 import make_tracks, run_stage2
from recognizer.runs.stage_folders import fetched_tracks
from recognizer.runs.stage_run import read_stage, stage_run
from recognizer.runs.worker_pool import RunError, StopRunError
from recognizer.storage import objects
from recognizer.storage.objects import ConflictError, StoreError
from recognizer.storage.results import StoredResults
from tests import object_server
from tests.annotation import clips
from tests.object_server import BUCKET

OUT = f"s3://{BUCKET}/out"


@pytest.fixture
def store(monkeypatch):
    with object_server.reached(monkeypatch, retries=False) as server:
        yield server


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
    return [r for r in store.requests if r.startswith('"PUT') and ".npz" in r and " 200 " in r]


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

    store.objects = {k: v for k, v in store.objects.items() if not k.endswith(".journal")}
    (tampered,) = [key for key in store.objects if "stage1_poses" in key and "f0.mp4.npz" in key]
    store.objects[tampered] = b"other"
    extract_poses(config)
    assert ["f0.mp4.npz" in r for r in puts(store)] == [True], "the others are looked at, and kept"
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


def test_tracks_are_fetched_once_for_the_modes_that_read_files(dataset, store):
    config = stored(dataset)
    extract_poses(config)
    place = make_tracks(config)
    assert make_tracks(stored(dataset, f"annotation.stage2_dir={place}/")) == place
    local = load_config(dataset, [f"annotation.stage2_dir={place}"])
    folder = fetched_tracks(local)
    assert fetched_tracks(load_config(dataset, [f"annotation.stage2_dir={place}/"])) == folder
    below = place.removeprefix(f"s3://{BUCKET}/")
    there = {key.removeprefix(below): store.objects[key] for key in store.objects if below in key}
    here = {f"/{name}": data for name, data in clips.contents(folder).items()}
    assert here == {name: data for name, data in there.items() if ".journal" not in name}
    store.requests.clear()
    (folder / "Fight/f0.mp4.npz").unlink()
    fetched_tracks(local)
    assert ["f0.mp4" in r for r in store.requests if ".npz" in r] == [True]
    changed = bytearray(store.objects[f"{below}/Fight/f0.mp4.npz"])
    changed[-1] ^= 1  # of the same size and time
    store.objects[f"{below}/Fight/f0.mp4.npz"] = bytes(changed)
    fetched_tracks(local)
    assert (folder / "Fight/f0.mp4.npz").read_bytes() == bytes(changed)
    del store.objects[f"{below}/NonFight/n0.mp4.npz"]
    with pytest.raises(ValueError, match=r"expected a result at .*n0\.mp4\.npz.*found none"):
        fetched_tracks(local)


def test_shards_merge_there_to_the_bytes_of_one_run(dataset, store):
    expected = local_bytes(dataset, run_stage1)
    for shard in ("2/2", "1/2"):
        extract_poses(stored(dataset, f"annotation.shard={shard}"))
    names = {key.rpartition("/")[2] for key in store.objects}
    assert {"manifest-01-of-02.json", "manifest-02-of-02.json"} < names
    assert "manifest.json" not in names
    store.requests.clear()
    extract_poses(stored(dataset))
    assert [r for r in store.requests if ".npz" in r] == []
    assert kept(store) == expected
    assert [key for key in store.objects if ".shards" in key] == []


def test_a_bucket_that_vanishes_ends_the_run_and_the_next_goes_on(dataset, store, caplog):
    expected = local_bytes(dataset, run_stage1)

    def vanish(key):
        if key.endswith("n0.mp4.npz"):
            store.refused = (404, "NoSuchBucket")

    store.before_put = vanish
    with pytest.raises(RunError, match=rf"cannot write .*n0.mp4.npz .*{OUT}/.*: no such bucket"):
        extract_poses(stored(dataset))
    assert "the journal could not be kept" in caplog.text
    assert "could not be removed" in caplog.text
    store.refused, store.before_put = None, lambda key: None
    (lock,) = [key for key in store.objects if ".locks/" in key]
    del store.objects[lock]
    extract_poses(stored(dataset))
    assert kept(store) == expected


def test_refused_credentials_end_the_run_before_any_work(dataset, store, capsys):
    store.refused = (403, "SignatureDoesNotMatch")
    words = ["--config", str(dataset), "--set", f"annotation.output_dir={OUT}"]
    assert main.main(["--mode", "annotation.stage1", *words]) == 1
    error = capsys.readouterr().err
    assert f"StoreError: {OUT}/dots/stage1_poses/dot-" in error
    assert "the credentials in the environment are refused" in error


@pytest.mark.parametrize("mode", ["pipeline", "stage3", "visualize"])
def test_a_mode_that_needs_a_folder_says_so_with_the_remedy(dataset, store, mode, capsys):
    words = ["--config", str(dataset), "--set", f"annotation.output_dir={OUT}"]
    assert main.main(["--mode", f"annotation.{mode}", *words]) != 0
    error = capsys.readouterr().err
    assert "expected a local folder for this mode, got s3://footage/out" in error
    assert "--set annotation.stage2_dir=<address of the tracks>" in error


# --- a run's hold on its results, without workers ---------------------------------------

DONE = Outcome("a.mp4", "done", frames=3, stamp="7 tag")


def test_the_journal_is_kept_now_and_then_and_after_an_error(store, monkeypatch):
    def work(run, journal):
        keep = run.keeping(journal.recording(lambda outcome, frames: None, {"a.mp4": "source"}))
        keep(DONE, 0)
        assert "out/.journal" not in store.objects, "not ten seconds later"
        monkeypatch.setattr(run.copies, "_next_s", 0.0)
        keep(Outcome("b.mp4", "refused", "empty"), 0)
        assert b"a.mp4" in store.objects["out/.journal"]
        journal.record(Outcome("c.mp4", "done", stamp="8 tag"), "source")
        raise KeyError

    with pytest.raises(KeyError), stage_run(OUT, None) as run, open_journal(run.root, {}) as one:
        work(run, one)
    assert b"c.mp4" in store.objects["out/.journal"]
    assert "out/manifest.json" not in store.objects
    with stage_run(OUT, None) as run, open_journal(run.root, {}) as journal:
        assert journal.outcome("a.mp4", "source", "7 tag") == DONE


def test_a_put_whose_answer_was_lost_ends_no_run(store, monkeypatch):
    monkeypatch.setattr(objects, "_RETRIES", {"max_retries": 1})
    with stage_run(OUT, None) as run, open_journal(run.root, {}) as journal:
        for name in ("a.mp4", "b.mp4"):  # the first makes the journal, the second replaces it
            journal.record(Outcome(name, "done", stamp="8 tag"), "source")
            monkeypatch.setattr(run.copies, "_next_s", 0.0)
            store.lost_answers = 1
            run.copies.keep_journal()
        finish_run(run.folder, None, Manifest("stage1", {}, ()))
        store.lost_answers = 1
    assert store.lost_answers == 0
    assert sorted(store.objects) == ["out/.journal", "out/manifest.json"]
    assert b"b.mp4" in store.objects["out/.journal"]


def test_what_is_no_journal_of_a_shard_stays(store):
    foreign = {"out/.shards/note.txt": b"note", "out/.shards/01-of-02": b"no folder"}
    store.objects = {**foreign, "out/.shards/01-of-02/.journal": b"of other settings"}
    with stage_run(OUT, None) as run:
        finish_run(run.folder, None, Manifest("stage1", {}, ()))
    assert store.objects.keys() == {*foreign, "out/manifest.json"}


def test_a_run_whose_lock_was_taken_away_does_not_overwrite_another(store):
    def work(run):
        with open_journal(run.root, {}):
            store.objects["out/.journal"] = b"of another run"
        finish_run(run.folder, None, Manifest("stage1", {}, ()))

    with pytest.raises(ConflictError, match="another process"), stage_run(OUT, None) as run:
        work(run)
    assert store.objects["out/.journal"] == b"of another run"
    assert "out/manifest.json" not in store.objects


def test_messages_name_the_address_and_not_the_folder_of_the_copies(store):
    with stage_run(OUT, Shard(1, 3)) as run:
        finish_run(run.folder, Shard(1, 3), Manifest("stage1", {}, ()))
    with pytest.raises(ValueError, match=rf"of the 3 shards that {OUT} has"):
        stage_run(OUT, Shard(1, 4)).__enter__()
    with pytest.raises(FileNotFoundError, match=rf"^{OUT}: 2 of 3 shards have not finished"):
        read_stage(OUT, "stage1")
    with pytest.raises(FileNotFoundError, match=rf"finished stage in {OUT}/none, found no"):
        read_stage(f"{OUT}/none", "stage1")
    assert sorted(store.objects) == ["out/manifest-01-of-03.json"]


def test_a_merge_that_is_cut_off_is_not_taken_for_the_old_split(store, monkeypatch):
    for i in (1, 2, 3):
        with stage_run(OUT, Shard(i, 3)) as run:
            finish_run(run.folder, Shard(i, 3), Manifest("stage1", {}, ()))

    def refused(*given):
        raise StoreError(OUT, "gone")

    monkeypatch.setattr(stage_run_module, "put_object", refused)
    with pytest.raises(StoreError), stage_run(OUT, None) as run:
        finish_run(run.folder, None, Manifest("stage1", {"newer": 1}, ()))
    with pytest.raises(FileNotFoundError, match="2 of 3 shards have not finished"):
        read_stage(OUT, "stage1")


@pytest.mark.parametrize(
    ("name", "why"),
    [("a\nb.mp4", "control characters"), ("a\udcff.mp4", "no UTF-8"), ("ü" * 600, "1024 bytes")],
)
def test_a_name_that_no_object_can_have_is_refused(tmp_path, name, why):
    assert why in StoredResults(OUT, tmp_path).refusal(name)
    assert StoredResults(OUT, tmp_path).refusal("싸움/a b+%.mp4.npz") == ""


def test_a_fault_of_the_disk_is_no_fault_of_the_poses(dataset, store, tmp_path):
    store.objects["out/a.mp4.npz"] = b"poses"
    (tmp_path / "file").write_text("no folder can be below")
    poses = StoredResults(OUT, tmp_path / "file" / "scratch")
    worker = stage2._TrackWorker(stage2._TrackWorkerPlan(stored(dataset), {}, poses, poses))
    with pytest.raises(StopRunError, match=r"^poses of stage 1: .*Not a directory"):
        worker(Outcome("a.mp4", "done", "", 1), lambda count: None)
    outcome = worker(Outcome("b.mp4", "done", "", 1), lambda count: None)
    assert outcome.state == "refused"
    assert f"expected a result at {OUT}/b.mp4.npz, found none" in outcome.reason
