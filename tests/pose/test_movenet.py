"""MoveNet: MultiPose as a one-stage network, Thunder and Lightning behind the detector."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from annotation.teacher import Teacher, open_movenet
from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import OnnxPoseConfig, PoseEstimationConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.detector import Boxes
from recognizer.pose.estimator import build_pose_model
from recognizer.pose.movenet import (
    MoveNetPose,
    People,
    decode_people,
    decode_single,
    input_wh,
    join_parts,
    unmirror_single,
)
from recognizer.pose.topdown import TopDownPose
from recognizer.skeleton import FLIP_INDEX
from recognizer.video.array_image import ArrayImage
from tests import movenets, networks

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
MULTIPOSE = ASSETS / "weights" / "movenet_multipose.onnx"
KINDS = [TensorProto.INT32, TensorProto.FLOAT, TensorProto.UINT8]
BOX = np.float32([[60, 40, 160, 220]])


def picture(dot, size_wh=(320, 240)):
    """Return a picture with a red dot, and more blue than red elsewhere."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    image[..., 0] = 200
    x, y = dot
    image[y - 8 : y + 9, x - 8 : x + 9, 2] = 100
    image[y - 2 : y + 3, x - 2 : x + 3, 2] = 255
    return ArrayImage(image)


def multipose(path, size_wh=None, **settings):
    network = OnnxNetwork(path, OnnxPoseConfig())
    return MoveNetPose(network, OnnxPoseConfig(**settings), size_wh)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size_wh", [(320, 240), (240, 320), (640, 352), (1000, 100)])
def test_a_dot_comes_back_in_image_pixels(tmp_path, dtype, size_wh):
    pose = multipose(movenets.multipose(tmp_path / "m.onnx", dtype=dtype))
    dots = [(40, 50), (size_wh[0] - 30, size_wh[1] - 20)]
    for poses, dot in zip(pose([picture(d, size_wh) for d in dots]), dots, strict=True):
        np.testing.assert_allclose(poses.keypoints, np.tile(dot, (1, 17, 1)), atol=4)
        np.testing.assert_allclose(poses.boxes[0].reshape(2, 2).mean(0), dot, atol=4)
        width, height = poses.boxes[0, 2:] - poses.boxes[0, :2]
        assert (width, height) == pytest.approx((size_wh[0] / 10, size_wh[1] / 5), rel=1e-3)
        assert poses.box_scores == pytest.approx([0.2])
        assert poses.keypoint_scores == pytest.approx(np.full((1, 17), 0.6))


@pytest.mark.parametrize(
    ("own", "asked"), [((256, 256), None), (("W", "H"), (256, 192)), ((192, 256), (192, 256))]
)
@pytest.mark.parametrize("size_wh", [(320, 240), (240, 320)])
def test_a_fixed_input_gets_the_picture_in_its_own_shape(tmp_path, own, asked, size_wh):
    pose = multipose(movenets.multipose(tmp_path / "m.onnx", input_wh=own), asked)
    for dot in [(40, 50), (200, 220)]:
        (poses,) = pose([picture(dot, size_wh)])
        np.testing.assert_allclose(poses.keypoints[0, 0], dot, atol=3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((1920, 1080), (512, 288)),
        ((640, 480), (512, 384)),
        ((480, 640), (384, 512)),
        ((100, 100), (512, 512)),
        ((4000, 30), (512, 32)),
    ],
)
def test_the_long_side_is_512_and_both_are_multiples_of_32(image, expected):
    assert input_wh(image) == expected


def test_thresholds_of_people_and_keypoints(tmp_path):
    path = movenets.multipose(tmp_path / "m.onnx", score=0.12, keypoint_score=0.2)
    shown = [picture((40, 50))]
    assert [
        len(multipose(path)(shown)[0]),
        len(multipose(path, score_threshold=0.13)(shown)[0]),
    ] == [
        1,
        0,
    ]
    (poses,) = multipose(path, keypoint_threshold=0.3)(shown)
    assert (len(poses), poses.keypoints.any(), poses.keypoint_scores.any()) == (1, False, False)
    assert len(multipose(path, score_threshold=0.0, max_detections=2)(shown)[0]) == 2


def test_people_come_best_first():
    rows = np.zeros((3, 56), np.float32)
    rows[:, :51] = np.tile([0.25, 0.5, 0.7], 17)
    rows[:, 51:] = [[0.1, 0.2, 0.3, 0.4, score] for score in (0.2, 0.05, 0.6)]
    people = decode_people(rows, (200, 100), 0.1)
    np.testing.assert_allclose(people.scores, [0.6, 0.2])
    np.testing.assert_allclose(people.boxes[0], [40, 10, 80, 30])
    np.testing.assert_allclose(people.keypoints[0], np.tile([100, 25, 0.7], (17, 1)), rtol=1e-6)


