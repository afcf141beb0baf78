"""Measure stage 3 on many clips: peak memory, seconds and the size of the pickles.

    python -m benchmarks.stage3_memory --clips 6000 --frames 150 --people 5

makes synthetic results of stage 2 (not measured), runs stage 3 on them in a process of its
own, and prints its peak resident memory against the sum of all samples, which a builder that
collects before it writes would hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._command import ROOT
from recognizer.runs.manifest import Manifest, Outcome, result_path, write_manifest
from recognizer.storage.artifacts import write_poses
from recognizer.types import Poses, PoseSequence

RUN = """
import json, resource, sys, time
from pathlib import Path
from annotation.stage3 import run_stage3
from recognizer.config.schema import Config
start = time.perf_counter()
folder = run_stage3(Config.model_validate(json.loads(sys.argv[1])))
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"folder": str(folder), "seconds": seconds, "peak_mib": peak}))
"""


def make_clip(rng: np.random.Generator, frames: int, people: int) -> PoseSequence:
    """Return a clip of people who walk about."""
    shape = (frames, people, 17)
    walk = rng.normal(0, 3, (frames, people, 1, 2)).cumsum(0)
    body = rng.normal(0, 1, (1, people, 17, 2)) * (25, 60) + rng.uniform(
        200, 900, (1, people, 1, 2)
    )
    keypoints = (walk + body + rng.normal(0, 1, (*shape, 2))).reshape(-1, 17, 2).astype(np.float32)
    scores = rng.uniform(0.2, 1, shape).reshape(-1, 17).astype(np.float32)
    boxes = np.concatenate([keypoints.min(1), keypoints.max(1)], axis=1)
    ids = np.tile(np.arange(people, dtype=np.int64), frames)
    poses = Poses(keypoints, scores, boxes, np.full(len(ids), 0.9, np.float32), ids)
    offsets = np.arange(frames + 1, dtype=np.int64) * people
    return PoseSequence(
        poses, offsets, np.arange(frames) / 30, np.zeros(frames, np.bool_), (1280, 720)
    )


def make_stage2(folder: Path, clips: int, frames: int, people: int) -> None:
    """Write synthetic results of stage 2."""
    rng = np.random.default_rng(0)
    outcomes = []
    for i in range(clips):
        video = f"{'Fight' if i % 2 else 'NonFight'}/{i:05d}.mp4"
        meta = {"video": video, "source": {"sha256": f"{i:064x}", "size_bytes": 1}}
        clip = make_clip(rng, frames, people)
        write_poses(result_path(folder, video, ".npz"), folder, clip, meta)
        outcomes.append(Outcome(video, "done", frames=frames))
    write_manifest(folder, Manifest("stage2", {}, tuple(outcomes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--num-person", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        stage2 = Path(work, "stage2")
        start = time.perf_counter()
        make_stage2(stage2, args.clips, args.frames, args.people)
        print(f"synthetic stage 2: {time.perf_counter() - start:.0f} s (not part of the figure)")
        config = {
            "annotation": {"output_dir": work, "stage2_dir": str(stage2)},
            "dataset": {"num_person": args.num_person},
        }
        command = [sys.executable, "-c", RUN, json.dumps(config)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout)
        pickles = sum(p.stat().st_size for p in Path(result["folder"]).glob("*.pkl")) / 2**20
    print(
        f"{args.clips} clips x {args.frames} frames x {args.people} people: "
        f"{result['seconds']:.0f} s, {args.clips / result['seconds']:.0f} clips/s, "
        f"peak {result['peak_mib']:.0f} MiB, pickles {pickles:.0f} MiB, "
        f"peak / pickles {result['peak_mib'] / pickles:.2f}"
    )


if __name__ == "__main__":
    main()
