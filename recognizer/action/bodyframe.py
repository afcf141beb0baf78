"""Input of the action network in body coordinates.

A camera sees people at any size and place; a fight shows in how limbs move against the
trunk, in body sizes and seconds, and how close people are to each other. The same measures that
rank people (``recognizer.scoring``) are computed here for every joint and frame of a sample and
joined as channels, evenly spread over the window. Lengths are in body sizes of the person and
rates in body sizes per second, so neither the picture's size nor the frame rate matters.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from recognizer.scoring import falldown, fight
from recognizer.scoring.measures import PersonFrames, frame_durations
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.types import Float64Array, FloatArray, IntArray

# Name of a stream -> its channels. The keypoints' confidence always comes last, as one more.
BODY_FEATS: Mapping[str, int] = {
    "b": 2,  # bones, half body sizes
    "v": 2,  # velocity against the trunk, saturated: direction times v / (v + 1)
    "s": 1,  # its length
    "a": 1,  # activity of the person (fight.limb_speed), the same at every joint
    "i": 1,  # interaction of the person (fight.interaction)
    "p": 3,  # peaks of both over the window: 80th percentile of each, 95th of the activity
    "t": 2,  # velocity of the trunk itself, saturated as "v", the same at every joint
    "f": 3,  # a fall as it happens: how far the head came down, lying, its height over the feet
    "q": 3,  # its peaks over the window: the largest drop, 90th percentile of lying, 95th of speed
}
_FAST = 1.0  # body sizes per second that saturate to a half
_WHOLE_DROP = 0.6  # body sizes that a head comes down in a whole fall
_PEAKS = ((0, 0.8), (1, 0.8), (0, 0.95))
_FALL_PEAKS = ((0, 1.0), (1, 0.9), (2, 0.95))
_BOX_MARGIN = 0.05  # a box is a little larger than the keypoints in it


def channels(feats: Sequence[str]) -> int:
    """Return the number of channels of these streams, the confidence included."""
    return sum(BODY_FEATS[feat] for feat in feats) + 1


def body_input(
    keypoints: FloatArray,
    scores: FloatArray,
    settings: tuple[int, Sequence[str], float],
    parents: IntArray,
) -> FloatArray:
    """Return the network's input (M, clip_len, 17, C) float32; zeros where a person is absent.

    Args:
        keypoints: (M, T, 17, 2) pixels; all zeros in frames without the person.
        scores: (M, T, 17); 0 where interpolated or missing.
        settings: frames of the input, names of ``BODY_FEATS``, and the seconds that T spans.
        parents: (17,) the bones' other ends.

    """
    clip_len, feats, span_s = settings
    people, total = scores.shape[:2]
    rows = sample_rows(keypoints, scores, span_s)
    streams = _streams(rows, feats, parents)
    whole = np.zeros((people, total, NUM_KEYPOINTS, channels(feats)), np.float32)
    whole[rows.person, rows.frame] = np.concatenate(streams, axis=2)
    seen = np.zeros((people, total), np.float32)
    seen[rows.person, rows.frame] = 1
    return _resample(whole, seen, clip_len)


def sample_rows(keypoints: FloatArray, scores: FloatArray, span_s: float) -> PersonFrames:
    """Return the rows of a sample, as ``measures.collect_observations`` of a sequence."""
    people, total = scores.shape[:2]
    person, frame = np.nonzero(scores.any(axis=2))
    points = keypoints[person, frame].astype(np.float64)
    confidence = np.clip((scores[person, frame].astype(np.float64) - 0.2) / 0.4, 0, 1)
    time_s = np.arange(total) * (span_s / max(total, 1))
    durations = frame_durations(time_s, span_s / max(total, 1))
    return PersonFrames(
        people=people,
        person=person.astype(np.int64),
        frame=frame.astype(np.int64),
        time_s=time_s[frame],
        duration_s=durations[frame],
        clip_s=span_s,
        keypoints=points,
        confidence=confidence,
        boxes=_boxes(points, scores[person, frame]),
        size_wh=(1, 1),
    )


def _boxes(points: Float64Array, scores: FloatArray) -> Float64Array:
    """Return (N, 4) boxes around the keypoints, of the confident ones if there are any."""
    sure = scores > 0.2
    sure |= ~sure.any(axis=1, keepdims=True)
    low = np.where(sure[..., None], points, np.inf).min(axis=1)
    high = np.where(sure[..., None], points, -np.inf).max(axis=1)
    margin = (high - low) * _BOX_MARGIN
    return np.concatenate([low - margin, high + margin], axis=1)


def _streams(rows: PersonFrames, feats: Sequence[str], parents: IntArray) -> list[Float64Array]:
    """Return the streams (N, 17, c) in order, the confidence last."""
    made: dict[str, Float64Array] = {}
    size = rows.size[:, None, None]
    if "b" in feats:
        there = rows.keypoints.any(axis=2, keepdims=True)  # a missing keypoint is at (0, 0)
        bones = 2 * (rows.keypoints - rows.keypoints[:, parents]) / size
        made["b"] = np.where(there & there[:, parents], bones, 0.0)
    if {"v", "s"} & set(feats):
        velocity = joint_velocity(rows)
        speed = np.linalg.norm(velocity, axis=2, keepdims=True)
        made["v"], made["s"] = velocity / (speed + _FAST), speed / (speed + _FAST)
    if {"a", "i", "p"} & set(feats):
        active = fight.activity(rows)
        together = fight.interaction(rows, active)
        made["a"], made["i"] = _everywhere(active), _everywhere(2 * together)
        made["p"] = _everywhere(_peaks(rows, (active, together), _PEAKS))
    if "t" in feats:
        trunk = rows.trunk_velocity() / rows.size[:, None]
        speed = np.linalg.norm(trunk, axis=1, keepdims=True)
        made["t"] = _everywhere(trunk / (speed + _FAST))
    if {"f", "q"} & set(feats):
        fallen, lying, height, speed = _falling(rows)
        made["f"] = _everywhere(np.stack([fallen, lying, height], axis=1))
        made["q"] = _everywhere(_peaks(rows, (fallen, lying, speed), _FALL_PEAKS))
    return [*(made[feat] for feat in feats), rows.confidence[:, :, None]]


def joint_velocity(rows: PersonFrames) -> Float64Array:
    """Return every joint's velocity (N, 17, 2) against the trunk, body sizes per second.

    As far as it is known: multiplied by its confidence.
    """
    moved, known = rows.velocity(rows.keypoints, rows.confidence)
    velocity = (moved - rows.trunk_velocity()[:, None]) * known[..., None]
    return np.asarray(velocity / rows.size[:, None, None])


def _everywhere(values: Float64Array) -> Float64Array:
    """Return (N,) or (N, c) values at every joint, (N, 17, c)."""
    columns = values[:, None, None] if values.ndim == 1 else values[:, None]
    return np.repeat(columns, NUM_KEYPOINTS, axis=1)


def _falling(rows: PersonFrames) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Return how far heads came down, lying, heights and saturated speeds, (N,) each."""
    height, head_y = falldown.head_height(rows)
    fallen = np.clip(falldown.drop(rows, height, head_y) / _WHOLE_DROP, 0, 1)
    speed = falldown.body_speed(rows)
    return fallen, falldown.lying(rows), height, speed / (speed + _FAST)