def _half(rows, left=100.0, score=0.4):
    """Return a person with sure keypoints in these rows only, and the box around them."""
    points = np.zeros((17, 3), np.float32)
    points[:, 0] = left + 5 * np.arange(17)
    points[:, 1] = 50 + 20 * np.arange(17)
    points[:, 2] = 0.1
    points[rows, 2] = score
    corners = points[rows, :2]
    return points, np.concatenate([corners.min(0), corners.max(0)]), score


def _people(*found):
    return People(*(np.stack(part).astype(np.float32) for part in zip(*found, strict=True)))


def test_an_upper_and_a_lower_body_are_one_person():
    upper, lower = _half(slice(0, 13), score=0.6), _half(slice(7, 17), left=101, score=0.4)
    people = join_parts(_people(upper, lower))
    np.testing.assert_allclose(people.boxes, [[100, 50, 181, 370]])
    np.testing.assert_allclose(people.scores, [0.6])
    np.testing.assert_allclose(people.keypoints[0, :, 2], [0.6] * 13 + [0.4] * 4)
    np.testing.assert_allclose(people.keypoints[0, 13:, 0], 101 + 5 * np.arange(13, 17))


@pytest.mark.parametrize(
    "other",
    [
        _half(slice(10, 17)),  # three keypoints of the other
        _half(slice(7, 17), left=110),  # close together
    ],
    ids=["few keypoints on each other", "beside each other"],
)
def test_two_people_stay_two(other):
    assert len(join_parts(_people(_half(slice(0, 13)), other)).scores) == 2


def test_a_shared_limb_makes_two_people_not_one():
    one, other = _half(slice(0, 17)), _half(slice(0, 17))
    other[0][4:, :2] += 40
    assert len(join_parts(_people(one, other)).scores) == 2


def test_sizes_that_a_file_does_not_take_are_refused(tmp_path):
    fixed = movenets.multipose(tmp_path / "a.onnx", input_wh=(256, 192))
    with pytest.raises(ModelError, match=r"takes \[256, 192\] .*got \[512, 512\]; set it to null"):
        multipose(fixed, (512, 512))
    with pytest.raises(ModelError, match=r"expected multiples of 32, got \[300, 256\]"):
        multipose(movenets.multipose(tmp_path / "b.onnx"), (300, 256))
    with pytest.raises(ModelError, match="at most 8192 pixels a side, got 96000 x 96000"):
        multipose(movenets.multipose(tmp_path / "b.onnx"), (96_000, 96_000))
    with pytest.raises(ModelError, match=r"MoveNet MultiPose: expected RGB pictures .* got image"):
        multipose(networks.heatmap(tmp_path / "c.onnx"))


def test_the_model_that_is_built_knows_its_kind_and_thresholds(tmp_path):
    files = {"pose": movenets.multipose(tmp_path / "m.onnx", score=0.12)}
    model = build_pose_model(PoseEstimationConfig(), files)
    assert model.kind == "movenet"
    assert len(model.for_video()([picture((40, 50))], [0.0])[0]) == 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (55, 3.0, "expected scores of 0 to 1, got 3"),
        (2, -2.0, "expected scores of 0 to 1, got -2"),
        (0, 1e32, r"expected coordinates of at most 100 .* got 1e\+32"),
        (None, 0.0, r"expected people \(1,N,56\), got \(1, 6, 55\)"),
    ],
)
def test_people_that_cannot_be_are_refused_by_file(tmp_path, column, value, message):
    network = OnnxNetwork(movenets.multipose(tmp_path / "m.onnx"), OnnxPoseConfig())

    class Changed:
        inputs, outputs = network.inputs, network.outputs

        def run(self, feeds):
            ((name, rows),) = network.run(feeds).items()
            rows = rows[:, :, :55] if column is None else rows.copy()
            if column is not None:
                rows[0, -1, column] = value
            return {name: rows}

    model = MoveNetPose(Changed(), OnnxPoseConfig(), file=tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=rf"m\.onnx: MoveNet MultiPose: {message}"):
        model([picture((40, 50))])


