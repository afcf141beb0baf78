import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recognizer import geometry
from recognizer.tracking import matching
from tests.people import BODY
from tests.tracking import original


def _boxes(rng, count):
    corner = rng.uniform(0, 100, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 60, (count, 2))], axis=1)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0), (1, 1), (20, 30)])
def test_overlaps_is_box_iou(n, m):
    rng = np.random.default_rng(1)
    a, b = _boxes(rng, n), _boxes(rng, m)
    got = matching.overlaps(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T))
    np.testing.assert_allclose(got, geometry.box_iou(a, b), atol=1e-12)


def test_enlarged():
    got = matching.buffered(np.array([[10.0, 20, 30, 120]]).T, 0.5)
    np.testing.assert_allclose(got[:, 0], [-40, -30, 80, 170])


gains = st.tuples(st.integers(0, 7), st.integers(0, 7)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(0, 1, width=32))
)


def _total(gain, least, pairs):
    return sum(gain[i, j] - least for i, j in pairs)


@given(gains, st.sampled_from([0.2, 0.3, 0.5]))
def test_assign_is_the_extended_problem(gain, least):
    rows, columns = matching.assign(gain, least)
    expected, _, _ = original.assign(1 - gain, 1 - least)
    assert len(set(rows)) == len(rows) == len(columns) == len(set(columns))
    assert (gain[rows, columns] > least).all()
    ours = _total(gain, least, zip(rows, columns, strict=True))
    assert ours == pytest.approx(_total(gain, least, expected), abs=1e-9)


@given(gains)
def test_assign_beats_every_other_pairing(gain):
    gain = gain[:4, :4]
    ours = _total(gain, 0.3, zip(*matching.assign(gain, 0.3), strict=True))
    n, m = gain.shape
    for size in range(min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.permutations(range(m), size):
                assert ours >= _total(gain, 0.3, zip(rows, columns, strict=True)) - 1e-9


def test_assign_prefers_two_pairs_to_the_best_one():
    rows, columns = matching.assign(np.array([[0.9, 0.8], [0.8, 0.0]]), 0.2)
    assert sorted(zip(rows, columns, strict=True)) == [(0, 1), (1, 0)]


def _looks(offset=0.0, seen=1.0):
    body = np.concatenate([BODY * 100 + 50 + offset, np.full((17, 1), seen)], axis=1)
    return body[None].astype(np.float32)


def test_keypoint_likeness_is_oks():
    areas, none = np.array([4000.0]), np.array([0.0])
    got, meaningful = matching.keypoint_similarity(_looks(), _looks(3.0), areas, none)
    expected = geometry.oks(
        _looks()[..., :2], _looks(3.0)[..., :2], np.ones((1, 1, 17), bool), areas[None]
    )
    assert meaningful.all()
    np.testing.assert_allclose(got, expected[0], rtol=1e-4)


def test_keypoint_likeness_counts_only_what_both_see():
    a, b = _looks(), _looks()
    b[0, 3:, :2] += 500  # far off, but not seen
    b[0, 3:, 2] = 0
    got, meaningful = matching.keypoint_similarity(a, b, np.array([4000.0]), np.array([0.0]))
    assert meaningful.all()
    np.testing.assert_allclose(got, 1.0)


def test_keypoint_likeness_without_common_keypoints_means_nothing():
    got, meaningful = matching.keypoint_similarity(
        _looks(), _looks(seen=0.0), np.array([4000.0]), np.array([0.0])
    )
    assert got.tolist() == [0.0]
    assert not meaningful.any()


def test_blur_forgives_distance():
    areas = np.array([4000.0])
    sharp, _ = matching.keypoint_similarity(_looks(), _looks(20), areas, np.array([0.0]))
    soft, _ = matching.keypoint_similarity(_looks(), _looks(20), areas, np.array([30.0]))
    assert sharp[0] < 0.2 < 0.6 < soft[0]
