"""Crops there and back, batches, the detector's grid, and the real weights on real people."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.detector import Boxes, YoloxDetector
from recognizer.pose.topdown import TopDownPose
from recognizer.video.array_image import ArrayImage
from tests import networks

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")


def open_network(path):
    return OnnxNetwork(path, OnnxRuntimeOptions())


@pytest.fixture(scope="module", params=["B", 1, 4])
def dot_network(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    return open_network(networks.heatmap(path, batch=request.param))


def dot_picture(dot, size_wh=(320, 240)):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    cv2.circle(image, dot, 4, (255, 255, 255), -1)
    return ArrayImage(image)


sides = st.integers(30, 200)
boxes = st.tuples(st.integers(-40, 200), st.integers(-40, 120), sides, sides)


@pytest.mark.parametrize("decoding", ["dark", "quarter_offset"])
@pytest.mark.parametrize("flip_test", [False, True])
@given(boxes, st.floats(0.2, 0.8), st.floats(0.2, 0.8))
@example((0, 0, 200, 31), 0.25, 0.5)
@settings(max_examples=25, deadline=None)
def test_a_dot_comes_back_from_any_crop(dot_network, decoding, flip_test, box, fx, fy):
    x, y, w, h = box
    dot = (int(x + fx * w), int(y + fy * h))
    if not (8 <= dot[0] < 312 and 8 <= dot[1] < 232):
        return
    pose = TopDownPose(
        lambda images: [Boxes(np.float32([[x, y, x + w, y + h]] * 5), np.ones(5, np.float32))],
        dot_network,
        TopDownConfig(decoding=decoding, flip_test=flip_test),
        # Brightness is its score, and a small dot, normalised, can be darker than 0.
        keypoint_threshold=-10.0,
    )
    (poses,) = pose([dot_picture(dot)])
    assert len(poses) == 5
    # The pooled dot has a flat top, so the peak is only known to a few heatmap cells.
    cell = 1.25 * max(w / 48, h / 64, 1)
    assert np.abs(poses.keypoints - dot).max() <= 3 * cell + 5


@pytest.mark.parametrize("decoding", ["dark", "quarter_offset"])
@pytest.mark.parametrize("batch", [1, "B"])
def test_heatmaps_of_96x72_as_of_vitpose_and_hrnet_384x288(tmp_path, batch, decoding):
    path = networks.heatmap(tmp_path / "m.onnx", batch=batch, crop_wh=(288, 384))
    network = open_network(path)
    assert network.outputs[0].shape == (None if batch == "B" else 1, 17, 96, 72)
    boxes = np.float32([[60, 40, 160, 220], [40, 60, 280, 180]])
    model = TopDownPose(
        lambda images: [Boxes(boxes, np.ones(2, np.float32)) for _ in images],
        network,
        TopDownConfig(decoding=decoding),
        keypoint_threshold=-10.0,
    )
    assert model.input_wh == (288, 384)
    for poses, dot in zip(model([dot_picture((100, 90))] * 2), [(100, 90)] * 2, strict=True):
        np.testing.assert_allclose(poses.keypoints, np.full((2, 17, 2), dot), atol=5)


def test_nobody_in_some_frames_or_all_of_them(dot_network):
    def some(images):
        return [
            Boxes(np.float32([[0, 0, 50, 90]] * n).reshape(-1, 4), np.ones(n, np.float32))
            for n in (0, 2, 0)
        ]

    pose = TopDownPose(some, dot_network, TopDownConfig())
    assert [len(p) for p in pose([dot_picture((20, 20))] * 3)] == [0, 2, 0]
    empty = TopDownPose(
        lambda images: [Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))] * len(images),
        dot_network,
        TopDownConfig(),
    )
    assert [len(p) for p in empty([dot_picture((20, 20))] * 2)] == [0, 0]


def test_keypoints_below_the_threshold_are_missing(dot_network):
    def one(images):
        return [Boxes(np.float32([[0, 0, 50, 90]]), np.ones(1, np.float32))]

    (poses,) = TopDownPose(one, dot_network, TopDownConfig(), 1e9)([dot_picture((20, 20))])
    assert (poses.keypoint_scores == 0).all()
    assert (poses.keypoints == 0).all()


def row(score=0.8, offset=(0.5, 0.5), size=(16, 32), stride=8):
    values = np.zeros(85, np.float32)
    values[:4] = [*offset, np.log(size[0] / stride), np.log(size[1] / stride)]
    values[4], values[5] = 1, score
    return values


def test_the_detector_reads_the_grid_of_every_stride(tmp_path):
    # 64 x 64: 64 cells of stride 8, 16 of stride 16, 4 of stride 32.
    rows = {9: row(), 64 + 5: row(0.7, stride=16), 64 + 16 + 3: row(0.6, stride=32)}
    network = open_network(networks.constant_yolox(tmp_path / "d.onnx", rows))
    detector = YoloxDetector(network, DetectorConfig(nms_threshold=0.9))
    (found,) = detector([ArrayImage(np.zeros((128, 128, 3), np.uint8))])  # scale 1/2
    np.testing.assert_allclose(found.scores, [0.8, 0.7, 0.6], rtol=1e-5)
    centres = [(12, 12), (24, 24), (48, 48)]
    for box, (cx, cy) in zip(found.xyxy, centres, strict=True):
        np.testing.assert_allclose(box, 2 * np.array([cx - 8, cy - 16, cx + 8, cy + 16]), rtol=1e-4)


def test_the_detector_keeps_the_best_of_overlapping_boxes_and_drops_other_classes(tmp_path):
    chair = row()
    chair[5], chair[61] = 0, 0.9
    rows = {9: row(0.8), 10: row(0.7, offset=(-0.4, 0.5)), 40: chair}
    network = open_network(networks.constant_yolox(tmp_path / "d.onnx", rows, batch=1))
    nothing = ArrayImage(np.zeros((64, 64, 3), np.uint8))
    found = YoloxDetector(network, DetectorConfig())([nothing] * 3)
    assert [f.scores.tolist() for f in found] == [[pytest.approx(0.8)]] * 3


def test_files_of_another_kind_are_refused_with_what_would_fit(tmp_path):
    rtmo = open_network(networks.rtmo(tmp_path / "r.onnx"))
    with pytest.raises(ModelError, match="kind: rtmo"):
        TopDownPose(lambda images: [], rtmo, TopDownConfig())
    with pytest.raises(ModelError, match="YOLOX"):
        YoloxDetector(rtmo, DetectorConfig())
    body16 = open_network(networks.heatmap(tmp_path / "h.onnx", channels=16))
    with pytest.raises(ModelError, match=r"heatmaps \(B,17,h,w\)"):
        TopDownPose(lambda images: [], body16, TopDownConfig())


@needs_assets
def test_real_weights_find_the_people_of_real_photographs():
    """COCO val2017 pictures with one annotated person: the pose lies on the annotation."""
    import json

    weights = ASSETS / "weights"
    detector = YoloxDetector(open_network(weights / "yolox_nano.onnx"), DetectorConfig())
    network = open_network(weights / "pp_tinypose_256x192.onnx")
    pose = TopDownPose(detector, network, TopDownConfig())
    truth = json.loads((ASSETS / "coco/annotations/person_keypoints_val2017.json").read_text())
    close = total = 0
    for note in [a for a in truth["annotations"] if a["num_keypoints"] >= 12][:8]:
        info = next(i for i in truth["images"] if i["id"] == note["image_id"])
        image = ArrayImage(cv2.imread(str(ASSETS / "coco/val2017" / info["file_name"])))
        box = np.float32([note["bbox"]])
        box[:, 2:] += box[:, :2]
        (poses,) = pose.with_boxes([image], [Boxes(box, np.ones(1, np.float32))])
        true = np.array(note["keypoints"]).reshape(17, 3)
        seen = true[:, 2] > 0
        away = np.linalg.norm(poses.keypoints[0, seen] - true[seen, :2], axis=1)
        close += int((away < 0.1 * np.sqrt(note["area"])).sum())
        total += int(seen.sum())
    assert total > 80
    assert close / total > 0.8


@needs_assets
def test_a_decoded_export_finds_what_the_raw_one_finds():
    image = ArrayImage(cv2.imread(str(next((ASSETS / "coco/val2017").glob("*.jpg")))))
    raw, decoded = (
        YoloxDetector(open_network(path), DetectorConfig())([image])[0]
        for path in (ASSETS / "weights/yolox_nano.onnx", ASSETS / "faults/yolox_decoded.onnx")
    )
    assert len(raw.scores)
    np.testing.assert_allclose(decoded.scores, raw.scores, atol=1e-4)
    np.testing.assert_allclose(decoded.xyxy, raw.xyxy, atol=0.1)


def every_cell(value):
    return dict.fromkeys(range(64 + 16 + 4), np.full(85, value, np.float32))


def test_decoded_rows_are_pixels_of_the_input(tmp_path):
    rows = every_cell(0)
    for cell in rows:
        rows[cell] = np.float32([8 + cell % 48, 30, 16, 32, *[0] * 81])
    rows[9][4:6] = 1, 0.8
    network = open_network(networks.constant_yolox(tmp_path / "d.onnx", rows))
    (found,) = YoloxDetector(network, DetectorConfig())(
        [ArrayImage(np.zeros((128, 128, 3), np.uint8))]
    )
    np.testing.assert_allclose(found.xyxy, [[2 * (17 - 8), 28, 2 * (17 + 8), 92]], rtol=1e-5)


def test_a_detector_that_gives_no_numbers_is_named(tmp_path):
    network = open_network(networks.constant_yolox(tmp_path / "d.onnx", every_cell(np.nan)))
    with pytest.raises(ModelError, match=r"person detector gives numbers that are not finite"):
        YoloxDetector(network, DetectorConfig())([ArrayImage(np.zeros((64, 64, 3), np.uint8))])
