"""The small pose network: both trainings side by side, then one file, then its scores (part d).

    python -m benchmarks.gpu.small --seconds 600 --out DIR --device cuda:0 --data .gpu/data

Leaves ``small_detector.onnx``, ``small_pose.onnx`` (the part that poses), ``small_composed.onnx``,
the trainings' logs, ``small.json`` and ``small.md``. A later call that finds the part not complete
fine-tunes from the first two.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu._part import ROOT, Options, Results, parse
from benchmarks.gpu.small_data import unpack
from recognizer.models import open_pose_model
from samples.small_pose.compose import write
from samples.small_pose.data import VAL, load
from samples.small_pose.evaluate import measure, view

TRAININGS = {"detector": ("train_detector", 64), "pose": ("train_pose", 128)}
"""Module and pictures of a step, by the trained part."""
GROUPS = ("fight_surv", "falls", "coco")
_TESTED = 60  # pictures of a data set
_TINY_PICTURES = 4  # of a data set and split
_RESERVE_S = 60.0  # for the files and scores, and the trainings' own start and last look


def main(argv: list[str] | None = None) -> int:
    """Train until the time is over; return 0 when that went well."""
    options = parse(__doc__, argv)
    results = Results.open(options, "small_tiny" if options.tiny else "small")
    if "complete" in results:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        data, packed = Path(scratch), options.data / "small"
        unpack(packed, data, most=_TINY_PICTURES if options.tiny else None)
        for name, code in train(options, packed, data).items():
            if code:
                results.put(name, {"error": f"the training ended with exit code {code}"})
                return 1
            results.put(name, {"log": _log(trained(options, name))})
        evaluate(options, data, results)
    results.finish()
    return 0


def trained(options: Options, name: str) -> Path:
    """Return the file of a trained part."""
    return options.out / f"small_{name}.onnx"


def train(options: Options, weights: Path, data: Path) -> dict[str, int]:
    """Run both trainings at the same time; return their exit codes."""
    seconds = 0.1 if options.tiny else max(1.0, options.left - _RESERVE_S)
    workers = 0 if options.tiny else max(1, (os.cpu_count() or 2) // len(TRAININGS) - 1)
    running = {}
    for name, (module, batch) in TRAININGS.items():
        out = trained(options, name)
        command = [
            *(sys.executable, "-m", f"samples.small_pose.{module}"),
            *("--data", str(data), "--weights", str(weights), "--out", str(out)),
            *("--minutes", f"{seconds / 60:.4f}", "--device", options.device),
            *("--batch", str(2 if options.tiny else batch), "--workers", str(workers)),
            *(("--start", str(out)) if out.is_file() else ()),
        ]
        running[name] = subprocess.Popen(command, cwd=ROOT)
    return {name: process.wait() for name, process in running.items()}


def _log(path: Path) -> list[str]:
    return path.with_suffix(".log.jsonl").read_text(encoding="utf-8").splitlines()


def evaluate(options: Options, data: Path, results: Results) -> None:
    """Compose the file and score it on pictures that were held out, upright and turned."""
    composed = options.out / "small_composed.onnx"
    write(trained(options, "detector"), trained(options, "pose"), composed)
    held_out = load(data)
    rows: dict[str, Any] = {}
    for group in GROUPS:
        chosen = np.flatnonzero((held_out.groups == group) & (held_out.splits == VAL))
        chosen = chosen[:: max(1, -(-len(chosen) // _TESTED))]
        for turned in (False, True):
            model = open_pose_model(composed, threads=1)
            views = [view(held_out, int(row), turned=turned) for row in chosen]
            name = f"{group}, turned" if turned else group
            rows[name] = {key: round(value, 3) for key, value in measure(model, views).items()}
            results.put("scores", rows)
    results.path.with_suffix(".md").write_text(_table(rows), encoding="utf-8")


def _table(rows: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [f"| held out | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[column]:g}' for column in columns)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    raise SystemExit(main())
