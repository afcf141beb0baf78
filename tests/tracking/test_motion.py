"""The closed form must be the 8x8 filter of the original, and time must add up."""

import numpy as np
import pytest

from recognizer.tracking import motion
from tests.tracking.original import Filter

BOXES = np.array(
    [[10, 20, 50, 130], [300, 40, 340, 44], [-20, -50, 600, 900], [5.5, 1.25, 6.5, 80]], float
).T


def _as_matrices(state):
    """Return means (n, 8) and covariances (n, 8, 8)."""
    means = np.concatenate([state[motion.VALUE], state[motion.SPEED]]).T
    n = state.shape[-1]
    covariances = np.zeros((n, 8, 8))
    i = np.arange(4)
    covariances[:, i, i] = state[motion.VALUE_VARIANCE].T
    covariances[:, i + 4, i + 4] = state[motion.SPEED_VARIANCE].T
    covariances[:, i, i + 4] = covariances[:, i + 4, i] = state[motion.COVARIANCE].T
    return means, covariances


def test_is_the_full_filter():
    rng = np.random.default_rng(0)
    measured = motion.measure(BOXES)
    state = motion.start(measured)
    filters = [Filter(z) for z in measured.T]
    for step in range(30):
        motion.predict(state, 1.0)
        for f in filters:
            f.predict()
        if step % 3:
            seen = measured + rng.normal(0, 0.01, measured.shape) * measured[motion.HEIGHT]
            state = motion.correct(state, seen)
            for f, z in zip(filters, seen.T, strict=True):
                f.correct(z)
        means, covariances = _as_matrices(state)
        np.testing.assert_allclose(means, [f.mean for f in filters], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(covariances, [f.cov for f in filters], rtol=1e-9, atol=1e-12)


def test_corners_and_measure_are_inverse():
    state = motion.start(motion.measure(BOXES))
    np.testing.assert_allclose(motion.corners_of(state), BOXES, atol=1e-9)


@pytest.mark.parametrize("elapsed", [0.5, 3.0, 10.0])
def test_moves_in_proportion_to_time(elapsed):
    state = motion.start(motion.measure(BOXES))
    state[motion.SPEED] = 2.0
    before = state.copy()
    motion.predict(state, elapsed)
    np.testing.assert_allclose(state[motion.VALUE], before[motion.VALUE] + 2 * elapsed)
    np.testing.assert_array_equal(state[motion.SPEED], before[motion.SPEED])
    assert (state[motion.VALUE_VARIANCE] > before[motion.VALUE_VARIANCE]).all()


def test_half_steps_are_nearly_one_step():
    one, two = motion.start(motion.measure(BOXES)), motion.start(motion.measure(BOXES))
    motion.predict(one, 1.0)
    motion.predict(two, 0.5)
    motion.predict(two, 0.5)
    np.testing.assert_allclose(two[motion.VALUE], one[motion.VALUE])
    np.testing.assert_allclose(two[motion.VALUE_VARIANCE], one[motion.VALUE_VARIANCE], rtol=0.01)


def test_nobody():
    state = motion.no_motion()
    motion.predict(state, 1.0)
    assert motion.correct(state, np.zeros((4, 0))).shape == (5, 4, 0)
    assert motion.corners_of(state).shape == (4, 0)
