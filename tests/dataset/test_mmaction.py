import pickle
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recognizer.dataset.mmaction import read_split, to_mmaction, write_split
from recognizer.dataset.samples import build_sample
from recognizer.storage.artifacts import ArtifactError
from recognizer.storage.pickles import read_pickle
from recognizer.types import Sample
from tests.dataset.mmaction_reader import read_with_mmaction
from tests.dataset.tracked import sequence

ROOT = Path(__file__).resolve().parents[2]


def sample(name="Fight/a.mp4", label=1, people=2, measured=False):
    video = sequence(people=people)
    if measured:
        movement = np.random.default_rng(0).random((len(video.poses), 6), np.float32)
        movement[::3] = np.nan
        video = replace(video, poses=video.poses.with_movement(movement))
    return build_sample(video, range(people), 4, name, label)


def test_keys_shapes_and_axis_order():
    item = to_mmaction(sample())
    assert set(item) == {
        "frame_dir",
        "total_frames",
        "img_shape",
        "original_shape",
        "label",
        "keypoint",
        "keypoint_score",
        "boxes",
        "time_s",
    }
    assert item["frame_dir"] == "Fight/a.mp4"
    assert item["img_shape"] == item["original_shape"] == (240, 320), "height first"
    assert item["total_frames"] == 20
    assert item["keypoint"].shape == (2, 20, 17, 2)
    assert item["keypoint_score"].shape == (2, 20, 17)
    assert item["keypoint"].dtype == item["keypoint_score"].dtype == np.float32


def test_there_and_back(tmp_path):
    samples = [sample(f"{i}", i % 2, 1 + i % 3, measured=i > 2) for i in range(5)]
    assert write_split(tmp_path / "train.pkl", tmp_path, iter(samples)) == 5
    back = read_split(tmp_path / "train.pkl")
    for a, b in zip(samples, back, strict=True):
        assert (a.name, a.label, a.size_wh) == (b.name, b.label, b.size_wh)
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        np.testing.assert_array_equal(a.keypoint_scores, b.keypoint_scores)
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.time_s, b.time_s)
    assert [b.movement is not None for b in back] == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(back[4].movement, samples[4].movement)
    assert isinstance(read_pickle(tmp_path / "train.pkl"), list)


def test_equal_samples_give_equal_bytes(tmp_path):
    for name in ("a.pkl", "b.pkl"):
        write_split(tmp_path / name, tmp_path, (sample(str(i)) for i in range(3)))
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_a_pickle_of_before_boxes_and_movement_is_read(tmp_path):
    old = _changed(boxes=None, time_s=None)
    for item in old:
        for key in ("boxes", "time_s"):
            item.pop(key, None)
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(old))
    for one in read_split(tmp_path / "train.pkl"):
        assert (one.boxes, one.movement, one.time_s) == (None, None, None)


def test_an_empty_split_is_an_empty_list(tmp_path):
    write_split(tmp_path / "test.pkl", tmp_path, [])
    assert read_split(tmp_path / "test.pkl") == []


def test_a_name_twice_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match=r"train\.pkl: expected unique names, got 'x' twice"):
        write_split(tmp_path / "train.pkl", tmp_path, [sample("x"), sample("x")])
    assert not (tmp_path / "train.pkl").exists()


