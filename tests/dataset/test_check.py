"""Every kind of bad data set, one by one and all at once; and real ones, which are good."""

import pickle

import numpy as np
import pytest

from recognizer.dataset.check import DatasetError, check_splits, sample_faults
from recognizer.dataset.mmaction import to_mmaction, write_split
from recognizer.storage.pickles import write_pickle_list
from recognizer.types import Sample
from tests.action.clips import real_samples
from tests.dataset.made import made

GOOD = [made(f"{i}.mp4", i % 2) for i in range(6)]


def written(folder, items, name="train.pkl"):
    """Write items, samples or what is to be wrong, as a pickle."""
    items = [to_mmaction(item) if isinstance(item, Sample) else item for item in items]
    write_pickle_list(folder / name, folder, items)
    return folder / name


def check_split(path, num_classes):
    return check_splits({"train": path}, num_classes)["train"]


def changed(**changes):
    item = {**to_mmaction(made("bad.mp4")), **changes}
    return {key: value for key, value in item.items() if value is not None}


def crowd(size_wh):
    """Return a sample of a 640 x 360 picture with people all over it, some half beside it."""
    random = np.random.default_rng(1)
    middles = random.uniform((0, 0), (640, 360), (4, 20, 1, 2))
    points = middles + random.uniform(-60, 60, (4, 20, 17, 2))
    return made("bad.mp4", keypoints=points.astype(np.float32), size_wh=size_wh)


def test_real_samples_are_good(tmp_path):
    samples = real_samples()
    assert list(sample_faults(samples, 2)) == []
    for name, part in (("train", samples[::2]), ("val", samples[1::4]), ("test", samples[3::4])):
        write_split(tmp_path / f"{name}.pkl", tmp_path, part)
    found = check_splits({s: tmp_path / f"{s}.pkl" for s in ("train", "val", "test")}, 2)
    assert [s.name for s in found["train"]] == [s.name for s in samples[::2]]
    assert sum(map(len, found.values())) == len(samples)


def test_real_samples_with_swapped_sizes_are_found():
    swapped = [
        Sample(s.name, s.label, s.keypoints, s.keypoint_scores, s.size_wh[::-1], s.track_ids)
        for s in real_samples()
    ]
    faults = list(sample_faults(swapped, 2))
    assert len(faults) >= 3, "some: people in the left part of a picture fit both ways"
    assert all("img_shape is (height, width)" in fault for fault in faults)


SHAPE = (2, 20, 17, 2)
BAD = {
    "coco 18": (changed(keypoint=np.zeros((2, 20, 18, 2), np.float32)), "got (2, 20, 18, 2)"),
    "flat": (changed(keypoint=np.zeros((20, 34), np.float32)), "got (20, 34) ndarray"),
    "float64": (changed(keypoint=np.zeros((2, 20, 17, 2))), "float32"),
    "scores": (changed(keypoint_score=np.zeros((2, 19, 17), np.float32)), "keypoint_scores"),
    "NaN": (changed(keypoint=np.full((2, 20, 17, 2), np.nan, np.float32)), "NaN"),
    "inf": (changed(keypoint_score=np.full((2, 20, 17), np.inf, np.float32)), "finite"),
    "label too high": (made("bad.mp4", 2), "expected a label below 2, got 2"),
    "label negative": (changed(label=-1), "expected a label >= 0, got -1"),
    "label bool": (changed(label=True), "got True"),
    "label array": (changed(label=np.zeros(2, np.int64)), "expected a label"),
    "same name": (made("0.mp4"), "two samples are called '0.mp4'"),
    "no name": (changed(frame_dir=""), "expected a name"),
    "no key": (changed(keypoint_score=None), "'keypoint_score' is missing"),
    "frames": (changed(total_frames=19), "expected total_frames 20 as in keypoint, got 19"),
    "size": (changed(img_shape=(0, 320)), "expected img_shape (height, width)"),
    "size text": (changed(img_shape="big"), "pixels from 1 to 100000, got 'big'"),
    "size of letters": (changed(img_shape=("2", "3")), "expected img_shape (height, width)"),
    "size of three": (changed(img_shape=(240, 320, 3)), "got (240, 320, 3)"),
    "size in parts": (changed(img_shape=(240.5, 320)), "whole numbers of pixels"),
    "size beyond floats": (changed(img_shape=(10**400, 10**400)), "from 1 to 100000"),
    "points in a list": (changed(keypoint=[[1.0]]), "(people, frames, 17, 2), got list"),
    "points that are text": (changed(keypoint="x"), "expected keypoint as an array"),
    "far out": (made("bad.mp4", keypoints=np.full(SHAPE, 1e30, np.float32)), "some at 1e+30"),
    "below the scale": (
        made("bad.mp4", scores=np.full(SHAPE[:3], -0.5, np.float32)),
        "got -0.5 to -0.5",
    ),
    "above the scale": (
        made("bad.mp4", scores=np.full(SHAPE[:3], 1e20, np.float32)),
        "got 1e+20 to 1e+20",
    ),
    "parts of the picture": (
        made("bad.mp4", keypoints=np.full(SHAPE, 0.4, np.float32)),
        "parts of the picture",
    ),
    "nobody": (changed(keypoint_score=np.zeros((2, 20, 17), np.float32)), "nobody is seen"),
    "no slot": (
        changed(
            keypoint=np.zeros((0, 20, 17, 2), np.float32),
            keypoint_score=np.zeros((0, 20, 17), np.float32),
        ),
        "at least one person",
    ),
    "swapped": (crowd((360, 640)), "inside one 640 wide and 360 high"),
    "no dict": (3, "sample 6: expected a dict, got int"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sample_is_named(tmp_path, name):
    item, message = BAD[name]
    with pytest.raises(DatasetError) as error:
        check_split(written(tmp_path, [*GOOD, item]), 2)
    assert len(error.value.problems) == 1
    problem = error.value.problems[0]
    assert message in problem
    assert problem.startswith("train: ")
    assert str(error.value).startswith("1 problem in the data set:\n  - train: ")


def test_a_size_as_it_should_be_is_not_called_swapped(tmp_path):
    assert len(check_split(written(tmp_path, [*GOOD, crowd((640, 360))]), 2)) == 7


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "expected at least 4 samples, got 0"),
        (GOOD[:3], "expected at least 4 samples, got 3"),
        ([*GOOD[::2], made("7.mp4")], "no sample of class 1; it has {0: 4}"),
    ],
)
def test_too_few(tmp_path, samples, message):
    with pytest.raises(DatasetError) as error:
        check_split(written(tmp_path, samples), 2)
    assert f"train: {message}" in error.value.problems


