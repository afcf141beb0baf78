"""People who stand, walk, sit, fight and fall; each a function of time, filmed at any rate.

A body is (17, 2) in heights: x to the right, y down, (0, 0) between the feet.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder, TimeArray
from tests.people import BODY

STANDING = BODY - [0, 0.5]
WRISTS, ELBOWS, KNEES, ANKLES, UPPER = [9, 10], [7, 8], [13, 14], [15, 16], list(range(11))

Pose = Callable[[float], TimeArray]


@dataclass(frozen=True)
class Actor:
    """Somebody at ``feet_px`` with a height, moving on at a pace, seen for a while."""

    pose: Pose
    feet_px: tuple[float, float]
    height_px: float = 200.0
    pace: float = 0.0  # heights per second, sideways
    first_s: float = 0.0
    last_s: float = np.inf

    def keypoints(self, t: float) -> TimeArray:
        feet = np.add(self.feet_px, (self.pace * self.height_px * t, 0))
        return np.asarray(feet + self.pose(t) * self.height_px)


def stand(t: float) -> TimeArray:
    return STANDING.copy()


def sit(t: float) -> TimeArray:
    body = STANDING.copy()
    body[[*UPPER, 11, 12], 1] += 0.25
    body[KNEES, 0] += 0.2
    return body


def walk(t: float) -> TimeArray:
    body, swing = STANDING.copy(), np.sin(2 * np.pi * t)
    body[ANKLES, 0] += np.array([0.15, -0.15]) * swing
    body[KNEES, 0] += np.array([0.07, -0.07]) * swing
    body[WRISTS, 0] += np.array([-0.08, 0.08]) * swing
    return body


def fight(side: int, phase: float = 0.0) -> Pose:
    """Return somebody who strikes to one side (1: right) about twice a second."""

    def pose(t: float) -> TimeArray:
        body = STANDING.copy()
        lean = 0.06 * np.sin(2 * np.pi * 1.3 * t + phase)
        body[UPPER, 0] += side * (0.05 + lean)
        for hand in range(2):
            strike = np.maximum(0, np.sin(2 * np.pi * 1.8 * t + phase + np.pi * hand))
            reach = np.array([side * (0.05 + 0.3 * strike), -0.3 + 0.05 * strike])
            shoulder = body[5 + hand]
            body[WRISTS[hand]] = shoulder + reach + [0, 0.25]
            body[ELBOWS[hand]] = shoulder + reach / 2 + [0, 0.15]
        body[ANKLES, 0] += 0.08 * np.sin(2 * np.pi * 0.9 * t + phase + np.array([0, 2]))
        return body

    return pose


def fall(at_s: float, degrees: float = 85.0, lasts_s: float = 0.6) -> Pose:
    """Return somebody who stands and at a time tips over on the feet, to the right."""

    def pose(t: float) -> TimeArray:
        part = np.clip((t - at_s) / lasts_s, 0, 1)
        angle = np.radians(degrees) * (1 - np.cos(np.pi * part)) / 2
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return np.asarray(STANDING @ turn)

    return pose


def lie(t: float) -> TimeArray:
    """Return a body on its back, head to the left."""
    return np.asarray(STANDING @ np.array([[0.0, 1.0], [-1.0, 0.0]]) - [0.5, 0.1])


def bend(t: float) -> TimeArray:
    """Pick something up at 1.5 s and stand again."""
    body = STANDING.copy()
    part = np.exp(-(((t - 1.5) / 0.3) ** 2))
    body[UPPER] += np.array([0.2, 0.3]) * part
    return body


@dataclass(frozen=True)
class Shooting:
    """How a scene is filmed."""

    fps: float = 25.0
    seconds: float = 4.0
    scale: float = 1.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    start_s: float = 0.0
    jitter: float = 0.003  # heights
    score: float = 0.8
    size_wh: tuple[int, int] = (1280, 720)
    seed: int = 0


def film(actors: Mapping[int, Actor], how: Shooting = Shooting()) -> PoseSequence:
    """Return the tracked people of a scene; the keys are the ids."""
    rng = np.random.default_rng(how.seed)
    builder = PoseSequenceBuilder()
    for frame in range(round(how.fps * how.seconds)):
        t = frame / how.fps
        seen = {i: a for i, a in actors.items() if a.first_s <= t < a.last_s}
        builder.append(_shoot(seen, t, how, rng), t + how.start_s)
    width, height = how.size_wh
    return builder.build((round(width * how.scale), round(height * how.scale)))


def _shoot(seen: Mapping[int, Actor], t: float, how: Shooting, rng: np.random.Generator) -> Poses:
    keypoints = np.zeros((len(seen), 17, 2))
    boxes = np.zeros((len(seen), 4))
    for row, actor in enumerate(seen.values()):
        h, body = actor.height_px, actor.keypoints(t)
        margin = np.array([0.05, 0.06]) * h
        boxes[row] = np.concatenate([body.min(axis=0) - margin, body.max(axis=0) + margin])
        boxes[row] += rng.normal(0, how.jitter * h, 4)
        keypoints[row] = body + rng.normal(0, how.jitter * h, (17, 2))
    return Poses(
        (keypoints * how.scale + how.shift_px).astype(np.float32),
        np.full((len(seen), 17), how.score, np.float32),
        (boxes * how.scale + np.tile(how.shift_px, 2)).astype(np.float32),
        np.full(len(seen), 0.9, np.float32),
        np.array(list(seen), np.int64),
    )


def brawl() -> dict[int, Actor]:
    """Return two fighters (7 and 3) among people who stand, walk by and sit."""
    return {
        0: Actor(stand, (640, 300), 150),
        1: Actor(walk, (100, 600), pace=0.8),
        2: Actor(walk, (180, 610), pace=0.8),
        3: Actor(fight(1), (600, 500)),
        5: Actor(sit, (850, 480), 180),
        7: Actor(fight(-1, 1.0), (690, 505)),
        8: Actor(stand, (560, 380), 170),
    }


def accident() -> dict[int, Actor]:
    """Return somebody who falls (4) among people who walk, sit and pick something up."""
    return {
        0: Actor(sit, (640, 400), 180),
        1: Actor(walk, (100, 600), pace=0.8),
        2: Actor(sit, (500, 420), 180),
        4: Actor(fall(1.5), (900, 600)),
        6: Actor(bend, (300, 500)),
        9: Actor(walk, (700, 650), 250, pace=0.6),
    }
