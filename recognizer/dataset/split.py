"""Split of samples into train, val and test, each source in one of them only.

Frames of one recording look alike: a network trained on one half recognises the other. So
whole sources are assigned, the classes balanced as well as they allow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from recognizer.types import Float64Array, IntArray

SPLITS = ("train", "val", "test")
_FOLDER_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
# Cost of a class that is missing in a split: more than any deviation of the sizes.
_MISSING_CLASS = 10.0
# Exchanging every pair costs the square of the number of sources; with many sources moving
# single ones is already exact enough.
_MAX_SOURCES_TO_SWAP = 200


@dataclass(frozen=True, slots=True)
class SplitSample:
    """A sample to assign to a split: its recording and its class."""

    name: str
    video: str
    source: str
    label: int


def folder_split(video: str) -> str | None:
    """Return the split that a folder of the path names, None if none or several do."""
    parts = [part.casefold() for part in video.split("/")[:-1]]
    found = {_FOLDER_NAMES[part] for part in parts if part in _FOLDER_NAMES}
    return found.pop() if len(found) == 1 else None


def split_by_source(
    samples: Iterable[SplitSample], num_classes: int, ratios: Sequence[float], seed: int
) -> dict[str, str]:
    """Assign the sources to train, val and test; return the split of every source.

    The largest sources come first, each to the split where the class counts get closest to the
    expected ones (least squares); then single sources are moved and pairs exchanged as long as
    that helps. Every class is in every split where enough sources have it. The
    result depends on the seed and on the set of samples, not on their order.

    Args:
        samples: all samples.
        num_classes: number of classes.
        ratios: shares of train, val and test, summing to 1; a split of share 0
            stays empty.
        seed: decides between sources of equal size.

    Raises:
        ValueError: fewer sources than splits to fill.

    """
    sources, counts = _count(samples, num_classes)
    split_count = int(np.count_nonzero(ratios))
    if len(sources) < split_count:
        raise ValueError(
            f"split: expected at least {split_count} sources, one for each of train, val and "
            f"test, got {len(sources)} ({', '.join(sources) or 'none'}); a source on two sides "
            "would be a leak: add recordings or set dataset.split.ratios of a split to 0"
        )
    shuffled = np.random.default_rng(seed).permutation(len(sources))
    order = shuffled[np.argsort(-counts[shuffled].sum(1), kind="stable")]
    deal = _Deal(counts, np.asarray(ratios, np.float64))
    for group in order:
        deal.add(int(group))
    deal.improve(order)
    return {source: SPLITS[deal.split_of[g]] for g, source in enumerate(sources)}


def _count(samples: Iterable[SplitSample], num_classes: int) -> tuple[list[str], Float64Array]:
    table: dict[str, Float64Array] = {}
    for sample in samples:
        row = table.setdefault(sample.source, np.zeros(num_classes))
        row[sample.label] += 1
    sources = sorted(table)
    return sources, np.array([table[s] for s in sources]).reshape(len(sources), num_classes)


class _Deal:
    """Assignment of groups to splits, and its cost."""

    def __init__(self, counts: Float64Array, ratios: Float64Array) -> None:
        self.counts = counts
        self.split_of = np.full(len(counts), -1)
        totals = np.maximum(counts.sum(0), 1)
        self._share = 1 / totals  # so that a rare class weighs as much as a frequent one
        self._expected = ratios[:, None] * counts.sum(0)
        self._open = ratios > 0
        self._have = np.zeros_like(self._expected)

    def cost(self, have: Float64Array) -> Float64Array:
        """Return the cost (...) of class counts (..., splits, classes)."""
        deviation = np.square((have - self._expected) * self._share).sum((-1, -2))
        missing = ((have == 0) & (self._expected > 0)).sum((-1, -2))
        empty = ((have.sum(-1) == 0) & self._open).sum(-1)
        cost: Float64Array = deviation + _MISSING_CLASS * (missing + 10 * empty)
        return cost

    def add(self, group: int) -> None:
        """Put a group where it costs least, missing classes not counted yet."""
        after = np.square((self._options(group) - self._expected) * self._share).sum((-1, -2))
        self._place(group, int(np.argmin(np.where(self._open, after, np.inf))))

    def _options(self, group: int) -> Float64Array:
        steps = np.eye(len(self._have))[:, :, None] * self.counts[group]
        options: Float64Array = self._have + steps
        return options

    def _place(self, group: int, split: int) -> None:
        if self.split_of[group] >= 0:
            self._have[self.split_of[group]] -= self.counts[group]
        self._have[split] += self.counts[group]
        self.split_of[group] = split

    def improve(self, order: IntArray) -> None:
        """Move single groups and exchange pairs until neither lowers the cost."""
        while self._move_one(order) or self._swap_one(order):
            pass

    def _move_one(self, order: IntArray) -> bool:
        best, choice = self._current_cost() - 1e-9, None
        for group in order:
            split = self.split_of[group]
            taken = self._have.copy()
            taken[split] -= self.counts[group]
            options = taken + np.eye(len(taken))[:, :, None] * self.counts[group]
            costs = np.where(self._open, self.cost(options), np.inf)
            if costs.min() < best:
                best, choice = float(costs.min()), (int(group), int(np.argmin(costs)))
        if choice is None:
            return False
        self._place(*choice)
        return True

    def _swap_one(self, order: IntArray) -> bool:
        if len(order) > _MAX_SOURCES_TO_SWAP:
            return False
        best, choice = self._current_cost() - 1e-9, None
        for a, b in combinations(order, 2):
            if self.split_of[a] == self.split_of[b]:
                continue
            have = self._have.copy()
            change = self.counts[b] - self.counts[a]
            have[self.split_of[a]] += change
            have[self.split_of[b]] -= change
            if (cost := float(self.cost(have))) < best:
                best, choice = cost, (int(a), int(b))
        if choice is None:
            return False
        a, b = choice
        split_a, split_b = int(self.split_of[a]), int(self.split_of[b])
        self._place(a, split_b)
        self._place(b, split_a)
        return True

    def _current_cost(self) -> float:
        return float(self.cost(self._have))


def check_no_leak(samples: Iterable[tuple[SplitSample, str]]) -> str:
    """Return a table that shows that no source, video or name is in two splits.

    Args:
        samples: every sample with its split.

    Raises:
        ValueError: something is in two splits; the message names it.

    """
    found: dict[str, dict[str, set[str]]] = {
        kind: {split: set() for split in SPLITS} for kind in ("source", "video", "sample")
    }
    for sample, split in samples:
        for kind, value in zip(found, (sample.source, sample.video, sample.name), strict=True):
            found[kind][split].add(value)
    lines = [f"{'in both':<16}" + "".join(f"{kind + 's':>10}" for kind in found)]
    for a, b in combinations(SPLITS, 2):
        shared = {kind: sorted(sets[a] & sets[b]) for kind, sets in found.items()}
        for kind, names in shared.items():
            if names:
                raise ValueError(_leak(kind, names, a, b))
        lines.append(f"{a + ' and ' + b:<16}" + "".join(f"{len(n):>10}" for n in shared.values()))
    for split in SPLITS:
        lines.append(f"{split:<16}" + "".join(f"{len(sets[split]):>10}" for sets in found.values()))
    return "\n".join(lines)


def _leak(kind: str, names: Sequence[str], a: str, b: str) -> str:
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return (
        f"split: expected every {kind} in one split only, found {len(names)} in both {a} and {b}: "
        f"{shown}; use dataset.split.by: source, which keeps sources together"
    )


def class_weights(counts: Mapping[int, int]) -> dict[int, float]:
    """Return weights by inverse frequency whose mean over the present classes is 1.

    A class without samples has weight 0.
    """
    inverse = {label: 1 / n if n else 0.0 for label, n in counts.items()}
    present = [w for w in inverse.values() if w]
    mean = sum(present) / len(present) if present else 1.0
    return {label: w / mean for label, w in inverse.items()}
