"""Whether live detection keeps its memory, descriptors and speed over many hours.

    python -m benchmarks.live_soak --null [--video-hours 24] [--cameras 4] [--fps 5]
    python -m benchmarks.live_soak [--hours 1] [--cameras 1] [--fps 5]

The whole program of mode inference.realtime runs: cameras, tracks, both classifiers, rules, store,
a sink, clips of skeletons, and the page, which is asked for its figures. With ``--null``, cameras
are files that are read as fast as it goes, and a null network gives recorded poses; without it, a
real RTSP server of another process plays to the small network. Every minute of video is a fight of
two people (``--fight-s``) and then an empty room.

Two slopes of the memory: that of a line through all samples, and that through the least of each
five minutes, what the process keeps: while a clip is encoded, its encoder takes 25 MB for seconds.
The first tenth of the time, at least a quarter of an hour of runs of an hour or more, does not
count: until then the C library's pools of all threads fill. Speeds are those of the first and the
last quarter of the rest.
"""

import argparse
import csv
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil
import requests

from benchmarks._command import ASSETS, ROOT, Parser, one_line_errors, positive, seconds
from benchmarks._live import NullPose, record_poses, repeat_clip, serve_rtsp, write_clip
from benchmarks._needs import need
from recognizer.config.file import load_config
from recognizer.config.live import CameraConfig
from recognizer.config.realtime import LiveConfig
from recognizer.config.schema import Config
from recognizer.live.analysis import SharedPose
from recognizer.live.program import LiveProgram
from recognizer.models import open_classifier, open_pose_model

FIGHT = ASSETS / "fight_surv" / "Fight" / "fi013.mp4"
NO_FIGHT = ASSETS / "fight_surv" / "NonFight" / "nofi005.mp4"
_CLIP_S = 60.0
_CAMERA_FPS = 10.0
_WARM, _WARM_S = 0.1, 900.0
_LEAST_S = 300.0
_MB = 1e6
_DROPPED = ("recognizer_drops_total", 'cause="queue_full"', 'cause="stale"')


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process holds and has done at a time.

    Attributes:
        wall_s: since the start.
        cpu_s: CPU time of the process since the start.
        frames: of all cameras, analysed since the start.
        rss_mb: memory that is resident, 10^6 bytes.
        descriptors: files and sockets that are open.
        threads: of the process.

    """

    wall_s: float
    cpu_s: float
    frames: int
    rss_mb: float
    descriptors: int
    threads: int


def frames_analysed(url: str) -> int:
    """Return the frames of all cameras that the page's figures count, less those dropped late."""
    total = 0.0
    for line in requests.get(f"{url}/metrics", timeout=60).text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("recognizer_frames_total{"):
            total += float(value)
        elif name.startswith(_DROPPED[0]) and any(cause in name for cause in _DROPPED[1:]):
            total -= float(value)
    return round(total)


