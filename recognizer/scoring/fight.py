"""Involvement in a fight: limbs that move fast close to another person."""

import numpy as np

from recognizer.scoring.measures import (
    PersonFrames,
    in_order,
    person_quantile,
    person_sum,
    position,
    presence,
    reliability,
    saturate,
)
from recognizer.skeleton import (
    LEFT_ANKLE,
    LEFT_ELBOW,
    LEFT_HIP,
    LEFT_KNEE,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_ANKLE,
    RIGHT_ELBOW,
    RIGHT_HIP,
    RIGHT_KNEE,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)
from recognizer.types import Float64Array, IntArray

NAMES = ("movement", "interaction", "position", "temporal")

# Joints and their weights: walking moves the legs most, fighting the arms.
_LIMBS = {
    LEFT_WRIST: 1.5,
    RIGHT_WRIST: 1.5,
    LEFT_ELBOW: 1.0,
    RIGHT_ELBOW: 1.0,
    NOSE: 1.0,
    LEFT_ANKLE: 0.5,
    RIGHT_ANKLE: 0.5,
    LEFT_KNEE: 0.5,
    RIGHT_KNEE: 0.5,
}
_GAIT = 0.4  # limb speed at a pace of 1
_PACE_S = 1.0
_WRISTS = [LEFT_WRIST, RIGHT_WRIST]
_TARGETS = [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP]
_FASTEST = 6.0  # body sizes per second; above it a keypoint has jumped, not moved
_NOISE = 0.15  # body sizes per second of keypoint noise on a person at rest
_FAR = 0.02  # pairs less close than this are skipped
_IN_CONTACT = 0.5  # an interaction that counts in full
_ENGAGED = 0.3  # an interaction that counts as taking part


def measure(rows: PersonFrames) -> Float64Array:
    """Return the measures (K, 4) in [0, 1], in the order of ``NAMES``.

    - movement: the 80th percentile over time of the limbs' speed (``limb_speed``),
      0.5 at 0.7 body sizes per second above the noise.
    - interaction: the 80th percentile over time of ``interaction``, 1 from 0.5 on.
    - position: nearness to the picture's and to the action's centre.
    - temporal: a third for the part of the sequence in which the person is seen, two
      thirds for the part in which the person is active near another.

    Movement, interaction and position shrink with the person's ``reliability``.
    """
    active = activity(rows)
    together = interaction(rows, active)
    sure = reliability(rows)
    engaged = np.minimum(together / _ENGAGED, 1)
    engaged_part = person_sum(rows, engaged * rows.duration_s) / max(rows.clip_s, 1e-9)
    return np.column_stack(
        [
            sure * person_quantile(rows, active, 0.8),
            sure * np.minimum(person_quantile(rows, together, 0.8) / _IN_CONTACT, 1),
            sure * position(rows, together),
            (presence(rows) + 2 * np.clip(engaged_part, 0, 1)) / 3,
        ]
    )


def activity(rows: PersonFrames) -> Float64Array:
    """Return how active (N,) a person is, in [0, 1): the limbs' speed above the noise."""
    return saturate(limb_speed(rows) - _NOISE, 0.7)


def limb_speed(rows: PersonFrames) -> Float64Array:
    """Return the speed (N,) of the limbs beyond that of walking, body sizes per second.

    The root of the confidence-weighted mean square over wrists, elbows, knees, ankles and
    nose, relative to the trunk, less 0.4 of the pace at which the person walks through
    the picture (over a second: swaying is not walking). One fully confident keypoint at
    rest is added, so that a body that is hardly visible does not seem fast.
    """
    trunk = rows.trunk_velocity()
    joints, weights = list(_LIMBS), np.array(list(_LIMBS.values()))
    velocity, known = rows.velocity(rows.keypoints[:, joints], rows.confidence[:, joints])
    away = velocity - trunk[:, None]
    speed = np.minimum(np.hypot(away[..., 0], away[..., 1]) / rows.size[:, None], _FASTEST)
    counts = weights * known
    square = in_order(counts * np.square(speed))
    mass = in_order(np.insert(counts, 0, 1.0, axis=1))
    half_s = _PACE_S / 2
    pace = np.hypot(*rows.mean(trunk, rows.window(half_s, half_s)).T) / rows.size
    return np.asarray(np.maximum(np.sqrt(square / mass) - _GAIT * pace, 0))


def interaction(rows: PersonFrames, active: Float64Array) -> Float64Array:
    """Return the interaction (N,) with the person most involved with it, in [0, 1].

    For two people in a frame it is ``near * (0.05 + 0.6 both + 0.35 reach)``: ``near``
    by their distance, ``both`` how active the more active one and the two together are,
    ``reach`` how close a wrist of one comes to head or trunk of the other, counted as
    far as they are active.
    """
    result = np.zeros(len(rows))
    order = np.lexsort((rows.person, rows.frame))
    frame = rows.frame[order]
    most = int(np.bincount(np.unique(frame, return_inverse=True)[1]).max(initial=0))
    for step in range(1, most):
        same = frame[step:] == frame[:-step]
        a, b = order[:-step][same], order[step:][same]
        near = closeness(rows, a, b)
        worth = near > _FAR
        a, b, near = a[worth], b[worth], near[worth]
        either = np.maximum(active[a], active[b])
        both = (either + np.sqrt(active[a] * active[b])) / 2
        touch = np.maximum(reach(rows, a, b), reach(rows, b, a))
        value = near * (0.05 + 0.6 * both + 0.35 * touch * np.sqrt(either))
        np.maximum.at(result, a, value)
        np.maximum.at(result, b, value)
    return result


def closeness(rows: PersonFrames, a: IntArray, b: IntArray) -> Float64Array:
    """Return how near (P,) the people of rows ``a`` and ``b`` are, in [0, 1].

    ``1 / (1 + (d / 0.6)^4)`` with the trunks' distance ``d`` in mean body sizes, times
    the ratio of the sizes: one far behind the other is not near.
    """
    size = (rows.size[a] + rows.size[b]) / 2
    distance = np.hypot(*(rows.torso[a] - rows.torso[b]).T) / size
    ratio = np.minimum(rows.size[a], rows.size[b]) / np.maximum(rows.size[a], rows.size[b])
    return np.asarray(ratio / (1 + np.square(np.square(distance / 0.6))))


def reach(rows: PersonFrames, a: IntArray, b: IntArray) -> Float64Array:
    """Return how close (P,) a wrist of ``a`` comes to head or trunk of ``b``, in [0, 1].

    ``exp(-(d / 0.2)^2)`` for the nearest pair, ``d`` in body sizes of ``b``.
    """
    wrists, targets = rows.keypoints[a][:, _WRISTS], rows.keypoints[b][:, _TARGETS]
    distance = np.hypot(*np.moveaxis(wrists[:, :, None] - targets[:, None], -1, 0))
    confidence = rows.confidence[a][:, _WRISTS, None] * rows.confidence[b][:, None, _TARGETS]
    touch = np.exp(-np.square(distance / rows.size[b, None, None] / 0.2)) * confidence
    return np.asarray(touch.max(axis=(1, 2), initial=0))
