"""Measure everything but the networks: decode, letterbox, tracking, collecting.

    python -m benchmarks.frame_overhead

CPU milliseconds per frame at 720p and 1080p with a null network (the same five people in
both), against OpenCV's reader + rtmlib's pre-processing for RTMO + the original ByteTrack
(package bytetracker) + a list of dicts pickled at the end. `make setup-benchmark` brings the peers.
"""

import argparse
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks._command import ASSETS
from benchmarks._needs import need
from recognizer.config.schema import TrackingConfig
from recognizer.pose.detector import LetterboxBatch
from recognizer.storage.artifacts import write_poses
from recognizer.tracking.tracker import Tracker
from recognizer.types import FloatArray, Poses, PoseSequenceBuilder
from recognizer.video.reader import VideoReader

INPUT_WH = (640, 640)
PEOPLE = 5


def people(t: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return boxes, box scores, keypoints and their scores of five walkers at frame t."""
    x = 100 + 150 * np.arange(PEOPLE) + 2 * t
    boxes = np.stack([x, 80 + 0 * x, x + 60, 260 + 0 * x], axis=1).astype(np.float32)
    keypoints = boxes[:, None, :2] + np.linspace(0, 60, 17, dtype=np.float32)[None, :, None]
    scores = np.full(PEOPLE, 0.9, np.float32)
    return boxes, scores, keypoints, np.full((PEOPLE, 17), 0.8, np.float32)


def ours(path: Path, folder: Path) -> int:
    """Run our frame loop; return the number of frames."""
    letterboxes, tracker = LetterboxBatch(INPUT_WH), Tracker(TrackingConfig(keypoint_weight=0.0))
    builder = PoseSequenceBuilder()
    with VideoReader(path) as reader:
        for frame in reader:
            letterboxes.fill([frame.image])
            boxes, scores, keypoints, keypoint_scores = people(frame.index)
            poses = Poses.untracked(keypoints, keypoint_scores, boxes, scores)
            builder.append(tracker.update(poses, frame.time_s), frame.time_s)
        sequence = builder.build(reader.size_wh)
    write_poses(folder / "ours.npz", folder, sequence, {})
    return len(sequence)


def theirs(path: Path, folder: Path) -> int:
    """Run the peers' frame loop; return the number of frames."""
    from bytetracker import BYTETracker
    from rtmlib import RTMO

    network = RTMO.__new__(RTMO)  # its preprocess() uses nothing of the network but this
    network.model_input_size, network.mean, network.std = INPUT_WH, None, None
    tracker = BYTETracker(track_thresh=0.5, match_thresh=0.8, track_buffer=30, frame_rate=30)
    capture = cv2.VideoCapture(str(path))
    results: list[list[dict[str, object]]] = []
    while True:
        grabbed, image = capture.read()
        if not grabbed:
            break
        padded, _ = network.preprocess(image)
        np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32)[None]
        boxes, scores, keypoints, keypoint_scores = people(len(results))
        rows = np.concatenate([boxes, scores[:, None], np.zeros((PEOPLE, 1))], axis=1)
        tracks = tracker.update(torch.from_numpy(rows), None)
        results.append(
            [
                {"bbox": b, "score": s, "keypoints": k, "keypoint_scores": ks, "track_id": row[4]}
                for b, s, k, ks, row in zip(
                    boxes, scores, keypoints, keypoint_scores, tracks, strict=False
                )
            ]
        )
    with (folder / "theirs.pkl").open("wb") as file:
        pickle.dump(results, file)
    return len(results)


def cpu_ms(run: Callable[[Path, Path], int], paths: Sequence[Path], folder: Path) -> float:
    """Return CPU milliseconds per frame, all threads counted."""
    started, frames = time.process_time(), 0
    for path in paths:
        frames += run(path, folder)
    return 1e3 * (time.process_time() - started) / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, help="most videos of each size; default: all")
    args = parser.parse_args()
    need(["bytetracker", "rtmlib", "lap"], [ASSETS / "multiview_falls", ASSETS / "fight_surv"])
    torch.set_num_threads(1)
    hd = sorted((ASSETS / "multiview_falls/adl").glob("*.mp4"))
    full_hd = [
        p
        for p in sorted((ASSETS / "fight_surv").rglob("*.mp4"))
        if cv2.VideoCapture(str(p)).get(cv2.CAP_PROP_FRAME_HEIGHT) == 1080
    ]
    with tempfile.TemporaryDirectory() as name:
        for label, found in (("720p", hd), ("1080p", full_hd)):
            paths = found[: args.videos]
            rows = [
                (cpu_ms(ours, paths, Path(name)), cpu_ms(theirs, paths, Path(name)))
                for _ in range(args.rounds)
            ]
            mine, peer = (statistics.median(column) for column in zip(*rows, strict=True))
            print(
                f"{label}: {len(paths)} videos: ours {mine:.2f}, peers {peer:.2f} CPU-ms a frame, "
                f"ratio {statistics.median(b / a for a, b in rows):.2f} (wanted >= 1.4)"
            )


if __name__ == "__main__":
    main()
