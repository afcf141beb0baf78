"""Measure RTMO-s from decoded 16:9 frame to people against rtmlib, on the same weights.

    python -m benchmarks.rtmo_speed [--model rtmo-s.onnx] [--threads 1] [--rounds 20]

Needs rtmlib (`make setup-benchmark`). The weights are made from a seed (needs the training
set; RTMO's time does not depend on what it has learnt) unless --model names an RTMO file of free
size; a file of its name with _int8 takes part. rtmlib: its RTMO class as it is, 640x640, its ONNX
Runtime session made anew with --threads threads and no spinning, as ours. Ours: the same file at
640x640 and, because the frame is 16:9, at 640x384; with onnxruntime-openvino installed also
OpenVINO in f32 and bf16. All start from the same BGR array and take turns in one process. The
ratio is one of CPU time, which hardly depends on what else the machine does; wall time beside it.
Last: how two sessions of one thread compare with one session of two, in frames/s.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import onnxruntime as ort

from benchmarks._command import ASSETS
from benchmarks._needs import need
from benchmarks._turns import Times, print_ratios, race
from recognizer.config.models import OnnxPoseConfig, PoseEstimationConfig
from recognizer.pose.detector import LetterboxBatch
from recognizer.pose.estimator import PoseModel, build_pose_model
from recognizer.types import FloatArray, Image, ImageArray
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

Call = Callable[[int], object]  # takes the number of a frame
Calls = dict[str, Call]
VIDEO = ASSETS / "videos" / "street_14_people.mp4"
SQUARE, RECTANGLE = (640, 640), (640, 384)
SCORE, NMS = 0.3, 0.45
AT_ONCE = "onnx 640x384, 8 at once"
TARGETS = {
    "onnx 640x384": 1.5,
    "openvino bf16 640x384": 2.5,
    "letterbox float32": 2.0,
    "letterbox uint8": 2.0,
}


def make_model(folder: Path, images: Sequence[Image]) -> Path:
    """Write RTMO-s with weights from a seed as a file of free batch and size, and one in int8."""
    from deploy.pose_graph import write_graph, write_int8
    from recognizer.backends.metadata import Thresholds
    from recognizer.backends.torch import load_pose, with_options
    from tests.backends.pose_models import RTMO_S, save_rtmo

    pose = load_pose(*save_rtmo(folder, RTMO_S, SQUARE[0], images[:4]))
    path = folder / "rtmo-s.onnx"
    metadata = with_options(pose.metadata, Thresholds(SCORE, NMS, 100))
    write_graph(path, pose, metadata, batch=None, any_size=True)
    letterbox = LetterboxBatch(SQUARE)
    inputs = (letterbox.fill([image])[0].copy() for image in images)
    write_int8(path.with_name("rtmo-s_int8.onnx"), path, metadata, inputs)
    return path


def decoded(video: Path, number: int) -> list[Image]:
    """Return frames as they come from the decoder."""
    with VideoReader(video, sample_fps=2.0) as reader:
        return [frame.image for frame in islice(reader, number)]


def rtmlib_model(path: Path, threads: int) -> Any:
    """Return rtmlib's model with a session of our number of threads."""
    from rtmlib import RTMO

    with contextlib.redirect_stdout(io.StringIO()):
        model = RTMO(str(path), SQUARE, nms_thr=NMS, score_thr=SCORE, device="cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return model


def ours(path: Path, threads: int, size_wh: tuple[int, int], **options: Any) -> PoseModel:
    """Return our model of a file."""
    section = OnnxPoseConfig(
        model_input_size=size_wh,
        score_threshold=SCORE,
        nms_threshold=NMS,
        threads=threads,
        **options,
    )
    return build_pose_model(PoseEstimationConfig(kind="rtmo", onnx=section), {"pose": path})


def contenders(path: Path, threads: int, frames: Sequence[ImageArray]) -> Calls:
    """Return calls by name, each of which finds the people of a frame."""
    images = [ArrayImage(frame) for frame in frames]
    peer = rtmlib_model(path, threads)
    models = {
        "onnx 640x640": ours(path, threads, SQUARE),
        "onnx 640x384": ours(path, threads, RECTANGLE),
    }
    if path.with_name(f"{path.stem}_int8.onnx").is_file():
        eight = path.with_name(f"{path.stem}_int8.onnx")
        models["onnx int8 640x384"] = ours(eight, threads, RECTANGLE)
    if "OpenVINOExecutionProvider" in ort.get_available_providers():
        for precision in ("f32", "bf16"):
            options = {"provider": "openvino", "openvino_precision": precision}
            models[f"openvino {precision} 640x384"] = ours(path, threads, RECTANGLE, **options)

    def find_people(model: PoseModel, i: int) -> object:
        return model([images[i]])

    wide = models["onnx 640x384"]
    return {
        "rtmlib": lambda i: peer(frames[i]),
        **{name: partial(find_people, model) for name, model in models.items()},
        AT_ONCE: lambda i: wide([images[(i + k) % len(images)] for k in range(8)]),
    }


def letterboxes(
    path: Path, frames: Sequence[ImageArray], images: Sequence[Image]
) -> tuple[Calls, Calls]:
    """Return calls that make the network's input of a BGR array, and of the decoder's frame."""
    peer = rtmlib_model(path, 1)
    arrays = [ArrayImage(frame) for frame in frames]
    floats, bytes_ = LetterboxBatch(SQUARE), LetterboxBatch(SQUARE, uint8=True)
    of_arrays: Calls = {
        "rtmlib letterbox": lambda i: as_input(peer.preprocess(frames[i])[0]),
        "letterbox float32": lambda i: floats.fill([arrays[i]]),
        "letterbox uint8": lambda i: bytes_.fill([arrays[i]]),
    }
    of_frames: Calls = {
        "rtmlib to BGR, letterbox": lambda i: as_input(peer.preprocess(images[i].bgr())[0]),
        "letterbox float32": lambda i: floats.fill([images[i]]),
        "letterbox uint8": lambda i: bytes_.fill([images[i]]),
    }
    return of_arrays, of_frames


def as_input(padded: ImageArray) -> FloatArray:
    """Return the network's input (1, 3, H, W), as rtmlib's ``inference`` makes it."""
    return np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32)[None]


