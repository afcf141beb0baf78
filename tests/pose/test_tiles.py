"""Squares of a picture: they cover it, borders inside drop boxes, real people are found again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.geometry import box_iou
from recognizer.pose.detector import YoloxDetector
from recognizer.pose.tiles import cut_tiles, whole_boxes
from recognizer.video.array_image import ArrayImage

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"


def picture(width, height):
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x // 256) * 16 + y // 256], axis=2).astype(np.uint8)


@given(st.integers(8, 900), st.integers(8, 900))
@settings(max_examples=60, deadline=None)
def test_squares_cover_the_picture_and_overlap(width, height):
    pixels = picture(width, height)
    tiles = cut_tiles(ArrayImage(pixels))
    side = min(width, height)
    if max(width, height) < 1.15 * side:
        assert tiles == []
        return
    seen = np.zeros((height, width), int)
    for tile in tiles:
        assert tile.size_wh == (side, side)
        place = np.s_[tile.top : tile.top + side, tile.left : tile.left + side]
        assert np.array_equal(tile.bgr(), pixels[place])
        seen[place] += 1
    assert seen.min() >= 1
    starts = sorted(tile.left + tile.top for tile in tiles)
    assert np.diff(starts).max() <= side * 0.8 + 1


def test_boxes_that_end_at_a_border_inside_the_picture_are_dropped():
    left, right = cut_tiles(ArrayImage(picture(180, 100)))
    boxes = np.float32([[0, 5, 40, 90], [20, 0, 60, 100], [60, 5, 100, 90]])
    assert list(whole_boxes(boxes, left, (180, 100))) == [True, True, False]
    assert list(whole_boxes(boxes, right, (180, 100))) == [False, True, True]


@pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")
def test_tiles_keep_everybody_and_find_more_on_a_street():
    import cv2

    file = cv2.VideoCapture(str(ASSETS / "videos" / "street_14_people.mp4"))
    read, pixels = file.read()
    assert read
    network = OnnxNetwork(ASSETS / "weights" / "yolox_nano.onnx", OnnxRuntimeOptions())
    one, more = (
        YoloxDetector(network, DetectorConfig(tiles=tiles, score_threshold=0.3))(
            [ArrayImage(pixels)]
        )[0]
        for tiles in (False, True)
    )
    assert len(more.scores) > len(one.scores)
    again = box_iou(one.xyxy, more.xyxy).max(axis=1)
    assert (again > 0.5).all()
    assert np.all(np.diff(more.scores) <= 0)
