"""Online tracking: forward, corrected with a bounded look-ahead.

``Tracker`` gives ids frame by frame. Some seconds later the ids of a stretch of frames are settled
by the functions that ``offline`` applies to a whole video, here to that stretch, the seconds before
it and those of the look-ahead after it.

Differences from ``offline``: a weak detection gets the id of a person only if that person is seen
confidently within the look-ahead, and a pair of tracks is joined without knowing the tracks that
start later. With an infinite look-ahead nothing differs, and nothing comes before the end.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import NoneType

import numpy as np

from recognizer.checks import check_number, check_type
from recognizer.config.schema import TrackingConfig
from recognizer.config.types import PoseKind
from recognizer.sequences import join_sequences, parts_of, require_follows, slice_frames
from recognizer.tracking.offline import complete_tracks, link_tracks
from recognizer.tracking.tracker import Tracker
from recognizer.types import IntArray, PoseSequence

LOOK_AHEAD_S = 1.5
_STEP_S = 0.5  # frames are settled in stretches of this length
_CONTEXT_S = 1.5  # before the longest gap that is bridged: evidence for bridging it
_FORGOTTEN_S = 0.1  # after track_buffer_s no id comes back; more than the tracker's own grace


def track_stream(
    parts: PoseSequence | Iterable[PoseSequence],
    settings: TrackingConfig | None = None,
    look_ahead_s: float = LOOK_AHEAD_S,
    *,
    kind: PoseKind = "rtmo",
) -> Iterator[PoseSequence]:
    """Yield the frames of a video with its people tracked, as late as ``OnlineTracks`` says.

    Args:
        parts: poses of the video, whole or in parts that follow each other, of any length.
        settings: the config's section; None: the defaults.
        look_ahead_s: as of ``OnlineTracks``.
        kind: as of ``Tracker``.

    Raises:
        ValueError: as ``OnlineTracks``.

    """
    tracks = OnlineTracks(settings, look_ahead_s, kind=kind)
    for part in parts_of(parts):
        yield from tracks.update(part)
    yield from tracks.finish()


class OnlineTracks:
    """The people of one camera with ids and filled gaps, a little later than their frames come.

    Args:
        settings: the config's section; None: the defaults.
        look_ahead_s: how far ahead of a frame is seen before it is settled, seconds. Frames come in
            stretches of 0.5 s, so that a frame comes up to 0.5 s later than that. Infinity: at the
            end, as ``offline.track_people``.
        kind: as of ``Tracker``.

    Raises:
        ValueError: a look-ahead below 0 or NaN.

    """

    def __init__(
        self,
        settings: TrackingConfig | None = None,
        look_ahead_s: float = LOOK_AHEAD_S,
        *,
        kind: PoseKind = "rtmo",
    ) -> None:
        check_type("settings", settings, TrackingConfig, NoneType)
        check_number("look_ahead_s", look_ahead_s)
        if not look_ahead_s >= 0:
            raise ValueError(f"look_ahead_s: expected 0 or more seconds, got {look_ahead_s}")
        self._settings = settings = (settings or TrackingConfig()).for_kind(kind)
        self._look_ahead_s = look_ahead_s
        self._forgotten_s = settings.track_buffer_s + _FORGOTTEN_S
        longest = max(self._forgotten_s, settings.max_gap_s, settings.join_gap_s, settings.merge_s)
        self._history_s = longest + _CONTEXT_S
        self._tracker = Tracker(settings)
        self.reset()

    def reset(self) -> None:
        """Drop all frames and restart the ids, as for another video."""
        self._tracker.reset()
        self._frames: list[PoseSequence] = []  # one each, as the tracker leaves them
        self._settled = 0  # so many of them were returned
        self._same: dict[int, int] = {}  # the id of a track -> the id of the one it is joined to

    def update(self, part: PoseSequence) -> list[PoseSequence]:
        """Take the next frames; return those that are settled, none or some, in parts.

        How the frames are cut into parts changes nothing.

        Raises:
            ValueError: another picture size than before, times that fall, or poses that hold NaN
                or infinity.

        """
        if self._frames:
            require_follows(part, self._frames[-1].size_wh, float(self._frames[-1].time_s[-1]))
        settled = []
        for t, time_s in enumerate(part.time_s.tolist()):
            frame = slice_frames(part, t, t + 1)
            self._frames.append(replace(frame, poses=self._tracker.update(frame.poses, time_s)))
            waiting_s = time_s - float(self._frames[self._settled].time_s[0])
            if waiting_s >= self._look_ahead_s + _STEP_S:
                settled.append(self._settle(time_s - self._look_ahead_s))
        return settled

    def finish(self) -> list[PoseSequence]:
        """Return the frames that are not settled yet at the end of the video, and reset."""
        remaining = [self._settle(math.inf)] if self._settled < len(self._frames) else []
        self.reset()
        return remaining

    def _settle(self, until_s: float) -> PoseSequence:
        """Return the frames that are not settled yet and not later than ``until_s``."""
        sequence = self._known()
        linked = link_tracks(sequence, self._settings)
        self._keep_joins(sequence, linked.poses.track_ids)
        first = self._settled
        stop = int(np.searchsorted(sequence.time_s, until_s, side="right"))
        part = slice_frames(complete_tracks(linked, self._settings), first, stop)
        keep_s = float(sequence.time_s[min(stop, len(sequence) - 1)]) - self._history_s
        old = int(np.searchsorted(sequence.time_s, keep_s))
        self._frames, self._settled = self._frames[old:], stop - old
        return part

    def _known(self) -> PoseSequence:
        """Return the frames kept, in which tracks that were joined before have one id."""
        sequence = join_sequences(self._frames)
        ids = sequence.poses.track_ids.copy()
        # An id unseen for as long as frames are kept never comes back.
        self._same = {old: self._same[old] for old in np.unique(ids).tolist() if old in self._same}
        for old, joined in self._same.items():
            ids[ids == old] = joined
        return replace(sequence, poses=sequence.poses.with_ids(ids))

    def _keep_joins(self, sequence: PoseSequence, linked: IntArray) -> None:
        """Keep what was joined to a track that cannot come back under its own id any more."""
        ids, times = sequence.poses.track_ids, sequence.time_s[sequence.frame_of_row]
        renamed = np.flatnonzero((ids >= 0) & (ids != linked))
        for track_id in np.unique(ids[renamed]).tolist():
            row = renamed[ids[renamed] == track_id][0]
            if times[row] < sequence.time_s[-1] - self._forgotten_s:
                joined = int(linked[row])
                self._same = {o: joined if j == track_id else j for o, j in self._same.items()}
                self._same[track_id] = joined