def test_the_teacher_reads_the_same_people(tmp_path):
    path = movenets.multipose(tmp_path / "m.onnx")
    image = picture((101, 90), (640, 480))
    teacher = Teacher(None, None, open_movenet(path))
    people = teacher._second_people(image)
    (poses,) = multipose(path)([image])
    np.testing.assert_allclose(people.boxes, poses.boxes, atol=2.6)
    np.testing.assert_allclose(people.scores, poses.box_scores)
    assert len(Teacher(None, None, None)._second_people(image).scores) == 0
    with pytest.raises(ModelError, match=r"h.onnx: MoveNet MultiPose: .*set distill.second_opin"):
        open_movenet(networks.heatmap(tmp_path / "h.onnx"))


# --- Thunder and Lightning -----------------------------------------------------------


def single(path, boxes=BOX, **settings):
    return TopDownPose(
        lambda images: [Boxes(boxes, np.ones(len(boxes), np.float32)) for _ in images],
        OnnxNetwork(path, OnnxRuntimeOptions()),
        TopDownConfig(**settings),
    )


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("side", [192, 256])
@pytest.mark.parametrize("flip_test", [False, True])
def test_a_dot_comes_back_from_square_crops(tmp_path, dtype, side, flip_test):
    path = movenets.single(tmp_path / "m.onnx", side=side, dtype=dtype)
    boxes = np.float32([[60, 40, 160, 220], [90, 80, 140, 120], [50, 90, 310, 150]])
    model = single(path, boxes, flip_test=flip_test)
    assert model.input_wh == (side, side)
    first, second = model([picture((110, 100)), picture((120, 110))])
    np.testing.assert_allclose(first.keypoints, np.full((3, 17, 2), (110, 100)), atol=3)
    np.testing.assert_allclose(second.keypoints, np.full((3, 17, 2), (120, 110)), atol=3)
    expected = 0.1 + 0.05 * np.arange(17)
    if flip_test:
        expected = (expected + expected[FLIP_INDEX]) / 2
    np.testing.assert_allclose(first.keypoint_scores, np.tile(expected, (3, 1)), rtol=1e-5)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_dot_comes_back_from_turned_crops(tmp_path, turn):
    model = single(movenets.single(tmp_path / "m.onnx"))
    owners, turns = np.zeros(1, np.int64), np.array([turn])
    keypoints, _ = model.keypoints_of([picture((110, 100))], owners, BOX, turns)
    np.testing.assert_allclose(keypoints[0], np.tile((110, 100), (17, 1)), atol=3)


def test_places_are_read_as_y_x_score_and_mirrored_by_sides():
    rows = np.zeros((1, 1, 17, 3), np.float32)
    rows[0, 0, 5] = [0.25, 0.1, 0.9]  # the left shoulder
    places, scores = decode_single(rows)
    np.testing.assert_allclose(places[0, 5], [0.1, 0.25])
    assert scores[0, 5] == pytest.approx(0.9)
    places, scores = decode_single(unmirror_single(rows))
    np.testing.assert_allclose(places[0, 6], [0.9, 0.25])  # the right one
    assert scores[0, 6] == pytest.approx(0.9)


def test_single_pose_is_built_with_its_detector_only(tmp_path):
    files = {
        "pose": movenets.single(tmp_path / "thunder.onnx"),
        "detector": networks.constant_yolox(tmp_path / "d.onnx", {}),
    }
    model = build_pose_model(PoseEstimationConfig(), files)
    assert (model.kind, len(model([picture((110, 100))])[0])) == ("topdown", 0)
    with pytest.raises(ModelError, match=r"thunder.onnx sees one person .* got none; set .*detec"):
        build_pose_model(PoseEstimationConfig(), {"pose": files["pose"]})


# --- the published file --------------------------------------------------------------


@pytest.mark.skipif(not MULTIPOSE.is_file(), reason="needs ../shared/assets/weights")
def test_the_published_file_finds_the_person_who_stands(tmp_path):
    import cv2

    capture = cv2.VideoCapture(str(ASSETS / "falls" / "Subject_1" / "Fall" / "13.mp4"))
    frame = ArrayImage(capture.read()[1])
    capture.release()
    network = OnnxNetwork(MULTIPOSE, OnnxPoseConfig())
    for size_wh in (None, (512, 512)):
        (poses,) = MoveNetPose(network, OnnxPoseConfig(), size_wh)([frame])
        assert len(poses) == 1  # the network gives an upper and a lower body
        best = poses.keypoints[0]
        width, height = frame.size_wh
        # Between the ankles: measured on this picture by eye, to a twentieth of its height.
        ankles = best[15:].mean(0) / (width, height)
        assert ankles == pytest.approx([0.5, 0.97], abs=0.05)
        assert poses.box_scores[0] > 0.3