def _peaks(
    rows: PersonFrames, values: Sequence[Float64Array], percentiles: Sequence[tuple[int, float]]
) -> Float64Array:
    """Return, for each row, percentiles over its person's rows, (N, len(percentiles))."""
    result = np.zeros((len(rows), len(percentiles)))
    table = np.column_stack(values)
    which, q = zip(*percentiles, strict=True)
    for person in range(rows.people):
        selected = rows.person == person
        if selected.any():
            result[selected] = np.quantile(table[selected], q, axis=0)[range(len(q)), which]
    return result


def _resample(whole: FloatArray, seen: FloatArray, clip_len: int) -> FloatArray:
    """Return (M, T, ...) at ``clip_len`` even times, interpolated between the frames seen."""
    total = seen.shape[1]
    at = np.clip((np.arange(clip_len) + 0.5) / clip_len * total - 0.5, 0, total - 1)
    first = np.floor(at).astype(np.int64)
    after = np.minimum(first + 1, total - 1)
    part = (at - first).astype(np.float32)
    weights = np.stack([seen[:, first] * (1 - part), seen[:, after] * part])  # (2, M, L)
    mass = weights.sum(axis=0)
    present = mass > 0.5
    weights = np.where(present, weights / np.maximum(mass, 1e-6), 0)[..., None, None]
    mixed: FloatArray = whole[:, first] * weights[0] + whole[:, after] * weights[1]
    return mixed
