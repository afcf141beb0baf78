"""Folds for cross-validation, each source in one of them only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.types import IntArray


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """One fold: training and test samples.

    Attributes:
        train: indices, rising.
        test: indices, rising; every sample is in the test part of exactly one fold.

    """

    train: IntArray
    test: IntArray


def source_folds(
    labels: Sequence[int], sources: Sequence[str], folds: int, seed: int
) -> list[Fold]:
    """Assign whole sources to folds, the classes balanced as well as that allows.

    With as many folds as sources each is left out once, in order of name, whatever the
    seed: leave-one-group-out, such as one subject after another.

    Args:
        labels: (N,) class of each sample.
        sources: (N,) recording, or subject, of each sample.
        folds: number of folds, 2 or more.
        seed: of scikit-learn's StratifiedGroupKFold, which decides which sources meet.

    Raises:
        ValueError: no samples, lengths that differ, fewer sources than folds, or a fold
            whose training part lacks a class.

    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

    truth, groups = np.asarray(labels, np.int64), np.asarray(sources, dtype=str)
    if len(truth) == 0 or truth.shape != groups.shape:
        raise ValueError(
            f"folds: expected one label and one source for each of 1 or more samples, got "
            f"{len(truth)} labels and {len(groups)} sources"
        )
    found = len(np.unique(groups))
    if not 2 <= folds <= found:
        raise ValueError(
            f"folds: expected 2 to {found}, the number of sources, got {folds}; samples of one "
            "source in two folds would be a leak"
        )
    # The order of the files on a disk must not decide the folds.
    order = np.lexsort((truth, groups))
    if folds == found:
        splitter = LeaveOneGroupOut()
    else:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = splitter.split(truth[order], truth[order], groups[order])
    result = [Fold(np.sort(order[train]), np.sort(order[test])) for train, test in parts]
    _check(result, truth, groups)
    return result


def _check(folds: Sequence[Fold], labels: IntArray, groups: NDArray[np.str_]) -> None:
    """Raise ValueError for folds that leak, miss a sample, or lack a class."""
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    if not np.array_equal(tested, np.arange(len(labels))):
        raise ValueError("folds: expected every sample in the test part of exactly one fold")
    for number, fold in enumerate(folds):
        shared = sorted(set(groups[fold.train]) & set(groups[fold.test]))
        if shared:
            raise ValueError(f"fold {number}: these sources are on both sides: {shared[:10]}")
        missing = sorted(set(labels.tolist()) - set(labels[fold.train].tolist()))
        if missing:
            raise ValueError(
                f"fold {number}: its training part has no sample of label {missing}; use fewer "
                "folds or add sources of that class"
            )
        if len(fold.test) == 0:
            raise ValueError(f"fold {number}: its test part is empty; use fewer folds")
