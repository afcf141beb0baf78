"""Small data sets for the tests of the small pose network's training."""

import itertools
from pathlib import Path

import numpy as np

from annotation.teacher_labels import PERSON, Labels
from samples.small_pose.data import Picture, from_coco

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"


def labels_of_people(count: int, score: float = 0.9) -> Labels:
    """Return posed people of 60 x 100 pixels beside each other, from (20, 30) on."""
    left = 20 + 70 * np.arange(count, dtype=np.float32)
    boxes = np.stack([left, np.full(count, 30), left + 60, np.full(count, 130)], 1)
    keypoints = np.ones((count, 17, 3), np.float32)
    keypoints[..., 0] = left[:, None] + np.linspace(5, 55, 17)
    keypoints[..., 1] = np.linspace(35, 125, 17)
    return Labels(
        boxes.astype(np.float32),
        keypoints,
        np.full((count, 17), score, np.float32),
        np.full(count, PERSON, np.uint8),
        np.full(count, 3600, np.float32),
    )


def picture(group: str, split: int, people: int = 1, score: float = 0.9, grey: int = 10) -> Picture:
    """Return a plain picture of 320 x 200 pixels with ``people`` in it."""
    bgr = np.full((200, 320, 3), grey, np.uint8)
    return Picture(group, split, bgr, labels_of_people(people, score))


def coco_pictures(count: int, split: int) -> list[Picture]:
    """Return the first annotated pictures of COCO train2017."""
    folder = ASSETS / "coco"
    file = folder / "annotations" / "person_keypoints_train2017.json"
    pictures = from_coco("coco", split, file, folder / "train2017")
    posed = (one for one in pictures if (one.labels.scores >= 0).any())
    return list(itertools.islice(posed, count))
