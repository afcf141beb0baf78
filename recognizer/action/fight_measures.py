"""Measures of a clip for the movement stream of fights.

Two parts. Per frame whose movement was measured: the two people whose limbs move most, the
closest and busiest pair, how many there are; the clip's mean, 80th percentile and maximum of each.
From the poses, where they are trusted: the measures that rank people, how fast limbs move, how
much two people interact, wrists near another's head or trunk, approach, lying.
Lengths are in body sizes, times in seconds; picture size, place and frame rate are left out.
"""

import numpy as np

from recognizer.action.bodyframe import sample_rows
from recognizer.scoring import falldown, fight
from recognizer.scoring.measures import PersonFrames
from recognizer.types import MOVEMENT_NAMES, Float64Array, IntArray, Sample

_LIMBS, _ENTROPY = MOVEMENT_NAMES.index("limbs"), MOVEMENT_NAMES.index("entropy")
_FAR = 3.0  # mean heights between two people; also of one alone
_MOST_PEOPLE = 8
_RANKED = 3  # people whose ranking measures are used
_RANKING = tuple(name for name in fight.NAMES if name != "position")  # a place is no movement
_RANKING_COLUMNS = [fight.NAMES.index(name) for name in _RANKING]

_PERSON = tuple(MOVEMENT_NAMES)
_FRAME = (
    *(f"{place}_{name}" for place in ("first", "second") for name in _PERSON),
    "distance",
    "overlap",
    "contact",
    "attack",
    "people",
    "limbs_median",
    "limbs_mean",
)
_STATISTICS = ("mean", "p80", "max")
_POSE = ("limb_speed", "interaction", "strike", "closeness", "approach", "lying", "trunk_speed")
_QUANTILES = (50, 80, 95, 100)
NAMES = (
    *(f"{name}_{statistic}" for name in _FRAME for statistic in _STATISTICS),
    *(f"person{i}_{name}" for i in range(1, _RANKED + 1) for name in _RANKING),
    *(f"pose_{name}_p{q}" for name in _POSE for q in _QUANTILES),
    "rows_per_frame",
    "tracks",
    "head_height_p10",
    "head_height_p50",
    "trust_mean",
    "trust_p80",
)


def measure(sample: Sample, boxes: Float64Array, movement: Float64Array) -> Float64Array:
    """Return the numbers of a clip, in the order of ``NAMES``.

    Args:
        sample: the clip, with times.
        boxes: (M, T, 4) pixels, NaN where unknown.
        movement: (M, T, 6), NaN where unknown; columns ``MOVEMENT_NAMES``.

    """
    return np.concatenate([_statistics(_frames(boxes, movement)), _poses(sample)])


def rate(values: Float64Array | float) -> Float64Array:
    """Compress rates: 0 stays 0, large ones grow slowly."""
    return np.asarray(np.log1p(5 * np.maximum(values, 0)))


# --- movement ----------------------------------------------------------------------


def _statistics(rows: Float64Array) -> Float64Array:
    """Return mean, 80th percentile and maximum of each column (T, C); 0 without rows."""
    if not len(rows):
        return np.zeros(rows.shape[1] * len(_STATISTICS))
    table = np.stack([rows.mean(axis=0), np.quantile(rows, 0.8, axis=0), rows.max(axis=0)], axis=1)
    return np.asarray(table.ravel())


def _frames(boxes: Float64Array, movement: Float64Array) -> Float64Array:
    """Return the numbers of each frame whose movement is known, (T', len(_FRAME))."""
    known = np.isfinite(movement).all(axis=2) & np.isfinite(boxes).all(axis=2)  # (M, T)
    rows = []
    for t in np.flatnonzero(known.any(axis=0)):
        there = np.flatnonzero(known[:, t])
        limbs = movement[there, t, _LIMBS]
        pair = _pair(boxes[there, t], limbs)
        rows.append(np.concatenate([_busiest(movement[there, t]), pair, _crowd(limbs)]))
    return np.array(rows).reshape(len(rows), len(_FRAME))


def _busiest(movement: Float64Array) -> Float64Array:
    """Return the movement of the two people whose limbs move most, (12,); 0 without people."""
    out = np.zeros((2, len(_PERSON)))
    first = movement[np.argsort(-movement[:, _LIMBS], kind="stable")[:2]]
    out[: len(first)] = rate(first)
    out[: len(first), _ENTROPY] = first[:, _ENTROPY]
    return out.ravel()


