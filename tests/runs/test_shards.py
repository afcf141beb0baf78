"""Shards: every video in one, locks, and manifests that merge to the bytes of one run."""

import multiprocessing
import shutil
from collections import Counter

import pytest

import main
from recognizer.config.file import ConfigError, load_config
from recognizer.runs import shards
from recognizer.runs.manifest import MANIFEST, Manifest, Outcome, read_manifest, write_manifest
from recognizer.runs.shards import (
    Shard,
    exclusive_run,
    finish_run,
    kept_outcomes,
    shard_of,
    shard_root,
    stage_manifest,
)
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import ArtifactError
from tests.annotation import clips

NAMES = [f"Fight/{i:05}.mp4" for i in range(16_000)]
SPLIT = [Shard(i, 3) for i in (1, 2, 3)]


def outcomes(shard=None, names=NAMES[:50]):
    return tuple(Outcome(n, "done", frames=7) for n in names if shard is None or shard.has(n))


@pytest.fixture
def split(tmp_path):
    for shard in SPLIT:
        finish_run(tmp_path, shard, Manifest("stage1", {"a": 1}, outcomes(shard)))
    return tmp_path


def test_every_video_is_in_one_shard_and_shards_are_about_equal():
    shards = [Shard(i, 16) for i in range(1, 17)]
    owners = [[s.index for s in shards if s.has(name)] for name in NAMES]
    assert {len(found) for found in owners} == {1}
    sizes = Counter(found[0] for found in owners).values()
    assert len(sizes) == 16
    assert max(sizes) < 1.25 * min(sizes)


def test_a_video_keeps_its_shard_on_every_machine_and_in_every_list():
    names = [f"Fight/{i}.mp4" for i in range(8)]
    owners = [next(i for i in range(1, 5) if Shard(i, 4).has(name)) for name in names]
    assert owners == [1, 3, 2, 4, 4, 4, 2, 3]


@pytest.mark.parametrize(
    ("shard", "name"),
    [
        (Shard(3, 16), "manifest-03-of-16.json"),
        (Shard(1, 1), "manifest-01-of-01.json"),
        (Shard(7, 1000), "manifest-0007-of-1000.json"),
    ],
)
def test_names_sort_by_number(shard, name):
    assert shard.manifest == name


@pytest.mark.parametrize("text", ["0/16", "17/16", "a/b", "3", "3/0", "1/10001"])
def test_what_is_no_shard_is_refused_on_the_command_line(dataset, text, capsys):
    assert (
        main.main(["--mode", "annotation.stage1", "--config", str(dataset), "--shard", text]) == 2
    )
    error = capsys.readouterr().err
    assert "--set: annotation.shard: expected a shard such as 3/16" in error


@pytest.mark.parametrize(
    "mode", ["annotation.stage3", "annotation.pipeline", "annotation.visualize"]
)
def test_a_mode_that_needs_all_videos_takes_no_shard(dataset, mode, capsys):
    words = ["--mode", mode, "--config", str(dataset)]
    with pytest.raises(SystemExit):
        main.main([*words, "--shard", "1/2"])
    assert f"--shard: --mode {mode} does not take it" in capsys.readouterr().err
    assert main.main([*words, "--set", "annotation.shard=1/2"]) == 2
    assert "without a shard, after the last one" in capsys.readouterr().err


