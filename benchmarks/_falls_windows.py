"""Cut the footage that falls are measured on into windows, as stage 3 and the analysis do."""

import csv
from dataclasses import dataclass, replace

import numpy as np

from annotation.clips import clip_name
from annotation.sources import read_sources
from benchmarks._command import weights_of
from benchmarks._falls_data import BED, FIGHTS
from recognizer.action.measures import clip_measures, has_movement, measure_names
from recognizer.config.file import load_config
from recognizer.dataset.labels import label_of_window, read_segments
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, people_of
from recognizer.dataset.windows import plan_windows, slice_sequence, span_of
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.progress import on_console
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import read_poses
from recognizer.types import Sample

CLASSES = {"Normal": 0, "Falldown": 1}
FALL = CLASSES["Falldown"]
# What the window of the fastest descent has most of.
_DESCENT = ("centre_fastest_1s", "centre_drop")


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a video: the sample to judge (None: nobody), what it shows (None: unsure).

    ``measures`` are the five of ``recognizer.scoring.falldown`` of the most involved person,
    ``movement`` the numbers of the movement stream (None: nothing was measured).
    """

    video: str
    start_s: float
    stop_s: float
    label: int | None
    sample: Sample | None
    measures: np.ndarray
    movement: np.ndarray | None = None


def load(args):
    """Return the config of stages 1 and 2 and of the windows."""
    out = args.out.resolve()
    overrides = [
        f"annotation.input={out / 'videos'}",
        f"annotation.output_dir={out / 'output'}",
        "annotation.dataset=falls",
        "dataset.service=falldown",
        f"dataset.classes={CLASSES}",
        f"dataset.segments={out / 'segments.csv'}",
        f"dataset.split.sources={out / 'sources.csv'}",
        "dataset.split.by=source",
        "dataset.window_s=2.0",
        "dataset.stride_s=0.5",
        "dataset.num_person=2",
        *args.set,
    ]
    return load_config(args.config, [*weights_of(args.config), *overrides])


def cut(config):
    """Return all windows, and the span of each video, seconds."""
    folder, section = run_stage2(config, on_console), config.dataset
    videos = [o.video for o in read_manifest(folder).outcomes if o.state != "refused"]
    labels = read_segments(section.segments, section.classes, videos)
    windows, spans = [], {}
    for video in videos:
        sequence, _, _ = read_poses(result_path(folder, video, ".npz"))
        spans[video] = span_of(sequence)
        mine = []
        for start, stop in plan_windows(sequence, section.window_s, section.stride_s):
            name = label_of_window(labels.get(video, ()), start, stop)
            label = None if name is None else section.classes[name]
            mine.append(_window(config, sequence, video, (start, stop), label))
        windows += _with_descent(mine) if video.startswith(f"{BED}fall/") else mine
    return windows, spans


def _window(config, sequence, video, span, label):
    section = config.dataset
    nothing = Window(video, *span, label, None, np.zeros(5, np.float32))
    part = slice_sequence(sequence, *span)
    try:
        ids, ranked = people_of(part, section.service, config.scoring, section.num_person)
    except NoTrackedPeopleError:
        return nothing
    if len(part) < section.min_frames:
        return nothing
    name = clip_name(video, *span, whole=False)
    sample = build_sample(part, ids, section.num_person, name, label or 0)
    movement = clip_measures(sample, section.service) if has_movement(sample) else None
    return replace(nothing, sample=sample, measures=ranked.measures[0], movement=movement)


def _with_descent(windows):
    """Label the window of the fastest descent as the fall; the others stay unsure."""
    columns = [measure_names("falldown").index(name) for name in _DESCENT]
    descent = [-np.inf if w.movement is None else w.movement[columns].sum() for w in windows]
    if not np.isfinite(descent).any():
        return windows
    at = int(np.argmax(descent))
    sample = replace(windows[at].sample, label=FALL)
    windows[at] = replace(windows[at], label=FALL, sample=sample)
    return windows


def read_groups(out):
    """Return the group of each video."""
    return read_sources(out / "sources.csv", {})


def read_falls(out, windows):
    """Return the falls (start, stop) of each video, seconds; in ``BED`` the labelled windows."""
    falls = {}
    with (out / "events.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            span = float(row["start_s"]), float(row["stop_s"])
            falls.setdefault(row["video"], []).append(span)
    for w in windows:
        if w.video.startswith(BED) and w.label == FALL:
            falls.setdefault(w.video, []).append((w.start_s, w.stop_s))
    return falls


def is_extra(video):
    """Tell whether footage is only there to be learnt from, or to be left out whole."""
    return video.startswith((BED, FIGHTS))
