"""Samples: the most involved people of a clip or window, as the action network's input."""

from collections.abc import Sequence

import numpy as np

from recognizer.checks import check_type, check_whole
from recognizer.config.schema import ScoringConfig
from recognizer.scoring.ranking import Involvement, Service, rank_people
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.types import NUM_MOVEMENTS, IntArray, PoseSequence, Sample


class NoTrackedPeopleError(ValueError):
    """A clip or window without tracked people."""


def choose_people(
    sequence: PoseSequence, ranked_ids: IntArray | Sequence[int], num_person: int
) -> IntArray:
    """Return the first ``num_person`` ids (M,) of a ranking that are visible in a sequence.

    People with rows of filled gaps alone are left out.

    Raises:
        NoTrackedPeopleError: no id is left.

    """
    ids = np.asarray(ranked_ids, np.int64)
    seen = sequence.poses.keypoint_scores.any(axis=1)
    ids = ids[np.isin(ids, sequence.poses.track_ids[seen]) & (ids >= 0)][:num_person]
    if len(ids) == 0:
        raise NoTrackedPeopleError("nobody was tracked")
    return ids


def people_of(
    clip: PoseSequence, service: Service, scoring: ScoringConfig, num_person: int
) -> tuple[IntArray, Involvement]:
    """Return the ids (M,) of the people of a clip or window, and the whole ranking.

    Used for training samples and for the windows of new video alike.

    Args:
        clip: tracked people.
        service: how they are ranked.
        scoring: the weights of the ranking.
        num_person: people at most.

    Raises:
        NoTrackedPeopleError: no person is tracked in it.

    """
    if not (clip.poses.track_ids >= 0).any():
        raise NoTrackedPeopleError("nobody was tracked")
    ranked = rank_people(clip, service, scoring)
    return choose_people(clip, ranked.track_ids, num_person), ranked


def build_sample(
    sequence: PoseSequence,
    ranked_ids: IntArray | Sequence[int],
    num_person: int,
    name: str,
    label: int,
) -> Sample:
    """Return the sample of the most involved people of a sequence.

    Slot m is one person throughout. Where the person is absent, coordinates and scores are
    0, box and movement NaN; where a short gap was filled, coordinates and box are the
    interpolated ones, scores 0 and the movement NaN.
    There are ``min(num_person, people)`` slots: none is empty.

    Args:
        sequence: the frames of the sample, with track ids.
        ranked_ids: (K,) ids, the most involved first.
        num_person: slots at most.
        name: unique name of the sample.
        label: class index.

    Raises:
        NoTrackedPeopleError: no person for a slot.
        TypeError: an argument of another type.
        ValueError: an id twice in one frame or in the ranking, a number that is not finite, or
            ``num_person`` or ``label`` out of range.

    """
    check_type("sequence", sequence, PoseSequence)
    check_type("name", name, str)
    check_whole("num_person", num_person)
    check_whole("label", label, 0)
    ids = np.asarray(ranked_ids, np.int64)
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f"{name}: expected every id once in the ranking, got {ids.tolist()}")
    ids = choose_people(sequence, ids, num_person)
    keypoints = np.zeros((len(ids), len(sequence), NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((len(ids), len(sequence), NUM_KEYPOINTS), np.float32)
    boxes = np.full((len(ids), len(sequence), 4), np.nan, np.float32)
    movement = np.full((len(ids), len(sequence), NUM_MOVEMENTS), np.nan, np.float32)
    frame_of_row = sequence.frame_of_row
    measured = sequence.poses.movement
    for slot, track_id in enumerate(ids):
        rows = np.flatnonzero(sequence.poses.track_ids == track_id)
        frames = frame_of_row[rows]
        if np.any(np.diff(frames) == 0):
            raise ValueError(f"{name}: expected person {track_id} once per frame, found twice")
        keypoints[slot, frames] = sequence.poses.keypoints[rows]
        scores[slot, frames] = sequence.poses.keypoint_scores[rows]
        boxes[slot, frames] = sequence.poses.boxes[rows]
        if measured is not None:
            movement[slot, frames] = measured[rows]
    return Sample(
        name,
        label,
        keypoints,
        scores,
        sequence.size_wh,
        ids,
        boxes,
        None if measured is None else movement,
        sequence.time_s - sequence.time_s[0],
    )