def test_manifests_of_shards_merge_to_the_bytes_of_one(split, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    write_manifest(whole, Manifest("stage1", {"a": 1}, outcomes()))
    merged = stage_manifest(split, "stage1")
    finish_run(split, None, merged)
    assert (split / MANIFEST).read_bytes() == (whole / MANIFEST).read_bytes()
    assert not list(split.glob("manifest-*"))


def test_a_merge_that_is_killed_after_its_manifest_is_not_taken_for_the_old_split(
    split, monkeypatch
):
    def killed(*given):
        write_manifest(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_manifest", killed)
    newer = Manifest("stage1", {"a": 1}, outcomes(names=NAMES[:60]))
    with pytest.raises(KeyboardInterrupt):
        finish_run(split, None, newer)
    with pytest.raises(FileNotFoundError, match=r"run --mode annotation\.stage1 with"):
        stage_manifest(split, "stage1")
    monkeypatch.undo()
    finish_run(split, None, newer)
    assert stage_manifest(split, "stage1") == newer


def test_missing_shards_are_named(split):
    (split / SPLIT[0].manifest).unlink()
    (split / SPLIT[2].manifest).unlink()
    with pytest.raises(FileNotFoundError, match="2 of 3 shards have not finished: 1/3, 3/3; run "):
        stage_manifest(split, "stage1")


def test_a_shard_reads_its_part_of_whichever_manifest_there_is(split):
    part = stage_manifest(split, "stage1", SPLIT[1]).outcomes
    assert part == outcomes(SPLIT[1])
    assert stage_manifest(split, "stage1", Shard(2, 5)).outcomes == outcomes(Shard(2, 5))
    finish_run(split, None, stage_manifest(split))
    assert stage_manifest(split, "stage1", SPLIT[1]).outcomes == part


def test_another_split_is_refused_until_the_first_is_merged(split):
    with (
        pytest.raises(ConfigError, match="expected one of the 3 shards"),
        exclusive_run(split, Shard(1, 4)),
    ):
        pass
    finish_run(split, None, stage_manifest(split))
    with exclusive_run(split, Shard(1, 4)):
        pass


def test_shards_of_other_settings_do_not_merge(split):
    finish_run(split, SPLIT[0], Manifest("stage1", {"a": 2}, ()))
    with pytest.raises(ArtifactError, match="different settings"):
        stage_manifest(split, "stage1")


def _is_refused(folder, shard, answers):
    try:
        with exclusive_run(folder, shard):
            answers.put(False)
    except BlockingIOError:
        answers.put(True)


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (Shard(1, 3), Shard(1, 3), True),
        (Shard(1, 3), Shard(2, 3), False),
        (Shard(1, 3), None, True),
        (None, Shard(1, 3), True),
        (None, None, True),
    ],
)
def test_two_drivers_of_one_part_exclude_each_other(tmp_path, first, second, refused):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with exclusive_run(tmp_path, first):
        process = context.Process(target=_is_refused, args=(tmp_path, second, answers))
        process.start()
        assert answers.get(timeout=60) is refused
        process.join()


def test_a_shard_leaves_the_scratch_files_of_others_alone(tmp_path):
    with exclusive_run(tmp_path, Shard(1, 2)) as root:
        (root / ".scratch").mkdir()
        with exclusive_run(tmp_path, Shard(2, 2)):
            assert (root / ".scratch").is_dir()
    assert not (root / ".scratch").exists()


def test_end_states_that_a_narrower_run_keeps_are_those_of_its_shard(split):
    kept = kept_outcomes(split, SPLIT[0], set(NAMES[:20]))
    assert kept == tuple(o for o in outcomes(SPLIT[0]) if o.video in NAMES[:20])
    assert len(kept_outcomes(split, None, set(NAMES[:20]))) == 20


@pytest.fixture
def dataset(tmp_path):
    return clips.make_dataset(tmp_path)


@pytest.mark.usefixtures("forked_workers")
def test_stages_in_shards_leave_the_bytes_of_one_run(dataset):
    (dataset.parent / "data/Fight/text.mp4").write_text("not a video")
    config = load_config(dataset)
    poses, tracks = run_stage1(config), run_stage2(config)
    whole = clips.contents(poses), clips.contents(tracks)
    shutil.rmtree(poses)
    shutil.rmtree(tracks)
    parts = [load_config(dataset, [f"annotation.shard={s}"]) for s in SPLIT]
    for part in reversed(parts):
        run_stage1(part)
        run_stage2(part)
    assert not (poses / MANIFEST).exists()
    before = {p: p.stat().st_mtime_ns for p in poses.rglob("*.npz")}
    assert (run_stage1(config), run_stage2(config)) == (poses, tracks)
    assert {p: p.stat().st_mtime_ns for p in poses.rglob("*.npz")} == before
    assert (clips.contents(poses), clips.contents(tracks)) == whole
    assert not shard_root(poses, SPLIT[0]).exists()


@pytest.mark.usefixtures("forked_workers")
def test_stage_2_refuses_shards_that_have_not_finished(dataset):
    part = load_config(dataset, ["annotation.shard=2/3"])
    run_stage1(part)
    assert shard_of(part.annotation) == SPLIT[1]
    with pytest.raises(FileNotFoundError, match=r"shards have not finished: 1/3, 3/3"):
        run_stage2(load_config(dataset))
    assert read_manifest(run_stage1(load_config(dataset))).stage == "stage1"


@pytest.mark.usefixtures("forked_workers")
def test_a_shard_without_videos_finishes(dataset):
    only = load_config(dataset, ["annotation.shard=1/9999"])
    folder = run_stage1(only)
    assert stage_manifest(folder, shard=Shard(1, 9999)).outcomes == ()
