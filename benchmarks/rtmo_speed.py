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
import sys
import tempfile
import threading
import time
import warnings
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
VIDEO = ROOT.parent / "shared" / "assets" / "videos" / "street_14_people.mp4"

SQUARE, RECTANGLE = (640, 640), (640, 384)
SCORE, NMS = 0.3, 0.45
TARGETS = {
    "onnx 640x384": 1.5,
    "openvino bf16 640x384": 2.5,
    "letterbox float32": 2.0,
    "letterbox uint8": 2.0,
}


def make_model(folder, images):
    """Write RTMO-s with weights from a seed as a file of free batch and size, and one in int8."""
    from deploy.pose_graph import write_graph, write_int8
    from recognizer.backends.metadata import Thresholds
    from recognizer.backends.torch import load_pose, with_options
    from recognizer.pose.detector import LetterboxBatch
    from tests.backends.pose_models import RTMO_S, save_rtmo

    pose = load_pose(*save_rtmo(folder, RTMO_S, SQUARE[0], images[:4]))
    path = folder / "rtmo-s.onnx"
    facts = with_options(pose.metadata, Thresholds(SCORE, NMS, 100))
    write_graph(path, pose, facts, batch=None, any_size=True)
    shown = LetterboxBatch(SQUARE)
    inputs = (shown.fill([image])[0].copy() for image in images)
    write_int8(path.with_name("rtmo-s_int8.onnx"), path, facts, inputs)
    return path


def decoded(video, count):
    """Return frames as they come from the decoder."""
    from recognizer.video.reader import VideoReader

    with VideoReader(video, sample_fps=2.0) as reader:
        return [frame.image for frame in islice(reader, count)]


def rtmlib_model(path, threads):
    """Return rtmlib's class, its session with our number of threads."""
    import onnxruntime as ort
    from rtmlib import RTMO

    with contextlib.redirect_stdout(io.StringIO()):
        model = RTMO(str(path), SQUARE, nms_thr=NMS, score_thr=SCORE, device="cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return model


def ours(path, threads, size_wh, **options):
    """Return our model of a file."""
    from recognizer.config.models import OnnxPoseConfig, PoseEstimationConfig
    from recognizer.pose.estimator import build_pose_model

    section = OnnxPoseConfig(
        model_input_size=size_wh,
        score_threshold=SCORE,
        nms_threshold=NMS,
        threads=threads,
        **options,
    )
    return build_pose_model(PoseEstimationConfig(kind="rtmo", onnx=section), {"pose": path})


def contenders(path, threads, frames):
    """Return calls by name; each takes the number of a frame and looks at that frame."""
    import onnxruntime as ort

    from recognizer.video.array_image import ArrayImage

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
    calls = {"rtmlib": lambda i: peer(frames[i])}
    for name, model in models.items():
        calls[name] = lambda i, model=model: model([images[i]])
    wide = models["onnx 640x384"]
    calls["onnx 640x384, 8 at once"] = lambda i: wide(
        [images[(i + k) % len(images)] for k in range(8)]
    )
    return calls


def letterboxes(path, frames, images):
    """Return calls that make the network's input of a BGR array, or of the decoder's frame."""
    from recognizer.pose.detector import LetterboxBatch
    from recognizer.video.array_image import ArrayImage

    peer = rtmlib_model(path, 1)
    arrays = [ArrayImage(frame) for frame in frames]
    floats, bytes_ = LetterboxBatch(SQUARE), LetterboxBatch(SQUARE, uint8=True)
    of_arrays = {
        "rtmlib letterbox": lambda i: as_input(peer.preprocess(frames[i])[0]),
        "letterbox float32": lambda i: floats.fill([arrays[i]]),
        "letterbox uint8": lambda i: bytes_.fill([arrays[i]]),
    }
    of_frames = {
        "rtmlib to BGR, letterbox": lambda i: as_input(peer.preprocess(images[i].bgr())[0]),
        "letterbox float32": lambda i: floats.fill([images[i]]),
        "letterbox uint8": lambda i: bytes_.fill([images[i]]),
    }
    return of_arrays, of_frames


def as_input(padded):
    """Do what rtmlib's ``inference`` does before its session runs."""
    import numpy as np

    return np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32)[None]


def race(calls, frames, rounds):
    """Return (CPU seconds, wall seconds) per contender and frame; they take turns."""
    taken = {name: [] for name in calls}
    for i in range(rounds + 2):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call(i % frames)
            spent = time.process_time() - cpu, time.perf_counter() - wall
            share = 8 if name.endswith("at once") else 1
            taken[name].append(tuple(one / share for one in spent))
    return {name: list(zip(*times[2:], strict=True)) for name, times in taken.items()}


def report(times, peer):
    base = [statistics.median(kind) for kind in times[peer]]
    for name, kinds in times.items():
        cpu, wall = (statistics.median(kind) for kind in kinds)
        target = f" (target {TARGETS[name]} x)" if name in TARGETS else ""
        print(
            f"  {name:24} CPU {cpu * 1e3:8.2f} ms {base[0] / cpu:6.2f} x, "
            f"wall {wall * 1e3:8.2f} ms {base[1] / wall:6.2f} x{target}"
        )


def agreement(path, frames):
    """Print how many people both see at 640x640, and how far their keypoints are apart."""
    import numpy as np

    from recognizer.video.array_image import ArrayImage

    peer, own = rtmlib_model(path, 1), ours(path, 1, SQUARE, keypoint_threshold=0.0)
    seen, apart = [0, 0], []
    for frame in frames:
        theirs, _ = peer(frame)
        (poses,) = own([ArrayImage(frame)])
        seen = [seen[0] + len(theirs), seen[1] + len(poses)]
        for points in theirs:
            far = np.abs(poses.keypoints - points).max((1, 2), initial=0)
            if len(far):
                apart.append(far.min())
    print(f"people rtmlib {seen[0]}, ours {seen[1]} (its second suppression drops some);", end=" ")
    print(f"keypoints of its people at most {np.max(apart, initial=0):.1e} px from ours")


def side_by_side(path, frames, rounds):
    """Print frames/s of one session of two threads and of two sessions of one, in turns."""
    from recognizer.video.array_image import ArrayImage

    images = [ArrayImage(frame) for frame in frames]
    pair = [ours(path, 1, RECTANGLE) for _ in range(2)]
    one = [ours(path, 2, RECTANGLE)]

    def rate(models):
        share = max(2, rounds // 2) // len(models)

        def work(model):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="an RTMO file of free size; default: made")
    parser.add_argument("--video", type=Path, default=VIDEO, help="16:9")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    from benchmarks._needs import need

    need(["rtmlib", "tqdm"], [args.video])
    warnings.simplefilter("ignore")
    import cv2
    import onnxruntime as ort

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
            report(race(calls, len(frames), 3 * args.rounds), next(iter(calls)))
        print("a BGR array to people:")
        calls = contenders(path, args.threads, frames)
        report(race(calls, len(frames), args.rounds), "rtmlib")
        side_by_side(path, frames, args.rounds)


if __name__ == "__main__":
    main()
