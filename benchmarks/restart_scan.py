"""Measure how long a restart of stage 1 looks for finished results: seconds and peak memory.

    python -m benchmarks.restart_scan --videos 100000

makes that many small files as videos with results of stage 1 (not measured), runs stage 1 on them
in a process of its own, first without a journal, so that every result is opened, then with the
journal that this left, and prints both. No network is opened: nothing is left to do.
"""

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks._command import ROOT, SMALL_POSE, Parser, positive
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.installation import SHIPPED_CONFIG
from recognizer.runs.manifest import Settings, result_path
from recognizer.runs.stage_folders import stage1_dir, stage1_settings
from recognizer.storage.artifacts import POSE_SCHEMA, POSE_SCHEMA_VERSION, json_bytes

RUN = """
import json, resource, sys, time
from recognizer.config.file import load_config
from recognizer.runs.stage1 import run_stage1
config = load_config(sys.argv[1], sys.argv[2:])
start = time.perf_counter()
run_stage1(config)
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""
_FOLDER_SIZE = 1000


def overrides(folder: Path) -> list[str]:
    return [
        f"annotation.input={folder / 'videos'}",
        f"annotation.output_dir={folder / 'output'}",
        SMALL_POSE,
    ]


def make_results(folder: Path, config: Config, videos: int) -> None:
    """Write files as videos, and results of stage 1 that hold no poses."""
    settings, results = stage1_settings(config), stage1_dir(config)
    for number in range(videos):
        name = f"camera{number // _FOLDER_SIZE:03}/{number:06}.mp4"
        video, result = folder / "videos" / name, result_path(results, name, ".npz")
        for path in (video, result):
            path.parent.mkdir(parents=True, exist_ok=True)
        video.write_bytes(b"video %d" % number)
        with zipfile.ZipFile(result, "w") as archive:
            archive.writestr("meta.json", json_bytes(meta_of(name, video, settings)))


def meta_of(name: str, video: Path, settings: Settings) -> dict[str, object]:
    return {
        "schema": POSE_SCHEMA,
        "schema_version": POSE_SCHEMA_VERSION,
        "video": name,
        "source": {"sha256": "0" * 64, "size_bytes": video.stat().st_size},
        "frames": 300,
        "video_info": {"pixel_aspect": 1.0},
        "frame_account": {"decoded": 300, "container_frames": 300},
        "settings": settings,
    }


@dataclass(frozen=True, slots=True, order=True)
class Figures:
    """One run: seconds of its stage, CPU seconds of its process, MiB at its peak."""

    seconds: float
    cpu_s: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.cpu_s:.1f} s of CPU), peak {self.peak_mib:.0f} MiB"


def measure(folder: Path) -> Figures:
    """Run stage 1 in a process of its own."""
    command = [sys.executable, "-c", RUN, str(SHIPPED_CONFIG), *overrides(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Figures(*json.loads(done.stdout))


def main() -> None:
    parser = Parser("benchmarks.restart_scan", description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=positive, default=100_000)
    parser.add_argument("--rounds", type=positive, default=3, help="restarts with the journal")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        make_results(Path(work), load_config(SHIPPED_CONFIG, overrides(Path(work))), args.videos)
        print(f"{args.videos} videos made in {time.perf_counter() - start:.0f} s (not measured)")
        print(f"no journal, every result opened: {measure(Path(work))}", flush=True)
        for _ in range(args.rounds):
            print(f"with the journal: {measure(Path(work))}", flush=True)


if __name__ == "__main__":
    main()
