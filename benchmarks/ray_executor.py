"""Measure the Ray executor: node deaths, overhead against local workers, scheduling of tiny jobs.

    python -m benchmarks.ray_executor                  # all three
    python -m benchmarks.ray_executor kills --kills 20
    python -m benchmarks.ray_executor overhead --videos 6
    python -m benchmarks.ray_executor schedule --jobs 100000

kills: a cluster of three raylets on this machine, one of them the head without CPUs. In each run
all processes of a random worker node get SIGKILL at a random moment, and another node joins for the
next; results must have the bytes of a local run and the manifest one end state for each video. Ray
finds a dead node after 15 s by default, here after 2 s.
overhead: videos of 10 s through samples/models/small_pose.onnx by two workers of one thread, local
and Ray in turn; of the time from the first report to the last, the start apart.
schedule: jobs that do nothing, two workers; jobs a second, the driver's CPU time of a job and its
resident memory.
"""

import argparse
import logging
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks._command import Parser, one_line_errors, positive
from benchmarks._needs import need
from benchmarks._nothing import start_nothing
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.installation import SHIPPED_CONFIG
from recognizer.runs.cluster.schedule import run_on_cluster
from recognizer.runs.cluster.session import ray_session
from recognizer.runs.cluster.settings import Cluster
from recognizer.runs.manifest import Outcome, Progress, read_manifest
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.worker_pool import Job, WorkerPool
from recognizer.video.writer import VideoWriter

_STORE = 80 * 2**20
_FAST_DEATH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
_WIDTH, _HEIGHT, _FPS = 320, 240, 25


# --- node deaths -------------------------------------------------------------------------


@dataclass(slots=True)
class Kills:
    """What runs with a killed node came to: seconds of each, how many differ, how many were hit."""

    times: list[float] = field(default_factory=list)
    wrong: int = 0
    during: int = 0

    def add(self, after_s: float, took_s: float, states: Sequence[str], *, same: bool) -> None:
        """Count a run and print it."""
        self.times.append(took_s)
        self.wrong += not same
        self.during += after_s < took_s
        print(
            f"kill {len(self.times):2} after {after_s:5.1f} s: {states.count('done')} of "
            f"{len(states)} done in {took_s:5.1f} s, bytes {'equal' if same else 'DIFFER'}",
            flush=True,
        )


def measure_kills(kills: int, clips_a_class: int, seed: int) -> None:
    """Run stage 1 once for each kill; print how long runs took and what differed."""
    from tests.annotation.clips import contents, make_dataset

    with tempfile.TemporaryDirectory(prefix="rx-") as folder, _raylets() as raylets:
        config_file = make_dataset(Path(folder) / "data", clips=clips_a_class, frames=120)
        output = config_file.parent / "out"
        local_s, _ = _timed(load_config(config_file, ["annotation.workers=2"]))
        expected = contents(output)
        on_ray = ["annotation.executor=ray", f"annotation.ray_address={raylets.address}"]
        config = load_config(config_file, on_ray)
        nodes = [_add_node(raylets) for _ in range(2)]
        found, chance = Kills(), random.Random(seed)
        with ray_session(raylets.address):
            shutil.rmtree(output)
            whole_s, _ = _timed(config)
            print(f"local {local_s:.1f} s, Ray without a kill {whole_s:.1f} s", flush=True)
            for _ in range(kills):
                shutil.rmtree(output)
                after_s = chance.uniform(0, 0.9 * min([whole_s, *found.times]))
                victim = nodes.pop(chance.randrange(2))
                killer = threading.Timer(after_s, _kill, [victim])
                killer.start()
                took_s, stage = _timed(config)
                killer.join()
                states = [outcome.state for outcome in read_manifest(stage).outcomes]
                found.add(after_s, took_s, states, same=contents(output) == expected)
                raylets.remove_node(victim, allow_graceful=False)
                nodes.append(_add_node(raylets))
    print(
        f"{kills} kills, {found.during} before the end of their run: {found.wrong} runs differ "
        f"from the local one ({local_s:.1f} s); with a kill median {np.median(found.times):.1f} s, "
        f"longest {max(found.times):.1f} s"
    )


def _timed(config: Config) -> tuple[float, Path]:
    started = time.monotonic()
    stage = run_stage1(config)
    return time.monotonic() - started, stage


@contextmanager
def _raylets() -> Iterator[Any]:
    """Start a head without CPUs whose nodes import from the folder that this was started in."""
    from ray.cluster_utils import Cluster as Raylets

    os.environ["PYTHONPATH"] = str(Path.cwd())
    head = {"num_cpus": 0, "object_store_memory": _STORE, "include_dashboard": False}
    raylets = Raylets(initialize_head=True, head_node_args={**head, "_system_config": _FAST_DEATH})
    try:
        yield raylets
    finally:
        raylets.shutdown()


