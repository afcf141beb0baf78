"""The data of the small pose network: files, the hold-out, sampling and views."""

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("cv2")

from recognizer.runs.manifest import read_manifest
from samples.small_pose import data as collected
from samples.small_pose.crops import CropSampler
from samples.small_pose.data import (
    LABELS,
    PICTURES,
    SAMPLES,
    SIDE,
    TRAIN,
    VAL,
    load,
    split_of_fall,
    summary,
    write,
)
from samples.small_pose.evaluate import view
from samples.small_pose.sampling import probabilities
from tests.samples.small_pictures import picture


def made(folder, *pictures):
    write(pictures, folder)
    return load(folder)


# --- files ----------------------------------------------------------------------------


def test_pictures_and_labels_come_back_and_are_summarised(tmp_path):
    data = made(tmp_path, *(picture("a", TRAIN, people=n, grey=50 + n) for n in (2, 0, 3)))
    assert data.pictures.shape == (3, SIDE, SIDE, 3)
    assert data.pictures[:, 199, 319, 0].tolist() == [52, 50, 53]
    assert (data.pictures[:, 200:] == 114).all()
    assert [len(data.of(row).kinds) for row in range(3)] == [2, 0, 3]
    np.testing.assert_array_equal(data.person(2, 1).boxes, data.of(2).boxes[1:2])
    assert list(summary(data)) == ["a train: 3 pictures, 5 people, 5 with a pose"]


def test_pictures_are_written_one_at_a_time(tmp_path):
    count = 40
    tracemalloc.start()
    write((picture("a", TRAIN) for _ in range(count)), tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < count * SIDE * SIDE * 3 / 4
    assert load(tmp_path).pictures.shape[0] == count


def test_a_writing_that_fails_leaves_what_was_there(tmp_path):
    made(tmp_path, picture("a", TRAIN))

    def broken():
        yield picture("b", TRAIN)
        raise FileNotFoundError("video")

    with pytest.raises(FileNotFoundError, match="video"):
        write(broken(), tmp_path)
    with pytest.raises(ValueError, match="expected pictures to write, got none"):
        write([], tmp_path)
    assert load(tmp_path).groups.tolist() == ["a"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path]


def test_files_of_different_lengths_are_refused(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    made(one, picture("a", TRAIN))
    made(two, picture("a", TRAIN), picture("a", VAL))
    (two / PICTURES).replace(one / PICTURES)
    with pytest.raises(ValueError, match=rf"{PICTURES}: expected uint8 of shape \(1, .* 1 rows"):
        load(one)
    with np.load(one / LABELS) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(one / LABELS, **{**arrays, "groups": np.array(["a", "b"])})
    with pytest.raises(ValueError, match=rf"{LABELS}: expected one row for each picture"):
        load(one)


@pytest.mark.parametrize("name", [LABELS, PICTURES])
@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_a_cut_off_file_is_refused_by_name(tmp_path, name, keep):
    made(tmp_path, picture("a", TRAIN))
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: min(keep, len(whole) - 1)])
    with pytest.raises(ValueError, match=rf"{name}: expected what .* writes, got .*again"):
        load(tmp_path)


# --- the hold-out ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "split"),
    [
        ("Subject_2/Fall/01.mp4", VAL),
        ("Subject_1/Fall/01.mp4", TRAIN),
        ("Subject_20/Fall/01.mp4", TRAIN),
        ("Subject_2.mp4", TRAIN),
        ("Subject_1/Subject_2/01.mp4", TRAIN),
    ],
)
def test_one_person_of_the_falls_is_held_out(video, split):
    assert split_of_fall(video) == split


def test_the_falls_of_samples_have_people_of_both_splits():
    videos = [one.video for one in read_manifest(SAMPLES / "falls_stage1").outcomes]
    held_out = [video for video in videos if split_of_fall(video) == VAL]
    assert held_out == [video for video in videos if video.startswith("Subject_2/")]
    assert 0 < len(held_out) < len(videos)


def test_sources_are_held_out_as_a_whole():
    splits = [collected.split_of(f"source {i}") for i in range(900)]
    assert splits == [collected.split_of(f"source {i}") for i in range(900)]
    assert 60 < splits.count(VAL) < 140


