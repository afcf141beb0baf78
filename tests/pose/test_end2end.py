"""Detectors in mmdeploy's end2end form: RTMDet and YOLOX with suppression inside."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from recognizer.backends.network import FLOAT, ModelError, TensorSpec
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.detector import YoloxDetector
from recognizer.pose.end2end import End2EndDetector, build_detector
from recognizer.video.array_image import ArrayImage
from tests import detectors, networks

RTMDET, YOLOX = "bbox_head.rtm_cls.0.weight", "bbox_head.multi_level_conv_cls.0.weight"
DETS = np.float32(
    [[4, 4, 20, 40, 0.3], [8, 8, 30, 50, 0.8], [0, 0, 64, 64, 0.9], [1, 1, 2, 2, 0.01]]
)
LABELS = [0, 0, 2, 0]


def opened(path, **settings):
    network = OnnxNetwork(path, OnnxRuntimeOptions())
    return build_detector(network, DetectorConfig(**settings), path)


def white(size_wh=(128, 128), level=255):
    return ArrayImage(np.full((size_wh[1], size_wh[0], 3), level, np.uint8))


@pytest.mark.parametrize("batch", ["B", 1, 4])
def test_people_come_best_first_in_image_pixels_and_other_classes_are_left_out(tmp_path, batch):
    dets = DETS * [1, 1, 1, 1, 1 / 255]  # the network multiplies by the mean of the pixels
    path = detectors.end2end(
        tmp_path / "d.onnx", dets.astype(np.float32), LABELS, weight=YOLOX, batch=batch
    )
    for found in opened(path)([white()] * 3):
        np.testing.assert_allclose(found.scores, [0.8, 0.3], rtol=1e-5)
        np.testing.assert_allclose(found.xyxy, [[16, 16, 60, 100], [8, 8, 40, 80]])
    (best,) = opened(path, max_detections=1)([white()])
    np.testing.assert_allclose(best.scores, [0.8], rtol=1e-5)


@pytest.mark.parametrize(
    ("weight", "asked", "normalised"),
    [
        (RTMDET, "auto", True),
        (YOLOX, "auto", False),
        (RTMDET, "none", False),
        ("onnx::Conv_1", "rtmdet", True),
    ],
)
def test_rtmdet_takes_normalised_pixels_and_yolox_takes_them_as_they_are(
    tmp_path, weight, asked, normalised
):
    dets = np.float32([[0, 0, 9, 9, 1e-3]])
    path = detectors.end2end(tmp_path / "d.onnx", dets, [0], weight=weight)
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    level = ((200 - mean) / std).mean() if normalised else 200.0
    (found,) = opened(path, normalisation=asked, score_threshold=0.0)([white((64, 64), 200)])
    np.testing.assert_allclose(found.scores, [level * 1e-3], rtol=1e-4)


def test_a_detector_of_unknown_weights_asks_for_its_normalisation(tmp_path):
    path = detectors.end2end(tmp_path / "d.onnx", DETS, LABELS, weight="w")
    with pytest.raises(ModelError, match=r"d\.onnx: .*normalisation: rtmdet, or none"):
        opened(path)


def test_a_file_of_any_size_asks_for_one_and_takes_it(tmp_path):
    path = detectors.end2end(tmp_path / "d.onnx", DETS, LABELS, weight=YOLOX, size_wh=("w", "h"))
    with pytest.raises(ModelError, match=r"set .*network_input_size"):
        opened(path)
    model = opened(path, network_input_size=(64, 32), max_detections=1)
    (found,) = model([white((128, 64), 1)])
    np.testing.assert_allclose(found.xyxy, [DETS[1, :4] * 2])
    fixed = detectors.end2end(tmp_path / "f.onnx", DETS, LABELS, weight=YOLOX)
    with pytest.raises(ModelError, match=r"network_input_size: the file takes \[64, 64\]"):
        opened(fixed, network_input_size=(64, 32))


def test_a_detector_without_suppression_is_yolox(tmp_path):
    path = networks.constant_yolox(tmp_path / "d.onnx", {})
    assert isinstance(opened(path), YoloxDetector)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    dets = np.full((1, 5), np.nan, np.float32)
    path = detectors.end2end(tmp_path / "d.onnx", dets, [0], weight=YOLOX)
    with pytest.raises(ModelError, match="not finite"):
        opened(path)([white()])


def test_raw_yolox_refuses_another_size(tmp_path):
    path = networks.constant_yolox(tmp_path / "raw.onnx", {})
    network, asked = OnnxNetwork(path, OnnxRuntimeOptions()), (640, 640)
    with pytest.raises(ModelError, match=r"network_input_size: the file takes \[64, 64\]"):
        build_detector(network, DetectorConfig(network_input_size=asked), path)


class Given:
    """Gives these outputs, whatever it is shown."""

    def __init__(self, dets, labels):
        self.inputs = (TensorSpec("input", (None, 3, 64, 64), FLOAT),)
        names = (("dets", (None, None, 5)), ("labels", (None, None)))
        self.outputs = tuple(TensorSpec(name, shape, FLOAT) for name, shape in names)
        self._given = {"dets": dets, "labels": labels}

    def run(self, feeds):
        return self._given


def dets_of(box, score=0.9):
    return np.float32([[[*box, score]]])


@pytest.mark.parametrize(
    ("dets", "labels", "message"),
    [
        (
            np.zeros((1, 3, 4), np.float32),
            np.zeros((1, 3)),
            r"expected .* \(1, 3, 4\)",
        ),
        (np.zeros((1, 3, 5), np.float32), np.zeros((1, 2)), r"got \(1, 3, 5\) and \(1, 2\)"),
        (np.zeros((0, 3, 5), np.float32), np.zeros((0, 3)), r"expected dets \(1,N,5\)"),
        (np.zeros(5, np.float32), np.zeros(1), r"expected dets \(1,N,5\)"),
        (dets_of([1, 2, 3, 4], 300), np.zeros((1, 1)), "scores of 0 to 1, got 300"),
        (dets_of([9, 2, 3, 4]), np.zeros((1, 1)), "x1 <= x2"),
        (dets_of([1, 2, 1e32, 4]), np.zeros((1, 1)), "coordinates of at most 6400"),
        (dets_of([1, 2, np.nan, 4]), np.zeros((1, 1)), "not finite"),
    ],
)
def test_outputs_that_cannot_be_are_refused_by_file(dets, labels, message):
    model = End2EndDetector(
        Given(dets, labels), DetectorConfig(), normalised=False, file=Path("dir/det.onnx")
    )
    with pytest.raises(ModelError, match=rf"dir/det\.onnx: person detector.*{message}"):
        model([white((64, 64))])


def test_an_input_too_large_for_memory_is_refused(tmp_path):
    path = detectors.end2end(
        tmp_path / "d.onnx", DETS, LABELS, weight=YOLOX, size_wh=(100_000, 100_000)
    )
    with pytest.raises(ModelError, match=r"d\.onnx.* at most 8192 pixels a side, got 100000 x"):
        opened(path)
    with pytest.raises(ValidationError, match="8192"):
        DetectorConfig(network_input_size=(100_000, 100_000))