def _add_node(raylets: Any) -> Any:
    return raylets.add_node(num_cpus=1, object_store_memory=_STORE)


def _kill(node: Any) -> None:
    """Send SIGKILL to a raylet and all processes that it started."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()


# --- overhead ----------------------------------------------------------------------------


@dataclass(slots=True)
class Timing:
    """When the first and the last report of a run came, seconds; frames after the first."""

    first_s: float = 0.0
    last_s: float = 0.0
    frames: list[int] = field(default_factory=list)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Progress]:
        """Be a run's ``ProgressFactory``."""

        def advance(outcome: Outcome | None, frames: int) -> None:
            self.last_s = time.monotonic()
            if not self.frames:
                self.first_s = self.last_s
            self.frames.append(frames)

        yield advance

    def ms_a_frame(self) -> float:
        """Return milliseconds a frame after the first report."""
        return 1e3 * (self.last_s - self.first_s) / sum(self.frames[1:])


def measure_overhead(videos: int, rounds: int) -> None:
    """Print the milliseconds a frame of both executors, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        _write_videos(Path(folder) / "data", videos)
        found: dict[str, list[float]] = {"local": [], "ray": []}
        starts: dict[str, list[float]] = {"local": [], "ray": []}
        for number in range(rounds):
            for executor, times in found.items():
                timing, began_s = Timing(), time.monotonic()
                output = Path(folder) / f"{executor}{number}"
                changes = {
                    "input": Path(folder) / "data",
                    "output_dir": output,
                    "executor": executor,
                    "workers": 2,
                }
                run_stage1(
                    load_config(
                        SHIPPED_CONFIG, [f"annotation.{k}={v}" for k, v in changes.items()]
                    ),
                    timing.progress,
                )
                times.append(timing.ms_a_frame())
                whole_s = time.monotonic() - began_s
                starts[executor].append(whole_s - (timing.last_s - timing.first_s))
                print(f"{executor:5} {times[-1]:7.2f} ms a frame, {whole_s:6.1f} s", flush=True)
    ratios = np.array(found["ray"]) / np.array(found["local"])
    print(
        f"{videos} videos of 10 s, {rounds} rounds: Ray / local, median of rounds "
        f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); start and end of a "
        f"run: local {np.median(starts['local']):.1f} s, Ray {np.median(starts['ray']):.1f} s"
    )


def _write_videos(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    for number in range(count):
        with VideoWriter(folder / f"{number}.mp4", (_WIDTH, _HEIGHT), _FPS) as writer:
            for t in range(10 * _FPS):
                shade = (x + 3 * t + 17 * number) % 256
                image = np.stack([shade, (y + t) % 256, (x + y) % 256], axis=2)
                writer.write(image.astype(np.uint8), t / _FPS)


# --- scheduling --------------------------------------------------------------------------


def measure_schedule(jobs: int) -> None:
    """Print how many jobs a second are done, and the driver's memory meanwhile."""
    memory = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(None, 1.0, 0.0, 2, Path(folder))
        pool = WorkerPool(start_nothing, [()])
        todo = [Job(f"{number}.mp4", f"{number}.mp4") for number in range(jobs)]
        done, first_s, first_cpu_s, sizes = 0, 0.0, 0.0, []
        for event in run_on_cluster(todo, pool, cluster):
            done += event.result is not None
            if not first_s:
                first_s, first_cpu_s = time.monotonic(), time.process_time()
            if done % max(1, jobs // 10) == 0 and event.result is not None:
                sizes.append(memory.memory_info().rss / 2**20)
        took_s, cpu_s = time.monotonic() - first_s, time.process_time() - first_cpu_s
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    print(
        f"{done} jobs at {done / took_s:.0f} a second, {1e3 * cpu_s / done:.2f} ms of the driver's "
        f"CPU each; driver MiB at each tenth: {shown}"
    )


@one_line_errors
def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("all", "kills", "overhead", "schedule"))
    parser.add_argument("--kills", type=positive, default=20)
    parser.add_argument("--clips", type=positive, default=3, help="of a class, in kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--videos", type=positive, default=6)
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--jobs", type=positive, default=100_000)
    parser.add_argument("--verbose", action="store_true", help="the log of the runs")
    args = parser.parse_args()
    need(["ray"])
    logging.basicConfig(level=logging.INFO if args.verbose else logging.ERROR)
    what = args.what or "all"
    if what in ("all", "schedule"):
        measure_schedule(args.jobs)
    if what in ("all", "overhead"):
        measure_overhead(args.videos, args.rounds)
    if what in ("all", "kills"):
        measure_kills(args.kills, args.clips, args.seed)


if __name__ == "__main__":
    main()
