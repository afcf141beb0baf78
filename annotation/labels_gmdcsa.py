"""Segments for the GMDCSA24 falls from the tables that come with them.

The data set (Alam et al. 2024, doi 10.5281/zenodo.12921216) has ``Subject_k/Fall/*.mp4``,
``Subject_k/ADL/*.mp4`` and beside them Fall.csv and ADL.csv, whose last column says for
example ``Falling (SW)[3.4 to 6]; Sitting[0 to 3.4]``. To make a table for
``dataset.segments``::

    from annotation.labels_gmdcsa import gmdcsa_segments, write_segments
    rows, refused = gmdcsa_segments(Path("GMDCSA24"))
    write_segments(Path("segments.csv"), rows)
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from recognizer.dataset.labels import SEGMENT_COLUMNS
from recognizer.storage.artifacts import SCRATCH_FOLDER, write_csv
from recognizer.storage.tables import TableRow, read_table

NORMAL, FALLDOWN = "Normal", "Falldown"
SegmentRow = tuple[str, float, float, str]
_FILE, _CLASSES = "File Name", "Classes"
# An activity, its times in brackets and what ends it. A few rows lack the ')' of
# '(BW' or have a stray ':'; both leave no doubt of what is meant.
_ACTIVITY = re.compile(r"\s*([A-Za-z]+)\s*(?:\([A-Z]+\)?)?\s*\[([^\[\]]*)\]\s*:?\s*(?:;|$)\s*")
_INTERVAL = re.compile(r"\s*(\d+(?:\.\d+)?)\s+to\s+(\d+(?:\.\d+)?)\s*")


def gmdcsa_segments(folder: Path) -> tuple[list[SegmentRow], list[str]]:
    """Return (video, start_s, stop_s, class) of the videos that are there, and refusals.

    A fall is Falldown. Every other activity is Normal, but for what a fall overlaps;
    activities that touch or overlap are one segment. Unannotated time has no segment.

    Args:
        folder: holds ``Subject_*``.

    Returns:
        the rows, sorted; and for each ambiguous row of the tables a text with file and
        line: its video gets no segments.

    Raises:
        FileNotFoundError: no table below the folder.
        ConfigError: a table without the expected columns.

    """
    tables = sorted([*folder.glob("Subject_*/Fall.csv"), *folder.glob("Subject_*/ADL.csv")])
    if not tables:
        raise FileNotFoundError(f"expected Subject_*/Fall.csv and ADL.csv below {folder}")
    rows: list[SegmentRow] = []
    refused = []
    for table in tables:
        for row in read_table(table, (_FILE, _CLASSES)):
            video = table.parent / table.stem / row.cells[_FILE]
            if not video.is_file():
                continue
            try:
                segments = _segments(row)
            except ValueError as error:
                refused.append(f"{table.relative_to(folder)}:{row.line}: {error}")
                continue
            rows += [(video.relative_to(folder).as_posix(), *segment) for segment in segments]
    return sorted(rows), refused


def _segments(row: TableRow) -> list[tuple[float, float, str]]:
    activities = parse_activities(row.cells[_CLASSES])
    falls = _merge([i for name, i in activities if name.startswith("Fall")])
    others = _merge([i for name, i in activities if not name.startswith("Fall")])
    normal = _subtract(others, falls)
    return [(*i, FALLDOWN) for i in falls] + [(*i, NORMAL) for i in normal]


def parse_activities(text: str) -> list[tuple[str, tuple[float, float]]]:
    """Return (activity, (start_s, stop_s)) of ``Name[a to b; c to d]; Name (XY)[e to f]``.

    Raises:
        ValueError: an ambiguous text.

    """
    activities = []
    position = 0
    while position < len(text):
        match = _ACTIVITY.match(text, position)
        if match is None:
            raise ValueError(f"expected 'Activity[start to stop]', got {text[position:]!r}")
        position = match.end()
        for part in match[2].split(";"):
            interval = _INTERVAL.fullmatch(part)
            if interval is None:
                raise ValueError(f"expected 'start to stop' in brackets, got {part!r}")
            start, stop = float(interval[1]), float(interval[2])
            if stop <= start:
                raise ValueError(f"expected a stop after the start, got {part!r}")
            activities.append((match[1], (start, stop)))
    if not activities:
        raise ValueError("expected at least one activity, got none")
    return activities


def _merge(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _subtract(
    intervals: Sequence[tuple[float, float]], holes: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    for hole_start, hole_stop in holes:
        cut = []
        for start, stop in intervals:
            parts = ((start, min(stop, hole_start)), (max(start, hole_stop), stop))
            cut += [part for part in parts if part[0] < part[1]]
        intervals = cut
    return list(intervals)


def write_segments(path: Path, rows: Iterable[SegmentRow]) -> None:
    """Write a table for ``dataset.segments``."""
    cells = ((video, f"{a:g}", f"{b:g}", name) for video, a, b, name in rows)
    write_csv(path, path.parent, [SEGMENT_COLUMNS, *cells], byte_order_mark=False)
    with contextlib.suppress(OSError):
        (path.parent / SCRATCH_FOLDER).rmdir()
