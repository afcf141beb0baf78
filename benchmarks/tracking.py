"""Measure the tracker against the ByteTracks of supervision 0.26 and roboflow trackers 2.1.

    make setup-benchmark                # brings the peers
    python -m benchmarks.tracking

films 5, 20 and 100 synthetic people (boxes and scores, 30 frames/s), and gives the same frames to
all trackers in turn, a few seconds of film each, over and over, one thread, CPU time. Inputs are
prepared outside the measurement. Then 24,000 frames with people coming and going: memory, and
speed late against early.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks._needs import need
from recognizer.config.schema import TrackingConfig
from recognizer.tracking.tracker import Tracker
from recognizer.types import Poses
from tests.people import Camera, Shot, crowd, film

Update = Callable[[Shot, Any], Any]  # a shot, the peers' detections -> people
Starts = Mapping[str, Callable[[], Update]]
CAMERA = Camera(jitter=0.01, missed=0.03, low=0.05)
TARGETS = {"supervision": {5: 3, 20: 5, 100: 9}, "trackers": {5: 2, 20: 4, 100: 8}}


def ours(keypoint_weight: float) -> Callable[[], Update]:
    """Return a function that starts our tracker."""
    settings = TrackingConfig(keypoint_weight=keypoint_weight, min_box_area=0.0)

    def start() -> Update:
        tracker = Tracker(settings)
        return lambda shot, _: tracker.update(shot.poses, shot.time_s)

    return start


def peers() -> Starts:
    """Return the peers: name -> function that starts one."""
    import supervision
    import trackers

    return {
        "supervision": lambda: _on_detections(
            supervision.ByteTrack(track_activation_threshold=0.5).update_with_detections
        ),
        "trackers": lambda: _on_detections(
            trackers.ByteTrackTracker(
                track_activation_threshold=0.6, high_conf_det_threshold=0.5
            ).update
        ),
    }


def _on_detections(update: Callable[[Any], Any]) -> Update:
    return lambda _, detections: update(detections)


def detections_of(shots: Sequence[Shot]) -> list[Any]:
    """Return the peers' detections of each shot."""
    import supervision

    return [
        supervision.Detections(
            xyxy=shot.poses.boxes,
            confidence=shot.poses.box_scores,
            class_id=np.zeros(len(shot.poses), int),
        )
        for shot in shots
    ]


def measure(people: int, starts: Starts, rounds: int, frames: int) -> dict[str, list[float]]:
    """Return CPU microseconds per frame of each tracker, one value per round, interleaved."""
    spent: dict[str, list[float]] = {name: [] for name in starts}
    for seed in range(rounds):
        shots = list(film(crowd(people, seed), 30, frames / 30, CAMERA, seed))
        inputs = list(zip(shots, detections_of(shots), strict=True))
        for name, start in starts.items():
            update = start()
            begin = time.process_time()
            for shot, detections in inputs:
                update(shot, detections)
            spent[name].append((time.process_time() - begin) / frames * 1e6)
    return spent


def compare(rounds: int, frames: int) -> None:
    """Print the speed of our tracker and of the peers."""
    others = peers()
    starts = {"ours": ours(0.0), "ours, keypoints 0.3": ours(0.3), **others}
    for people in (5, 20, 100):
        spent = measure(people, starts, rounds, frames)
        print(f"{people} people, CPU us/frame (median of {rounds} rounds of {frames} frames):")
        for name, values in spent.items():
            middle = statistics.median(values)
            line = f"  {name:20} {middle:8.0f}  ({1e6 / middle:6.0f} frames/s)"
            if name in others:
                ratios = [b / a for a, b in zip(spent["ours"], values, strict=True)]
                line += (
                    f"  ours {statistics.median(ratios):5.1f} x faster "
                    f"(least {min(ratios):.1f}, wanted {TARGETS[name][people]})"
                )
            print(line, flush=True)


def churn(frames: int = 24_000) -> None:
    """Print memory, and speed in the last sixth of a long film against a first sixth.

    The first sixth is a fresh tracker's, fed with the same frames in turn with the old one:
    what else runs on the machine then slows both alike.
    """
    print(f"{frames} frames, about 10 people who stay for a second:")
    shots = list(film(crowd(10, 0, seconds=40, stay_s=1.0), 30, 40, Camera(missed=0.05)))
    sixth = frames // 6
    for name, weight in (("ours", 0.0), ("ours, keypoints 0.3", 0.3)):
        old, fresh = ours(weight)(), ours(weight)()
        resident, spent, last_id = [], [], 0
        for i in range(frames):
            shot = replace(shots[i % len(shots)], time_s=i / 30)
            # The second finds the frame in the cache: they take turns.
            measured = i >= frames - sixth
            ahead = _timed(fresh, shot)[0] if measured and i % 2 else None
            seconds, poses = _timed(old, shot)
            if measured:
                spent.append((_timed(fresh, shot)[0] if ahead is None else ahead, seconds))
            last_id = max(last_id, int(poses.track_ids.max(initial=0)))
            if (i + 1) % sixth == 0:
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]) / 256)
        first, last = np.median(spent, axis=0)
        print(
            f"  {name:20} speed last / first sixth {first / last:.2f} (wanted 0.95), "
            f"resident memory {resident[0]:.1f} -> {resident[-1]:.1f} MiB after {last_id} ids"
        )


def _timed(update: Update, shot: Shot) -> tuple[float, Poses]:
    begin = time.perf_counter()
    poses = update(shot, None)
    return time.perf_counter() - begin, poses


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=150, help="frames per round")
    args = parser.parse_args()
    need(["supervision", "trackers"])
    compare(args.rounds, args.frames)
    churn()


if __name__ == "__main__":
    main()
