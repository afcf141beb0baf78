"""Count the videos in which a person lies, by folders that tell what their videos show.

    python -m benchmarks.lying                              # samples/falls_stage1
    python -m benchmarks.lying --tracked <stage-2 folder>

No zones are drawn. ``benchmarks/falls_events.py`` leaves a stage-2 folder of all its footage: falls
and daily life (``falls``, ``multiview``), harmless scenes in beds and falls out of them
(``bed_falls/non_fall``, ``bed_falls/fall``), the street, and clips of fights and of none.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from benchmarks._command import CONFIG, ROOT, Parser, one_line_errors, seconds
from benchmarks._tracks import tracked_samples, tracked_videos
from recognizer.config.file import load_config
from recognizer.dataset.windows import span_of
from recognizer.runs.manifest import result_path
from recognizer.scoring.lying import NOWHERE, find_lying, posture_rows
from recognizer.storage.artifacts import read_poses


def kind_of(video: str) -> str:
    """Return the folder that tells what a video shows, without names of people and videos."""
    parts = PurePosixPath(video).parts[:-1]
    return "/".join(part for part in parts if not part.startswith("Subject_")) or "."


def longest_lie_s(folder: Path, video: str, rules: Mapping[str, float]) -> tuple[float, float]:
    """Return the seconds of the longest lie of a video, 0 without one, and of the video."""
    sequence, _, _ = read_poses(result_path(folder, video, ".npz"))
    rows = posture_rows(sequence)
    lies = find_lying(rows, np.full(len(rows), NOWHERE), **rules)
    start, stop = span_of(sequence)
    return max((lie.stop_s - lie.start_s for lie in lies), default=0.0), stop - start


@one_line_errors
def main() -> int:
    """Print a line for each kind of footage."""
    parser = Parser(description=__doc__)
    parser.add_argument("--tracked", type=Path, help="a stage-2 folder")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "benchmark_lying")
    parser.add_argument("--long-lie-s", type=seconds, default=1.0, help="the clips are short")
    args = parser.parse_args()
    gap_s = load_config(args.config).inference.falldown.lying_gap_s
    folder = args.tracked or tracked_samples("falls_stage1", args.config, args.out)
    rules = {"long_lie_s": args.long_lie_s, "gap_s": gap_s}
    found = defaultdict(list)
    for video in tracked_videos(folder):
        found[kind_of(video)].append((*longest_lie_s(folder, video, rules), video))
    sys.stdout.write(f"{'footage':22}{'videos':>8}{'minutes':>9}{'with a lie':>12}  longest\n")
    for kind, rows in sorted(found.items()):
        lies = sorted(((lie, video) for lie, _, video in rows if lie), reverse=True)
        minutes = sum(length for _, length, _ in rows) / 60
        longest = f"{lies[0][0]:.1f} s, {lies[0][1]}" if lies else ""
        sys.stdout.write(f"{kind:22}{len(rows):8}{minutes:9.1f}{len(lies):12}  {longest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
