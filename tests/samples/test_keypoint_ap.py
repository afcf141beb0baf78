"""Keypoint AP of people whose matches are known."""

import math

import numpy as np
import pytest

from samples.keypoint_ap import GroundTruth, Predictions, keypoint_ap, mean_confident_score

HALF = 51 / 101  # precision 1 up to a recall of 0.5: 51 of the 101 levels


def _truth(images=(0, 0), crowd=(False, False), ignored=(False, False), labelled=(1, 1)):
    """Return people 200 pixels apart in a row."""
    count = len(images)
    left = 200.0 * np.arange(count)[:, None]
    places = np.random.default_rng(0).uniform(0, 80, (count, 17, 2))
    places[..., 0] += left
    visible = np.broadcast_to(np.reshape(labelled, (-1, 1, 1)), (count, 17, 1))
    boxes = np.concatenate([left, 0 * left, left + 80, 0 * left + 80], 1)
    keypoints, areas = np.concatenate([places, visible], -1), np.full(count, 3000.0)
    return GroundTruth(
        np.array(images), keypoints, areas, boxes, np.array(crowd), np.array(ignored)
    )


def _exact(truth, rows, scores):
    return Predictions(truth.images[rows], truth.keypoints[rows][..., :2], np.array(scores))


def test_everybody_in_place_is_one():
    truth = _truth()
    stats = keypoint_ap(truth, _exact(truth, [0, 1], [0.5, 0.9]))
    assert stats == pytest.approx({"AP": 1, "AP50": 1, "AR": 1})


def test_one_of_two_is_half_and_the_image_counts():
    truth = _truth(images=(3, 8))
    stats = keypoint_ap(truth, _exact(truth, [0], [0.5]))
    assert stats == pytest.approx({"AP": HALF, "AP50": HALF, "AR": 0.5})
    elsewhere = Predictions(truth.images[[1, 0]], truth.keypoints[..., :2], np.ones(2))
    assert keypoint_ap(truth, elsewhere) == {"AP": 0, "AP50": 0, "AR": 0}


def test_a_shift_passes_the_thresholds_below_its_similarity():
    truth = _truth(images=(0,), crowd=(False,), ignored=(False,), labelled=(0,))
    truth.keypoints[0, 0, 2] = 2  # the nose alone, whose sigma is 0.026
    found = _exact(truth, [0], [1.0])
    found.keypoints[0, 0, 0] += math.sqrt(-2 * 3000 * 0.052**2 * math.log(0.72))
    stats = keypoint_ap(truth, found)  # 0.5, 0.55, 0.6, 0.65 and 0.7
    assert stats == pytest.approx({"AP": 0.5, "AP50": 1, "AR": 0.5})


@pytest.mark.parametrize(
    "change",
    [
        {"crowd": (False, True)},
        {"ignored": (False, True)},
        {"labelled": (1, 0)},
    ],
)
def test_who_is_a_crowd_ignored_or_without_keypoints_counts_neither_way(change):
    truth = _truth(**change)
    for rows in ([0], [1, 0]):
        stats = keypoint_ap(truth, _exact(truth, rows, [0.9, 0.5][: len(rows)]))
        assert stats == pytest.approx({"AP": 1, "AP50": 1, "AR": 1})
    twice = keypoint_ap(truth, _exact(truth, [1, 1, 0], [0.9, 0.8, 0.5]))
    assert twice["AP"] == pytest.approx(1 if "crowd" in change else 0.5)  # a crowd takes both


def test_places_that_are_not_numbers_are_wrong(capsys):
    truth = _truth()
    found = _exact(truth, [0, 1], [0.5, 0.9])
    found.keypoints[1] = np.nan
    assert keypoint_ap(truth, found)["AP"] == pytest.approx(HALF / 2)  # behind a wrong one
    found.keypoints[0] = np.inf
    assert keypoint_ap(truth, found) == {"AP": 0, "AP50": 0, "AR": 0}
    assert capsys.readouterr().out == ""


def test_nobody_found_is_zero_and_nobody_there_is_not_a_number():
    truth = _truth()
    assert keypoint_ap(truth, _exact(truth, [], [])) == {"AP": 0, "AP50": 0, "AR": 0}
    truth = _truth(ignored=(True, True))
    stats = keypoint_ap(truth, _exact(truth, [0, 1], [1.0, 1.0]))
    assert all(math.isnan(value) for value in stats.values())


def test_mean_score_is_of_the_confident_keypoints():
    scores = np.full((2, 17), 0.1)
    scores[0, :2] = 0.4, 0.8
    assert mean_confident_score(scores) == pytest.approx([0.6, 0])
