"""Sub-cell decoding: true peaks come back, and DARK agrees with mmpose's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.pose.heatmaps import decode_dark, decode_quarter_offset

WIDTH, HEIGHT, SIGMA = 48, 64, 2.0


def gaussian(centres):
    """Return (N, 1, H, W) heatmaps with a Gaussian of sigma 2 at each centre."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    maps = [np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * SIGMA**2)) for x, y in centres]
    return np.array(maps, np.float32)[:, None]


inside = st.tuples(st.floats(8, WIDTH - 9), st.floats(8, HEIGHT - 9))


@given(st.lists(inside, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_dark_finds_the_centre_of_a_gaussian(centres):
    points, scores = decode_dark(gaussian(centres))
    np.testing.assert_allclose(points[:, 0], centres, atol=0.03)
    assert (scores > 0.8).all()


@pytest.mark.parametrize("kernel", [11, 17])
def test_dark_reads_the_wider_gaussians_of_384x288_with_either_blur(kernel):
    """Of sigma 3 on 96 x 72 cells, for which mmpose blurs with 17."""
    centres = np.random.default_rng(0).uniform(12, 60, (50, 2))
    ys, xs = np.mgrid[:96, :72]
    maps = [np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 3.0**2)) for x, y in centres]
    points, _ = decode_dark(np.array(maps, np.float32)[:, None], kernel)
    np.testing.assert_allclose(points[:, 0], centres, atol=0.05)


@given(inside)
@settings(max_examples=200, deadline=None)
def test_quarter_offset_is_within_half_a_cell_and_better_than_the_peak(centre):
    points, _ = decode_quarter_offset(gaussian([centre]))
    assert np.abs(points[0, 0] - centre).max() <= 0.26


@pytest.mark.parametrize("decode", [decode_dark, decode_quarter_offset])
@pytest.mark.parametrize("corner", [(0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (47, 63)])
def test_peaks_at_the_border_stay_inside(decode, corner):
    points, _ = decode(gaussian([corner]))
    np.testing.assert_allclose(points[0, 0], corner, atol=1)


@pytest.mark.parametrize("decode", [decode_dark, decode_quarter_offset])
def test_a_flat_heatmap_gives_finite_places(decode):
    points, scores = decode(np.zeros((2, 17, HEIGHT, WIDTH), np.float32))
    assert np.isfinite(points).all()
    assert (scores == 0).all()


def test_dark_agrees_with_mmpose():
    pytest.importorskip("mmpose")
    from recognizer.openmmlab import load_mmpose

    load_mmpose()
    from mmpose.codecs.utils import get_heatmap_maximum, refine_keypoints_dark

    rng = np.random.default_rng(0)
    centres = rng.uniform((6, 6), (WIDTH - 7, HEIGHT - 7), (40, 2))
    maps = gaussian(centres) + rng.normal(0, 0.01, (40, 1, HEIGHT, WIDTH)).astype(np.float32)
    ours, scores = decode_dark(maps)
    for i in range(40):
        peak, peak_scores = get_heatmap_maximum(maps[i])
        theirs = refine_keypoints_dark(peak[None].copy(), maps[i].copy(), blur_kernel_size=11)
        np.testing.assert_allclose(ours[i], theirs[0], atol=0.02)
        assert scores[i, 0] == pytest.approx(peak_scores[0])
