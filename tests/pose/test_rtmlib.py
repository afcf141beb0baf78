"""Detector and RTMPose against rtmlib 0.0.16 on the same files and pictures."""

from pathlib import Path

import numpy as np
import pytest

from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.end2end import build_detector
from recognizer.pose.topdown import TopDownPose
from recognizer.video.array_image import ArrayImage

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
pytestmark = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")


def test_the_same_people_and_keypoints_as_rtmlib(tmp_path):
    rtmlib = pytest.importorskip("rtmlib")
    pytest.importorskip("mmpose")
    cv2 = pytest.importorskip("cv2")
    from tests.backends.rtmpose_models import save_end2end_yolox, save_rtmpose

    pose_file = save_rtmpose(tmp_path / "rtmpose.onnx")
    source = ASSETS / "weights" / "yolox_nano.onnx"
    detector_file = save_end2end_yolox(tmp_path / "yolox.onnx", source)
    options = OnnxRuntimeOptions(threads=1)
    section = DetectorConfig(score_threshold=0.3)  # rtmlib's, for files with NMS inside
    detector = build_detector(OnnxNetwork(detector_file, options), section, detector_file)
    model = TopDownPose(detector, OnnxNetwork(pose_file, options), TopDownConfig())
    peer_boxes = rtmlib.YOLOX(str(detector_file), (416, 416), device="cpu")
    peer = rtmlib.RTMPose(str(pose_file), (192, 256), device="cpu")
    people = 0
    for path in sorted((ASSETS / "coco" / "val2017").glob("*.jpg"))[:20]:
        frame = cv2.imread(str(path))
        boxes = peer_boxes(frame)
        (poses,) = model([ArrayImage(frame)])
        assert len(poses) == len(boxes)
        if not len(boxes):
            continue
        np.testing.assert_allclose(poses.boxes, boxes, atol=0.1)
        # rtmlib subtracts means of RGB from BGR; it is shown RGB, on which RTMPose was trained.
        keypoints, scores = peer(np.ascontiguousarray(frame[..., ::-1]), boxes)
        np.testing.assert_allclose(poses.keypoints, keypoints, atol=0.1)
        assert (poses.keypoint_scores <= scores + 1e-3).all()
        assert np.ptp(poses.keypoints, axis=1).min() > 10  # pixels: no vector is flat
        people += len(boxes)
    assert people >= 8
