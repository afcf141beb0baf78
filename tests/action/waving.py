"""A made sample whose people wave their wrists."""

import numpy as np

from recognizer.types import Sample


def sample(people: int = 2, frames: int = 40, speed: float = 3.0) -> Sample:
    """Return people who wave their wrists, in one of whose frames a point is missing."""
    random = np.random.default_rng(3)
    body = random.uniform(80, 160, (people, 1, 17, 2))
    points = np.repeat(body, frames, axis=1).astype(np.float32)
    points[:, :, 9] += (speed * np.arange(frames)[None, :, None]).astype(np.float32)
    scores = random.uniform(0.7, 1, (people, frames, 17)).astype(np.float32)
    points[0, 5, 3], scores[0, 5, 3] = 0, 0
    boxes = np.tile(np.array([10, 20, 110, 220], np.float32), (people, frames, 1))
    boxes[1, 7] = np.nan
    movement = np.full((people, frames, 6), 0.5, np.float32)
    movement[1, 7] = np.nan
    times = np.arange(frames) / 20
    ids = np.arange(people)
    return Sample("a", 1, points, scores, (320, 240), ids, boxes, movement, times)
