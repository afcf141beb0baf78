"""Pairs of clips that look alike, compared with the definition spelt out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.dataset import near_duplicates
from recognizer.dataset.near_duplicates import (
    MAX_HASHES,
    find_pairs,
    find_shared,
    hashes_within,
)


def spelt_out(first, second):
    table = [[(int(a) ^ int(b)).bit_count() for b in second] for a in first]
    return max(
        np.mean([min(row) for row in table]),
        np.mean([min(column) for column in zip(*table, strict=True)]),
    )


CLIP = st.lists(st.integers(0, 2**64 - 1), max_size=4)


@given(st.lists(st.tuples(CLIP, st.sampled_from("abc")), max_size=9), st.floats(0, 40))
def test_pairs_are_those_of_the_definition(clips, most):
    hashes = [np.array(own, np.uint64) for own, _ in clips]
    groups = [group for _, group in clips]
    expected = {
        (i, j)
        for j in range(len(clips))
        for i in range(j)
        if groups[i] != groups[j]
        and len(hashes[i])
        and len(hashes[j])
        and spelt_out(hashes[i], hashes[j]) <= most
    }
    for block in (1, 40, 10**6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(near_duplicates, "_BLOCK", block)
            pairs = find_pairs(hashes, groups, most)
        assert {(p.first, p.second) for p in pairs} == expected
        assert [p.distance for p in pairs] == sorted(p.distance for p in pairs)


def better_half(first, second):
    nearest = sorted(min((int(a) ^ int(b)).bit_count() for b in second) for a in first)
    return np.mean(nearest[: (len(nearest) + 1) // 2])


@given(st.lists(CLIP, max_size=6), st.lists(CLIP, max_size=6), st.floats(0, 40))
def test_clips_that_share_a_part_are_those_of_the_definition(ones, others, most):
    found = find_shared(
        [np.array(own, np.uint64) for own in ones],
        [np.array(own, np.uint64) for own in others],
        most,
    )
    expected = {}
    for i, one in enumerate(ones):
        of = [min(better_half(one, o), better_half(o, one)) for o in others if one and o]
        if of and min(of) <= most:
            expected[i] = min(of)
    assert {pair.first: pair.distance for pair in found} == pytest.approx(expected)
    for pair in found:
        one, other = ones[pair.first], others[pair.second]
        assert pair.distance == pytest.approx(min(better_half(one, other), better_half(other, one)))


def test_clips_of_one_source_may_look_alike():
    same = np.array([5, 9], np.uint64)
    assert find_pairs([same, same], ["a", "a"], 8) == []
    (pair,) = find_pairs([same, same[::-1].copy()], ["a", "b"], 0)
    assert (pair.first, pair.second, pair.distance) == (0, 1, 0.0)


def test_a_long_clip_gives_hashes_all_over_it():
    times, values = np.arange(100) / 4, np.arange(100, dtype=np.uint64)
    chosen = hashes_within(times, values, 5.0, 15.0)
    assert len(chosen) == MAX_HASHES
    assert chosen[0] < 25
    assert chosen[-1] > 55
    assert (np.diff(chosen.astype(int)) >= 5).all()
    assert hashes_within(times, values, 5.0, 5.5).tolist() == [20, 21]
    assert hashes_within(times, values, 30.0, 31.0).tolist() == []


def test_a_group_is_expected_for_each_clip():
    with pytest.raises(ValueError, match="one group for each of 2 clips, got 1"):
        find_pairs([np.zeros(1, np.uint64)] * 2, ["a"], 8)
