"""The teacher: its opinions, which of them make a label, and what neighbouring frames confirm."""

import numpy as np
import pytest

import annotation.teacher
from annotation.distill_dataset import split_sources
from annotation.distill_video import annotations, sample_frames
from annotation.teacher import build_teacher
from annotation.teacher_labels import DOUBT, PERSON, Labels, choose
from annotation.teacher_tracks import Window, confirmed
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.schema import DistillConfig
from recognizer.config.types import OnnxRuntimeOptions
from tests import movenets, networks


@pytest.mark.parametrize(
    ("scores", "points", "kinds"),
    [
        ([0.8, 0.8, 0.3], 0.7, [PERSON]),  # seen by both, good pose
        ([0.8, 0.8, 0.0], 0.1, [PERSON]),  # a clear box; its pose is not known
        ([0.0, 0.4, 0.0], 0.3, [DOUBT]),  # only turned, poor pose
        ([0.2, 0.2, 0.0], 0.7, [DOUBT]),  # one weak opinion
        ([0.1, 0.1, 0.0], 0.05, []),  # nothing
    ],
)
def test_opinions_make_people_doubts_or_nothing(scores, points, kinds):
    keypoints = np.full((1, 17, 3), 50, np.float32)
    keypoints[..., 0] += np.arange(17)
    keypoints[..., 2] = points
    seen = choose(
        {
            "boxes": np.array([[40, 40, 80, 120]], np.float32),
            "keypoints": keypoints,
            "scores": np.array([scores], np.float32),
            "movenet": np.zeros((1, 17, 3), np.float32),
        }
    )
    assert seen.kinds.tolist() == kinds
    if kinds == [PERSON]:
        assert (seen.keypoints[..., 2] > 0).all() == (points > 0.3)
        assert (seen.scores >= 0).all() == (points > 0.3)


# --- its networks ------------------------------------------------------------------


def _files(folder):
    heatmap = networks.heatmap(folder / "pose.onnx")
    return {"pose": heatmap, "detector": networks.constant_yolox(folder / "d.onnx", {})}


def test_each_network_is_opened_once(tmp_path):
    teacher = build_teacher(PoseEstimationConfig(), _files(tmp_path))
    assert teacher._mirrored._network is teacher._plain._network
    assert teacher._mirrored.detector is teacher._plain.detector
    assert teacher._mirrored._settings.flip_test
    assert not teacher._plain._settings.flip_test


@pytest.mark.parametrize(
    ("settings", "gpu", "device"),
    [
        ({}, None, "cpu"),
        ({"onnx": {"device": "cuda:1"}}, None, "cuda:1"),
        ({"inference_mode": "pth", "pth": {"device": "cuda:2"}}, None, "cuda:2"),
        ({"inference_mode": "tensorrt", "tensorrt": {"device": "cuda:3"}}, None, "cuda:3"),
        ({"onnx": {"device": "cuda:1"}}, 4, "cuda:4"),
    ],
)
def test_the_second_opinion_runs_on_the_device_of_the_pose_network(
    tmp_path, monkeypatch, settings, gpu, device
):
    first = build_teacher(PoseEstimationConfig(), _files(tmp_path))._plain
    # The devices of this machine do not count: what the network is asked to run on is kept.
    monkeypatch.setattr(annotation.teacher, "build_pose_model", lambda *args, **options: first)
    asked = []

    def on_cpu(path, options, threads):
        asked.append(options.device)
        return OnnxNetwork(path, OnnxRuntimeOptions(), threads)

    monkeypatch.setattr(annotation.teacher, "OnnxNetwork", on_cpu)
    movenet = movenets.multipose(tmp_path / "m.onnx")
    section = PoseEstimationConfig.model_validate(settings)
    build_teacher(section, _files(tmp_path), movenet, gpu=gpu)
    assert asked == [device]


# --- labels ------------------------------------------------------------------------

SIZE_WH = (640, 480)


def _label(shift=0.0, kind=PERSON, box=(100, 100, 200, 300)):
    """Return labels of one person, all of whose keypoints are moved to the right."""
    x1, y1, x2, y2 = box
    keypoints = np.ones((1, 17, 3), np.float32)
    keypoints[0, :, 0] = np.linspace(x1, x2, 17) + shift
    keypoints[0, :, 1] = np.linspace(y1, y2, 17)
    boxes = np.array([[x1 + shift, y1, x2 + shift, y2]], np.float32)
    scores = keypoints[..., 2].copy()
    return Labels(boxes, keypoints, scores, np.array([kind], np.uint8), np.array([1e4], np.float32))


