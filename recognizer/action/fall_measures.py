"""Measure a clip for the movement stream of fall detection.

A fall often breaks a track in two: tracks that continue one another at one place are joined first.
Most measures are those of the person with the fastest descent: descent and widening of the box,
optical flow in the box and its decay, descent of the head, and lying at the end. The rest are
maxima of a few measures over all people. The posture before the fall is left out: a model that
learns from standing people would miss falls out of a bed.

Drops are downward, lengths in body sizes, times in seconds; no measure depends on picture size,
place or frame rate.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recognizer.action.bodyframe import sample_rows
from recognizer.action.fight_measures import rate, span_s
from recognizer.scoring import falldown
from recognizer.scoring.measures import PersonFrames, person_quantile
from recognizer.types import MOVEMENT_NAMES, BoolArray, Float64Array, Sample

_MEAN, _TRANSLATION, _LIMBS = map(MOVEMENT_NAMES.index, ("mean", "translation", "limbs"))
# Boxes of a person seen turned may stand still for 0.4 s: the shorter span sees a jump, the
# longer one the whole fall.
_DROP_S = (0.4, 1.0)
# Whoever appears this soon after another was last seen, this near (body sizes), is that person.
_JOIN_S, _JOIN_NEAR = 1.0, 1.0
_SPEED_PEAK = 0.95

_BOX = (
    "top_drop",
    "centre_drop",
    "top_fastest",
    "centre_fastest",
    "top_fastest_1s",
    "centre_fastest_1s",
    "aspect_end",
    "aspect_change",
    "height_change",
)
_FLOW = (
    "flow_max",
    "flow_median",
    "translation_max",
    "limbs_p80",
    "flow_end",
    "flow_settled",
    "flow_at_drop",
)
_POSE = ("head_drop", "head_drop_late", "lying_end", "speed_p95")
_ANY = ("any_centre_fastest_1s", "any_top_drop", "any_head_drop", "any_lying_end")
NAMES = (*_BOX, *_FLOW, *_POSE, *_ANY)


class _JoinedTracks(NamedTuple):
    """All people of a clip, joined: boxes (M, T, 4), movement (M, T, 6), keypoints, scores."""

    boxes: Float64Array
    movement: Float64Array
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]


def measure(
    sample: Sample, boxes: Float64Array, movement: Float64Array, time_s: Float64Array
) -> Float64Array:
    """Return the measures of a clip, in the order of ``NAMES``; NaN where there is no data.

    Args:
        sample: the clip.
        boxes: (M, T, 4) pixels, NaN where unknown; one at least is known.
        movement: (M, T, 6), NaN where unknown; columns ``MOVEMENT_NAMES``.
        time_s: (T,) seconds.

    """
    people = _join(sample, boxes, movement, time_s)
    poses = _poses(people, span_s(sample))
    table = np.stack(
        [
            np.concatenate([_box_and_flow(people.boxes[i], people.movement[i], time_s), poses[i]])
            for i in range(len(people.boxes))
        ]
    )
    who = int(np.argmax(np.nan_to_num(table[:, _at("centre_fastest_1s")], nan=-1.0)))
    largest = [_largest(table[:, _at(name.removeprefix("any_"))]) for name in _ANY]
    return np.array([*table[who], *largest])


def _at(name: str) -> int:
    return NAMES.index(name)


def _largest(values: Float64Array) -> float:
    return _quantile(values, 1)


# --- tracks that continue one another ----------------------------------------------


def _join(
    sample: Sample, boxes: Float64Array, movement: Float64Array, time_s: Float64Array
) -> _JoinedTracks:
    """Return the people with a known box; tracks that continue one another are one person."""
    known = np.isfinite(boxes).all(axis=2)
    chains: list[list[int]] = []
    order = sorted(np.flatnonzero(known.any(axis=1)), key=lambda i: int(known[i].argmax()))
    for person in order:
        near = {
            number: distance
            for number, chain in enumerate(chains)
            if (distance := _away(boxes, known, (chain[-1], person), time_s)) <= _JOIN_NEAR
        }
        if near:
            chains[min(near, key=lambda number: (near[number], number))].append(person)
        else:
            chains.append([person])
    arrays = (boxes, movement, sample.keypoints, sample.keypoint_scores)
    joined = [np.stack([_one(array, known, chain) for chain in chains]) for array in arrays]
    return _JoinedTracks(*joined)


def _away(
    boxes: Float64Array, known: BoolArray, pair: tuple[int, int], time_s: Float64Array
) -> float:
    """Return how far, body sizes, the second of a pair appears from where the first was last seen.

    Infinite if it is there before, or much later.
    """
    before, after = pair
    last, first = int(np.flatnonzero(known[before])[-1]), int(known[after].argmax())
    if last >= first or time_s[first] - time_s[last] > _JOIN_S:
        return np.inf
    a, b = boxes[before, last], boxes[after, first]
    size = max(*(a[2:] - a[:2]), *(b[2:] - b[:2]))
    return float(np.hypot(*((a[:2] + a[2:] - b[:2] - b[2:]) / 2)) / size)


def _one(array: NDArray[Any], known: BoolArray, chain: list[int]) -> NDArray[Any]:
    """Return the rows of one person with several track ids, one after the other."""
    row: NDArray[Any] = array[chain[0]].copy()
    for person in chain[1:]:
        first = int(known[person].argmax())
        row[first:] = array[person, first:]
    return row


# --- boxes and flow ----------------------------------------------------------------


def _box_and_flow(
    boxes: Float64Array, movement: Float64Array, time_s: Float64Array
) -> Float64Array:
    """Return the measures ``_BOX`` and ``_FLOW`` of one person."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    size = np.nanmedian(np.maximum(width, height))
    top, centre = boxes[:, 1] / size, (boxes[:, 1] + boxes[:, 3]) / 2 / size
    aspect = np.log(width / height)
    start, end = _thirds(np.isfinite(boxes[:, 0]), time_s)
    aspect_end = _median(aspect, end)
    sudden, whole = (
        [_fastest_drop(place, time_s, span) for place in (top, centre)] for span in _DROP_S
    )
    box = [
        _median(top, end) - _median(top, start),
        _median(centre, end) - _median(centre, start),
        *(drop for drop, _ in sudden),
        *(drop for drop, _ in whole),
        aspect_end,
        aspect_end - _median(aspect, start),
        np.log(_median(height, end) / _median(height, start)),
    ]
    return np.array([*box, *_flow(movement, whole[1][1], end)])


