"""Measure stage 1 against its two networks alone: the share of the time that is not theirs.

    python -m benchmarks.stage1_speed --clips 24 --rounds 3

Peer: the detector and the pose network in ONNX Runtime, one thread a process, one process
a core, on inputs prepared beforehand: as many runs as stage 1 needs for the same clips
(one detector run a frame, one pose run a person). Ratio: stage frames/s over the peer's. The
search for people who lie is switched off: its runs cannot be counted in the result.
"""

import argparse
import multiprocessing as mp
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import cv2
import numpy as np

from benchmarks._command import ASSETS, CONFIG, WEIGHTS
from benchmarks._needs import need
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.geometry import crop_affine
from recognizer.pose.detector import LetterboxBatch
from recognizer.runs.inputs import Video, find_videos
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage_folders import pose_model_files
from recognizer.storage.artifacts import read_poses
from recognizer.types import FloatArray, PoseSequence
from recognizer.video.reader import VideoReader

POOL = 8  # prepared inputs a clip, used in turn: enough that no cache holds them all


def people_per_frame(folder: Path, videos: Sequence[Video]) -> list[list[int]]:
    """Return, per clip, the number of people in each frame."""
    return [
        np.diff(read_poses(result_path(folder, v.relative, ".npz"))[0].frame_offsets).tolist()
        for v in videos
    ]


def prepared_inputs(
    video: Video, sequence: PoseSequence
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return detector inputs and crops of a few frames of a clip."""
    letterboxes = LetterboxBatch((416, 416))
    frames: list[FloatArray] = []
    crops: list[FloatArray] = []
    with VideoReader(video.path) as reader:
        for frame, poses in zip(reader, sequence.frames(), strict=False):
            frames.append(letterboxes.fill([frame.image])[0].copy())
            for matrix in crop_affine(poses.boxes, (192, 256), 1.25)[0]:
                crop = cv2.warpAffine(frame.image.bgr(), matrix, (192, 256))
                crops.append((crop.transpose(2, 0, 1)[None] / 128 - 1).astype(np.float32))
            if len(frames) >= POOL:
                break
    return frames, crops or [np.zeros((1, 3, 256, 192), np.float32)]


def run_networks(
    config: Config,
    folder: Path,
    clips: Sequence[Video],
    ready: Semaphore,
    go: Event,
    done: "Queue[float]",
) -> None:
    """Run the two networks alone, as often as stage 1 did for these clips."""
    files = pose_model_files(config)
    pose = config.models.pose_estimation
    detector = OnnxNetwork(files["detector"], pose.topdown.detector)
    network = OnnxNetwork(files["pose"], pose.onnx)
    work = []
    for video in clips:
        sequence = read_poses(result_path(folder, video.relative, ".npz"))[0]
        work.append((*prepared_inputs(video, sequence), np.diff(sequence.frame_offsets)))
    ready.release()
    go.wait()
    started = time.perf_counter()
    for frames, crops, people in work:
        row = 0
        for t, count in enumerate(people):
            detector.run({"images": frames[t % len(frames)]})
            for _ in range(count):
                network.run({"image": crops[row % len(crops)]})
                row += 1
    done.put(time.perf_counter() - started)


def time_networks(config: Config, folder: Path, videos: Sequence[Video]) -> float:
    """Return the seconds that the slowest of the processes needed."""
    cores = len(os.sched_getaffinity(0))
    weights = [sum(1 + n for n in people) for people in people_per_frame(folder, videos)]
    shares: list[list[Video]] = [[] for _ in range(cores)]
    loads = [0] * cores
    for i in np.argsort(weights)[::-1]:  # balanced, as the stage's queue balances itself
        core = int(np.argmin(loads))
        shares[core].append(videos[i])
        loads[core] += weights[i]
    context = mp.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    done: Queue[float] = context.Queue()
    processes = [
        context.Process(target=run_networks, args=(config, folder, share, ready, go, done))
        for share in shares
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    seconds = max(done.get() for _ in processes)
    for process in processes:
        process.join()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, default=ASSETS / "fight_surv")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    need(files=[args.input])
    videos = find_videos(args.input, [".mp4"])
    videos = videos[:: max(1, len(videos) // args.clips)][: args.clips]
    ratios = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as out:
            names = "[" + ", ".join(v.relative for v in videos) + "]"
            config = load_config(
                CONFIG,
                [
                    WEIGHTS,
                    f"annotation.input={args.input}",
                    f"annotation.output_dir={out}",
                    f"annotation.include={names}",
                    "models.pose_estimation.topdown.turned=false",
                ],
            )
            started = time.perf_counter()
            folder = run_stage1(config)
            stage_s = time.perf_counter() - started
            networks_s = time_networks(config, folder, videos)
            frames = sum(o.frames for o in read_manifest(folder).outcomes)
        ratios.append(networks_s / stage_s)
        print(
            f"{len(videos)} clips, {frames} frames: stage 1 {frames / stage_s:.1f} frames/s, "
            f"networks alone {frames / networks_s:.1f} frames/s, ratio {ratios[-1]:.3f}"
        )
    print(f"median ratio {statistics.median(ratios):.3f} (wanted >= 0.9)")


if __name__ == "__main__":
    main()
