"""Synthetic people with known identities: boxes and COCO-17 keypoints that move.

A person's path depends on time alone, so that one scene can be filmed at any frame rate;
what a network adds (noise, missed people, low scores) depends on the frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from recognizer.types import IntArray, Poses, TimeArray

# A standing body seen from the front: (x, y) in heights from the centre of the box.
BODY = np.array(
    [
        (0, -0.42),
        (0.02, -0.44),
        (-0.02, -0.44),
        (0.04, -0.42),
        (-0.04, -0.42),
        (0.11, -0.31),
        (-0.11, -0.31),
        (0.15, -0.15),
        (-0.15, -0.15),
        (0.16, 0),
        (-0.16, 0),
        (0.07, 0.02),
        (-0.07, 0.02),
        (0.08, 0.24),
        (-0.08, 0.24),
        (0.09, 0.46),
        (-0.09, 0.46),
    ]
)
LIMBS = np.array([0, 0, 0, 0, 0, 0, 0, 1, -1, 2, -2, 0, 0, -1, 1, -2, 2]) * 0.03  # swing, heights


@dataclass(frozen=True)
class Person:
    """Somebody who walks at an even pace between ``first_s`` and ``last_s``, and turns at walls."""

    start_px: tuple[float, float]
    speed_px_s: tuple[float, float]
    height_px: float
    aspect: float = 0.4
    first_s: float = 0.0
    last_s: float = np.inf
    room_px: tuple[float, float, float, float] = (-np.inf, -np.inf, np.inf, np.inf)

    def centre(self, t: float) -> TimeArray:
        low, high = np.array(self.room_px[:2]), np.array(self.room_px[2:])
        free = np.array(self.start_px) + np.array(self.speed_px_s) * (t - min(self.first_s, t))
        bounded = np.isfinite(high - low)
        span = np.where(bounded, high - low, 1)
        origin = np.where(bounded, low, 0)
        folded = origin + span - np.abs((free - origin) % (2 * span) - span)
        return np.where(bounded, folded, free)

    def keypoints(self, t: float) -> TimeArray:
        pace = np.hypot(*self.speed_px_s) / self.height_px  # a step a body height
        swing = np.stack([LIMBS * np.sin(2 * np.pi * pace * t), np.zeros(17)], axis=1)
        return np.asarray(self.centre(t) + (BODY + swing) * self.height_px)

    def box(self, t: float) -> TimeArray:
        half = np.array([self.aspect, 1]) * self.height_px / 2
        centre = self.centre(t)
        return np.concatenate([centre - half, centre + half])


@dataclass(frozen=True)
class Camera:
    """What the network behind the camera adds to the truth."""

    jitter: float = 0.01  # noise of every box side and keypoint, heights
    missed: float = 0.0  # share of people missed per frame
    low: float = 0.0  # share of people with a low score per frame
    scores: tuple[float, float] = (0.7, 0.95)
    low_scores: tuple[float, float] = (0.12, 0.45)


@dataclass(frozen=True)
class Shot:
    """One frame: its time, its people, and who each row really is."""

    time_s: float
    poses: Poses
    who: IntArray = field(repr=False)


def film(
    people: Sequence[Person], fps: float, seconds: float, camera: Camera = Camera(), seed: int = 0
) -> Iterator[Shot]:
    """Yield the frames of a scene."""
    rng = np.random.default_rng(seed)
    for frame in range(round(seconds * fps)):
        yield shoot(people, frame / fps, camera, rng)


def shoot(people: Sequence[Person], t: float, camera: Camera, rng: np.random.Generator) -> Shot:
    who = [
        i
        for i, p in enumerate(people)
        if p.first_s <= t < p.last_s and rng.random() >= camera.missed
    ]
    who = np.array(who, np.int64)[rng.permutation(len(who))]
    if not len(who):
        return Shot(t, Poses.empty(), who)
    heights = np.array([people[i].height_px for i in who])
    noise = camera.jitter * heights
    boxes = (
        np.array([people[i].box(t) for i in who])
        + rng.normal(0, 1, (len(who), 4)) * (noise[:, None])
    )
    keypoints = (
        np.array([people[i].keypoints(t) for i in who])
        + rng.normal(0, 1, (len(who), 17, 2)) * (noise[:, None, None])
    )
    scores = np.where(
        rng.random(len(who)) < camera.low,
        rng.uniform(*camera.low_scores, len(who)),
        rng.uniform(*camera.scores, len(who)),
    )
    keypoint_scores = scores[:, None] * rng.uniform(0.8, 1, (len(who), 17))
    return Shot(
        t,
        Poses.untracked(
            keypoints.astype(np.float32),
            keypoint_scores.astype(np.float32),
            boxes.astype(np.float32),
            scores.astype(np.float32),
        ),
        who,
    )


def crowd(
    count: int,
    seed: int = 0,
    room_px: tuple[float, float] = (1920, 1080),
    seconds: float = np.inf,
    stay_s: float = np.inf,
) -> list[Person]:
    """Return people who wander through a room; with ``stay_s`` they come and go.

    About ``count`` are there at any time of ``seconds``; the others take their places.
    """
    rng = np.random.default_rng(seed)
    size = min(1.0, np.sqrt(20 / count))
    people = []
    for _ in range(count):
        t = 0.0
        while t < seconds:
            height = size * rng.uniform(120, 260)
            angle, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 1.2) * height
            leaves = t + rng.exponential(stay_s) if np.isfinite(stay_s) else np.inf
            people.append(
                Person(
                    (rng.uniform(0, room_px[0]), rng.uniform(0, room_px[1])),
                    (pace * np.cos(angle), pace * np.sin(angle) * 0.5),
                    height,
                    aspect=rng.uniform(0.33, 0.5),
                    first_s=t,
                    last_s=leaves,
                    room_px=(0, 0, *room_px),
                )
            )
            t = leaves
            if not np.isfinite(seconds):
                break
    return people


def identities(shots: Sequence[Shot], ids: Sequence[IntArray]) -> dict[int, list[int]]:
    """Return the ids that each person got, one per frame in which the person was tracked."""
    given: dict[int, list[int]] = {}
    for shot, row_ids in zip(shots, ids, strict=True):
        for who, track_id in zip(shot.who, row_ids, strict=True):
            given.setdefault(int(who), [])
            if track_id >= 0:
                given[int(who)].append(int(track_id))
    return given
