"""The recording that each video was cut from, so that the split keeps recordings together."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.config.schema import SplitConfig
from recognizer.names import nfc
from recognizer.storage.tables import Names, RowError, TableRow, parse_rows, read_table


def find_sources(
    split: SplitConfig, videos: Collection[str], class_of: Mapping[str, str]
) -> dict[str, str]:
    """Return the source of every video, by ``dataset.split``.

    Args:
        split: names a table or a regular expression; with neither, every video is its own source.
        videos: the videos to split.
        class_of: the class of each video that has a single one; a table with another is
            refused.

    Raises:
        ConfigError: a video without a source, or a table that cannot be used.

    """
    if split.sources is not None:
        table = read_sources(split.sources, class_of)
        by_name = Names(table)
        return {video: table[_look_up(by_name, video, split.sources, videos)] for video in videos}
    if split.source_regex is not None:
        return _by_regex(split.source_regex, videos)
    return {video: video for video in videos}


def known_sources(split: SplitConfig, videos: Collection[str]) -> dict[str, str]:
    """Return the source of every video of other footage, by ``dataset.split`` where it covers it.

    A video that neither the table nor the regular expression covers is its own source.

    Raises:
        ConfigError: a table that cannot be used.

    """
    if split.sources is not None:
        table = read_sources(split.sources, {})
        names = Names(table)
        return {v: table[names.find(v)] if names.knows(v) else v for v in videos}
    if split.source_regex is not None:
        return {v: _source_in(split.source_regex, v) or v for v in videos}
    return {v: v for v in videos}


def read_sources(path: Path, class_of: Mapping[str, str]) -> dict[str, str]:
    """Read a table with the columns video and source, and class if it is there.

    Raises:
        ConfigError: not such a table, a video with two sources, or another class than its
            folder's; with file and line.

    """
    rows = read_table(path, ("video", "source"), ("class",))
    first: dict[str, TableRow] = {}
    classes = {nfc(video): name for video, name in class_of.items()}

    def parse(row: TableRow) -> tuple[str, str]:
        video, source = row.cells["video"], nfc(row.cells["source"])
        if not video or not source:
            raise RowError("expected a video and a source, got an empty cell")
        earlier = first.setdefault(nfc(video), row)
        if nfc(earlier.cells["source"]) != source:
            raise RowError(
                f"{video}: source {source!r}, but {earlier.cells['source']!r} on line "
                f"{earlier.line}"
            )
        label, known = row.cells.get("class", ""), classes.get(nfc(video), "")
        if label and known and nfc(label) != nfc(known):
            raise RowError(f"{video}: class {label!r}, but its folder says {known!r}")
        return earlier.cells["video"], source

    return dict(parse_rows(path, rows, parse))


def _look_up(names: Names, video: str, path: Path, videos: Collection[str]) -> str:
    try:
        return names.find(video)
    except RowError:
        missing = [v for v in sorted(videos) if not names.knows(v)]
        similar = ((v, names.similar(v)) for v in missing)
        meant = next(((v, row) for v, row in similar if row is not None), None)
        hint = "add them with the recording they were cut from"
        if meant is not None:
            hint = f"of its row {meant[1]!r}: did you mean {meant[0]!r}?"
        raise ConfigError(
            f"{path}: expected a row for every video, {len(missing)} are missing: "
            f"{_some(missing)}; {hint}"
        ) from None


def _by_regex(pattern: str, videos: Collection[str]) -> dict[str, str]:
    sources = {video: _source_in(pattern, video) for video in videos}
    missing = sorted(video for video, source in sources.items() if not source)
    if missing:
        raise ConfigError(
            f"dataset.split.source_regex: expected {pattern!r} to find a source in every path, "
            f"found none in {len(missing)}: {_some(missing)}"
        )
    return sources


def _source_in(pattern: str, video: str) -> str:
    match = re.search(nfc(pattern), nfc(video))
    return (match.group(1) or "") if match else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