# --- sampling -------------------------------------------------------------------------


def test_a_data_set_has_its_weight_in_equal_parts():
    groups = np.array(["a", "a", "b", "a", "b"])
    drawn = np.array([True, True, True, False, False])
    found = probabilities(groups, drawn, {"a": 0.2, "b": 0.4, "absent": 0.4})
    np.testing.assert_allclose(found, [1 / 6, 1 / 6, 2 / 3, 0, 0])


def test_a_data_set_without_a_weight_is_named():
    groups = np.array(["a", "new", "held_out"])
    with pytest.raises(ValueError, match=r"data set new: expected a sampling weight, found .* a"):
        probabilities(groups, np.array([True, True, False]), {"a": 1.0})
    with pytest.raises(ValueError, match="expected rows to draw, found none of 3"):
        probabilities(groups, np.zeros(3, np.bool_), {"a": 1.0})


def test_crops_are_of_the_split_alone_and_follow_the_seed(tmp_path):
    data = made(tmp_path, picture("a", TRAIN, score=0.5), picture("a", VAL, score=0.9))
    first, again, other = (CropSampler(data, TRAIN, {"a": 1.0}, n).draw(24) for n in (3, 3, 4))
    assert 0.4 < first.heatmaps.max() <= 0.5
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()
    assert CropSampler(data, VAL, {"a": 1.0}, 3).draw(24).heatmaps.max() > 0.8
    with pytest.raises(ValueError, match="data set a: expected a sampling weight"):
        CropSampler(data, TRAIN, {"b": 1.0}, 0)


def test_pictures_are_of_the_training_alone_and_boxes_follow_them(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from samples.small_pose.train_detector import PictureSampler

    bright = picture("a", TRAIN)
    x1, y1, x2, y2 = bright.labels.boxes[0].astype(int)
    bright.bgr[y1:y2, x1:x2] = 250
    data = made(tmp_path, bright, picture("a", VAL, people=4))
    pictures, boxes, kinds = PictureSampler(data, {"a": 1.0}, 0).draw(40)
    again = PictureSampler(data, {"a": 1.0}, 0).draw(40)
    assert all(torch.equal(*pair) for pair in zip((pictures, boxes, kinds), again, strict=True))
    counts = (kinds > 0).sum(1)
    single = counts == 1
    assert single.sum() > 20  # one of ten is a mosaic of four
    assert counts.max() <= 4
    assert counts[~single].max() > 1
    checked = 0
    for image, box in zip(pictures[single], boxes[single][:, 0], strict=True):
        x1, y1, x2, y2 = (int(side) for side in box)
        inside = image[:, y1:y2, x1:x2].mean()
        outside = (image.sum() - image[:, y1:y2, x1:x2].sum()) / (
            image.numel() - image[:, y1:y2, x1:x2].numel()
        )
        checked += int(inside > outside)
    assert checked == single.sum()
    with pytest.raises(ValueError, match="data set a: expected a sampling weight"):
        PictureSampler(data, {"b": 1.0}, 0)


# --- views ----------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_keypoints_of_a_view_are_on_their_pixels(tmp_path, turned):
    original = picture("a", VAL, people=2)
    for points in original.labels.keypoints:
        points[:, :2] = points[:, :2].round() + 0.5  # middles of pixels
        for x, y in points[:, :2].astype(int):
            original.bgr[y, x] = (5 + x % 200, 5 + y % 200, 250)
    data = made(tmp_path, original)
    image, labels = view(data, 0, turned=turned)
    assert image.shape == ((320, 200, 3) if turned else (200, 320, 3))
    assert image.flags.c_contiguous
    for before, after in zip(original.labels.keypoints, labels.keypoints, strict=True):
        x, y = after[:, :2].astype(int).T
        expected = before[:, :2].astype(int)
        np.testing.assert_array_equal(
            image[y, x], [(5 + a % 200, 5 + b % 200, 250) for a, b in expected]
        )
    inside = (labels.keypoints[..., :2] >= labels.boxes[:, None, :2]) & (
        labels.keypoints[..., :2] <= labels.boxes[:, None, 2:]
    )
    assert inside.all()
    np.testing.assert_allclose(labels.areas, original.labels.areas, rtol=1e-5)
