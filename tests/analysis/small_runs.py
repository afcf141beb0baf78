"""Analyses of small videos in which a dot moves, and what they write."""

import csv
import json

from recognizer.analysis.record import read_record
from recognizer.analysis.run import analyse
from recognizer.config.file import load_config
from recognizer.runs.progress import silent
from tests.analysis.classifiers import place_classifier
from tests.annotation import clips


def make_place(folder, *, count=1, frames=50, score=0.9):
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


def run(config, *overrides):
    return analyse(load_config(config, list(overrides)), silent)


def out(config):
    return config.parent / "analysis"


def record_of(config, video):
    return read_record(out(config) / "videos" / f"{video}.json")


def summary(config):
    with (out(config) / "summary.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def states(config):
    inputs = json.loads((out(config) / "manifest.json").read_bytes())["inputs"]
    return {video: facts["state"] for video, facts in inputs.items()}


def files(folder, pattern):
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob(pattern)}


def contents(config):
    """Return all results but the overlays, whose bytes are x264's affair, and their frames."""
    found = clips.contents(out(config))
    names = {name for name in found if name.endswith(".mp4")}
    return {k: v for k, v in found.items() if k not in names}, names