def test_only_the_training_split_needs_every_class(tmp_path):
    splits = {"train": written(tmp_path, GOOD), "val": written(tmp_path, [made("v")], "val.pkl")}
    assert len(check_splits(splits, 2)["val"]) == 1
    splits["val"] = written(tmp_path, [], "val.pkl")
    with pytest.raises(DatasetError, match="val: expected at least 1 samples, got 0"):
        check_splits(splits, 2)


def test_a_split_that_may_be_empty(tmp_path):
    splits = {"train": written(tmp_path, GOOD), "test": written(tmp_path, [], "test.pkl")}
    assert check_splits(splits, 2, may_be_empty=["test"])["test"] == []
    with pytest.raises(DatasetError, match="test: expected at least 1 samples"):
        check_splits(splits, 2)


def test_a_name_in_two_splits(tmp_path):
    splits = {
        "train": written(tmp_path, GOOD),
        "test": written(tmp_path, [made("new"), GOOD[2]], "test.pkl"),
    }
    with pytest.raises(DatasetError) as error:
        check_splits(splits, 2)
    assert error.value.problems == ("train and test: '2.mp4' is in each of them",)


def test_everything_is_reported_at_once(tmp_path):
    items = [
        *GOOD,
        *(item for item, _ in BAD.values()),
        {**changed(label=-1, total_frames=3), "frame_dir": "both"},
    ]
    with pytest.raises(DatasetError) as error:
        check_splits(
            {
                "train": written(tmp_path, items),
                "val": tmp_path / "missing.pkl",
                "test": written(tmp_path, [GOOD[0]], "test.pkl"),
            },
            2,
        )
    problems = error.value.problems
    assert len(problems) >= len(BAD) + 4
    both = [problem for problem in problems if "'both'" in problem]
    assert len(both) == 2
    assert any("val: expected a pickle at" in problem for problem in problems)
    assert any("train and test: '0.mp4'" in problem for problem in problems)
    text = str(error.value)
    assert text.splitlines()[0] == f"{len(problems)} problems in the data set:"
    assert len(text.splitlines()) == 22
    assert text.endswith(f"and {len(problems) - 20} more")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"split": {"train": []}, "annotations": []}, "only the list is read"),
        ("text", "expected a list of samples, got str"),
    ],
)
def test_other_layouts(tmp_path, value, message):
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DatasetError, match=message):
        check_split(tmp_path / "train.pkl", 2)


def test_a_file_without_a_byte_is_called_empty(tmp_path):
    (tmp_path / "train.pkl").touch()
    with pytest.raises(DatasetError, match=r"train\.pkl: the file is empty; copy it again"):
        check_split(tmp_path / "train.pkl", 2)


def test_damaged_and_hostile_files(tmp_path):
    path = written(tmp_path, GOOD)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="not a readable pickle"):
        check_split(path, 2)

    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    path.write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(DatasetError, match="could run code"):
        check_split(path, 2)
    assert not (tmp_path / "ran").exists()
