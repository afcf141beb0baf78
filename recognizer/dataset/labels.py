"""Labels of a video: from its folder's name, or from a table of segments.

A table has the columns video, start_s, stop_s, class. ``video`` is the path inside the
input folder; times are seconds on the video's own clock, half-open.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.names import nfc
from recognizer.storage.tables import (
    Names,
    RowError,
    TableRow,
    did_you_mean,
    known_as,
    parse_rows,
    read_table,
)

SEGMENT_COLUMNS = ("video", "start_s", "stop_s", "class")
# Segments are written by hand: a second's rounding at a video's end is accepted.
END_TOLERANCE_S = 1.0
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# A window belongs to a class that fills at least this part of it.
_MIN_COVER = 0.5
_ROUNDING_S = 1e-6
_MAX_PROBLEMS = 20


class LabelError(ValueError):
    """A video or segment without a usable label; recorded, and the run goes on."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a video and its class: seconds, half-open."""

    start_s: float
    stop_s: float
    class_name: str
    line: int = 0


def label_from_folders(video: str, classes: Collection[str]) -> str:
    """Return the class that a folder of the video's path names.

    Raises:
        LabelError: no folder, or folders of several classes.

    """
    folders = video.split("/")[:-1]
    known = {nfc(name): name for name in classes}
    found = sorted({known[nfc(folder)] for folder in folders if nfc(folder) in known})
    if len(found) == 1:
        return found[0]
    if found:
        raise LabelError(f"expected one class among its folders, found {' and '.join(found)}")
    seen = ", ".join(folders) or "none"
    hint = next((h for f in reversed(folders) if (h := _similar(f, classes))), "")
    raise LabelError(
        f"no folder of its path is a class ({', '.join(sorted(classes))}); its folders: {seen}"
        f"{f'{hint} Otherwise' if hint else ';'} name it in dataset.classes, or give a table in "
        "dataset.segments"
    )


def _similar(folder: str, classes: Collection[str]) -> str:
    """Return '; did you mean ...?' with the class that a folder's name is a slip of, or nothing.

    'Fight' is no slip of 'NonFight': classes that only a syllable before tells apart are left out.
    """
    ends = {name for name in classes if folder.casefold().endswith(name.casefold())}
    starts = {name for name in classes if name.casefold().endswith(folder.casefold())}
    same = {name for name in classes if name.casefold() == folder.casefold()}
    return did_you_mean(folder, set(classes) - (ends | starts) | same)


def read_segments(
    path: Path,
    classes: Collection[str],
    videos: Collection[str],
    *,
    partial: bool = False,
    not_ours: Collection[str] = (),
) -> dict[str, tuple[Segment, ...]]:
    """Read a table of segments, sorted by time for each video.

    Args:
        path: the CSV file.
        classes: known class names.
        videos: known videos, among which names are looked up.
        partial: the table has rows of other videos, too; they are left out.
        not_ours: further classes that the table may have; their rows are left out.

    Raises:
        ConfigError: the table or any row cannot be used; with file and line.

    """
    names = Names(videos)
    rows = read_table(path, SEGMENT_COLUMNS)
    if partial:
        rows = [row for row in rows if names.means(row.cells["video"])]
    rows = [row for row in rows if known_as(row.cells["class"], not_ours) is None]
    parsed = parse_rows(path, rows, lambda row: _parse_segment(row, names, classes))
    table: dict[str, list[Segment]] = {}
    for video, segment in parsed:
        table.setdefault(video, []).append(segment)
    problems = [p for video, segments in table.items() for p in _conflicts(path, video, segments)]
    if problems:
        raise ConfigError("\n".join(problems[:_MAX_PROBLEMS]))
    return {v: tuple(sorted(s, key=lambda x: (x.start_s, x.stop_s))) for v, s in table.items()}


def _parse_segment(row: TableRow, names: Names, classes: Collection[str]) -> tuple[str, Segment]:
    video = names.find(row.cells["video"])
    start, stop = (_seconds(row, column) for column in ("start_s", "stop_s"))
    class_name = known_as(row.cells["class"], classes)
    if class_name is None:
        unknown = row.cells["class"]
        raise RowError(
            f"unknown class {unknown!r}, expected one of {', '.join(sorted(classes))}"
            f"{did_you_mean(unknown, classes)}"
        )
    if stop <= start:
        raise RowError(f"expected stop_s after start_s, got {start:g} to {stop:g}")
    return video, Segment(start, stop, class_name, row.line)


def _seconds(row: TableRow, column: str) -> float:
    text = row.cells[column]
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise RowError(f"{column}: expected seconds >= 0 such as 3.4, got {text!r}")
    return value


def _conflicts(path: Path, video: str, segments: Sequence[Segment]) -> list[str]:
    """Return one text for every row that repeats or contradicts an earlier one."""
    problems = []
    first_line: dict[tuple[float, float, str], int] = {}
    for s in segments:
        line = first_line.setdefault((s.start_s, s.stop_s, s.class_name), s.line)
        if line != s.line:
            problems.append(f"{path}:{s.line}: {video}: the same row as on line {line}")
    ordered = sorted(segments, key=lambda s: (s.start_s, s.stop_s, s.line))
    reach: dict[str, Segment] = {}  # of each class, the segment that reaches furthest so far
    for s in ordered:
        for other in reach.values():
            if other.class_name != s.class_name and other.stop_s > s.start_s + _ROUNDING_S:
                problems.append(
                    f"{path}:{s.line}: {video}: {s.class_name} {s.start_s:g}-{s.stop_s:g} overlaps "
                    f"{other.class_name} {other.start_s:g}-{other.stop_s:g} of line {other.line}"
                )
        if s.class_name not in reach or s.stop_s > reach[s.class_name].stop_s:
            reach[s.class_name] = s
    return problems


def clip_segment(segment: Segment, begin_s: float, end_s: float) -> Segment:
    """Return the part of a segment that lies inside the video ``[begin_s, end_s)``.

    Raises:
        LabelError: it reaches beyond the end by more than the tolerance, or nothing of it
            is inside.

    """
    if segment.stop_s > end_s + END_TOLERANCE_S:
        raise LabelError(
            f"segment {segment.start_s:g}-{segment.stop_s:g} s (line {segment.line}) reaches "
            f"beyond the video's end at {end_s:.2f} s"
        )
    start, stop = max(segment.start_s, begin_s), min(segment.stop_s, end_s)
    if stop <= start:
        raise LabelError(
            f"segment {segment.start_s:g}-{segment.stop_s:g} s (line {segment.line}) is outside "
            f"the video, which lasts from {begin_s:.2f} to {end_s:.2f} s"
        )
    return Segment(start, stop, segment.class_name, segment.line)


def label_of_window(segments: Sequence[Segment], start_s: float, stop_s: float) -> str | None:
    """Return the class that covers at least half of the window, None if none or two do."""
    cover: Mapping[str, float] = {
        name: _covered([s for s in segments if s.class_name == name], start_s, stop_s)
        for name in sorted({s.class_name for s in segments})
    }
    needed = _MIN_COVER * (stop_s - start_s) - _ROUNDING_S
    found = [name for name, seconds in cover.items() if seconds >= needed]
    return found[0] if len(found) == 1 else None


def _covered(segments: Sequence[Segment], start_s: float, stop_s: float) -> float:
    """Return how many seconds of the window the segments cover, overlaps counted once."""
    total, reached = 0.0, start_s
    for segment in sorted(segments, key=lambda s: s.start_s):
        begin, end = max(segment.start_s, reached), min(segment.stop_s, stop_s)
        total += max(end - begin, 0.0)
        reached = max(reached, end)
    return total
