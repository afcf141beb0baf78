"""Cut the footage that falls are measured on into windows, as stage 3 and the analysis do."""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from annotation.clips import clip_name
from annotation.sources import read_sources
from benchmarks._command import weights_of
from benchmarks._falls_data import BED, FIGHTS
from recognizer.action.measures import clip_measures, has_movement, measure_names
from recognizer.config.file import ConfigError, load_config
from recognizer.config.schema import Config
from recognizer.dataset.labels import label_of_window, read_segments
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, people_of
from recognizer.dataset.windows import Span, plan_windows, slice_sequence, span_of
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.progress import on_console
from recognizer.runs.stage2 import run_stage2
from recognizer.storage.artifacts import read_poses
from recognizer.types import FloatArray, PoseSequence, Sample

CLASSES = {"Normal": 0, "Falldown": 1}
FALL = CLASSES["Falldown"]
# What the window of the fastest descent has most of.
_DESCENT = ("centre_fastest_1s", "centre_drop")


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a video: its sample (None: no people) and label (None: unsure).

    ``measures`` are the five of ``recognizer.scoring.falldown`` of the most involved person,
    ``movement`` the numbers of the movement stream (None: nothing was measured).
    """

    video: str
    start_s: float
    stop_s: float
    label: int | None
    sample: Sample | None
    measures: FloatArray
    movement: FloatArray | None = None


def load(args: argparse.Namespace) -> Config:
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


def cut(config: Config) -> tuple[list[Window], dict[str, Span]]:
    """Return all windows, and the span of each video, seconds.

    Raises:
        ConfigError: a config without segments or windows.

    """
    section = config.dataset
    if section.segments is None or section.window_s is None:
        raise ConfigError("expected dataset.segments and dataset.window_s, got neither or one")
    folder = run_stage2(config, on_console)
    videos = [o.video for o in read_manifest(folder).outcomes if o.state != "refused"]
    labels = read_segments(section.segments, section.classes, videos)
    windows: list[Window] = []
    spans = {}
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


def _window(
    config: Config, sequence: PoseSequence, video: str, span: Span, label: int | None
) -> Window:
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


def _with_descent(windows: list[Window]) -> list[Window]:
    """Label the window of the fastest descent as the fall; the others stay unsure."""
    columns = [measure_names("falldown").index(name) for name in _DESCENT]
    descent = [-np.inf if w.movement is None else w.movement[columns].sum() for w in windows]
    at = int(np.argmax(descent)) if descent else 0
    if windows and (sample := windows[at].sample) is not None and np.isfinite(descent[at]):
        windows[at] = replace(windows[at], label=FALL, sample=replace(sample, label=FALL))
    return windows


def read_groups(out: Path) -> dict[str, str]:
    """Return the group of each video."""
    return read_sources(out / "sources.csv", {})


def read_falls(out: Path, windows: Sequence[Window]) -> dict[str, list[Span]]:
    """Return the falls (start, stop) of each video, seconds; in ``BED`` the labelled windows."""
    falls: dict[str, list[Span]] = {}
    with (out / "events.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            span = float(row["start_s"]), float(row["stop_s"])
            falls.setdefault(row["video"], []).append(span)
    for w in windows:
        if w.video.startswith(BED) and w.label == FALL:
            falls.setdefault(w.video, []).append((w.start_s, w.stop_s))
    return falls


def is_extra(video: str) -> bool:
    """Tell whether footage is only learnt from, or left out whole."""
    return video.startswith((BED, FIGHTS))