def _flow(movement: Float64Array, dropping: BoolArray, end: BoolArray) -> list[float]:
    flow, limbs = rate(movement[:, _MEAN]), rate(movement[:, _LIMBS])
    return [
        _quantile(flow, 1),
        _quantile(flow, 0.5),
        _quantile(rate(movement[:, _TRANSLATION]), 1),
        _quantile(limbs, 0.8),
        _median(flow, end),
        _median(flow, end) - _quantile(flow, 1),
        _median(flow, dropping),
    ]


def _thirds(present: BoolArray, time_s: Float64Array) -> tuple[BoolArray, BoolArray]:
    """Return masks of the first and the last third of the time in which a person is present."""
    seen = np.flatnonzero(present)
    first, last = time_s[seen[0]], time_s[seen[-1]]
    third = (last - first) / 3
    return present & (time_s <= first + third), present & (time_s >= last - third)


def _quantile(values: Float64Array, share: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else np.nan


def _median(values: Float64Array, mask: BoolArray) -> float:
    return _quantile(values[mask], 0.5)


def _fastest_drop(
    place: Float64Array, time_s: Float64Array, span: float
) -> tuple[float, BoolArray]:
    """Return the furthest descent within ``span`` seconds, at least 0, and a mask of when."""
    drop, when = 0.0, np.ones(len(place), np.bool_)
    for step in range(1, len(place)):
        close = time_s[step:] - time_s[:-step] <= span + 1e-9
        if not close.any():
            break
        fallen = np.where(close, place[step:] - place[:-step], np.nan)
        if np.isfinite(fallen).any() and (most := float(np.nanmax(fallen))) > drop:
            first = int(np.nanargmax(fallen))
            drop, when = most, np.zeros(len(place), np.bool_)
            when[first : first + step + 1] = True
    return drop, when


# --- poses -------------------------------------------------------------------------


def _poses(people: _JoinedTracks, span: float) -> Float64Array:
    """Return the measures ``_POSE`` of all people, (M, 4); NaN without a pose."""
    rows = sample_rows(people.keypoints, people.scores, span)
    if not len(rows):
        return np.full((len(people.boxes), len(_POSE)), np.nan)
    height, head_y = falldown.head_height(rows)
    drop, lying = falldown.drop(rows, height, head_y), falldown.lying(rows)
    speed = rate(falldown.body_speed(rows))
    table = np.column_stack(
        [
            person_quantile(rows, drop, 1.0),
            _end(rows, drop),
            _end(rows, lying),
            person_quantile(rows, speed, _SPEED_PEAK),
        ]
    )
    table[np.bincount(rows.person, minlength=rows.people) == 0] = np.nan
    return np.asarray(table)


def _end(rows: PersonFrames, values: Float64Array) -> Float64Array:
    """Return the means of (N,) values over each person's last third, (K,)."""
    means = np.zeros(rows.people)
    for person in np.unique(rows.person):
        selected = rows.person == person
        _, late = _thirds(selected, rows.time_s)
        means[person] = values[late].mean()
    return means
