"""RTMO's contract: letterbox, batch, thresholds and the way back to image pixels."""

from pathlib import Path

import numpy as np
import pytest

from recognizer.backends.network import FLOAT, ModelError, TensorSpec
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import OnnxPoseConfig
from recognizer.pose.rtmo import RtmoPose
from recognizer.video.array_image import ArrayImage
from tests import networks

SHIPPED = Path(__file__).resolve().parents[2] / "samples" / "models" / "small_pose.onnx"
VIDEOS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "videos"


def picture(size_wh, dot, value=255):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    x, y = dot
    image[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5, 0] = value // 2  # blue: BGR order counts
    image[y, x, 0] = value
    image[..., 2] = 255
    return ArrayImage(image)


def model(path, input_wh=None, **settings):
    return RtmoPose(OnnxNetwork(path, OnnxPoseConfig()), OnnxPoseConfig(**settings), input_wh)


@pytest.mark.parametrize("batch", ["B", 1, 3])
@pytest.mark.parametrize("size_wh", [(64, 64), (128, 64), (40, 128)])
def test_a_dot_comes_back_in_image_pixels_whatever_the_batch(tmp_path, batch, size_wh):
    pose = model(networks.rtmo(tmp_path / "m.onnx", batch=batch))
    dots = [(10, 20), (size_wh[0] - 12, size_wh[1] - 10), (16, 40), (30, 30), (20, 12)]
    found = pose([picture(size_wh, dot) for dot in dots])
    grain = max(size_wh) / 64 + 1
    for poses, dot in zip(found, dots, strict=True):
        assert len(poses) == 1
        np.testing.assert_allclose(poses.keypoints[0], np.tile(dot, (17, 1)), atol=grain)
        np.testing.assert_allclose(poses.boxes[0].reshape(2, 2).mean(0), dot, atol=grain)
        assert poses.box_scores[0] == pytest.approx(0.9)


def test_pictures_of_several_sizes_in_one_batch(tmp_path):
    pose = model(networks.rtmo(tmp_path / "m.onnx"))
    sizes = [(64, 64), (128, 64), (64, 128), (128, 64)]
    for _ in range(2):  # the second time the letterbox buffer is full of old pixels
        for poses, size in zip(pose([picture(s, (32, 32)) for s in sizes]), sizes, strict=True):
            np.testing.assert_allclose(poses.keypoints[0, 0], (32, 32), atol=max(size) / 64 + 1)


def test_nobody_scores_above_the_threshold(tmp_path):
    pose = model(networks.rtmo(tmp_path / "m.onnx", score=0.2), score_threshold=0.3)
    assert [len(p) for p in pose([picture((64, 64), (5, 5))] * 2)] == [0, 0]


@pytest.mark.parametrize(
    ("make", "settings", "text"),
    [
        (lambda p: networks.heatmap(p), {}, "kind: topdown"),
        (lambda p: networks.rtmo(p), {"input_wh": (640, 640)}, "model_input_size is"),
        (lambda p: networks.rtmo(p, input_wh=(96, 64)), {"input_wh": (64, 96)}, "takes"),
    ],
    ids=["a heatmap model", "another size", "height and width swapped"],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path, make, settings, text):
    with pytest.raises(ModelError, match=text):
        model(make(tmp_path / "m.onnx"), **settings)


def test_for_a_video_it_sees_each_frame_by_itself(tmp_path):
    pose = model(networks.rtmo(tmp_path / "m.onnx"))
    pictures = [picture((64, 64), (20, 12)), picture((64, 64), (40, 30))]
    for ours, expected in zip(pose.for_video()(pictures, [0.0, 0.1]), pose(pictures), strict=True):
        assert len(ours) == 1
        np.testing.assert_array_equal(ours.boxes, expected.boxes)


class Shapes:
    """Declares outputs of some shapes and gives those of others."""

    def __init__(self, declared, given):
        self.inputs = (TensorSpec("input", (None, 3, 64, 64), FLOAT),)
        pair = zip(("dets", "keypoints"), declared, strict=True)
        self.outputs = tuple(TensorSpec(name, shape, FLOAT) for name, shape in pair)
        self._given = given

    def run(self, feeds):
        pair = zip(("dets", "keypoints"), self._given, strict=True)
        return {name: np.zeros(shape, np.float32) for name, shape in pair}


