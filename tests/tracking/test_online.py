"""People of a stream: the offline tracks of a video, seen through a bounded look-ahead."""

import math

import numpy as np
import pytest

from recognizer.sequences import join_sequences, slice_frames
from recognizer.tracking.offline import track_people
from recognizer.tracking.online import OnlineTracks, track_stream
from recognizer.tracking.tracks import split_tracks
from recognizer.types import PoseSequence
from tests.people import Camera, crowd
from tests.tracking.boxes import SETTINGS, SIZE_WH, box, shots_of, video, walk


def parts_of(sequence, size):
    stops = range(size, len(sequence) + size, size)
    return [slice_frames(sequence, n - size, min(n, len(sequence))) for n in stops]


def streamed(sequence, look_ahead_s=1.5, size=1):
    return join_sequences(list(track_stream(parts_of(sequence, size), SETTINGS, look_ahead_s)))


def assert_equal(one, other):
    for name in ("frame_offsets", "time_s"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("keypoints", "boxes", "box_scores", "track_ids"):
        np.testing.assert_array_equal(getattr(one.poses, name), getattr(other.poses, name))


@pytest.fixture(scope="module")
def busy():
    people = crowd(5, 3, stay_s=4.0, seconds=10)
    return shots_of(people, 10, Camera(jitter=0.03, missed=0.3, low=0.3), 3)[0]


def test_an_endless_look_ahead_gives_the_offline_tracks(busy):
    assert_equal(streamed(busy, math.inf, 7), track_people(busy, SETTINGS))


@pytest.mark.parametrize("size", [3, 8, 1000])
def test_how_a_stream_is_cut_changes_nothing(busy, size):
    assert_equal(streamed(busy, size=size), streamed(busy, size=1))


@pytest.mark.parametrize("look_ahead_s", [0.0, 0.4, 1.5])
def test_every_frame_comes_once_with_every_id_once(busy, look_ahead_s):
    tracked = streamed(busy, look_ahead_s, 5)
    np.testing.assert_array_equal(tracked.time_s, busy.time_s)
    split_tracks(tracked)  # refuses an id that stands twice in one frame
    seen = tracked.poses.box_scores > 0
    np.testing.assert_array_equal(tracked.poses.boxes[seen], busy.poses.boxes)


def test_frames_come_as_late_as_the_look_ahead(busy):
    tracks, came = OnlineTracks(SETTINGS, 1.0), []
    for part in parts_of(busy, 1):
        for settled in tracks.update(part):
            came.append(settled.time_s[-1])
            assert 1.0 - 1e-6 <= part.time_s[-1] - settled.time_s[-1] <= 1.05
            # The first of a stretch of 0.5 s waits for the others, and for one frame of 0.05 s.
            assert 1.5 - 1e-6 <= part.time_s[-1] - settled.time_s[0] <= 1.55 + 1e-6
    assert len(came) > 10
    (rest,) = tracks.finish()
    assert rest.time_s[-1] == busy.time_s[-1]
    assert tracks.finish() == []


def test_a_gap_is_filled_that_ends_within_the_look_ahead():
    boxes = walk(200)
    gap = range(106, 113)
    frames = [{} if t in gap else {1: boxes[t]} for t in range(200)]
    tracked = streamed(video(frames), 0.5)
    inside = slice_frames(tracked, 106, 113).poses
    assert (len(inside), (inside.box_scores == 0).all()) == (7, True)
    assert len(np.unique(tracked.poses.track_ids)) == 1
    # With none, frame 110 is the last of a stretch that ends inside the gap.
    blind = streamed(video(frames), 0.0)
    assert [len(blind.frame(t)) for t in gap] == [0, 0, 0, 0, 0, 1, 1]


def test_a_joined_track_keeps_the_first_id_to_the_end():
    """Long after the first track has left the frames that are kept, the second has its id."""
    lost = range(150, 172)  # 1.1 s: the tracker has forgotten who it was
    settings = SETTINGS.model_copy(update={"track_buffer_s": 0.3, "join_gap_s": 1.5})
    frames = [{} if t in lost else {1: box(300)} for t in range(400)]
    sequence = video(frames)
    tracked = join_sequences(list(track_stream(parts_of(sequence, 4), settings, 1.5)))
    assert np.unique(tracked.poses.track_ids).tolist() == [1]
    forward = track_people(
        sequence, settings.model_copy(update={"join_gap_s": 0.0, "track_backward": False})
    )
    assert np.unique(forward.poses.track_ids).tolist() == [-1, 1, 2]


def test_reset_forgets_the_video(busy):
    tracks = OnlineTracks(SETTINGS)
    first = tracks.update(busy)
    tracks.reset()
    again = tracks.update(busy)
    assert_equal(join_sequences(first), join_sequences(again))


def test_what_does_not_follow_is_refused(busy):
    tracks = OnlineTracks(SETTINGS)
    tracks.update(slice_frames(busy, 20, 30))
    with pytest.raises(ValueError, match="time_s: expected a time not before the last frame's"):
        tracks.update(slice_frames(busy, 0, 10))
    part = slice_frames(busy, 30, 31)
    larger = PoseSequence(part.poses, part.frame_offsets, part.time_s, part.corrupt, (9, 9))
    with pytest.raises(ValueError, match="size_wh: expected"):
        tracks.update(larger)
    with pytest.raises(ValueError, match="look_ahead_s: expected 0 or more"):
        OnlineTracks(SETTINGS, math.nan)


def test_nobody_and_nothing():
    assert list(track_stream([], SETTINGS)) == []
    empty = video([{}] * 100)
    assert empty.size_wh == SIZE_WH
    tracked = streamed(empty)
    assert (len(tracked), len(tracked.poses)) == (100, 0)


def test_memory_does_not_grow_with_the_stream(busy):
    tracks, kept = OnlineTracks(SETTINGS), []
    for lap in range(6):
        shifted = PoseSequence(
            busy.poses,
            busy.frame_offsets,
            busy.time_s + lap * busy.duration_s,
            busy.corrupt,
            busy.size_wh,
        )
        tracks.update(shifted)
        kept.append((len(tracks._frames), len(tracks._same)))
    assert max(frames for frames, _ in kept) <= 20 * 6  # of 1,200
    assert max(joins for _, joins in kept) <= 10
