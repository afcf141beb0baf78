"""Made samples for the checks of data sets."""

import numpy as np

from recognizer.types import FloatArray, Sample


def made(
    name: str,
    label: int = 0,
    keypoints: FloatArray | None = None,
    scores: FloatArray | None = None,
    size_wh: tuple[int, int] = (320, 240),
) -> Sample:
    random = np.random.default_rng(0)
    if keypoints is None:
        keypoints = random.uniform(1, 239, (2, 20, 17, 2)).astype(np.float32)
    if scores is None:
        scores = np.full(keypoints.shape[:-1], 0.8, np.float32)
    return Sample(name, label, keypoints, scores, size_wh, np.full(len(keypoints), -1, np.int64))
