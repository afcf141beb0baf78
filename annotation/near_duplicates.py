"""Clips of different sources that look alike, for ``metadata.json`` and the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from annotation.clips import Clip, VideoClips
from recognizer.dataset.near_duplicates import find_pairs
from recognizer.storage.artifacts import write_csv

TABLE = "near_duplicates.csv"
_LISTED = 1000
_COLUMNS = ("clip", "clip_2", "distance_bits", "split", "split_2", "source", "source_2")


def near_duplicates(
    videos: Sequence[VideoClips],
    clips: Sequence[Clip],
    places: Mapping[str, tuple[str, str]],
    max_distance: float | None,
) -> dict[str, Any]:
    """Return the ``near_duplicates`` of ``metadata.json``.

    Args:
        videos: with the hashes of their clips.
        clips: all samples.
        places: split and source of each video.
        max_distance: bits of 64; None: nothing is compared.

    """
    hashes = {name: values for video in videos for name, values in video.hashes.items()}
    compared = [clip for clip in clips if len(hashes.get(clip.name, ()))]
    result: dict[str, Any] = {
        "max_distance_bits": max_distance,
        "compared": 0 if max_distance is None else len(compared),
        "without_hash": len(clips) - len(compared),
        "found": 0,
        "between_splits": 0,
        "pairs": [],
    }
    if max_distance is None:
        return result
    sources = [places[clip.video][1] for clip in compared]
    pairs = find_pairs([hashes[clip.name] for clip in compared], sources, max_distance)
    rows = [_row(compared[p.first], compared[p.second], p.distance, places) for p in pairs]
    result["found"] = len(rows)
    result["between_splits"] = sum(row["splits"][0] != row["splits"][1] for row in rows)
    # those in different splits first
    rows.sort(key=lambda row: row["splits"][0] == row["splits"][1])
    result["pairs"] = rows[:_LISTED]
    return result


def _row(
    first: Clip, second: Clip, distance: float, places: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    splits, sources = zip(places[first.video], places[second.video], strict=True)
    return {
        "clips": [first.name, second.name],
        "distance_bits": round(distance, 3),
        "splits": list(splits),
        "sources": list(sources),
    }


def duplicate_warnings(alike: Mapping[str, Any]) -> list[str]:
    """Return warnings about near-duplicates, none without any."""
    if not alike["found"]:
        return []
    (first, second), bits = alike["pairs"][0]["clips"], alike["pairs"][0]["distance_bits"]
    return [
        f"{alike['found']} pairs of clips of different sources look alike, "
        f"{alike['between_splits']} of them in different splits, such as {first} and "
        f"{second} ({bits:g} of 64 bits differ); "
        f"see {TABLE}, and give them one source in dataset.split.sources if they show one scene"
    ]


def describe_comparison(alike: Mapping[str, Any]) -> str:
    """Return the summary's sentence on the comparison."""
    if alike["max_distance_bits"] is None:
        return "Near-duplicates: not looked for (dataset.duplicate_distance is null)."
    unknown = ""
    if alike["without_hash"]:
        unknown = (
            f"; unknown of {alike['without_hash']} clips without hashes (events of live "
            "detection, stage 1 of an older version, or pictures that are all but flat)"
        )
    return (
        f"Near-duplicates: {alike['found']} pairs of different sources among {alike['compared']} "
        f"clips, {alike['between_splits']} of them in different splits (at most "
        f"{alike['max_distance_bits']:g} of 64 bits of difference hashes){unknown}."
    )


def write_table(path: Path, root: Path, alike: Mapping[str, Any]) -> None:
    """Write the pairs as CSV, those in different splits first."""
    rows = (
        [*row["clips"], row["distance_bits"], *row["splits"], *row["sources"]]
        for row in alike["pairs"]
    )
    write_csv(path, root, [_COLUMNS, *rows])
