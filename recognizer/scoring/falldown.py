"""Involvement in a fall: a head that comes down fast, and lying after it."""

import numpy as np

from recognizer.scoring.measures import (
    PersonFrames,
    middle,
    person_quantile,
    person_sum,
    position,
    presence,
    reliability,
    saturate,
)
from recognizer.skeleton import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER
from recognizer.types import Float64Array

NAMES = ("height_change", "posture_angle", "movement_intensity", "persistence", "position")

_HEAD = [0, 1, 2, 3, 4]
_FALL_S = 1.0  # how long a fall takes
_SMOOTH_S = 0.15
_LATER_S = 3.0  # after the fall, in which lying counts


def measure(rows: PersonFrames) -> Float64Array:
    """Return the measures (K, 5) in [0, 1], in the order of ``NAMES``.

    - height_change: the largest ``drop``, 1 at 0.6 body sizes.
    - posture_angle: the 90th percentile over time of ``lying``.
    - movement_intensity: the 95th percentile of the trunk's speed, of which sideways
      motion counts half, saturating with half its height at 1 body size per second.
    - persistence: a third for the part of the sequence in which the person is seen, two
      thirds for staying down in the 3 s after the drop, as far as there was one.
    - position: nearness to the picture's and to the action's centre.

    All but persistence shrink with the person's ``reliability``.
    """
    height, head_y = head_height(rows)
    fall = drop(rows, height, head_y)
    down = lying(rows)
    fallen = np.clip(fall / 0.6, 0, 1)
    sure = reliability(rows)
    stays = stays_down(rows, fall, height)
    return np.column_stack(
        [
            sure * person_quantile(rows, fallen, 1.0),
            sure * person_quantile(rows, down, 0.9),
            sure * person_quantile(rows, saturate(body_speed(rows), 1.0), 0.95),
            presence(rows) / 3 + stays * person_quantile(rows, fallen, 1.0) * 2 / 3,
            sure * position(rows, fallen + 0.1 * down),
        ]
    )


def head_height(rows: PersonFrames) -> tuple[Float64Array, Float64Array]:
    """Return the head's height over the box's lower edge and its y, both smoothed.

    Returns:
        (N,) in body sizes and (N,) in pixels. Without a confident head keypoint the
        upper edge of the box is used.

    """
    head, confidence = middle(rows, _HEAD)
    y = np.asarray(confidence * head[:, 1] + (1 - confidence) * rows.boxes[:, 1], np.float64)
    around = rows.window(_SMOOTH_S, _SMOOTH_S)
    height = rows.mean(rows.boxes[:, 3] - y, around) / rows.size
    return height, rows.mean(y, around)


def drop(rows: PersonFrames, height: Float64Array, head_y: Float64Array) -> Float64Array:
    """Return how far (N,) the head has come down in the second before, body sizes.

    The lesser of how far it sank in the picture and of how much height over the feet
    it lost: feet going out of sight change only the latter, walking towards a
    camera that looks down only the former. 0 in the first half second of a track.
    """
    first, last = rows.window(_FALL_S, -_FALL_S / 2)
    known = last > first
    bounds = first, np.maximum(last, first)
    sunk = (head_y - rows.mean(head_y, bounds)) / rows.size
    lost = rows.mean(height, bounds) - height
    return np.where(known, np.maximum(np.minimum(sunk, lost), 0), 0.0)


def lying(rows: PersonFrames) -> Float64Array:
    """Return how likely (N,) a person lies, in [0, 1].

    0.6 for the trunk (``sin^2`` of its angle from the vertical, by the confidence of shoulders
    and hips), 0.4 for the box (0 at a width of 0.7 heights, 1 at 1.5). Without a trunk
    the box alone counts.
    """
    shoulders, sure = middle(rows, [LEFT_SHOULDER, RIGHT_SHOULDER])
    hips, sure_hips = middle(rows, [LEFT_HIP, RIGHT_HIP])
    trunk = hips - shoulders
    upright = np.where(trunk[:, 1] > 0, trunk[:, 1], 0) / np.maximum(np.hypot(*trunk.T), 1e-9)
    wh = np.maximum(rows.boxes[:, 2:] - rows.boxes[:, :2], 1e-6)
    wide = np.clip((wh[:, 0] / wh[:, 1] - 0.7) / 0.8, 0, 1)
    known = 0.6 * np.minimum(sure, sure_hips)
    value = known * (1 - np.square(upright)) + (1 - known) * wide
    return rows.mean(value, rows.window(_SMOOTH_S, _SMOOTH_S))


def body_speed(rows: PersonFrames) -> Float64Array:
    """Return the trunk's speed (N,), body sizes per second, sideways motion halved."""
    velocity = rows.trunk_velocity()
    return np.asarray(np.hypot(velocity[:, 0] / 2, velocity[:, 1]) / rows.size)


def stays_down(rows: PersonFrames, fall: Float64Array, height: Float64Array) -> Float64Array:
    """Return the share (K,) of the 3 s after their largest drop in which people stay down.

    Down is a head lower than halfway between before and after the drop. Where less
    than half a second follows, the rest of it counts as not down.
    """
    if not len(rows):
        return np.zeros(rows.people)
    order = np.lexsort((fall, rows.person))
    last_of = np.append(np.flatnonzero(np.diff(rows.person)), len(rows) - 1)
    worst = np.full(rows.people, -1, np.int64)
    worst[rows.person[last_of]] = order[last_of]
    at = worst[rows.person]
    later = (rows.time_s >= rows.time_s[at]) & (rows.time_s <= rows.time_s[at] + _LATER_S)
    down = later & (height < height[at] + fall[at] / 2)
    watched = person_sum(rows, later * rows.duration_s)
    return np.asarray(person_sum(rows, down * rows.duration_s) / np.maximum(watched, 0.5))
