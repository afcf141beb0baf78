"""Labels of neighbouring frames against each other: what they confirm stays, the rest is masked.

The people of a short window of frames are tracked forward and backward. A keypoint of the middle
frame stays where the frames before and after agree with it, and is smoothed along its track; a
person that no neighbour shows becomes a doubt, and so does one that only the neighbours show.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from annotation.teacher_labels import AREA, DOUBT, PERSON, Labels
from recognizer.config.schema import TrackingConfig
from recognizer.geometry import box_area, box_iou
from recognizer.tracking.offline import track_people
from recognizer.types import FloatArray, Poses, PoseSequence, PoseSequenceBuilder

LEAST_KEYPOINTS = 5
_PERSON_SCORE, _DOUBT_SCORE = 0.9, 0.2  # for the tracker: doubts go on with tracks, start none
_COVERED = 0.5  # of a doubt by a person, from which on it is that person
_DEGREE, _LEAST_FIT = 2, 4  # a parabola through so many frames or more
_SMOOTHED = 0.5  # of the tolerance: a curve further away than this is another movement


@dataclass(frozen=True, eq=False)
class Window:
    """Labels of neighbouring frames.

    Attributes:
        labels: of each frame.
        time_s: (T,) of each frame, rising.
        centre: index of the frame that is labelled.
        size_wh: of the frames, pixels.

    """

    labels: Sequence[Labels]
    time_s: NDArray[np.float64]
    centre: int
    size_wh: tuple[int, int]


def confirmed(window: Window, tolerance: float) -> Labels:
    """Return the labels of the middle frame that its neighbours confirm.

    Args:
        window: the frames; a frame without neighbours is returned as it is.
        tolerance: how far a keypoint may be from where its neighbours put it, as a share of
            sqrt(box area).

    """
    now = window.labels[window.centre]
    if len(window.labels) == 1:
        return now
    tracked = _track(window)
    mine = tracked.frame(window.centre)
    ids = mine.track_ids[: len(now.kinds)]
    keypoints, kinds = now.keypoints.copy(), now.kinds.copy()
    for row in np.flatnonzero(now.kinds == PERSON):
        track = _rows_of(window, tracked, int(ids[row]))
        if not any(frame != window.centre for frame in track):
            kinds[row] = DOUBT
        elif (keypoints[row, :, 2] > 0).any():
            size = float(np.sqrt(max(box_area(now.boxes[row][None])[0], 1)))
            keypoints[row] = _steady(window, track, tolerance * size)
            few = (keypoints[row, :, 2] > 0).sum() < LEAST_KEYPOINTS
            kinds[row] = DOUBT if few else PERSON
    kept = replace(now, keypoints=keypoints, kinds=kinds)
    return _without_covered(_with_unseen(kept, mine.boxes[len(kinds) :]))


def _track(window: Window) -> PoseSequence:
    """Return people and doubts with ids; rows that the tracker adds come last in their frame."""
    builder = PoseSequenceBuilder()
    for labels, time_s in zip(window.labels, window.time_s.tolist(), strict=True):
        scores = np.where(labels.kinds == PERSON, _PERSON_SCORE, _DOUBT_SCORE)
        builder.append(
            Poses.untracked(
                np.ascontiguousarray(labels.keypoints[..., :2], np.float32),
                np.ascontiguousarray(labels.keypoints[..., 2], np.float32),
                labels.boxes.astype(np.float32),
                scores.astype(np.float32),
            ),
            time_s,
        )
    return track_people(builder.build(window.size_wh), TrackingConfig(), kind="topdown")


def _rows_of(window: Window, tracked: PoseSequence, track_id: int) -> dict[int, int]:
    """Return the row, by frame, of a track wherever it is a person, not a doubt."""
    rows: dict[int, int] = {}
    for frame, labels in enumerate(window.labels if track_id >= 0 else ()):
        ids = tracked.frame(frame).track_ids[: len(labels.kinds)]
        found = np.flatnonzero((ids == track_id) & (labels.kinds == PERSON))
        if len(found):
            rows[frame] = int(found[0])
    return rows


def _steady(window: Window, track: dict[int, int], tolerance: float) -> FloatArray:
    """Return keypoints (17, 3) of the middle frame, weight 0 where neighbours disagree."""
    frames = sorted(track)
    points = np.stack([window.labels[f].keypoints[track[f]] for f in frames])
    times = window.time_s[frames] - window.time_s[window.centre]
    middle = frames.index(window.centre)
    result: FloatArray = points[middle].copy()
    for joint in np.flatnonzero(points[middle, :, 2] > 0):
        known = points[:, joint, 2] > 0
        place = _expected(times, points[:, joint, :2], known, middle)
        own = points[middle, joint, :2]
        if place is None or np.linalg.norm(own - place) > tolerance:
            result[joint, 2] = 0
        else:
            result[joint, :2] = _smoothed(times[known], points[known, joint, :2], own, tolerance)
    return result


def _expected(
    times: NDArray[np.float64], places: FloatArray, known: NDArray[np.bool_], middle: int
) -> NDArray[np.float64] | None:
    """Return where the nearest frames on both sides put a keypoint; None: they do not know it."""
    before = np.flatnonzero(known[:middle])[-1:]
    after = middle + 1 + np.flatnonzero(known[middle + 1 :])[:1]
    sides = [*before, *after]
    if not sides:
        return None
    if len(sides) == 1:
        return np.asarray(places[sides[0]], np.float64)
    (first, second), ((start, stop),) = sides, pairwise(times[sides])
    share = (times[middle] - start) / max(stop - start, 1e-9)
    return np.asarray(places[first] * (1 - share) + places[second] * share, np.float64)


def _smoothed(
    times: NDArray[np.float64], places: FloatArray, own: FloatArray, tolerance: float
) -> FloatArray:
    """Return a keypoint's place at time 0 on the parabola through its track, if it is near."""
    if len(times) < _LEAST_FIT:
        return own
    fitted = np.polyfit(times, places, _DEGREE)[-1]
    near = np.linalg.norm(fitted - own) <= _SMOOTHED * tolerance
    return np.asarray(fitted if near else own, np.float32)


def _with_unseen(labels: Labels, boxes: FloatArray) -> Labels:
    """Return the labels and, as doubts, people who are known to be there but were not detected."""
    more = len(boxes)
    if not more:
        return labels
    return Labels(
        np.concatenate([labels.boxes, boxes]),
        np.concatenate([labels.keypoints, np.zeros((more, 17, 3), np.float32)]),
        np.concatenate([labels.scores, np.full((more, 17), -1, np.float32)]),
        np.concatenate([labels.kinds, np.full(more, DOUBT, np.uint8)]),
        np.concatenate([labels.areas, (box_area(boxes) * AREA).astype(np.float32)]),
    )


def _without_covered(labels: Labels) -> Labels:
    """Return the labels without doubts that are a person, too."""
    people = labels.boxes[labels.kinds == PERSON]
    if not len(people):
        return labels
    covered = box_iou(labels.boxes, people).max(1) > _COVERED
    return labels[np.flatnonzero((labels.kinds == PERSON) | ~covered)]
