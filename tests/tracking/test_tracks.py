import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.tracking.tracks import fill_gaps, split_tracks
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder
from tests.people import Person

FPS = 10


def walker(i):
    return Person((100.0 + 40 * i, 200.0), (50.0, 10.0 * i), 100.0)


def row(track_id, t, score=0.9):
    person = walker(track_id)
    return Poses(
        person.centre(t)[None, None].repeat(17, axis=1).astype(np.float32),
        np.full((1, 17), score, np.float32),
        person.box(t)[None].astype(np.float32),
        np.full(1, score, np.float32),
        np.array([track_id], np.int64),
    )


def sequence(*frames, times=None):
    """Return a video; each frame is the ids in it."""
    builder = PoseSequenceBuilder()
    for t, ids in enumerate(frames):
        time_s = t / FPS if times is None else times[t]
        builder.append(Poses.concatenate([row(i, time_s) for i in ids]), time_s)
    return builder.build((640, 480))


def ids_by_frame(video):
    return [frame.track_ids.tolist() for frame in video.frames()]


def test_split_tracks():
    tracks = split_tracks(sequence([7, -1, 2], [-1, -1], [2, 0, 7], [7]))
    assert [t.track_id for t in tracks] == [0, 2, 7]
    assert [t.frame_indices.tolist() for t in tracks] == [[2], [0, 2], [0, 2, 3]]
    for track in tracks:
        assert (track.poses.track_ids == track.track_id).all()
        expected = [walker(track.track_id).box(t / FPS) for t in track.frame_indices]
        np.testing.assert_allclose(track.poses.boxes, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "frames", [[], [[], []], [[-1, -1], [-1]]], ids=["none", "empty", "no ids"]
)
def test_nobody(frames):
    video = sequence(*frames)
    assert split_tracks(video) == []
    assert ids_by_frame(fill_gaps(video, 1.0)) == ids_by_frame(video)


@pytest.mark.parametrize("use", [split_tracks, lambda v: fill_gaps(v, 1.0)], ids=["split", "fill"])
def test_refuses_an_id_twice_in_one_frame(use):
    with pytest.raises(ValueError, match="id 3 twice in frame 1"):
        use(sequence([3], [1, 3, 3]))


@pytest.mark.parametrize(
    ("max_gap_s", "expected"),
    [
        (0.0, [[1], [], [1], [], [], [1]]),
        (0.1, [[1], [], [1], [], [], [1]]),
        (0.2, [[1], [1], [1], [], [], [1]]),
        (0.3, [[1], [1], [1], [1], [1], [1]]),
        (9.9, [[1], [1], [1], [1], [1], [1]]),
    ],
)
def test_fills_gaps_up_to_the_limit(max_gap_s, expected):
    filled = fill_gaps(sequence([1], [], [1], [], [], [1]), max_gap_s)
    assert ids_by_frame(filled) == expected


def test_filled_rows_lie_on_the_line_and_show_that_they_are_filled():
    video = sequence([1, -1], [2], [-1], [1, 2])
    filled = fill_gaps(video, 1.0)
    assert ids_by_frame(filled) == [[1, -1], [2, 1], [-1, 1, 2], [1, 2]]
    for t, frame in enumerate(filled.frames()):
        for r, track_id in enumerate(frame.track_ids.tolist()):
            if track_id == -1:
                continue
            missed = (t, track_id) in {(1, 1), (2, 1), (2, 2)}
            expected = row(track_id, t / FPS, score=0.0 if missed else 0.9)
            for name in ("keypoints", "boxes", "keypoint_scores", "box_scores"):
                np.testing.assert_allclose(
                    getattr(frame, name)[r], getattr(expected, name)[0], rtol=1e-5, atol=1e-3
                )
    assert filled.time_s is video.time_s
    assert filled.size_wh == video.size_wh


