"""People of a whole video: tracked forward and backward, joined, filled and kept in a clinch.

Live inference sees only the past and uses ``Tracker`` alone; a file is known from both ends.
"""

from dataclasses import replace

from recognizer.config import TrackingSection
from recognizer.tracking.backward import Progress, adopt_backward, track_backward, track_forward
from recognizer.tracking.joining import join_tracks
from recognizer.tracking.merging import keep_merged
from recognizer.tracking.tracks import fill_gaps
from recognizer.types import PoseSequence


def track_people(
    sequence: PoseSequence, settings: TrackingSection, progress: Progress = iter
) -> PoseSequence:
    """Return the people of a video with ids, and rows where they were missed for a while.

    Args:
        sequence: people of every frame; ids in them are ignored.
        settings: the config's section, thresholds filled in for the kind of pose network.
        progress: sees the frames as they are tracked, once forward and once backward.

    Returns:
        The same rows with ids and, after them in each frame, rows with ``box_scores`` 0 for
        people who are not seen but known to be there.

    """
    settings = settings.for_kind("rtmo")  # as the tracker does; no change where nothing is null
    ids = track_forward(sequence, settings, progress)
    if settings.track_backward:
        backward = track_backward(sequence, settings, progress)
        ids = adopt_backward(ids, backward, sequence.frame_of_row)
    tracked = replace(sequence, poses=sequence.poses.with_ids(ids))
    joined = join_tracks(tracked, settings.join_gap_s)
    filled = fill_gaps(joined, settings.max_gap_s)
    return keep_merged(filled, settings.merge_s, settings.new_track_thresh or 0.0)
