"""Part ``small``: its data travel and come back, and both trainings run."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from annotation.teacher_labels import PERSON, Labels
from benchmarks.gpu import small, small_data
from samples.small_pose.data import TRAIN, VAL, Picture, load, write

needs_weights = pytest.mark.skipif(
    not small_data.WEIGHTS.is_dir(), reason="needs ../shared/assets/weights"
)


def picture(group, split, grey):
    keypoints = np.ones((1, 17, 3), np.float32)
    keypoints[0, :, 0] = np.linspace(60, 140, 17)
    keypoints[0, :, 1] = np.linspace(50, 260, 17)
    labels = Labels(
        np.array([[50, 40, 150, 270]], np.float32),
        keypoints,
        np.full((1, 17), 0.9, np.float32),
        np.array([PERSON], np.uint8),
        np.array([12000], np.float32),
    )
    return Picture(group, split, np.full((300, 400, 3), grey, np.uint8), labels)


@pytest.fixture
def packed(tmp_path):
    pictures = [
        picture(group, split, 20 * place)
        for place, (group, split) in enumerate(
            (group, split) for group in small.GROUPS for split in (TRAIN, VAL, VAL)
        )
    ]
    write(pictures, tmp_path / "collected")
    small_data.pack(tmp_path / "packed" / "small", tmp_path / "collected")
    return tmp_path


@needs_weights
@pytest.mark.parametrize("most", [None, 1])
def test_pictures_and_labels_come_back(packed, most):
    small_data.unpack(packed / "packed" / "small", packed / "there", most)
    whole, there = load(packed / "collected"), load(packed / "there")
    rows = np.arange(9) if most is None else np.array([0, 1, 3, 4, 6, 7])
    assert there.groups.tolist() == whole.groups[rows].tolist()
    np.testing.assert_array_equal(there.labels.boxes, whole.labels.boxes[rows])
    middle = there.pictures[:, 150, 200].astype(int) - whole.pictures[rows, 150, 200]
    assert np.abs(middle).max() <= 8  # compression; the next picture differs by 20


@needs_weights
def test_a_cut_off_video_and_missing_files_are_refused(packed, tmp_path):
    folder = packed / "packed" / "small"
    with np.load(folder / "labels.npz") as file:
        longer = {name: np.concatenate([file[name]] * 2) for name in file.files}
    np.savez(folder / "labels.npz", **longer)
    with pytest.raises(ValueError, match=r"pictures\.mp4: expected frame 9.*pack it again"):
        small_data.unpack(folder, packed / "there")
    with pytest.raises(FileNotFoundError, match=r"pictures\.npy.*samples\.small_pose\.data"):
        small_data.pack(tmp_path / "target", tmp_path / "none")


@needs_weights
def test_a_step_of_each_training_a_file_and_its_scores(packed, tmp_path):
    out = tmp_path / "out"
    arguments = ["--tiny", "--device", "cpu", "--out", out, "--data", packed / "packed"]
    assert small.main([str(one) for one in arguments]) == 0
    found = json.loads((out / "small_tiny.json").read_text())
    assert found["complete"]
    assert set(found["scores"]) == {n for g in small.GROUPS for n in (g, f"{g}, turned")}
    assert [json.loads(row)["step"] > 0 for row in found["pose"]["log"]] == [False, True]
    assert (out / "small_composed.onnx").stat().st_size > 2**20
    assert (out / "small_tiny.md").read_text().startswith("| held out | ")