def test_a_full_disk_leaves_no_partial_file(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_split(tmp_path / "train.pkl", tmp_path, (sample(str(i)) for i in range(9)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def _changed(**changes):
    item = to_mmaction(sample("bad.mp4"))
    item.update(changes)
    return [to_mmaction(sample("good.mp4")), {k: v for k, v in item.items() if v is not None}]


def _nan_at(column, shape):
    values = np.zeros(shape, np.float32)
    values[..., column] = np.nan
    return values


BAD = {
    "two layouts": ({"split": {}, "annotations": []}, "expected a list"),
    "no dict": ([1], "sample 0: expected a dict"),
    "missing key": (_changed(keypoint=None), "sample 1 'bad.mp4': the key 'keypoint' is missing"),
    "missing shape": (_changed(img_shape=None), "'img_shape' is missing"),
    "no name": (_changed(frame_dir=""), "expected a name"),
    "same name": (_changed(frame_dir="good.mp4"), "two samples are called 'good.mp4'"),
    "label text": (_changed(label="1"), "a whole number, got '1' (str)"),
    "label float": (_changed(label=1.0), "a whole number, got 1.0 (float)"),
    "label bool": (_changed(label=True), "a whole number, got True (bool)"),
    "label NumPy's bool": (_changed(label=np.bool_(1)), "a whole number, got"),
    "frames as text": (_changed(total_frames="4"), "expected total_frames"),
    "frames as an array": (_changed(total_frames=np.array([4, 4])), "expected total_frames"),
    "label negative": (_changed(label=-1), "expected a label"),
    "length": (_changed(total_frames=19), "expected total_frames 20"),
    "float64": (_changed(keypoint=np.zeros((2, 20, 17, 2))), "float32"),
    "coco 18": (_changed(keypoint=np.zeros((2, 20, 18, 2), np.float32)), "17"),
    "scores": (_changed(keypoint_score=np.zeros((2, 19, 17), np.float32)), "keypoint_scores"),
    "NaN": (_changed(keypoint=np.full((2, 20, 17, 2), np.nan, np.float32)), "finite"),
    "nobody": (
        _changed(
            keypoint=np.zeros((0, 20, 17, 2), np.float32),
            keypoint_score=np.zeros((0, 20, 17), np.float32),
            boxes=np.zeros((0, 20, 4), np.float32),
        ),
        "at least one person",
    ),
    "boxes of fewer": (_changed(boxes=np.zeros((1, 20, 4), np.float32)), "boxes: expected (2, 20"),
    "boxes half known": (_changed(boxes=_nan_at(0, (2, 20, 4))), "boxes: expected rows of finite"),
    "boxes as text": (_changed(boxes="x"), "expected boxes as an array (people, frames, 4)"),
    "five movements": (_changed(movement=np.zeros((2, 20, 5), np.float32)), "(2, 20, 6) float32"),
    "movement in halves": (_changed(movement=np.zeros((2, 20, 6), np.float16)), "got (2, 20, 6) f"),
    "movement inf": (_changed(movement=np.full((2, 20, 6), np.inf, np.float32)), "got inf"),
    "times of others": (_changed(time_s=np.zeros(19)), "time_s: expected (20) float64"),
    "times as a list": (_changed(time_s=[0.0] * 20), "expected time_s as an array (frames,)"),
    "times that fall": (_changed(time_s=-np.arange(20.0)), "times that never fall"),
    "times NaN": (_changed(time_s=np.full(20, np.nan)), "times that never fall"),
    "text as keypoints": (_changed(keypoint="x"), "bad.mp4"),
    "size": (_changed(img_shape=(0, 320)), "whole numbers of pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pickles_are_refused_by_sample(tmp_path, name):
    value, message = BAD[name]
    path = tmp_path / "train.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(ArtifactError) as error:
        read_split(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_label_may_be_a_number_of_numpy(tmp_path):
    path = tmp_path / "train.pkl"
    path.write_bytes(pickle.dumps(_changed(label=np.int64(0), total_frames=np.int32(20))))
    labels = [one.label for one in read_split(path)]
    assert labels == [1, 0]
    assert [type(label) for label in labels] == [int, int]


def test_a_hostile_pickle_does_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    (tmp_path / "train.pkl").write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(ArtifactError, match="could run code"):
        read_split(tmp_path / "train.pkl")
    assert not (tmp_path / "ran").exists()


def test_mmactions_own_class_reads_the_pickle(tmp_path):
    samples = [sample(f"Fight/ü {i}.mp4", i % 2, 1 + i % 5, measured=True) for i in range(6)]
    write_split(tmp_path / "train.pkl", tmp_path, samples)
    answer = read_with_mmaction(tmp_path / "train.pkl")[str(tmp_path / "train.pkl")]
    assert answer["names"] == [s.name for s in samples]
    assert answer["labels"] == [s.label for s in samples]
    assert answer["shapes"] == [[1, 4, 16, 17, 3]]
    assert answer["sums"] == pytest.approx(
        [float(s.keypoints.sum(dtype=np.float64)) for s in samples]
    )


def test_a_sample_is_refused_at_birth_when_slots_and_ids_differ():
    good = sample()
    with pytest.raises(ValueError, match="track_ids"):
        Sample("a", 0, good.keypoints, good.keypoint_scores, (1, 1), np.zeros(3, np.int64))
