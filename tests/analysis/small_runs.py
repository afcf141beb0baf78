"""Analyses of small videos in which a dot moves, and their results."""

import csv
import json
from pathlib import Path

from recognizer.analysis.record import Record, read_record
from recognizer.analysis.run import analyse
from recognizer.config.file import load_config
from recognizer.runs.progress import silent
from tests.analysis.classifiers import place_classifier
from tests.annotation import clips


def make_place(folder: Path, *, count: int = 1, frames: int = 50, score: float = 0.9) -> Path:
    """Write videos with a moving dot, networks that find it and say where it is, a config."""
    config = clips.make_dataset(folder, clips=count, frames=frames, score=score)
    place_classifier(folder / "fight.onnx", "fight", window_s=1.0, threshold=0.5)
    place_classifier(folder / "falldown.onnx", "falldown", window_s=1.5, threshold=0.7)
    # The dot is small and jumps about: whoever is seen is the one seen before.
    lenient = "tracking: {min_box_area: 1.0, match_thresh: 1.0, fuse_score: false,"
    text = config.read_text().replace("tracking: {min_box_area: 1.0", f"{lenient} iou_weight: 1.0")
    config.write_text(
        text + "inference: {input: data, output_dir: analysis}\ntest: {bootstrap: 10}\n"
    )
    return config


def run(config: Path, *overrides: str) -> int:
    return analyse(load_config(config, list(overrides)), silent)


def out(config: Path) -> Path:
    return config.parent / "analysis"


def record_of(config: Path, video: str) -> Record:
    return read_record(out(config) / "videos" / f"{video}.json")


def summary(config: Path) -> list[dict[str, str]]:
    with (out(config) / "summary.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def states(config: Path) -> dict[str, str]:
    inputs = json.loads((out(config) / "manifest.json").read_bytes())["inputs"]
    return {video: outcome["state"] for video, outcome in inputs.items()}


def files(folder: Path, pattern: str) -> dict[Path, int]:
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob(pattern)}


def contents(config: Path) -> tuple[dict[str, bytes], set[str]]:
    """Return all results but the overlays, whose bytes are x264's affair, and their frames."""
    found = clips.contents(out(config))
    names = {name for name in found if name.endswith(".mp4")}
    return {k: v for k, v in found.items() if k not in names}, names
