"""Pose networks of another element type, that give no numbers, or see many people at once."""

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from recognizer.backends.network import ModelError, TensorSpec
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig, OnnxPoseConfig, TopDownConfig
from recognizer.pose import topdown
from recognizer.pose.detector import Boxes, LetterboxBatch, YoloxDetector
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.video.array_image import ArrayImage
from tests import networks

BOXES = Boxes(np.array([[1, 1, 30, 40]], np.float32), np.ones(1, np.float32))


def pictures(count, seed=0, size=(50, 70)):
    random = np.random.default_rng(seed)
    return [ArrayImage(random.integers(0, 255, (*size, 3)).astype(np.uint8)) for _ in range(count)]


def of_type(path, element):
    """Let the file's input be of another element type; the layout stays (B,3,H,W)."""
    model = onnx.load(path)
    given = model.graph.input[0]
    given.type.tensor_type.elem_type = element
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == given.name:
                node.input[i] = "as_float"
    cast = helper.make_node("Cast", [given.name], ["as_float"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    onnx.save(model, str(path))
    return OnnxNetwork(path, OnnxPoseConfig())


@pytest.mark.parametrize(
    ("element", "name"),
    [
        (TensorProto.UINT8, "uint8"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.DOUBLE, "double"),
        (TensorProto.INT8, "int8"),
    ],
)
def test_another_element_type_is_refused_when_the_file_is_opened(tmp_path, element, name):
    path = tmp_path / "m.onnx"
    message = rf"expected .*\(B,3,H,W\) float32.* got .* tensor\({name}\)"
    with pytest.raises(ModelError, match=message):
        RtmoPose(of_type(networks.rtmo(path), element), OnnxPoseConfig())
    with pytest.raises(ModelError, match=message):
        TopDownPose(lambda _: [], of_type(networks.heatmap(path), element), TopDownConfig())
    with pytest.raises(ModelError, match=message):
        YoloxDetector(of_type(networks.constant_yolox(path, {}), element), DetectorConfig())


class Given:
    """A network that gives what a function makes of its input."""

    def __init__(self, inputs, outputs, work):
        self.inputs = (TensorSpec(*inputs, "tensor(float)"),)
        self.outputs = tuple(TensorSpec(*one, "tensor(float)") for one in outputs)
        self._work = work

    def run(self, feeds):
        values = self._work(next(iter(feeds.values())))
        return {spec.name: value for spec, value in zip(self.outputs, values, strict=True)}


def rtmo_of(score, place, **changes):
    def work(pixels):
        dets, points = np.ones((len(pixels), 2, 5), "f4"), np.ones((len(pixels), 2, 17, 3), "f4")
        dets[:, 0, 4], points[:, 0, 3, 0] = score, place
        dets[:, 0, :4] = changes.get("box", [1, 2, 30, 40])
        points[:, 0, 5, 2] = changes.get("sure", 0.9)
        dets[:, 1] = 0  # room that nobody fills: what stands there is of no account
        points[:, 1] = np.nan
        return dets, points

    outputs = (("dets", (None, None, 5)), ("keypoints", (None, None, 17, 3)))
    network = Given(("input", (None, 3, 64, 64)), outputs, work)
    return RtmoPose(network, OnnxPoseConfig(), file=Path("dir/cam.onnx"))


@pytest.mark.parametrize(
    ("score", "place", "changes", "message"),
    [
        (1.5, 5.0, {}, "expected scores of 0 to 1, got 1.5"),
        (-3.0, 5.0, {}, "expected scores of 0 to 1, got -3"),
        (0.9, 5.0, {"sure": 70.0}, "expected scores of 0 to 1, got 70"),
        (0.9, 5.0, {"sure": -1.0}, "expected scores of 0 to 1, got -1"),
        (0.9, 1e32, {}, "expected coordinates of at most 6400 for .* 64 x 64, got 1e\\+32"),
        (0.9, 5.0, {"box": [30, 2, 1, 40]}, r"x1 <= x2 .* got \[30.0, 2.0, 1.0, 40.0\]"),
        (0.9, 5.0, {"box": [1, 40, 30, 2]}, "x1 <= x2 and y1 <= y2"),
        (0.9, 5.0, {"box": [0, 0, 1e32, 40]}, "expected coordinates of at most"),
    ],
)
def test_an_rtmo_that_gives_what_cannot_be_is_refused_by_file(score, place, changes, message):
    with pytest.raises(ModelError, match=rf"dir/cam\.onnx: RTMO: .*{message}.*the file is damaged"):
        rtmo_of(score, place, **changes)(pictures(1))


def test_rounding_of_an_rtmo_is_no_fault():
    (found,) = rtmo_of(1.004, 5.0, sure=1.002, box=[30.001, 2, 30, 40])(pictures(1))
    assert found.box_scores[0] == found.keypoint_scores.max() == 1


def test_a_place_that_is_not_kept_may_be_anywhere():
    (found,) = rtmo_of(0.9, 5.0)(pictures(1))
    model = rtmo_of(0.9, 5.0, sure=0.0)
    network = model._network

    class Far:
        inputs, outputs = network.inputs, network.outputs

        def run(self, feeds):
            out = network.run(feeds)
            out["keypoints"][:, 0, 5, :2] = 1e20
            return out

    (far,) = RtmoPose(Far(), OnnxPoseConfig())(pictures(1))
    assert len(far) == len(found) == 1
    np.testing.assert_array_equal(far.keypoints[0, 5], [0, 0])


@pytest.mark.parametrize(
    ("score", "place", "people"), [(0.9, 5.0, 1), (np.nan, 5.0, None), (0.9, np.inf, None)]
)
def test_an_rtmo_that_gives_no_numbers_is_refused(score, place, people):
    model = rtmo_of(score, place)
    if people is None:
        with pytest.raises(ModelError, match=r"RTMO gives numbers that are not finite.*fp32"):
            model(pictures(2))
    else:
        assert [len(one) for one in model(pictures(2))] == [people] * 2


@pytest.mark.parametrize("decoding", ["dark", "quarter_offset"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_heatmaps_that_are_no_numbers_are_refused(decoding, value):
    def work(pixels):
        heatmaps = np.zeros((len(pixels), 17, 64, 48), np.float32)
        heatmaps[-1, 4, 3, 2] = value
        return (heatmaps,)

    network = Given(("image", (None, 3, 256, 192)), (("heatmaps", (None, 17, 64, 48)),), work)
    model = TopDownPose(lambda _: [BOXES], network, TopDownConfig(decoding=decoding))
    with pytest.raises(ModelError, match="top-down pose network gives numbers that are not finite"):
        model(pictures(1))


# --- buffers that are used again -----------------------------------------------------


def crowd(random, images, most):
    found = []
    for _ in range(images):
        corner = random.uniform(0, 40, (int(random.integers(0, most)), 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 30, corner.shape)], 1)
        found.append(Boxes(boxes.astype(np.float32), np.ones(len(boxes), np.float32)))
    return found


def test_many_people_are_seen_in_pieces_of_bounded_memory(tmp_path, monkeypatch):
    network = OnnxNetwork(networks.heatmap(tmp_path / "m.onnx"), OnnxPoseConfig())
    images, found = pictures(9), crowd(np.random.default_rng(1), 9, 40)
    whole = TopDownPose(lambda _: found, network, TopDownConfig())
    monkeypatch.setattr(topdown, "_TOGETHER", 1000)
    expected = whole(images)
    monkeypatch.setattr(topdown, "_TOGETHER", 20)  # pieces end within an image
    pieces = TopDownPose(lambda _: found, network, TopDownConfig())
    assert len(expected[-1]) != len(expected[0])
    for one, other in zip(pieces(images), expected, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.keypoint_scores, other.keypoint_scores)
    assert len(pieces._buffer) <= 20


def test_results_stay_as_they_are_when_others_come_after_them(tmp_path):
    network = OnnxNetwork(networks.heatmap(tmp_path / "m.onnx"), OnnxPoseConfig())
    found = [BOXES, BOXES]
    model = TopDownPose(lambda _: found, network, TopDownConfig())
    rtmo = RtmoPose(
        OnnxNetwork(networks.rtmo(tmp_path / "r.onnx"), OnnxPoseConfig()), OnnxPoseConfig()
    )
    for one in (model, rtmo):
        first = one(pictures(2, seed=1))
        kept = [
            (poses.keypoints.copy(), poses.keypoint_scores.copy(), poses.boxes.copy())
            for poses in first
        ]
        one(pictures(2, seed=2))
        for poses, copies in zip(first, kept, strict=True):
            for value, copy in zip(
                (poses.keypoints, poses.keypoint_scores, poses.boxes), copies, strict=True
            ):
                np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("uint8", [False, True])
def test_no_pixel_of_an_earlier_picture_is_left_in_the_buffer(uint8):
    random = np.random.default_rng(3)
    reused = LetterboxBatch((64, 64), uint8=uint8)
    for seed in range(60):
        images = [
            pictures(1, seed, tuple(random.integers(1, 90, 2)))[0]
            for _ in range(random.integers(1, 6))
        ]
        fresh, _ = LetterboxBatch((64, 64), uint8=uint8).fill(images)
        np.testing.assert_array_equal(reused.fill(images)[0], fresh)


# --- one network for several threads -------------------------------------------------


def in_threads(work, count=4):
    problems = []

    def one(number):
        try:
            for _ in range(25):
                work(number)
        except (ModelError, AssertionError) as error:
            problems.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[0]


@pytest.mark.parametrize("bound", [False, True])
def test_threads_that_share_a_network_get_their_own_results(tmp_path, bound):
    from recognizer.backends.onnx_binding import BoundRuns

    network = OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), OnnxPoseConfig())
    feeds = [np.zeros((1 + i % 2, 3, 64, 64), np.float32) for i in range(4)]
    for i, pixels in enumerate(feeds):
        pixels[:, 0, 10 * i + 3, 5 * i + 2] = 255
    expected = [network.run({"input": pixels}) for pixels in feeds]
    if bound:  # as on a GPU, with the CPU as the device
        network._bound = BoundRuns(network._session, "cpu")

    def work(number):
        found = network.run({"input": feeds[number]})
        for name, values in expected[number].items():
            np.testing.assert_array_equal(found[name], values)

    in_threads(work)
