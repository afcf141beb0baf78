"""Offline tracking: forward and backward, joined, gaps filled, kept in a clinch.

``online`` does the same on a stream, with a bounded look-ahead.
"""

from dataclasses import replace
from types import NoneType

from recognizer.checks import check_type
from recognizer.config.schema import TrackingConfig
from recognizer.config.types import PoseKind
from recognizer.tracking.backward import Progress, adopt_backward, track_backward, track_forward
from recognizer.tracking.joining import join_tracks
from recognizer.tracking.merging import keep_merged
from recognizer.tracking.tracks import fill_gaps
from recognizer.types import PoseSequence


def track_people(
    sequence: PoseSequence,
    settings: TrackingConfig | None = None,
    progress: Progress = iter,
    *,
    kind: PoseKind = "rtmo",
) -> PoseSequence:
    """Return the people of a video with ids, and rows where detections are missing for a while.

    Args:
        sequence: people of every frame; ids in them are ignored.
        settings: the config's section; None: the defaults.
        progress: sees the frames as they are tracked, once forward and once backward.
        kind: as of ``Tracker``.

    Returns:
        The same rows with ids and, after them in each frame, rows with ``box_scores`` 0 for
        people who are not seen but known to be there.

    Raises:
        TypeError: an argument of another type.

    """
    check_type("sequence", sequence, PoseSequence)
    check_type("settings", settings, TrackingConfig, NoneType)
    settings = (settings or TrackingConfig()).for_kind(kind)
    ids = track_forward(sequence, settings, progress)
    tracked = replace(sequence, poses=sequence.poses.with_ids(ids))
    return complete_tracks(link_tracks(tracked, settings, progress), settings)


def link_tracks(
    sequence: PoseSequence, settings: TrackingConfig, progress: Progress = iter
) -> PoseSequence:
    """Return the same rows with ids corrected by later frames.

    Args:
        sequence: people with the ids of ``Tracker``.
        settings: the config's section.
        progress: sees the frames as they are tracked backward.

    """
    if settings.track_backward:
        backward = track_backward(sequence, settings, progress)
        ids = adopt_backward(sequence.poses.track_ids, backward, sequence.frame_of_row)
        sequence = replace(sequence, poses=sequence.poses.with_ids(ids))
    return join_tracks(sequence, settings.join_gap_s)


def complete_tracks(sequence: PoseSequence, settings: TrackingConfig) -> PoseSequence:
    """Return linked tracks with rows added where people are known to be but not detected."""
    filled = fill_gaps(sequence, settings.max_gap_s)
    return keep_merged(filled, settings.merge_s, settings.new_track_thresh or 0.0)
