"""Measure a person detector with RTMPose from a BGR frame to people against rtmlib, same files.

    python -m benchmarks.topdown_speed [--detector yolox.onnx] [--pose rtmpose-m.onnx] [--rounds 10]

Needs rtmlib (`make setup-benchmark`). Without --detector and --pose: YOLOX-nano's weights with NMS
inside, and RTMPose-m with weights from a seed (needs the training set; its time does not depend on
what it has learnt). rtmlib: YOLOX or RTMDet and RTMPose as they are, with ONNX Runtime sessions of
one thread without spinning, as ours. Both start from the same array and take turns in one
process; the ratio is one of CPU time. ``found boxes`` is the pose part alone, in the same boxes.
"""

import argparse
import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import onnxruntime as ort

from benchmarks._command import ASSETS
from benchmarks._needs import need
from benchmarks._turns import print_ratios
from benchmarks.rtmo_speed import Calls, decoded, race_on_frames
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.onnx_files import read_signature
from recognizer.backends.pose_kind import is_normalised, read_form
from recognizer.config.models import DetectorConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.end2end import build_detector
from recognizer.pose.topdown import TopDownPose
from recognizer.types import ImageArray
from recognizer.video.array_image import ArrayImage

VIDEO = ASSETS / "videos" / "street_14_people.mp4"
DETECTOR = ASSETS / "weights" / "yolox_nano.onnx"
SCORE = 0.3  # rtmlib's, for detectors with NMS inside


def make_models(folder: Path) -> tuple[Path, Path]:
    """Write YOLOX-nano with NMS inside, and RTMPose-m with weights from a seed."""
    from tests.backends.rtmpose_models import RTMPOSE_M, save_end2end_yolox, save_rtmpose

    with contextlib.redirect_stdout(io.StringIO()):
        pose = save_rtmpose(folder / "rtmpose-m.onnx", RTMPOSE_M)
    return save_end2end_yolox(folder / "yolox.onnx", DETECTOR), pose


def input_wh(path: Path) -> tuple[int, int]:
    """Return width and height of a file's input."""
    height, width = read_signature(path).inputs[0].shape[2:]
    return int(width or 0), int(height or 0)


def rtmlib_models(detector: Path, pose: Path) -> tuple[Any, Any]:
    """Return rtmlib's detector and pose network with sessions of one thread."""
    from rtmlib import YOLOX, RTMDet, RTMPose

    kind = RTMDet if is_normalised("auto", detector) else YOLOX
    width, height = input_wh(detector)
    with contextlib.redirect_stdout(io.StringIO()):
        models = (
            kind(str(detector), (height, width), device="cpu"),
            RTMPose(str(pose), input_wh(pose), device="cpu"),
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for model, path in zip(models, (detector, pose), strict=True):
        model.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return models


def ours(detector: Path, pose: Path) -> TopDownPose:
    """Return our model of both files, one thread."""
    options = OnnxRuntimeOptions(threads=1)
    section = DetectorConfig(score_threshold=SCORE, max_detections=100)
    boxes = build_detector(OnnxNetwork(detector, options), section, detector)
    return TopDownPose(boxes, OnnxNetwork(pose, options), TopDownConfig())


def agreement(peer: tuple[Any, Any], model: TopDownPose, frames: Sequence[ImageArray]) -> None:
    """Print how many people both find, and how far boxes and keypoints are apart."""
    people, apart = np.zeros(2, np.int64), [0.0, 0.0]
    for frame in frames:
        boxes = peer[0](frame)
        (poses,) = model([ArrayImage(frame)])
        people += len(boxes), len(poses)
        if not len(boxes) or len(boxes) != len(poses):
            continue
        # rtmlib subtracts means of RGB from BGR: it is shown RGB, on which RTMPose was trained.
        points, _ = peer[1](np.ascontiguousarray(frame[..., ::-1]), boxes)
        apart[0] = max(apart[0], float(np.abs(boxes - poses.boxes).max()))
        apart[1] = max(apart[1], float(np.abs(points - poses.keypoints).max()))
    print(
        f"people rtmlib {people[0]}, ours {people[1]}; boxes at most {apart[0]:.1e} px apart, "
        f"keypoints {apart[1]:.1e} px (both shown RGB)"
    )


def contenders(
    peer: tuple[Any, Any], model: TopDownPose, frames: Sequence[ImageArray]
) -> tuple[Calls, Calls]:
    """Return calls from a frame to people, and from a frame with known boxes to people."""
    images = [ArrayImage(frame) for frame in frames]
    found = [peer[0](frame) for frame in frames]
    rows = [np.asarray(boxes, np.float32) for boxes in found]
    owners = [np.zeros(len(boxes), np.int64) for boxes in rows]

    def whole(model: TopDownPose, i: int) -> object:
        return model([images[i]])

    everything: Calls = {
        "rtmlib": lambda i: peer[1](frames[i], peer[0](frames[i])),
        "ours": partial(whole, model),
    }
    poses: Calls = {
        "rtmlib, found boxes": lambda i: peer[1](frames[i], found[i]),
        "ours, found boxes": lambda i: model.keypoints_of([images[i]], owners[i], rows[i]),
    }
    return everything, poses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, help="end2end, of a fixed size; default: made")
    parser.add_argument("--pose", type=Path, help="RTMPose; default: made")
    parser.add_argument("--video", type=Path, default=VIDEO)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    need(["rtmlib", "tqdm"], [args.video, DETECTOR])
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    frames = [image.bgr().copy() for image in decoded(args.video, 8)]
    with tempfile.TemporaryDirectory() as folder:
        detector, pose = args.detector, args.pose
        if detector is None or pose is None:
            own = make_models(Path(folder))
            detector, pose = detector or own[0], pose or own[1]
        print(f"{read_form(detector).text}, {read_form(pose).text}; ONNX Runtime {ort.__version__}")
        peer, model = rtmlib_models(detector, pose), ours(detector, pose)
        agreement(peer, model, frames)
        for calls in contenders(peer, model, frames):
            print_ratios(race_on_frames(calls, len(frames), args.rounds), next(iter(calls)), {})


if __name__ == "__main__":
    main()
