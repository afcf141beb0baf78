"""Test-time views: what they change, and what the networks make of them."""

from dataclasses import replace

import numpy as np
import pytest

from recognizer.action.features import FeatureSettings, network_input
from recognizer.action.views import VIEWS, at_speed, mirrored, views_of
from recognizer.skeleton import FLIP_INDEX
from tests.action.waving import sample

BODY = FeatureSettings(
    clip_len=20, num_person=2, normalize="body", feats=("v", "s"), sampling="even", span_s=2.0
)


def test_mirrored_twice_is_the_same():
    one = sample()
    twice = mirrored(mirrored(one).sample).sample
    for name in ("keypoints", "keypoint_scores", "boxes", "movement"):
        np.testing.assert_allclose(getattr(twice, name), getattr(one, name), atol=1e-4)


def test_left_becomes_right_and_a_missing_point_stays_missing():
    one, view = sample(), mirrored(sample())
    other = view.sample
    assert view.part == 1
    np.testing.assert_allclose(other.keypoints[1, 0, 9, 0], 320 - one.keypoints[1, 0, 10, 0])
    lost = FLIP_INDEX[3]
    assert not other.keypoints[0, 5, lost].any()
    assert other.keypoint_scores[0, 5, lost] == 0
    np.testing.assert_allclose(other.boxes[0, 0], [210, 20, 310, 220])
    assert np.isnan(other.boxes[1, 7]).all()


@pytest.mark.parametrize(("factor", "frames"), [(0.8, 50), (1.25, 32)])
def test_speed_changes_length_rates_and_times(factor, frames):
    one, view = sample(), at_speed(sample(), factor)
    other = view.sample
    assert other.keypoints.shape[1] == frames
    assert view.part == pytest.approx(1 / factor)
    assert other.time_s[0] == 0
    assert np.diff(other.time_s).min() > 0
    assert other.time_s[-1] == pytest.approx(one.time_s[-1] / factor, abs=0.05)
    np.testing.assert_allclose(
        other.movement[0, 0], 0.5 * np.array([factor] * 6) ** [1, 1, 0, 1, 1, 1]
    )
    np.testing.assert_array_equal(one.movement[0, 0], np.float32(0.5))


def test_the_network_sees_limbs_that_are_as_much_faster():
    one, view = sample(), at_speed(sample(), 1.25)

    def speed(shown):
        saturated = np.median(shown[:, :, 9, 2])
        return saturated / (1 - saturated)

    before = speed(network_input(one, BODY))
    after = speed(network_input(view.sample, BODY, view.part))
    assert after / before == pytest.approx(1.25, rel=0.08)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_samples_and_those_that_know_less_have_views(frames):
    whole = sample(frames=40)
    short = replace(
        whole,
        keypoints=whole.keypoints[:, :frames],
        boxes=None,
        movement=None,
        time_s=None,
        keypoint_scores=whole.keypoint_scores[:, :frames],
    )
    views = views_of(short, list(VIEWS))
    assert len(views) == 4
    assert all(view.sample.keypoints.shape[1] >= 1 and view.sample.boxes is None for view in views)


def test_an_unknown_view_is_named():
    with pytest.raises(ValueError, match=r"mirror, speed_0.8, speed_1.25, got 'upside_down'"):
        views_of(sample(), ["upside_down"])
