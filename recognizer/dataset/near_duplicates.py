"""Clips that look alike: copies under another name, or another cut of the same scene.

A split by source trusts the table of sources. Where two clips of different sources show nearly
the same pictures the table is wrong, or one file came from two places; a classifier that learns
from one and is tested on the other is tested on what it knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.types import IntArray

BITS = 64
MAX_HASHES = 8  # of a clip
MAX_PAIRS = 100_000  # the most alike are kept: of a thousand clips of one wall, half a million
_BLOCK = 8_000_000  # distances at a time, 32 MB
_ROUNDING_S = 1e-6
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips, by place, and the mean number of bits in which their pictures differ."""

    first: int
    second: int
    distance: float


def hashes_within(
    times_s: NDArray[np.float64], hashes: Hashes, start_s: float, stop_s: float
) -> Hashes:
    """Return at most ``MAX_HASHES`` hashes (K,) of a part of a video, evenly spread.

    Args:
        times_s: (H,) rising, seconds.
        hashes: (H,).
        start_s: start of the part.
        stop_s: its end, exclusive.

    """
    edges = np.array([start_s, stop_s]) - _ROUNDING_S
    first, stop = np.searchsorted(times_s, edges)
    count = min(MAX_HASHES, max(int(stop - first), 0))
    rows = first + (np.arange(count) + 0.5) / max(count, 1) * (stop - first)
    chosen: Hashes = hashes[rows.astype(np.int64)]
    return chosen


def find_pairs(hashes: Sequence[Hashes], groups: Sequence[str], max_distance: float) -> list[Pair]:
    """Return the (at most ``MAX_PAIRS``) pairs of clips of different groups that look alike.

    The most alike come first.
    Each picture is compared with the most similar one of the other clip, and the distance of two
    clips is the mean over the pictures of the one that fits the other worse. The time grows
    with the square of the number of clips, the memory does not.

    Args:
        hashes: (K,) uint64 of each clip; a clip without any is in no pair.
        groups: of each clip, such as its source.
        max_distance: mean number of bits, of 64, that may differ.

    Raises:
        ValueError: not one group for each clip.

    """
    if len(hashes) != len(groups):
        raise ValueError(f"expected one group for each of {len(hashes)} clips, got {len(groups)}")
    present = np.array([i for i, clip in enumerate(hashes) if len(clip)], np.int64)
    if len(present) < 2:
        return []
    group = np.unique([groups[i] for i in present], return_inverse=True)[1]
    found = np.zeros((0, 3))
    for rows, columns, distances in _blocks([hashes[i] for i in present], max_distance):
        other = (group[rows][:, None] != group[columns]) & (rows[:, None] < columns)
        a, b = np.nonzero(other & (distances <= max_distance))
        here = np.stack([distances[a, b], present[rows[a]], present[columns[b]]], axis=1)
        found = np.concatenate([found, here])
        found = found[np.lexsort(found.T[::-1])][:MAX_PAIRS]
    return [Pair(int(a), int(b), distance) for distance, a, b in found.tolist()]


def find_shared(
    ones: Sequence[Hashes], others: Sequence[Hashes], max_distance: float
) -> list[Pair]:
    """Return for each of some clips the other one that it shares a part with, where there is one.

    Half of the pictures of one of the two is enough: the distance is the mean over the better half
    of its pictures, each compared with the most similar one of the other clip. The time grows with
    the product of the numbers of clips, the memory with the number of ``others``.

    Args:
        ones: (K,) uint64 of each clip; a clip without any shares nothing.
        others: the same.
        max_distance: mean number of bits, of 64, that may differ.

    Returns:
        At most one pair for each of ``ones``: its place, that of the other, the distance.

    """
    present = [i for i, clip in enumerate(others) if len(clip)]
    if not present:
        return []
    signs = _signs(np.concatenate([others[i] for i in present]))
    counts = np.array([len(others[i]) for i in present])
    found = []
    for place, clip in enumerate(ones):
        if not len(clip):
            continue
        distances = (BITS - _signs(clip) @ signs.T) / 2
        starts = np.cumsum(counts) - counts
        mine = np.sort(np.minimum.reduceat(distances, starts, axis=1), axis=0)
        halves = np.minimum(
            mine[: (len(clip) + 1) // 2].mean(axis=0), _better_half(distances.min(axis=0), counts)
        )
        best = int(halves.argmin())
        if halves[best] <= max_distance:
            found.append(Pair(place, present[best], float(halves[best])))
    return found


def _better_half(distances: NDArray[np.float32], counts: IntArray) -> NDArray[np.float64]:
    """Return the means (B,) of the lower half of each clip's distances (C,)."""
    clip_of = np.repeat(np.arange(len(counts)), counts)
    table = np.full((len(counts), counts.max()), np.inf)
    table[clip_of, np.arange(len(clip_of)) - (np.cumsum(counts) - counts)[clip_of]] = distances
    half = (counts + 1) // 2
    sums: NDArray[np.float64] = np.cumsum(np.sort(table, axis=1), axis=1)
    return np.asarray(sums[np.arange(len(counts)), half - 1] / half, np.float64)


def _blocks(
    hashes: Sequence[Hashes], max_distance: float
) -> Iterator[tuple[IntArray, IntArray, NDArray[np.float64]]]:
    """Yield clips (A,), clips from the first of them on (B,) and their distances (A, B).

    A clip is left out of the second where none of its pictures is within ``max_distance`` of any
    of the first: no mean is then.
    """
    counts = np.array([len(clip) for clip in hashes])
    starts = np.concatenate([[0], np.cumsum(counts)])
    clip_of = np.repeat(np.arange(len(hashes)), counts)
    signs = _signs(np.concatenate(hashes))
    step = max(1, int(_BLOCK / (starts[-1] * counts.mean())))
    for low in range(0, len(hashes), step):
        rows = np.arange(low, min(low + step, len(hashes)))
        mine, others = signs[starts[low] : starts[rows[-1] + 1]], signs[starts[low] :]
        agreement = mine @ others.T
        near = (agreement >= BITS - 2 * max_distance).any(axis=0)
        columns = np.unique(clip_of[starts[low] :][near])
        kept = np.isin(clip_of[starts[low] :], columns)
        distances = (BITS - agreement[:, kept]) / 2
        yield rows, columns, _worse_mean(distances, counts[rows], counts[columns])


def _worse_mean(
    distances: NDArray[np.float32], of_rows: IntArray, of_columns: IntArray
) -> NDArray[np.float64]:
    """Return the distances (A, B) of clips that have so many rows and columns of a table."""
    rows, columns = (np.concatenate([[0], np.cumsum(n)[:-1]]) for n in (of_rows, of_columns))
    across = np.add.reduceat(np.minimum.reduceat(distances, columns, axis=1), rows, axis=0)
    down = np.add.reduceat(np.minimum.reduceat(distances, rows, axis=0), columns, axis=1)
    worse: NDArray[np.float64] = np.maximum(
        across / of_rows[:, None].astype(np.float64), down / of_columns.astype(np.float64)
    )
    return worse


def _signs(hashes: Hashes) -> NDArray[np.float32]:
    """Return the bits (N, 64) as -1 and 1: their product counts what is equal less what is not."""
    octets = hashes.astype(">u8").view(np.uint8).reshape(-1, 8)
    signs: NDArray[np.float32] = np.unpackbits(octets, axis=1).astype(np.float32) * 2 - 1
    return signs
