"""Falls as negatives of a classifier of fights: real clips, learnt from and never judged."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure

from annotation.preflight import check_labels
from annotation.stage3 import run_stage3
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.mmaction import read_split
from recognizer.dataset.windows import plan_windows
from recognizer.runs import figures
from recognizer.runs.manifest import Manifest, Outcome, read_manifest, result_path, write_manifest
from recognizer.runs.stage_folders import stage3_settings
from recognizer.storage.artifacts import read_poses, write_poses
from tests.annotation.datasets import read_metadata
from tests.annotation.real_tracks import CLIPS, FALLS, SAMPLES, of_fights, tracks, without_pictures

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tracks(tmp_path_factory.mktemp("clips"), "stage1", CLIPS)


@pytest.fixture(scope="module")
def falls(tmp_path_factory):
    return tracks(tmp_path_factory.mktemp("falls"), "falls_stage1", FALLS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, clips):
    return without_pictures(of_fights(tmp_path_factory.mktemp("plain"), clips))


def pickles(folder):
    return {split: (folder / f"{split}.pkl").read_bytes() for split in SPLITS}


# --- what is learnt from -----------------------------------------------------------


def test_windows_of_falls_are_learnt_from_as_normal_and_nothing_else_changes(
    tmp_path, clips, falls, plain
):
    folder = without_pictures(of_fights(tmp_path, clips, [falls], negatives_s=4.0))
    metadata, before = read_metadata(folder), read_metadata(plain)
    for split in ("val", "test"):
        assert pickles(folder)[split] == pickles(plain)[split]
        assert metadata["splits"][split] == before["splits"][split]
    assert metadata["samples"] == before["samples"]
    assert metadata["nobody_tracked"] == before["nobody_tracked"]

    recorded = metadata["negatives"]
    lengths = [s["stop_s"] - s["start_s"] for s in metadata["samples"].values()]
    assert recorded["window_s"] == pytest.approx(np.median(lengths), abs=1e-3)
    samples = {s.name: s for s in read_split(folder / "train.pkl")}
    own = {s.name for s in read_split(plain / "train.pkl")}
    assert samples.keys() - own == recorded["samples"].keys()
    assert {samples[name].label for name in recorded["samples"]} == {0}
    assert all(name.startswith("negatives/1/Subject_") for name in recorded["samples"])
    for video in FALLS:
        sequence, _, _ = read_poses(result_path(falls, video, ".npz"))
        planned = plan_windows(sequence, recorded["window_s"], recorded["window_s"] / 2)
        mine = [s for s in recorded["samples"].values() if s["video"] == video]
        assert len(mine) == 2 < len(planned)
        spans = [(round(a, 6), round(b, 6)) for a, b in planned]
        assert {(s["start_s"], s["stop_s"]) for s in mine} <= set(spans)
        assert np.ptp([s["start_s"] for s in mine]) >= recorded["window_s"] / 2  # spread
        assert {s["split"] for s in mine} == {"train"}


def test_counts_weights_and_the_page_show_them(tmp_path, clips, falls, plain):
    folder = without_pictures(of_fights(tmp_path, clips, [falls]))
    metadata, before = read_metadata(folder), read_metadata(plain)
    count = len(metadata["negatives"]["samples"])
    (recorded,) = metadata["negatives"]["folders"]
    assert recorded["samples"] == count > 0
    assert (recorded["videos"], recorded["videos_used"], recorded["sources"]) == (
        3,
        3,
        sorted(FALLS),
    )
    train = metadata["splits"]["train"]
    assert train == before["splits"]["train"] | {"sha256": train["sha256"], "negatives": count}
    assert train["samples"] + count == len(read_split(folder / "train.pkl"))
    assert metadata["totals"] == before["totals"] | {"negatives": count}
    assert metadata["totals"]["samples"] == sum(s["samples"] for s in metadata["splits"].values())
    assert metadata["class_weights"]["NonFight"] < before["class_weights"]["NonFight"]
    assert metadata["class_balance"] == before["class_balance"]
    shares = [train["by_class"]["NonFight"] + count, train["by_class"]["Fight"]]
    weights = [metadata["class_weights"][name] for name in ("NonFight", "Fight")]
    assert weights[0] * shares[0] == pytest.approx(weights[1] * shares[1], rel=1e-4)
    assert metadata["no_leak"][:-1] == before["no_leak"]
    assert metadata["no_leak"][-1].startswith(f"+ {count} negatives in train, of no source")
    page = (folder / "report" / "summary.txt").read_text()
    assert f"{recorded['folder']}: {count} samples of 3 of 3 videos" in page
    assert page.startswith(f"16 samples + {count} negatives for fight, from 16 videos: 16 done")
    assert f"\n+ negatives {count:>8}\n" in page
    assert str(tmp_path) not in (folder / "metadata.json").read_text()


def test_the_sheets_and_the_chart_name_their_number(tmp_path, clips, falls, monkeypatch):
    texts = {}

    def draw_only(final, root, draw):
        figure = Figure()
        draw(figure)
        labels = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
        texts[final.name] = figure.get_suptitle(), labels
        final.parent.mkdir(exist_ok=True)
        final.touch()

    monkeypatch.setattr(figures, "save_figure", draw_only)
    folder = run_stage3(of_fights(tmp_path, clips, [falls]))
    count = len(read_metadata(folder)["negatives"]["samples"])
    assert texts["skeletons_NonFight.png"][0].startswith(f"Class NonFight + {count} negatives: a")
    assert texts["skeletons_Fight.png"][0].startswith("Class Fight: a few")
    train = read_metadata(folder)["splits"]["train"]["samples"]
    assert texts["class_balance.png"][1][0] == f"train\n{train} samples + {count} negatives"


def test_other_negatives_are_another_data_set_and_the_same_ones_are_not_read_again(
    tmp_path, clips, falls, plain
):
    config = of_fights(tmp_path, clips, [falls])
    folder = without_pictures(config)
    before = (folder / "train.pkl").stat().st_mtime_ns
    assert without_pictures(config) == folder
    assert (folder / "train.pkl").stat().st_mtime_ns == before
    changed = copy_of(falls, tmp_path / "changed", keep=2)
    other = without_pictures(of_fights(tmp_path, clips, [changed]))
    assert other.name != folder.name != plain.name
    # Without negatives the folder is the one of earlier versions: data are not made anew.
    settings = stage3_settings(of_fights(tmp_path, clips), read_manifest(clips))
    assert not {"negatives", "negatives_s"} & settings["dataset"].keys()


def test_two_folders_may_hold_videos_of_one_name(tmp_path, clips, falls):
    twin = copy_of(falls, tmp_path / "twin")
    for path in twin.rglob("*.npz"):  # other recordings
        sequence, extra, meta = read_poses(path)
        meta["source"] = {**meta["source"], "sha256": f"{path.parent.parent.name}/{path.name}"}
        write_poses(path, twin, sequence, meta, extra)
    folder = without_pictures(of_fights(tmp_path, clips, [falls, twin]))
    recorded = read_metadata(folder)["negatives"]
    assert [one["samples"] for one in recorded["folders"]] == [len(recorded["samples"]) // 2] * 2
    train = read_metadata(folder)["splits"]["train"]
    assert len(read_split(folder / "train.pkl")) == train["samples"] + train["negatives"]


# --- what is refused ---------------------------------------------------------------


def copy_of(folder, target, keep=None, **settings):
    """Copy a stage 2, with fewer videos or other settings."""
    shutil.copytree(folder, target)
    (target / ".lock").unlink(missing_ok=True)
    manifest = read_manifest(target)
    value = {**json.loads(json.dumps(manifest.settings)), **settings}
    write_manifest(target, Manifest("stage2", value, manifest.outcomes[:keep]))
    return target


def with_video(folder, target, clips, name, *, source=None, flip=0):
    """Copy a stage 2 and add the data set's first clip under a name, its pictures changed."""
    copy_of(folder, target)
    sequence, extra, meta = read_poses(result_path(clips, CLIPS[0], ".npz"))
    meta = meta if source is None else {**meta, "source": {"sha256": source}}
    extra = {**extra, "hashes": extra["hashes"] ^ np.uint64(flip)}
    write_poses(result_path(target, name, ".npz"), target, sequence, meta, extra)
    manifest = read_manifest(target)
    more = Outcome(name, "done", frames=len(sequence))
    write_manifest(target, Manifest("stage2", manifest.settings, (*manifest.outcomes, more)))
    return target


