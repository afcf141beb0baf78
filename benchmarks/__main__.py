"""Run benchmarks one after another and print the outcome of each.

    python -m benchmarks                     # all, as docs/benchmarks.md was measured: hours
    python -m benchmarks --quick             # all, small: does each run, and about what ratio
    python -m benchmarks tracking rtmo_speed # these

One that lacks a peer or footage is skipped with the command that mends it; one that fails does not
stop the others. Exit code 1 if any failed.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._needs import SKIPPED

HERE = Path(__file__).resolve().parent
NAMES = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))
# Sizes that show a ratio in a minute or two on two cores; too small for a figure to report.
QUICK = {
    "after_fall": "--clips 1",
    "classifier_speed": "--rounds 5",
    "coco_ap": "--images 5",
    "cross_confusion": "--few 8 --out output/benchmark_quick/cross_confusion",
    "data_pipeline": "--rounds 1 --samples 20",
    "falls_events": "--out output/benchmark_quick/falls_events --few "
    "--set annotation.sample_fps=3.0 --cfg-options train_cfg.max_epochs=1",
    "frame_overhead": "--rounds 1 --videos 1",
    "live_cameras": "--cameras 1 --seconds 5",
    "live_soak": "--null --video-hours 0.03 --cameras 2 --every 0.5 "
    "--table output/benchmark_quick/live_soak.csv",
    "live_hostile": "--seconds 3 --bad refusing",
    "lying": "--out output/benchmark_quick/lying",
    "pair_coverage": "--few",
    "pose_precision": "--pictures 5 --frames 2 --rounds 1",
    "ray_executor": "--jobs 2000 --videos 2 --rounds 1 --kills 1",
    "restart_scan": "--videos 2000 --rounds 1",
    "rtmo_speed": "--rounds 2",
    "sdpose_overfit": "--persons 4 --epochs 2 --first 2 --first-epochs 2 --batch-size 2 --bf16 "
    "--work-dir work_dirs/benchmark_quick/sdpose_overfit",
    "sdpose_step": "--rounds 2 --batch 2",
    "stage1_cost": "--clips 1 --rounds 1",
    "stage1_speed": "--clips 2 --rounds 1",
    "stage3_memory": "--clips 200",
    "topdown_speed": "--rounds 1",
    "tracking": "--rounds 2 --frames 60",
    "train_step": "--rounds 2 --batch-size 2",
}


def run(name: str, arguments: list[str]) -> str:
    """Run one in a process of its own; return its outcome."""
    print(f"== {name} {' '.join(arguments)}", flush=True)
    start = time.monotonic()
    code = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=HERE.parent, check=False
    ).returncode
    state = {0: "done", SKIPPED: "skipped"}.get(code, f"FAILED (exit code {code})")
    return f"{state}, {time.monotonic() - start:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no benchmark is called {', '.join(unknown)}; expected {', '.join(NAMES)}")
    ends = {
        name: run(name, QUICK[name].split() if options.quick else [])
        for name in options.names or NAMES
    }
    width = max(map(len, ends))
    print("\n" + "\n".join(f"{name:{width}}  {end}" for name, end in ends.items()))
    return int(any("FAILED" in end for end in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
