"""Mode annotation.distill on real footage: labels, splits, refusals, and a second run."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from annotation import distill_video
from annotation.distill import _finished, distill
from annotation.distill_dataset import annotation_file
from annotation.distill_sheet import SHEET
from annotation.distill_video import VideoLabeller
from recognizer.config.file import ConfigError, load_config
from recognizer.config.schema import DistillConfig
from recognizer.runs.inputs import Video
from recognizer.runs.progress import silent
from recognizer.runs.worker_pool import StopRunError
from recognizer.sdpose.coco import validate_coco
from tests import networks

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT.parent / "shared" / "assets"
SPLITS = ("train", "val")
pytestmark = [
    pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets"),
    pytest.mark.usefixtures("forked_workers"),
]


def _config(folder, *overrides):
    keys = (
        f"annotation.input={folder / 'videos'}",
        f"annotation.output_dir={folder}",
        "annotation.workers=1",
        f"models.weights_dirs=[{ASSETS / 'weights'}]",
        "models.pose_estimation.onnx.model_path=pp_tinypose_256x192.onnx",
        f"dataset.split.sources={folder / 'sources.csv'}",
        "distill.max_pictures=1",
        "distill.neighbours=1",
        "distill.second_opinion=movenet_multipose.onnx",
    )
    return load_config(ROOT / "configs" / "config.yaml", [*keys, *overrides])


def _read(folder, split):
    return json.loads(annotation_file(folder / "distill", split).read_bytes())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return a folder with labels of a street and a fight; one file is cut off."""
    folder = tmp_path_factory.mktemp("distill")
    videos = folder / "videos"
    (videos / "fight").mkdir(parents=True)
    fight = ASSETS / "fight_surv" / "Fight" / "fi005.mp4"
    shutil.copyfile(ASSETS / "videos" / "street_14_people.mp4", videos / "street.mp4")
    shutil.copyfile(fight, videos / "fight" / "a.mp4")
    (videos / "cut.mp4").write_bytes(fight.read_bytes()[:20_000])
    rows = "video,source\nstreet.mp4,street\nfight/a.mp4,yard\ncut.mp4,yard\n"
    (folder / "sources.csv").write_text(rows)
    assert distill(_config(folder), silent) == 3  # some inputs refused
    return folder


def test_the_data_set_can_be_trained_on(labelled):
    out = labelled / "distill"
    people = 0
    for split in SPLITS:
        summary = validate_coco(annotation_file(out, split), out / "images")
        assert not summary.warnings
        people += summary.with_keypoints
    assert people >= 8  # of the fourteen in the street alone


def test_ignore_regions_are_masked_in_mmposes_bottom_up_training(labelled):
    from mmpose.datasets import CocoDataset
    from mmpose.datasets.transforms import BottomupGetHeatmapMask

    out = labelled / "distill"
    crowds = {
        split: [one for one in _read(labelled, split)["annotations"] if one["iscrowd"]]
        for split in SPLITS
    }
    split = max(crowds, key=lambda split: len(crowds[split]))
    region = crowds[split][0]
    data = CocoDataset(
        ann_file=str(annotation_file(out, split)),
        data_prefix={"img": str(out / "images")},
        data_mode="bottomup",
    )
    everything = [data.get_data_info(i) for i in range(len(data))]
    picture = next(one for one in everything if one["img_id"] == region["image_id"])
    size = next(i for i in _read(labelled, split)["images"] if i["id"] == region["image_id"])
    mask = BottomupGetHeatmapMask(get_invalid=True)._segs_to_mask(
        picture["invalid_segs"], (size["height"], size["width"])
    )
    x, y, width, height = region["bbox"]
    assert mask[round(y + height / 2), round(x + width / 2)] == 1
    assert 0 < mask.mean() < 0.9


def test_splits_are_by_source_and_every_picture_names_its_own(labelled):
    sources = {
        split: {image["source"] for image in _read(labelled, split)["images"]} for split in SPLITS
    }
    assert sorted(map(sorted, sources.values())) == [["street"], ["yard"]]
    for split in SPLITS:
        for image in _read(labelled, split)["images"]:
            assert image["time_s"] > 0
            assert (labelled / "videos" / image["video"]).is_file()
            picture = cv2.imread(str(labelled / "distill" / "images" / image["file_name"]))
            assert picture.shape[:2] == (image["height"], image["width"])


def test_the_manifest_accounts_for_every_video(labelled):
    manifest = json.loads((labelled / "distill" / "distill.json").read_bytes())
    assert manifest["totals"]["done"] == 2
    assert manifest["videos"]["cut.mp4"]["state"] == "refused"
    assert "cut off" in manifest["videos"]["cut.mp4"]["reason"]
    models = manifest["settings"]["models"]
    assert set(models) == {"pose", "detector", "second_opinion"}
    assert all(len(model["sha256"]) == 64 for model in models.values())
    counted = sum(manifest["totals"][split]["people"] for split in SPLITS)
    written = [one for split in SPLITS for one in _read(labelled, split)["annotations"]]
    assert counted == sum(not one["iscrowd"] for one in written)
    sheet = cv2.imread(str(labelled / "distill" / SHEET))
    assert sheet.std() > 20


