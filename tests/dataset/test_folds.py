"""Folds by source: nothing leaks, classes are balanced, the seed decides."""

import csv
from pathlib import Path

import numpy as np
import pytest

from recognizer.dataset.folds import source_folds

TABLE = Path(__file__).resolve().parents[3] / "shared" / "assets" / "fight_surv" / "sources.csv"


def made(sources=20, seed=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, sources)
    names = np.repeat([f"s{i:02d}" for i in range(sources)], sizes)
    return random.integers(0, 2, len(names)), names


def sides(folds, names):
    return [(set(names[fold.train]), set(names[fold.test])) for fold in folds]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 5, 10])
def test_every_source_is_tested_once_and_never_learnt_from_then(count, seed):
    labels, names = made(seed=seed)
    folds = source_folds(labels, names, count, seed)
    assert len(folds) == count
    for learnt, tested in sides(folds, names):
        assert tested
        assert not learnt & tested
        assert learnt | tested == set(names)
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(len(labels)))


def test_the_seed_decides_and_the_order_of_samples_does_not():
    labels, names = made()
    first = sides(source_folds(labels, names, 5, 0), names)
    assert first == sides(source_folds(labels, names, 5, 0), names)
    assert first != sides(source_folds(labels, names, 5, 1), names)
    mixed = np.random.default_rng(9).permutation(len(labels))
    assert first == sides(source_folds(labels[mixed], names[mixed], 5, 0), names[mixed])


def test_as_many_folds_as_sources_leaves_out_one_after_another():
    labels, names = made(6)
    folds = source_folds(labels, names, 6, 0)
    assert [tested for _, tested in sides(folds, names)] == [{f"s{i:02d}"} for i in range(6)]


def test_the_classes_of_the_real_footage_are_in_every_fold():
    if not TABLE.is_file():
        pytest.skip(f"{TABLE} is not there")
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([int(row["video"].startswith("Fight/")) for row in rows])
    names = np.array([row["source"] for row in rows])
    for seed in range(3):
        for fold in source_folds(labels, names, 5, seed):
            assert 25 <= len(fold.test) <= 65
            assert 0.2 < labels[fold.test].mean() < 0.8


def test_folds_that_cannot_be_are_refused():
    labels, names = made(4)
    with pytest.raises(ValueError, match="expected 2 to 4, the number of sources, got 5"):
        source_folds(labels, names, 5, 0)
    with pytest.raises(ValueError, match="got 1;"):
        source_folds(labels, names, 1, 0)
    with pytest.raises(ValueError, match="1 or more samples"):
        source_folds([], [], 2, 0)
    with pytest.raises(ValueError, match=r"no sample of label \[1\]"):
        source_folds([0, 0, 1, 1], ["a", "b", "c", "c"], 3, 0)
