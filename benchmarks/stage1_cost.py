"""Measure the cost of stage 1: everybody posed, selective poses, turned searches, our own network.

    python -m benchmarks.stage1_cost

CPU-milliseconds a frame (process time, one thread) of decoding, the networks and measuring
movement, on clips of ../shared/assets/fight_surv, in one process. The modes take turns clip by
clip, so that what else the machine does falls on all alike; each figure is the median of the
rounds. Movement is timed inside the run: it costs less than two runs of one mode differ by.
"""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks._command import (
    ASSETS,
    CONFIG,
    SMALL_POSE,
    WEIGHTS,
    Parser,
    existing_folder,
    one_line_errors,
    positive,
)
from benchmarks._needs import need
from recognizer.config.file import load_config
from recognizer.movement import MovementMeter
from recognizer.pose.estimator import PoseModel, build_pose_model
from recognizer.runs.inputs import Video, find_videos
from recognizer.runs.stage_folders import pose_model_files
from recognizer.types import TimeArray
from recognizer.video.reader import VideoReader

_TOPDOWN = "models.pose_estimation.topdown"
# What is changed in the config of the pair.
MODES = {
    "everybody posed": (f"{_TOPDOWN}.selective=false", f"{_TOPDOWN}.turned=false"),
    "selective": (f"{_TOPDOWN}.selective=true", f"{_TOPDOWN}.turned=false"),
    "selective, turned": (f"{_TOPDOWN}.selective=true", f"{_TOPDOWN}.turned=true"),
    "small_pose.onnx": (SMALL_POSE,),
}


def open_mode(changes: Sequence[str], overrides: list[str]) -> tuple[PoseModel, int]:
    """Return the pose model of a mode, one thread a network, and the size of its batches."""
    config = load_config(CONFIG, [WEIGHTS, *overrides, *changes])
    model = build_pose_model(config.models.pose_estimation, pose_model_files(config))
    return model, config.annotation.batch_size


def cost(path: Path, model: PoseModel, batch_size: int) -> tuple[float, float, int]:
    """Return CPU-seconds of a video, those of them that movement takes, and its frames."""
    started, of_movement, count = time.process_time(), 0.0, 0
    estimate, meter = model.for_video(), MovementMeter()
    with VideoReader(path) as reader:
        frames = iter(reader)
        while batch := list(islice(frames, batch_size)):
            found = estimate([frame.image for frame in batch], [frame.time_s for frame in batch])
            count += len(batch)
            before = time.process_time()
            for frame, poses in zip(batch, found, strict=True):
                meter.measure(frame.image, frame.time_s, poses.boxes)
            of_movement += time.process_time() - before
    return time.process_time() - started, of_movement, count


def choose(videos: Sequence[Video], clips: int) -> Sequence[Video]:
    """Return some of the videos, evenly; raise for those that cannot be read."""
    chosen = videos[:: max(1, len(videos) // clips)][:clips]
    for video in chosen:
        with VideoReader(video.path):
            pass
    return chosen


@one_line_errors
def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=existing_folder, default=ASSETS / "fight_surv")
    parser.add_argument("--clips", type=positive, default=3)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    need(files=[args.input])
    cv2.setNumThreads(1)  # as in a worker of stage 1
    videos = choose(find_videos(args.input, [".mp4"]), args.clips)
    models = {name: open_mode(mode, args.set) for name, mode in MODES.items()}
    costs: dict[str, list[TimeArray]] = {
        name: [] for name in MODES
    }  # of each round: seconds, of movement, frames
    for _ in range(args.rounds):
        rounds = {name: np.zeros(3) for name in MODES}
        for video in videos:
            for name, model in models.items():
                rounds[name] += cost(video.path, *model)
        for name, row in rounds.items():
            costs[name].append(row)
    frames = int(costs["selective"][0][2])
    print(f"{len(videos)} clips, {frames} frames, {args.rounds} rounds; CPU-ms a frame:")
    for name, rows in costs.items():
        whole, movement = 1e3 * np.median(rows, axis=0)[:2] / frames
        print(f"{name:18} {whole:6.1f}, of it movement {movement:.2f}")


if __name__ == "__main__":
    main()
