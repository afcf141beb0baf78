"""The teacher: its opinions, which of them make a label, and what neighbouring frames confirm."""

import numpy as np
import pytest

from annotation.teacher_labels import DOUBT, PERSON, choose


@pytest.mark.parametrize(
    ("scores", "points", "kinds"),
    [
        ([0.8, 0.8, 0.3], 0.7, [PERSON]),  # seen by both, good pose
        ([0.8, 0.8, 0.0], 0.1, [PERSON]),  # a clear box; its pose is not known
        ([0.0, 0.4, 0.0], 0.3, [DOUBT]),  # only turned, poor pose
        ([0.2, 0.2, 0.0], 0.7, [DOUBT]),  # one weak opinion
        ([0.1, 0.1, 0.0], 0.05, []),  # nothing
    ],
)
def test_opinions_make_people_doubts_or_nothing(scores, points, kinds):
    keypoints = np.full((1, 17, 3), 50, np.float32)
    keypoints[..., 0] += np.arange(17)
    keypoints[..., 2] = points
    seen = choose(
        {
            "boxes": np.array([[40, 40, 80, 120]], np.float32),
            "keypoints": keypoints,
            "scores": np.array([scores], np.float32),
            "movenet": np.zeros((1, 17, 3), np.float32),
        }
    )
    assert seen.kinds.tolist() == kinds
    if kinds == [PERSON]:
        assert (seen.keypoints[..., 2] > 0).all() == (points > 0.3)
        assert (seen.scores >= 0).all() == (points > 0.3)