def test_a_second_run_labels_only_what_is_new(labelled, tmp_path, caplog):
    folder = tmp_path / "again"
    shutil.copytree(labelled, folder)
    out = folder / "distill"
    (folder / "videos" / "cut.mp4").unlink()
    kept = out / "labels" / "street.mp4.json"
    changed = out / "labels" / "fight" / "a.mp4.json"
    picture = next((out / "images").glob("a-*.jpg"))
    before = [kept.stat().st_mtime_ns, changed.stat().st_mtime_ns]
    content = picture.read_bytes()
    picture.unlink()  # removed by hand
    assert distill(_config(folder), silent) == 0
    assert "1 videos of the last run are not in annotation.input, such as cut.mp4" in caplog.text
    assert kept.stat().st_mtime_ns == before[0]
    assert changed.stat().st_mtime_ns != before[1]
    assert picture.read_bytes() == content
    for split in SPLITS:
        assert _read(folder, split) == _read(labelled, split)


def test_two_runs_in_one_folder_are_refused(labelled):
    with (labelled / "distill" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run is at work"):
            distill(_config(labelled), silent)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["models.pose_estimation.onnx.model_path={folder}/rtmo.onnx"], "kind topdown"),
        (["distill.second_opinion=none.onnx"], r"distill\.second_opinion: .*none\.onnx"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused_before_any_work(
    labelled, tmp_path, overrides, expected
):
    networks.rtmo(tmp_path / "rtmo.onnx")
    changes = [override.format(folder=tmp_path) for override in overrides]
    config = _config(labelled, *changes, f"distill.output={tmp_path / 'out'}")
    with pytest.raises(ConfigError, match=expected):
        distill(config, silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["person_keypoints_train.json", SHEET, "distill.json"])
def test_another_data_set_is_not_overwritten(labelled, tmp_path, name):
    foreign = tmp_path / name
    foreign.write_text("{}")
    (tmp_path / "labels").mkdir()  # many data sets have such a folder
    with pytest.raises(ConfigError, match=f"{name} of another data set"):
        distill(_config(labelled, f"distill.output={tmp_path}"), silent)
    assert foreign.read_text() == "{}"


def test_labels_stay_when_a_video_turns_bad(labelled, tmp_path):
    folder = tmp_path / "bad"
    shutil.copytree(labelled, folder)
    street, out = folder / "videos" / "street.mp4", folder / "distill"
    pictures = sorted((out / "images").glob("street-*.jpg"))
    labels = (out / "labels" / "street.mp4.json").read_bytes()
    street.write_bytes(street.read_bytes()[:4000])
    assert distill(_config(folder), silent) == 3
    assert json.loads((out / "distill.json").read_bytes())["videos"]["street.mp4"]["reason"]
    assert (out / "labels" / "street.mp4.json").read_bytes() == labels
    assert pictures
    assert all(path.stat().st_size for path in pictures)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, value: path.write_bytes(b"["),
        lambda path, value: path.write_text("[" * 100_000),
        lambda path, value: value["pictures"][0].pop("annotations"),
        lambda path, value: value["pictures"][0].update(annotations="none"),
        lambda path, value: value["outcome"].update(state="foo"),
        lambda path, value: (path.unlink(), os.mkfifo(path)),
    ],
    ids=["cut off", "nested", "no annotations", "text", "another state", "a pipe"],
)
def test_a_damaged_label_file_counts_as_none(labelled, tmp_path, damage):
    path, value = tmp_path / "labels" / "street.mp4.json", None
    shutil.copytree(labelled / "distill", tmp_path, dirs_exist_ok=True)
    value = json.loads(path.read_bytes())
    video = Video("street.mp4", labelled / "videos" / "street.mp4")
    assert _finished(tmp_path, value["settings"], video) is not None
    settings = value["settings"]
    before = path.read_bytes()
    damage(path, value)
    if path.is_file() and path.read_bytes() == before:
        path.write_text(json.dumps(value))
    assert _finished(tmp_path, settings, video) is None


def test_an_empty_picture_counts_as_none(labelled, tmp_path):
    shutil.copytree(labelled / "distill", tmp_path, dirs_exist_ok=True)
    value = json.loads((tmp_path / "labels" / "street.mp4.json").read_bytes())
    (tmp_path / "images" / value["pictures"][0]["file_name"]).write_bytes(b"")
    video = Video("street.mp4", labelled / "videos" / "street.mp4")
    assert _finished(tmp_path, value["settings"], video) is None


def test_a_picture_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    """A full disk is no fault of a video: the run ends, no video counts as refused."""

    def full(path, picture):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(distill_video, "write_jpeg", full)
    empty = {"boxes": np.zeros((0, 4)), "scores": np.zeros((0, 3))}
    empty |= {"keypoints": np.zeros((0, 17, 3)), "movenet": np.zeros((0, 17, 3))}
    label = VideoLabeller(lambda image: empty, DistillConfig(neighbours=0), tmp_path)
    with pytest.raises(StopRunError, match=r"cannot write .*No space left"):
        label("a.mp4", ASSETS / "videos" / "street_14_people.mp4", lambda frames: None)


def test_the_nearest_frame_is_that_of_a_search_through_all():
    rng = np.random.default_rng(0)
    time_s = np.cumsum(rng.integers(1, 4, 60) / 8)
    moments = [*rng.uniform(-1, time_s[-1] + 1, 200), *time_s, *((time_s[1:] + time_s[:-1]) / 2)]
    for moment in moments:
        assert distill_video._nearest(time_s, moment) == np.abs(time_s - moment).argmin()
