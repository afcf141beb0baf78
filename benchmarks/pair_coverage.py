"""Measure in how much of a fight both fighters are tracked, before and after the offline steps.

    python -m benchmarks.pair_coverage                 # samples/stage1
    python -m benchmarks.pair_coverage --stage1 output/fight_surv/stage1_poses/<name>

``before`` is the tracker alone with short gaps filled, ``after`` the configuration as it stands
(tracked backward as well, joined, kept in clinches); --set changes it. Labels: pair_labels.csv, the
two main fighters of 30 clips on 4 to 6 frames each. They were drawn by hand on contact sheets of
the frames, where a candidate box of the detector fitted by its number. Clips were drawn by chance
from each recording with fights; where two main fighters could not be distinguished by eye another
clip was taken. A fighter who is hidden in a frame leaves that frame out.

A fighter is tracked where a row with an id overlaps the label by 0.3 or more, one row for one
fighter; the id of the labelled frame before is kept where it still fits (CLEAR MOT). A doubled
row is one without a score that overlaps another person's row by 0.3 or more: in footage without
fights this should be rare.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks._command import ROOT, add_config
from benchmarks._needs import need
from recognizer.config.file import load_config
from recognizer.config.schema import TrackingConfig
from recognizer.geometry import box_iou
from recognizer.pose.settings import tracking_settings
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.storage.artifacts import read_poses
from recognizer.tracking.offline import track_people
from recognizer.types import FloatArray, IntArray, Poses, PoseSequence

Labels = Mapping[float, FloatArray]  # time in seconds -> boxes (2, 4) of both fighters
LABELS = ROOT / "benchmarks" / "pair_labels.csv"
LEAST_IOU = 0.3
COVERED = 0.8
OFF: dict[str, bool | float] = {"track_backward": False, "join_gap_s": 0.0, "merge_s": 0.0}
STEPS: dict[str, list[str]] = {
    "before": [],
    "+ backward": ["track_backward"],
    "+ joined": ["join_gap_s"],
    "after": ["merge_s"],
}


@dataclass
class Counts:
    """Counts of one variant of the tracking."""

    pairs: dict[str, list[tuple[bool, bool]]] = field(default_factory=lambda: defaultdict(list))
    changes: int = 0
    kept_ids: int = 0
    clips: dict[str, list[IntArray]] = field(default_factory=lambda: defaultdict(list))

    def row(self) -> list[str]:
        """Return the cells of the pair table."""
        both = [pair for pairs in self.pairs.values() for pair in pairs]
        covered = [np.mean([p[0] for p in pairs]) >= COVERED for pairs in self.pairs.values()]
        return [
            f"{np.mean([p[0] for p in both]):.3f}",
            f"{np.mean([p[1] for p in both]):.3f}",
            f"{np.sum(covered)} of {len(covered)}",
            f"{self.changes / (2 * len(self.pairs)):.2f}",
            f"{self.changes / max(self.changes + self.kept_ids, 1):.3f}",
        ]

    def group_row(self, group: str) -> list[str]:
        """Return the cells of one group of clips."""
        tracks, rows, filled, doubled, frames = np.sum(self.clips[group], axis=0)
        return [
            f"{tracks / len(self.clips[group]):.1f}",
            f"{rows / tracks:.1f}",
            f"{filled / frames:.3f}",
            f"{doubled / frames:.3f}",
        ]


def read_labels(path: Path) -> dict[str, Labels]:
    """Return the labels of each video."""
    found: dict[str, dict[float, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
            found[row["video"]][float(row["time_s"])][row["fighter"]] = box
    return {
        video: {t: np.array([two["a"], two["b"]], np.float32) for t, two in sorted(frames.items())}
        for video, frames in found.items()
    }


def match(fighters: FloatArray, poses: Poses, last: IntArray) -> IntArray:
    """Return the row of each fighter (2,), -1 for none; ``last`` are the ids before."""
    rows = np.full(2, -1)
    if not len(poses):
        return rows
    overlap = box_iou(fighters, poses.boxes)
    # As many fighters as possible, then the ids of before, then overlap.
    likes = np.where(
        overlap >= LEAST_IOU, 4.0 + (poses.track_ids == last[:, None]) + 0.4 * overlap, 0
    )
    i, j = linear_sum_assignment(likes, maximize=True)
    good = likes[i, j] > 0
    rows[i[good]] = j[good]
    return rows


def measure_pairs(sequence: PoseSequence, labels: Labels, video: str, counts: Counts) -> None:
    """Add the labelled frames of a video to the counts."""
    last = np.full(2, -1)
    for time_s, fighters in labels.items():
        frame = int(np.argmin(np.abs(sequence.time_s - time_s)))
        poses = sequence.frame(frame)
        poses = poses[poses.track_ids >= 0]
        rows = match(fighters, poses, last)
        detected = poses[poses.box_scores > 0]
        detected_rows = match(fighters, detected, last)
        counts.pairs[video].append((bool((rows >= 0).all()), bool((detected_rows >= 0).all())))
        for fighter in np.flatnonzero(rows >= 0):
            track_id = poses.track_ids[rows[fighter]]
            counts.changes += int(last[fighter] >= 0 and last[fighter] != track_id)
            counts.kept_ids += int(last[fighter] == track_id)
            last[fighter] = track_id


def count(sequence: PoseSequence) -> IntArray:
    """Return (5,): tracks, their rows, rows without a score, doubled ones, frames."""
    tracked = sequence.poses.track_ids >= 0
    filled = int((tracked & (sequence.poses.box_scores == 0)).sum())
    doubled = 0
    for poses in sequence.frames():
        people = poses[poses.track_ids >= 0]
        unseen = people.box_scores == 0
        if unseen.any():
            overlap = box_iou(people.boxes[unseen], people.boxes) >= LEAST_IOU
            doubled += int((overlap.sum(1) > 1).sum())
    tracks = len(np.unique(sequence.poses.track_ids[tracked]))
    return np.array([tracks, int(tracked.sum()), filled, doubled, len(sequence)])


def variants(tracking: TrackingConfig) -> dict[str, TrackingConfig]:
    """Return the settings of each step, each with those before it."""
    off = dict(OFF)
    found = {}
    for name, added in STEPS.items():
        for key in added:
            off.pop(key)
        found[name] = tracking.model_copy(update=off)
    return found


def measure(
    stage1: Path, labels: Mapping[str, Labels], tracking: TrackingConfig, few: bool
) -> dict[str, Counts]:
    """Return the counts of each variant; with ``few`` of the labelled clips alone."""
    outcomes = [o for o in read_manifest(stage1).outcomes if o.state == "done"]
    missing = set(labels) - {o.video for o in outcomes}
    if missing:
        sys.exit(f"{stage1}: expected all labelled clips, got none of {sorted(missing)}")
    counts = {name: Counts() for name in STEPS}
    if few:
        outcomes = [o for o in outcomes if o.video in labels]
    for outcome in sorted(outcomes, key=lambda o: o.video):
        poses = read_poses(result_path(stage1, outcome.video, ".npz"))[0]
        for name, settings in variants(tracking).items():
            people = track_people(poses, settings)
            counts[name].clips[Path(outcome.video).parts[0]].append(count(people))
            if outcome.video in labels:
                measure_pairs(people, labels[outcome.video], outcome.video, counts[name])
    return counts


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage1", type=Path, default=ROOT / "samples" / "stage1")
    parser.add_argument("--labels", type=Path, default=LABELS)
    add_config(parser)
    parser.add_argument("--few", action="store_true", help="the labelled clips alone")
    args = parser.parse_args()
    need(files=[args.stage1, args.labels])
    labels = read_labels(args.labels)
    config = load_config(args.config, args.set)
    tracking = tracking_settings(config, read_manifest(args.stage1).settings)
    counts = measure(args.stage1, labels, tracking, args.few)
    frames = sum(map(len, labels.values()))
    show(
        f"pairs: {frames} labelled frames of {len(labels)} clips",
        [
            "",
            "both tracked",
            "both seen",
            f"clips >= {COVERED:.0%}",
            "id changes per fighter",
            "share of steps",
        ],
        [[name, *variant.row()] for name, variant in counts.items()],
    )
    for group in sorted(counts["before"].clips):
        show(
            f"{group}: {len(counts['before'].clips[group])} clips",
            ["", "tracks per clip", "rows per track", "filled per frame", "doubled per frame"],
            [[name, *variant.group_row(group)] for name, variant in counts.items()],
        )


if __name__ == "__main__":
    main()