def _pair(boxes: Float64Array, limbs: Float64Array) -> Float64Array:
    """Return least distance, largest overlap, contact and attack of any two people, (4,).

    Contact is ``sqrt(limbs of both)``, attack the larger one's limbs, each times
    ``exp(-distance in mean heights)``; of a big and a small person, who stand apart in depth,
    attack counts in proportion of their heights.
    """
    if len(boxes) < 2:
        return np.array([_FAR, 0.0, 0.0, 0.0])
    i, j = np.triu_indices(len(boxes), 1)
    centres, heights = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 3] - boxes[:, 1]
    distance = np.hypot(*(centres[i] - centres[j]).T) / ((heights[i] + heights[j]) / 2)
    shared = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
    shared = np.prod(np.maximum(shared, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    overlap = shared / np.maximum(areas[i] + areas[j] - shared, 1e-9)
    near = np.exp(-distance)
    ratio = np.minimum(heights[i], heights[j]) / np.maximum(heights[i], heights[j])
    contact = np.sqrt(np.maximum(limbs[i] * limbs[j], 0)) * near
    attack = np.maximum(limbs[i], limbs[j]) * near * ratio
    least = min(_FAR, float(distance.min()))
    return np.array([least, overlap.max(), rate(contact.max()), rate(attack.max())])


def _crowd(limbs: Float64Array) -> Float64Array:
    return np.array(
        [min(len(limbs), _MOST_PEOPLE), rate(float(np.median(limbs))), rate(float(limbs.mean()))]
    )


# --- poses -------------------------------------------------------------------------


def _poses(sample: Sample) -> Float64Array:
    """Return the measures of the poses, 0 without confident keypoints."""
    frames = sample.keypoints.shape[1]
    rows = sample_rows(sample.keypoints, sample.keypoint_scores, span_s(sample))
    if not len(rows):
        return np.zeros(_RANKED * len(_RANKING) + len(_POSE) * len(_QUANTILES) + 6)
    ranked = fight.measure(rows)[:, _RANKING_COLUMNS]
    ranked = ranked[np.argsort(-ranked.sum(axis=1), kind="stable")[:_RANKED]]
    people = np.zeros((_RANKED, len(_RANKING)))
    people[: len(ranked)] = ranked
    curves = _curves(rows)
    head_height, _ = falldown.head_height(rows)
    confidence = rows.confidence.mean(axis=1)
    return np.concatenate(
        [
            people.ravel(),
            np.percentile(curves, _QUANTILES, axis=1).T.ravel(),
            [
                len(rows) / frames,
                rows.people,
                *np.percentile(head_height, (10, 50)),
                confidence.mean(),
                np.percentile(confidence, 80),
            ],
        ]
    )


def _curves(rows: PersonFrames) -> Float64Array:
    """Return the largest of each of ``_POSE`` per frame with people, (7, T')."""
    frame_numbers, frame = np.unique(rows.frame, return_inverse=True)
    speed, active = fight.limb_speed(rows), fight.activity(rows)
    trunk = rows.trunk_velocity() / rows.size[:, None]
    a, b = _pairs(frame)
    near = fight.closeness(rows, a, b)
    reach = np.maximum(fight.reach(rows, a, b), fight.reach(rows, b, a))
    approach = np.hypot(*(trunk[a] - trunk[b]).T) * near
    strike = reach * np.sqrt(np.maximum(speed[a], speed[b]))
    values = (
        (np.log1p(speed), frame),
        (fight.interaction(rows, active), frame),
        (strike, frame[a]),
        (near, frame[a]),
        (np.log1p(approach), frame[a]),
        (falldown.lying(rows), frame),
        (np.log1p(np.hypot(*trunk.T)), frame),
    )
    curves = np.zeros((len(_POSE), len(frame_numbers)))
    for curve, (value, at) in zip(curves, values, strict=True):
        np.maximum.at(curve, at, value)
    return curves


def _pairs(frame: IntArray) -> tuple[IntArray, IntArray]:
    """Return the rows of every two people of one frame."""
    order = np.argsort(frame, kind="stable")
    parts = [order[:0].reshape(2, 0)]
    for rows in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        i, j = np.triu_indices(len(rows), 1)
        parts.append(np.stack([rows[i], rows[j]]))
    a, b = np.concatenate(parts, axis=1)
    return a, b


def span_s(sample: Sample) -> float:
    """Return the seconds a sample lasts; 1/30 for a single frame."""
    time_s = sample.time_s
    if time_s is None or len(time_s) < 2:
        return 1 / 30
    return float(time_s[-1] - time_s[0] + np.median(np.diff(time_s)))