def refused(config, match):
    with pytest.raises(ConfigError, match=f"dataset.negatives: {match}") as error:
        without_pictures(config)
    assert not list(config.annotation.output_dir.rglob("*.pkl"))
    return str(error.value)


def test_folders_that_are_no_tracks_are_refused(tmp_path, clips, falls):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    refused(
        of_fights(tmp_path / "a", clips, [nothing]), "expected the folder of a finished stage 2"
    )
    stage1 = SAMPLES / "falls_stage1"
    refused(of_fights(tmp_path / "b", clips, [stage1]), r"expected .* stage 2 .*got one of stage1")
    refused(of_fights(tmp_path / "c", clips, [clips]), ".* the data set's own tracks")
    refused(of_fights(tmp_path / "d", clips, [falls, falls]), ".* named twice")


def test_footage_made_with_other_settings_is_refused(tmp_path, clips, falls):
    settings = read_manifest(falls).settings
    models = {**settings["stage1"]["models"], "pose": {"file": "other.onnx", "sha256": "00"}}
    other = copy_of(falls, tmp_path / "model", stage1={**settings["stage1"], "models": models})
    text = refused(of_fights(tmp_path / "a", clips, [other]), "expected poses and tracks made as")
    assert "stage1.models.pose.file: 'other.onnx' instead of 'pp_tinypose_256x192.onnx'" in text
    tracking = {**settings["tracking"], "track_buffer_s": 3.0}
    other = copy_of(falls, tmp_path / "tracker", tracking=tracking)
    text = refused(of_fights(tmp_path / "b", clips, [other]), "expected poses and tracks made as")
    assert "tracking.track_buffer_s: 3.0 instead of 1.0" in text
    # Who matters is ranked anew: other weights of the scoring change nothing.
    other = copy_of(falls, tmp_path / "scoring", scoring={})
    without_pictures(of_fights(tmp_path / "c", clips, [other]))