def test_interpolates_by_time_not_by_frame_number():
    video = sequence([1], [], [], [1], times=[0.0, 0.1, 0.9, 1.0])
    x = [frame.boxes[0, 0] for frame in fill_gaps(video, 1.0).frames()]
    np.testing.assert_allclose(np.diff(x), [5, 40, 5], rtol=1e-4)


def test_frames_of_one_time_are_spread_evenly():
    video = sequence([1], [], [1], times=[0.5, 0.5, 0.5])
    assert ids_by_frame(fill_gaps(video, 0.0)) == [[1], [1], [1]]


def test_a_keypoint_missing_at_an_end_stays_missing():
    first, last = row(1, 0.0), row(1, 0.2)
    first.keypoint_scores[0, 3] = last.keypoint_scores[0, 5] = 0
    first.keypoints[0, 3] = last.keypoints[0, 5] = 0
    builder = PoseSequenceBuilder()
    for t, poses in enumerate([first, Poses.empty(), last]):
        builder.append(poses, t / FPS)
    middle = fill_gaps(builder.build((640, 480)), 1.0).frame(1)
    assert (middle.keypoints[0, [3, 5]] == 0).all()
    assert (middle.keypoints[0, [0, 4, 6]] > 0).all()
    assert (middle.keypoint_scores == 0).all()


@pytest.mark.parametrize("limit", [-0.1, np.nan])
def test_refuses_a_limit_that_is_none(limit):
    with pytest.raises(ValueError, match="max_gap_s"):
        fill_gaps(sequence([1]), limit)


presence = st.lists(st.sets(st.integers(0, 4)), max_size=12)


@settings(deadline=None)
@given(presence, st.floats(0, 1.5))
def test_filling(frames, max_gap_s):
    video = sequence(*map(sorted, frames))
    filled = fill_gaps(video, max_gap_s)
    for t, frame in enumerate(video.frames()):  # what was there stays, in order, first
        kept = filled.frame(t)[: len(frame)]
        np.testing.assert_array_equal(kept.keypoints, frame.keypoints)
        np.testing.assert_array_equal(kept.track_ids, frame.track_ids)
        assert (filled.frame(t)[len(frame) :].box_scores == 0).all()
    for track in split_tracks(filled):
        steps = np.diff(track.frame_indices)
        assert ((steps == 1) | (steps / FPS > max_gap_s - 1e-9)).all()
    again = fill_gaps(filled, max_gap_s)
    assert ids_by_frame(again) == ids_by_frame(filled)


def test_200_000_rows_in_a_moment():
    frames, people = 20_000, 10
    rng = np.random.default_rng(0)
    present = rng.random((frames, people)) > 0.1
    ids = np.nonzero(present)[1].astype(np.int64)
    n = len(ids)
    poses = Poses(
        np.ones((n, 17, 2), np.float32),
        np.ones((n, 17), np.float32),
        np.ones((n, 4), np.float32),
        np.ones(n, np.float32),
        ids,
    )
    offsets = np.concatenate([[0], np.cumsum(present.sum(1))]).astype(np.int64)
    video = PoseSequence(
        poses, offsets, np.arange(frames) / 30, np.zeros(frames, np.bool_), (640, 480)
    )
    start = time.process_time()
    filled = fill_gaps(video, 60.0)
    tracks = split_tracks(filled)
    assert time.process_time() - start < 5  # 0.3 s as measured; a Python loop takes far longer
    assert len(tracks) == people
    assert len(filled.poses) >= frames * people - 200


def test_filled_rows_have_no_movement_and_others_keep_theirs():
    video = sequence([1, 2], [2], [1, 2])
    movement = np.arange(30, dtype=np.float32).reshape(5, 6)
    video = PoseSequence(
        video.poses.with_movement(movement),
        video.frame_offsets,
        video.time_s,
        video.corrupt,
        video.size_wh,
    )
    filled = fill_gaps(video, 0.5).poses
    assert filled.track_ids.tolist() == [1, 2, 2, 1, 1, 2]
    np.testing.assert_array_equal(filled.movement, [*movement[:3], [np.nan] * 6, *movement[3:]])
