"""From SimCC vectors to keypoints (Li et al. 2022), as RTMPose gives them.

Each keypoint has a vector over the crop's columns and one over its rows, finer than pixels by the
split ratio (2 in every RTMPose). Its place is where both are highest. Its score is the lower of
both maxima, as in mmpose 1.3.2 (``get_simcc_maximum``); rtmlib 0.0.16 takes their mean.
"""

import numpy as np

from recognizer.skeleton import FLIP_INDEX
from recognizer.types import FloatArray


def decode_simcc(columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Read the highest cell of each vector.

    Args:
        columns: (N, K, split ratio times the crop's width).
        rows: (N, K, split ratio times the crop's height).

    Returns:
        places (N, K, 2), 0-1 of the crop's width and height, and scores (N, K); where the score is
        not above 0 the keypoint is missing (place 0, score 0).

    """
    places = np.stack(
        [columns.argmax(-1) / columns.shape[-1], rows.argmax(-1) / rows.shape[-1]], axis=-1
    ).astype(np.float32)
    scores = np.minimum(columns.max(-1), rows.max(-1)).astype(np.float32)
    missing = scores <= 0
    places[missing], scores[missing] = 0, 0
    return places, scores


def unmirror_simcc(columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the vectors of a mirrored crop as those of the crop: columns turned round."""
    return columns[:, FLIP_INDEX, ::-1], rows[:, FLIP_INDEX]