def test_footage_without_people_is_refused(tmp_path, clips, falls):
    empty = copy_of(falls, tmp_path / "empty", keep=0)
    refused(of_fights(tmp_path / "a", clips, [empty]), r"expected tracked videos .*\(0 refused\)")
    lonely = copy_of(falls, tmp_path / "lonely", keep=1)
    for path in lonely.rglob("*.npz"):
        sequence, extra, meta = read_poses(path)
        sequence.poses.track_ids[:] = -1
        write_poses(path, lonely, sequence, meta, extra)
    refused(of_fights(tmp_path / "b", clips, [lonely]), "expected a window with people")


def test_what_the_data_set_holds_is_refused(tmp_path, clips, falls):
    same = with_video(falls, tmp_path / "name", clips, CLIPS[3], source="ab", flip=0xFFFFFFFF)
    text = refused(of_fights(tmp_path / "a", clips, [same]), "expected footage that the data set")
    assert f"{CLIPS[3]} is called as a video of the data set" in text
    copy = with_video(falls, tmp_path / "copy", clips, "Other/x.mp4", flip=0xFFFFFFFF)
    text = refused(of_fights(tmp_path / "b", clips, [copy]), "expected footage that the data set")
    assert f"Other/x.mp4 is a copy of {CLIPS[0]}" in text
    # nofi150 is of the recording of fi005, as the table of sources says; its pictures differ.
    kin = with_video(
        falls, tmp_path / "kin", clips, "NonFight/nofi150.mp4", source="ab", flip=0xFFFFFFFF
    )
    text = refused(of_fights(tmp_path / "c", clips, [kin]), "expected footage that the data set")
    assert "NonFight/nofi150.mp4 is of the source fbbbcc4e" in text


def test_near_duplicates_of_the_data_set_are_left_out_unless_nothing_is_compared(
    tmp_path, clips, falls, caplog
):
    alike = with_video(falls, tmp_path / "alike", clips, "Other/x.mp4", source="ab", flip=0b111)
    recorded = read_metadata(without_pictures(of_fights(tmp_path / "a", clips, [alike])))[
        "negatives"
    ]
    assert {s["video"] for s in recorded["samples"].values()} == set(FALLS)
    reason = recorded["folders"][0]["left_out"]["Other/x.mp4"]
    assert reason.startswith(f"looks like {CLIPS[0]} of the data set (")
    assert f"/alike: Other/x.mp4: {reason}" in caplog.text
    recorded = read_metadata(
        without_pictures(of_fights(tmp_path / "b", clips, [alike], duplicate_distance=None))
    )["negatives"]
    assert {s["video"] for s in recorded["samples"].values()} == {*FALLS, "Other/x.mp4"}
    other = with_video(
        falls, tmp_path / "other", clips, "Other/x.mp4", source="ab", flip=0xFFFFFFFF
    )
    recorded = read_metadata(without_pictures(of_fights(tmp_path / "c", clips, [other])))[
        "negatives"
    ]
    assert "Other/x.mp4" in {s["video"] for s in recorded["samples"].values()}


def test_a_missing_folder_is_reported_before_stage_1(tmp_path):
    for name in ("Fight", "NonFight"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / f"{name}.mp4").write_bytes(b"")
    config = Config.model_validate(
        {
            "annotation": {"input": str(tmp_path / "data")},
            "dataset": {"negatives": [str(tmp_path / "gone")]},
        }
    )
    with pytest.raises(ConfigError, match=r"dataset\.negatives: expected the folder of a"):
        check_labels(config)