def _window(labels):
    times = 0.1 * np.arange(len(labels))
    return Window(labels, times, len(labels) // 2, SIZE_WH)


def _no_people():
    return _label()[np.arange(0)]


def test_a_keypoint_that_neighbours_contradict_is_masked_and_others_stay():
    labels = [_label(10 * step) for step in range(5)]
    labels[2].keypoints[0, 9, 1] += 60  # sqrt(box area) is 141: four times the tolerance
    kept = confirmed(_window(labels), 0.1)
    assert kept.kinds.tolist() == [PERSON]
    assert np.flatnonzero(kept.keypoints[0, :, 2] == 0).tolist() == [9]
    expected = np.delete(labels[2].keypoints[0, :, :2], 9, 0)
    assert np.delete(kept.keypoints[0, :, :2], 9, 0) == pytest.approx(expected, abs=1e-3)


def test_noise_is_smoothed_and_movement_is_not():
    random = np.random.default_rng(0)
    before, after = [], []
    for _ in range(20):
        labels = [_label(10 * step + 4 * (step - 2) ** 2) for step in range(5)]  # it accelerates
        true = labels[2].keypoints[0, :, :2].copy()
        for one in labels:
            one.keypoints[0, :, :2] += random.normal(0, 2, (17, 2))
        before.append(np.square(labels[2].keypoints[0, :, :2] - true).mean())
        kept = confirmed(_window(labels), 0.15).keypoints[0]
        after.append(np.square(kept[:, :2] - true)[kept[:, 2] > 0].mean())
    # A parabola through five points leaves 17/35 of the noise's variance.
    assert np.mean(after) < 0.65 * np.mean(before)


def test_who_is_in_one_frame_alone_is_a_doubt():
    empty = _no_people()
    kept = confirmed(_window([empty, empty, _label(), empty, empty]), 0.1)
    assert kept.kinds.tolist() == [DOUBT]
    assert confirmed(_window([_label()]), 0.1).kinds.tolist() == [PERSON]  # nothing to ask


def test_who_is_missing_between_neighbours_is_a_doubt_there():
    kept = confirmed(_window([_label(), _label(), _no_people(), _label(), _label()]), 0.1)
    assert kept.kinds.tolist() == [DOUBT]
    assert kept.boxes[0] == pytest.approx([100, 100, 200, 300], abs=1)


def test_frames_are_spread_over_the_video_with_their_neighbours():
    time_s = np.arange(0, 10, 0.04)
    sampled = sample_frames(time_s, DistillConfig(every_s=2.0))
    assert time_s[list(sampled.centres)] == pytest.approx([1, 3, 5, 7, 9], abs=0.1)
    around = time_s[list(sampled.windows[0])] - time_s[sampled.centres[0]]
    assert around == pytest.approx([-0.2, -0.1, 0, 0.1, 0.2], abs=0.021)
    few = sample_frames(time_s, DistillConfig(every_s=2.0, max_pictures=2, neighbours=0))
    assert [len(window) for window in few.windows] == [1, 1]
    assert sample_frames(np.zeros(1), DistillConfig()).centres == (0,)


def test_annotations_hold_what_is_known_and_regions_to_ignore():
    person = _label()
    person.keypoints[0, 0, 2] = 0.4 * person.scores[0, 0]  # another opinion's objection
    person.scores[0, 1] = person.keypoints[0, 1, 2] = 0.4
    person.keypoints[0, 16, :2] = (700, 500)  # outside
    (found,) = annotations(person, SIZE_WH)
    assert (found["iscrowd"], found["num_keypoints"]) == (0, 15)
    assert found["keypoints"][2::3] == [0, 1, *[2] * 14, 0]
    assert found["bbox"] == [100, 100, 100, 200]
    (doubt,) = annotations(_label(kind=DOUBT), SIZE_WH)
    assert (doubt["iscrowd"], doubt["num_keypoints"], set(doubt["keypoints"])) == (1, 0, {0})
    assert doubt["segmentation"] == [[100, 100, 200, 100, 200, 300, 100, 300]]
    clustered = _label()
    clustered.keypoints[0, :, :2] = 150 + np.arange(17)[:, None]
    assert [one["iscrowd"] for one in annotations(clustered, SIZE_WH)] == [1]


def test_a_source_keeps_its_split_when_others_come():
    few = split_sources([f"camera {i}" for i in range(40)], 0.1)
    many = split_sources([f"camera {i}" for i in range(400)], 0.1)
    assert {source: many[source] for source in few} == few
    assert 0.05 < np.mean([split == "val" for split in many.values()]) < 0.2
    assert sorted(split_sources(["a", "b"], 0.1).values()) == ["train", "val"]
    assert split_sources(["a"], 0.1) == {"a": "train"}
    assert set(split_sources(["a", "b"], 0).values()) == {"train"}
