"""Videos of people given by their boxes, and of a filmed crowd."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from recognizer.config.schema import TrackingConfig
from recognizer.types import IntArray, Poses, PoseSequence, PoseSequenceBuilder
from tests.people import BODY, Camera, Person, film

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
FPS = 20
SIZE_WH = (640, 480)
SETTINGS = TrackingConfig().for_kind("topdown")


def rows(boxes: ArrayLike, ids: Sequence[int], scores: Sequence[float] | None = None) -> Poses:
    """Return people whose bodies stand in their boxes."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    size = corners[:, None, 2:] - corners[:, None, :2]
    keypoints = (corners[:, None, :2] + corners[:, None, 2:]) / 2 + BODY * size[..., 1:]
    box_scores = np.full(len(corners), 0.9) if scores is None else np.array(scores)
    return Poses(
        keypoints.astype(np.float32),
        np.repeat(box_scores[:, None], 17, axis=1).astype(np.float32),
        corners,
        box_scores.astype(np.float32),
        np.array(ids, np.int64),
    )


def video(frames: Sequence[Mapping[int, Box]]) -> PoseSequence:
    """Return a video of frames {id: box}."""
    builder = PoseSequenceBuilder()
    for t, people in enumerate(frames):
        builder.append(rows(list(people.values()), list(people)), t / FPS)
    return builder.build(SIZE_WH)


def box(x: float, y: float = 200, width: float = 40, height: float = 100) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def walk(frames: int, x0: float = 100, speed: float = 60) -> list[Box]:
    """Return the boxes of a walker, pixels per second."""
    return [box(x0 + speed * t / FPS) for t in range(frames)]


def shots_of(
    people: Sequence[Person], seconds: float, camera: Camera, seed: int
) -> tuple[PoseSequence, IntArray]:
    builder, who = PoseSequenceBuilder(), []
    for shot in film(people, FPS, seconds, camera, seed):
        builder.append(shot.poses, shot.time_s)
        who.append(shot.who)
    return builder.build((1920, 1080)), np.concatenate(who)
