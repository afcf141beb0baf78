"""RTMPose's SimCC vectors: places, scores, and the way back to image pixels."""

import cv2
import numpy as np
import pytest

from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.detector import Boxes
from recognizer.pose.simcc import decode_simcc, unmirror_simcc
from recognizer.pose.topdown import TopDownPose
from recognizer.skeleton import FLIP_INDEX
from recognizer.video.array_image import ArrayImage
from tests import detectors

BOX = np.float32([[40, 30, 140, 200]])


def open_network(path):
    return OnnxNetwork(path, OnnxRuntimeOptions())


def posed(path, dot, **settings):
    picture = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(picture, dot, 3, (255, 255, 255), -1)
    model = TopDownPose(
        lambda images: [Boxes(BOX, np.ones(1, np.float32))],
        open_network(path),
        TopDownConfig(**settings),
    )
    (poses,) = model([ArrayImage(picture)])
    return poses


def test_the_place_is_the_highest_cell_and_the_score_the_lower_maximum():
    columns, rows = np.zeros((1, 2, 384), np.float32), np.zeros((1, 2, 512), np.float32)
    columns[0, 0, 96], rows[0, 0, 384] = 0.9, 0.4
    columns[0, 1, 5], rows[0, 1, 5] = 0.9, 0  # not above 0 in one direction: missing
    places, scores = decode_simcc(columns, rows)
    np.testing.assert_allclose(places, [[[0.25, 0.75], [0, 0]]])
    np.testing.assert_allclose(scores, [[0.4, 0]])


def test_a_mirrored_crop_is_turned_back_with_left_and_right_swapped():
    columns, rows = np.zeros((1, 17, 8), np.float32), np.zeros((1, 17, 6), np.float32)
    columns[0, 5, 1], rows[0, 5, 2] = 1, 1
    turned, same = unmirror_simcc(columns, rows)
    assert turned[0, FLIP_INDEX[5], 6] == 1
    assert same[0, FLIP_INDEX[5], 2] == 1


@pytest.mark.parametrize("batch", ["B", 1, 4])
@pytest.mark.parametrize("crop_wh", [(192, 256), (288, 384)])
@pytest.mark.parametrize("flip_test", [False, True])
def test_a_dot_comes_back_from_the_crop(tmp_path, batch, crop_wh, flip_test):
    path = detectors.simcc(tmp_path / "s.onnx", batch=batch, crop_wh=crop_wh, shift=3)
    poses = posed(path, (80, 110), flip_test=flip_test)
    # A dot 7 pixels wide has a flat top: its first highest cell is at most 4 pixels off.
    assert np.abs(poses.keypoints - (80, 110)).max() <= 4.5
    assert (poses.keypoint_scores > 0).all()


def test_keypoints_without_a_score_are_missing(tmp_path):
    poses = posed(detectors.simcc(tmp_path / "s.onnx", shift=-9), (80, 110))
    assert not poses.keypoint_scores.any()
    assert not poses.keypoints.any()


def test_vectors_of_other_keypoints_are_refused(tmp_path):
    path = detectors.simcc(tmp_path / "s.onnx", channels=26)
    with pytest.raises(ModelError, match=r"simcc_x \(B,17,2W\)"):
        TopDownPose(lambda images: [], open_network(path), TopDownConfig())


def test_vectors_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not finite"):
        posed(detectors.simcc(tmp_path / "s.onnx", shift=np.nan), (80, 110))