FREE = [(None, None, 5), (None, None, 17, 3)]


@pytest.mark.parametrize(
    "declared",
    [
        [(None, None, 4), FREE[1]],
        [(None, None, 6), FREE[1]],
        [FREE[0], (None, None, 17, 2)],
        [(None, 3, 5), (None, 2, 17, 3)],
    ],
)
def test_outputs_that_nearly_fit_are_refused(declared):
    with pytest.raises(ModelError, match=r"expected input .* got"):
        RtmoPose(Shapes(declared, declared), OnnxPoseConfig())


@pytest.mark.parametrize(
    "given",
    [
        [(2, 3, 4), (2, 3, 17, 3)],
        [(2, 3, 5), (2, 2, 17, 3)],
        [(1, 3, 5), (1, 3, 17, 3)],
        [(2, 3, 5), (2, 3, 17, 2)],
    ],
)
def test_outputs_other_than_the_file_says_are_refused(given):
    pose = RtmoPose(Shapes(FREE, given), OnnxPoseConfig())
    with pytest.raises(ModelError, match=r"expected dets \(2,K,5\)"):
        pose([picture((64, 64), (5, 5))] * 2)


class InputShapes:
    """A network that notes the inputs' shapes and is another one otherwise."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def __getattr__(self, name):
        return getattr(self.network, name)

    def run(self, feeds):
        self.seen += [array.shape for array in feeds.values()]
        return self.network.run(feeds)


def test_an_input_that_follows_the_picture_wastes_no_rows():
    network = InputShapes(OnnxNetwork(SHIPPED, OnnxPoseConfig()))
    pose = RtmoPose(network, OnnxPoseConfig(), (640, 640), follows_picture=True)
    sizes = [(1920, 1080), (1920, 1080), (480, 640), (1280, 720), (50, 400), (640, 640), (30, 30)]
    found = pose([picture(size, (20, 20)) for size in sizes])
    assert len(found) == len(sizes)
    wide, tall, thin, square = (448, 640), (640, 544), (640, 160), (640, 640)
    # One by one: a batch costs a CPU more.
    sides = [wide, wide, wide, tall, thin, square, square]
    assert network.seen == [(1, 3, *side) for side in sides]


def test_a_device_that_is_no_cpu_gets_pictures_of_one_shape_together():
    network = InputShapes(OnnxNetwork(SHIPPED, OnnxPoseConfig()))
    network.on_cpu = False
    pose = RtmoPose(network, OnnxPoseConfig(), (640, 640), follows_picture=True)
    pose([picture(size, (20, 20)) for size in [(1920, 1080), (1280, 720), (480, 640)]])
    assert network.seen == [(2, 3, 448, 640), (1, 3, 640, 544)]


def test_a_network_of_fixed_sides_does_not_follow_the_picture(tmp_path):
    network = InputShapes(OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), OnnxPoseConfig()))
    pose = RtmoPose(network, OnnxPoseConfig(), follows_picture=True)
    pose([picture((128, 64), (32, 32))])
    assert network.seen == [(1, 3, 64, 64)]


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="needs ../shared/assets")
def test_the_rows_that_are_left_out_hold_nothing_that_counts():
    import cv2

    read, frame = cv2.VideoCapture(str(VIDEOS / "street_5_frames.mp4")).read()
    assert read
    square, fitted = (
        RtmoPose(
            OnnxNetwork(SHIPPED, OnnxPoseConfig()),
            OnnxPoseConfig(),
            (640, 640),
            follows_picture=follows,
        )([ArrayImage(frame)])[0]
        for follows in (False, True)
    )
    sure = square.box_scores > 0.5
    assert sure.sum() >= 2
    for box, score in zip(square.boxes[sure], square.box_scores[sure], strict=True):
        near = np.abs(fitted.boxes - box).max(1)
        assert near.min() < 0.03 * (box[3] - box[1])
        assert fitted.box_scores[near.argmin()] == pytest.approx(score, abs=0.05)