def race_on_frames(calls: Calls, frames: int, rounds: int) -> Times:
    """Return the median times of each call per frame, on one frame after the other."""
    numbers = {name: count() for name in calls}

    def next_frame(name: str, call: Call) -> None:
        call(next(numbers[name]) % frames)

    bound = {name: partial(next_frame, name, call) for name, call in calls.items()}
    times = race(bound, rounds, warm_up=2)
    if AT_ONCE in times:
        cpu, wall = times[AT_ONCE]
        times[AT_ONCE] = cpu / 8, wall / 8
    return times


def agreement(path: Path, frames: Sequence[ImageArray]) -> None:
    """Print how many people both find at 640x640, and how far their keypoints are apart."""
    peer, model = rtmlib_model(path, 1), ours(path, 1, SQUARE, keypoint_threshold=0.0)
    people, apart = np.zeros(2, np.int64), []
    for frame in frames:
        theirs, _ = peer(frame)
        (poses,) = model([ArrayImage(frame)])
        people += len(theirs), len(poses)
        for points in theirs:
            far = np.abs(poses.keypoints - points).max((1, 2), initial=0)
            if len(far):
                apart.append(far.min())
    print(
        f"people rtmlib {people[0]}, ours {people[1]} (its second suppression drops some);", end=" "
    )
    print(f"keypoints of its people at most {np.max(apart, initial=0):.1e} px from ours")


def side_by_side(path: Path, frames: Sequence[ImageArray], rounds: int) -> None:
    """Print frames/s of one session of two threads and of two sessions of one, in turns."""
    images = [ArrayImage(frame) for frame in frames]
    pair = [ours(path, 1, RECTANGLE) for _ in range(2)]
    one = [ours(path, 2, RECTANGLE)]

    def rate(models: list[PoseModel]) -> float:
        share = max(2, rounds // 2) // len(models)

        def work(model: PoseModel) -> None:
            for i in range(share):
                model([images[i % len(images)]])

        workers = [threading.Thread(target=work, args=(model,)) for model in models]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return share * len(models) / (time.perf_counter() - start)

    rates = [(rate(one), rate(pair)) for _ in range(4)][1:]
    single, double = (statistics.median(kind) for kind in zip(*rates, strict=True))
    print(
        f"  one session, 2 threads {single:.2f} frames/s; two sessions, 1 thread {double:.2f}: "
        f"{double / single:.2f} x (wall time)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="an RTMO file of free size; default: made")
    parser.add_argument("--video", type=Path, default=VIDEO, help="16:9")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    need(["rtmlib", "tqdm"], [args.video])
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    images = decoded(args.video, 16)
    frames = [image.bgr().copy() for image in images]
    with tempfile.TemporaryDirectory() as folder:
        path = args.model or make_model(Path(folder), images)
        height, width = frames[0].shape[:2]
        print(
            f"ONNX Runtime {ort.__version__}, {args.threads} threads; {len(frames)} frames of "
            f"{width}x{height}, {args.rounds} rounds, medians per frame"
        )
        agreement(path, frames[:4])
        for calls, source in zip(
            letterboxes(path, frames, images), ("a BGR array", "the decoder's frame"), strict=True
        ):
            print(f"the network's input of {source}:")
            print_ratios(
                race_on_frames(calls, len(frames), 3 * args.rounds), next(iter(calls)), TARGETS
            )
        print("a BGR array to people:")
        calls = contenders(path, args.threads, frames)
        print_ratios(race_on_frames(calls, len(frames), args.rounds), "rtmlib", TARGETS)
        side_by_side(path, frames, args.rounds)


if __name__ == "__main__":
    main()