class Sampler(threading.Thread):
    """Take a sample now and then, and write each into a table.

    Args:
        url: of the page.
        every_s: seconds between samples.
        path: of the table, CSV.
        stop: ends it.

    """

    def __init__(self, url: str, every_s: float, path: Path, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._every_s, self._path, self._stop = url, every_s, path, stop
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Sample until it is stopped."""
        process = psutil.Process()
        start_s, cpu_s = time.monotonic(), time.process_time()
        with self._path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(field.name for field in fields(Sample))
            while not self._stop.wait(self._every_s):
                requests.get(f"{self._url}/events", timeout=60).raise_for_status()
                self.samples.append(
                    Sample(
                        time.monotonic() - start_s,
                        time.process_time() - cpu_s,
                        frames_analysed(self._url),
                        process.memory_info().rss / _MB,
                        process.num_fds(),
                        process.num_threads(),
                    )
                )
                table.writerow(astuple(self.samples[-1]))
                file.flush()


def live_config(folder: Path, cameras: Sequence[CameraConfig], port: int) -> Config:
    """Return the shipped config with these cameras, and everything it writes below a folder."""
    config = load_config(ROOT / "configs" / "config.yaml", [])
    live = {
        "cameras": [camera.model_dump() for camera in cameras],
        "clips_dir": folder / "clips",
        "page": {"port": port},
        "alerts": {
            "store": {"path": folder / "events.sqlite3"},
            "sinks": [{"name": "log", "kind": "jsonl", "path": folder / "notices.jsonl"}],
        },
    }
    return config.model_copy(update={"live": LiveConfig.model_validate(live)})


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def run(config: Config, pose: SharedPose, limit_s: float | None, sampler: Sampler) -> None:
    """Run live detection to the end of its files, or for so many seconds."""
    classifiers = [open_classifier(f"{name}.onnx", threads=1) for name in ("fight", "falldown")]
    program = LiveProgram(config, config.live.cameras, pose, classifiers)
    stop = threading.Event()
    if limit_s is not None:
        timer = threading.Timer(limit_s, stop.set)
        timer.daemon = True
        timer.start()
    sampler.start()
    program.run(stop)


def report(samples: Sequence[Sample], fps: float) -> str:
    """Return the figures of a run as rows of a table.

    Raises:
        ValueError: the run was too short.

    """
    run_s = samples[-1].wall_s
    warm_s = max(_WARM * run_s, _WARM_S if run_s >= 4 * _WARM_S else 0.0)
    kept = [one for one in samples if one.wall_s >= warm_s]
    if len(kept) < 8:
        raise ValueError(f"expected a run of 8 samples or more, got {len(kept)}; see --every")
    video_h = np.array([one.frames for one in kept]) / fps / 3600
    rss = np.array([one.rss_mb for one in kept])
    quarter = len(kept) // 4
    parts = [(kept[0], kept[quarter]), (kept[-1 - quarter], kept[-1])]
    wall = [(b.frames - a.frames) / (b.wall_s - a.wall_s) for a, b in parts]
    cpu = [(b.frames - a.frames) / (b.cpu_s - a.cpu_s) for a, b in parts]
    fds, threads = ({getattr(one, name) for one in kept} for name in ("descriptors", "threads"))
    rows = [
        ("hours of video, of the run", f"{video_h[-1]:.2f}, {samples[-1].wall_s / 3600:.2f}"),
        ("memory: first, last, most (MB)", f"{rss[0]:.0f}, {rss[-1]:.0f}, {rss.max():.0f}"),
        ("its slope, all samples (MB an hour of video, of the run)", _slopes(kept, fps)),
        ("its slope, least of each 5 min (the same)", _slopes(_least(kept), fps)),
        ("descriptors: least, most", f"{min(fds)}, {max(fds)}"),
        ("threads: least, most", f"{min(threads)}, {max(threads)}"),
        ("frames a second: first, last, ratio", _ratio(*wall)),
        ("frames a CPU second: first, last, ratio", _ratio(*cpu)),
    ]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def _slopes(samples: Sequence[Sample], fps: float) -> str:
    """Return the slopes of the memory, MB an hour of video and of the run."""
    if len(samples) < 4:
        return "too short"
    rss = [one.rss_mb for one in samples]
    hours = ([one.frames / fps / 3600 for one in samples], [one.wall_s / 3600 for one in samples])
    return ", ".join(f"{float(np.polyfit(h, rss, 1)[0]):.2f}" for h in hours)


def _least(samples: Sequence[Sample]) -> list[Sample]:
    """Return the sample of the least memory of each five minutes."""
    parts: dict[int, list[Sample]] = {}
    for one in samples:
        parts.setdefault(int(one.wall_s // _LEAST_S), []).append(one)
    return [min(part, key=lambda one: one.rss_mb) for part in parts.values()]


def _ratio(first: float, last: float) -> str:
    return f"{first:.1f}, {last:.1f}, {last / first:.3f}"


def null_run(folder: Path, given: argparse.Namespace) -> tuple[Config, SharedPose]:
    """Return config and network of cameras that are files."""
    model = open_pose_model(ROOT / "samples/models/small_pose.onnx", threads=1)
    pose = NullPose(model, record_poses(model, folder / "clip.mp4", given.fps))
    hours = given.video_hours / given.cameras
    repeat_clip(folder / "clip.mp4", folder / "long.mp4", max(round(hours * 3600 / _CLIP_S), 1))
    cameras = [
        CameraConfig(
            name=f"camera {i}", url=None, path=folder / "long.mp4", speed="fastest", fps=60
        )
        for i in range(given.cameras)
    ]
    return live_config(folder, cameras, free_port()), pose


def real_run(folder: Path, given: argparse.Namespace, port: int) -> tuple[Config, SharedPose]:
    """Return config and network of cameras that an RTSP server plays."""
    cameras = [
        CameraConfig(
            name=f"camera {i}", url=f"rtsp://127.0.0.1:{port}/rtsp/long.mp4", fps=given.fps
        )
        for i in range(given.cameras)
    ]
    model = open_pose_model(ROOT / "samples/models/small_pose.onnx", threads=1)
    return live_config(folder, cameras, free_port()), SharedPose(model)


@one_line_errors
def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--null", action="store_true", help="files and recorded poses")
    parser.add_argument("--video-hours", type=seconds, default=24.0, help="of all cameras, --null")
    parser.add_argument("--hours", type=seconds, default=1.0, help="of the run, without --null")
    parser.add_argument("--cameras", type=positive, default=1)
    parser.add_argument("--fps", type=seconds, default=5.0, help="of every camera")
    parser.add_argument("--fight-s", type=seconds, default=20.0, help="of every minute")
    parser.add_argument("--every", type=seconds, default=30.0, help="seconds between samples")
    parser.add_argument(
        "--table", type=Path, default=ROOT / "output/live_soak.csv", help="of all samples"
    )
    given = parser.parse_args()
    given.table.parent.mkdir(parents=True, exist_ok=True)
    need(peers=["aio_rtsp_toolkit"], files=[FIGHT, NO_FIGHT])
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fps = given.fps if given.null else _CAMERA_FPS
        parts = [(FIGHT, given.fight_s), (NO_FIGHT, _CLIP_S - given.fight_s)]
        write_clip(parts, folder / "clip.mp4", fps)
        server = None
        if given.null:
            config, pose = null_run(folder, given)
        else:
            (folder / "rtsp").mkdir()
            turns = round(given.hours * 3600 / _CLIP_S) + 5
            repeat_clip(folder / "clip.mp4", folder / "rtsp" / "long.mp4", turns)
            context = multiprocessing.get_context("spawn")
            receiver, sender = context.Pipe(duplex=False)
            server = context.Process(target=serve_rtsp, args=(folder, sender), daemon=True)
            server.start()
            config, pose = real_run(folder, given, receiver.recv())
        sampler = Sampler(
            f"http://127.0.0.1:{config.live.page.port}", given.every, given.table, stop
        )
        run(config, pose, None if given.null else given.hours * 3600, sampler)
        stop.set()
        if server is not None:
            server.kill()
        notices = sum(1 for _ in (folder / "notices.jsonl").open("rb"))
        clips = sum(1 for _ in (folder / "clips").glob("*/*.mp4"))
    sys.stdout.write(report(sampler.samples, given.fps) + "\n")
    sys.stdout.write(f"| notices, clips | {notices}, {clips} |\n")


if __name__ == "__main__":
    main()
