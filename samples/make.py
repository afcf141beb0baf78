"""Make samples/stage1 and samples/falls_stage1 from finished stage-1 folders.

    python -m samples.make --fight <stage-1 folder> --falls <stage-1 folder> --sources <CSV>

``--sources`` is the data set's table with the columns video and source; only the clips that
there are go into samples/sources.csv. The README beside this file says where each comes from.
``--compare`` then tracks and ranks the people of both forms and prints what rounding changed.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from annotation.compact import compact_results
from recognizer.config.file import load_config
from recognizer.config.schema import Config
from recognizer.dataset.samples import NoTrackedPeopleError, people_of
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.runs.progress import on_console
from recognizer.scoring.ranking import SERVICES
from recognizer.storage.artifacts import read_poses, remove_stale_scratch, write_csv
from recognizer.tracking.offline import track_people
from recognizer.types import PoseSequence

SAMPLES = Path(__file__).resolve().parent
MAX_BYTES = 8_000_000
# Sources that show the same camera (near-duplicates of stage 3, looked at): clips of the first,
# with fights and without, stand beside those of the second.
SAME_CAMERA = {"a06a9ecc": "e35a3c93", "f6edbd0f": "unlisted"}


def main() -> int:
    """Write the samples; return 1 if they are larger than they may be."""
    parser = argparse.ArgumentParser("python -m samples.make")
    parser.add_argument("--fight", type=Path, required=True, help="stage 1 of fight_surv")
    parser.add_argument("--falls", type=Path, required=True, help="stage 1 of the falls")
    parser.add_argument("--sources", type=Path, required=True, help="CSV with video, source")
    parser.add_argument("--compare", action="store_true", help="print what rounding changed")
    arguments = parser.parse_args()
    fight = compact_results(arguments.fight, SAMPLES / "stage1", on_console)
    compact_results(arguments.falls, SAMPLES / "falls_stage1", on_console)
    write_sources(arguments.sources, {outcome.video for outcome in fight.outcomes})
    remove_stale_scratch(SAMPLES)
    size = sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file())
    sys.stdout.write(f"{size / 1e6:.2f} MB in {SAMPLES}\n")
    if arguments.compare:
        compare(arguments.fight, SAMPLES / "stage1")
        compare(arguments.falls, SAMPLES / "falls_stage1")
    return int(size > MAX_BYTES)


def write_sources(table: Path, videos: set[str]) -> None:
    """Write samples/sources.csv: the source of each of ``videos``, by name."""
    with table.open(encoding="utf-8", newline="") as file:
        source_of = {
            row["video"]: SAME_CAMERA.get(row["source"], row["source"])
            for row in csv.DictReader(file)
        }
    rows = [["video", "source"], *([video, source_of[video]] for video in sorted(videos))]
    write_csv(SAMPLES / "sources.csv", SAMPLES, rows, byte_order_mark=False)


def compare(full: Path, compact: Path) -> None:
    """Print how many videos keep their tracks and ranking, and how far keypoints moved."""
    config = load_config(SAMPLES.parent / "configs" / "config.yaml")
    videos = [o.video for o in read_manifest(compact).outcomes if o.state != "refused"]
    same_tracks = same_people = 0
    px = score = 0.0
    for video in videos:
        before, after = (
            tracked(config, result_path(folder, video, ".npz")) for folder in (full, compact)
        )
        if not np.array_equal(before.poses.track_ids, after.poses.track_ids):
            continue
        same_tracks += 1
        same_people += people(config, before) == people(config, after)
        moved = np.abs(before.poses.keypoints - after.poses.keypoints)
        px = max(px, float(moved.max(initial=0)))
        changed = np.abs(before.poses.keypoint_scores - after.poses.keypoint_scores)
        score = max(score, float(changed.max(initial=0)))
    sys.stdout.write(
        f"{compact.name}: of {len(videos)} videos {same_tracks} have the same tracks, {same_people}"
        f" the same people in the same slots; in these keypoints differ by at most {px:.4f} px, "
        f"their scores by {score:.6f}\n"
    )


def tracked(config: Config, path: Path) -> PoseSequence:
    """Return the people of a stage-1 result as stage 2 makes them."""
    return track_people(read_poses(path)[0], config.tracking)


def people(config: Config, sequence: PoseSequence) -> list[list[int]]:
    """Return the track ids in the samples of each service, slot by slot."""
    chosen = []
    for service in SERVICES:
        try:
            ids, _ = people_of(sequence, service, config.scoring, config.dataset.num_person)
        except NoTrackedPeopleError:
            ids = np.zeros(0, np.int64)
        chosen.append(ids.tolist())
    return chosen


if __name__ == "__main__":
    sys.exit(main())
