"""AP of a made scene, PCK by hand."""

import numpy as np
import pytest

from benchmarks.gpu import fsd_data, fsd_score


def scene(seed, spread):
    """Return found and true keypoints of 24 people in 9 images, some hardly labelled."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 150, (24, 1, 2))
    true = corner + rng.uniform(0, 100, (24, 17, 2))
    visible = (rng.random((24, 17)) < 0.6).astype(np.uint8)
    visible[:, 0] = 1
    found = true + rng.normal(0, 1, true.shape) * rng.uniform(0, spread, (24, 1, 1))
    scores = rng.random((24, 17))
    return found, scores, true, visible, rng.uniform(2000, 9000, 24), np.arange(24) % 9


@pytest.mark.parametrize(
    ("spread", "seed", "ap", "ap50"),
    [
        (2, 0, 0.9190844084, 1.0),
        (2, 1, 0.9627475248, 1.0),
        (15, 1, 0.2317922227, 0.5147239601),
        (15, 3, 0.2980921417, 0.6083861181),
        (40, 0, 0.0475404683, 0.0992456388),
        (40, 3, 0.1097312588, 0.1833097595),
    ],
)
def test_average_precision_of_made_people(spread, seed, ap, ap50):
    found = fsd_score.average_precision(*scene(seed, spread))
    assert found == pytest.approx((ap, ap50), abs=1e-6)


def test_pck_counts_labelled_points_of_people_with_a_torso():
    true = np.zeros((2, 17, 2))
    true[:, 12] = (0, 50)  # the torso is 50: 10 pixels are allowed
    visible = np.zeros((2, 17))
    visible[0, [5, 12, 9]] = 1
    visible[1, 9] = 1  # nobody's torso: not counted
    found = true.copy()
    found[0, 9] = (0, 10.5)
    found[0, 12] = (9.9, 50)
    assert fsd_data.pck(found, true, visible) == pytest.approx(2 / 3)
    assert np.isnan(fsd_data.pck(found[1:], true[1:], visible[1:]))


def test_places_in_crops_return_to_their_images():
    origin = np.array([[10.0, 20.0, 0.5, 0.25]])
    crop = (np.array([[[30.0, 60.0]]]) - origin[:, None, :2] + 0.5) * origin[:, None, 2:] - 0.5
    np.testing.assert_allclose(fsd_score.in_image(crop, origin), [[[30, 60]]])
