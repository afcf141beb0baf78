"""The values: checked at birth, right when empty, unchangeable."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.types import (
    FrameAccount,
    Poses,
    PoseSequence,
    PoseSequenceBuilder,
    Sample,
    Track,
)


def people(n: int, seed: int = 0) -> Poses:
    rng = np.random.default_rng(seed)
    return Poses.untracked(
        rng.random((n, 17, 2), np.float32),
        rng.random((n, 17), np.float32),
        rng.random((n, 4), np.float32),
        rng.random(n, np.float32),
    )


def sequence(counts: list[int]) -> PoseSequence:
    builder = PoseSequenceBuilder()
    for t, n in enumerate(counts):
        builder.append(people(n, seed=t), t / 10, corrupt=t % 2 == 1)
    return builder.build((64, 48))


# --- poses -------------------------------------------------------------------------


def test_empty_poses_go_everywhere():
    empty = Poses.empty()
    assert (len(empty), repr(empty)) == (0, "Poses(0 people, 0 tracked)")
    assert empty.keypoints.shape == (0, 17, 2)
    assert len(empty[np.zeros(0, bool)]) == len(empty[:5]) == 0
    assert len(Poses.concatenate([])) == len(Poses.concatenate([empty, empty])) == 0
    assert len(Poses.concatenate([empty, people(2)])) == 2


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("keypoints", np.zeros((2, 16, 2), np.float32), r"expected \(2, 17, 2\) float32"),
        ("keypoints", np.zeros((2, 17, 2)), "got .* float64"),
        ("keypoint_scores", np.zeros((1, 17), np.float32), r"expected \(2, 17\)"),
        ("boxes", np.zeros((2, 5), np.float32), r"got \(2, 5\) float32"),
        ("boxes", [[0, 0, 1, 1]] * 2, "got"),
        ("box_scores", np.zeros((2, 1), np.float32), r"expected \(2\)|expected \(2,?\)"),
        ("track_ids", np.zeros(2, np.int32), "expected .* int64"),
        ("movement", np.zeros((2, 5), np.float32), r"expected \(2, 6\) float32, got \(2, 5\)"),
        ("movement", np.zeros((2, 6)), "got .* float64"),
        ("movement", np.zeros((1, 6), np.float32), r"got \(1, 6\)"),
    ],
)
def test_poses_that_do_not_fit_are_refused(name, array, message):
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        replace(people(2), **{name: array})


def test_poses_cannot_change():
    with pytest.raises(FrozenInstanceError):
        people(1).boxes = np.zeros((1, 4), np.float32)  # type: ignore[misc]


def test_rows_are_selected_together():
    poses = people(4).with_ids(np.arange(4))
    for rows in (slice(1, 3), np.array([2, 0]), np.array([False, True, False, True])):
        part = poses[rows]
        assert np.array_equal(part.track_ids, np.arange(4)[rows])
        assert np.array_equal(part.keypoints, poses.keypoints[rows])
        assert np.array_equal(part.box_scores, poses.box_scores[rows])


def test_movement_goes_with_its_rows():
    movement = np.arange(18, dtype=np.float32).reshape(3, 6)
    poses = people(3).with_movement(movement).with_ids(np.arange(3))
    assert np.array_equal(poses.movement, movement)
    assert np.array_equal(poses[[2, 0]].movement, movement[[2, 0]])
    joined = Poses.concatenate([people(1), poses, Poses.empty()])
    assert np.isnan(joined.movement[0]).all()
    assert np.array_equal(joined.movement[1:], movement)
    assert Poses.concatenate([people(1), people(2)]).movement is None
    assert people(2)[:1].movement is None


def test_a_sequence_keeps_movement_frame_by_frame():
    builder = PoseSequenceBuilder()
    for t in range(9000):
        builder.append(people(t % 2).with_movement(np.full((t % 2, 6), t, np.float32)), t / 10)
    seq = builder.build((64, 48))
    assert np.array_equal(seq.poses.movement[:, 0], np.arange(1, 9000, 2))
    assert np.array_equal(seq.frame(8191).movement, np.full((1, 6), 8191, np.float32))


def test_ids_are_given_without_touching_the_rest():
    poses = people(3)
    tracked = poses.with_ids(np.array([5, -1, 7]))
    assert repr(tracked) == "Poses(3 people, 2 tracked)"
    assert tracked.keypoints is poses.keypoints
    assert poses.track_ids.tolist() == [-1] * 3


# --- sequences ---------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=12))
def test_a_sequence_gives_back_its_frames(counts):
    seq = sequence(counts)
    assert [len(frame) for frame in seq.frames()] == counts
    for t in range(len(counts)):
        assert np.array_equal(seq.frame(t).keypoints, people(counts[t], seed=t).keypoints)
    assert seq.frame_of_row.tolist() == [t for t, n in enumerate(counts) for _ in range(n)]
    assert seq.corrupt.tolist() == [t % 2 == 1 for t in range(len(counts))]
    assert len(seq) == len(counts)


def test_a_sequence_longer_than_a_pack_is_whole():
    seq = sequence([t % 2 for t in range(9000)])
    assert (len(seq), len(seq.poses)) == (9000, 4500)
    assert np.array_equal(seq.frame(8191).boxes, people(1, seed=8191).boxes)


@pytest.mark.parametrize(
    ("counts", "duration", "period"), [([], 0, 1 / 30), ([1], 1 / 30, 1 / 30), ([0] * 5, 0.5, 0.1)]
)
def test_time_of_a_sequence(counts, duration, period):
    seq = sequence(counts)
    assert seq.duration_s == pytest.approx(duration)
    assert seq.frame_period_s == pytest.approx(period)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_offsets": np.array([0, 1, 2])}, "frame_offsets"),
        ({"frame_offsets": np.array([1, 1, 2, 3])}, "a rise from 0 to 3, got 1 to 3"),
        ({"frame_offsets": np.array([0, 1, 2, 4])}, "a rise from 0 to 3, got 0 to 4"),
        ({"frame_offsets": np.array([0, 3, 2, 3])}, "a rise"),
        ({"time_s": np.array([0.0, 0.1, 1e22])}, "within 1e10 s"),
        ({"time_s": np.array([0.0, 0.2, 0.1])}, "never fall"),
        ({"time_s": np.array([0.0, np.nan, 0.1])}, "finite"),
        ({"time_s": np.zeros(3, np.float32)}, "time_s: expected .* float64"),
        ({"corrupt": np.zeros(3, np.uint8)}, "corrupt: expected .* bool"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(sequence([1, 1, 1]), **change)


# --- tracks, samples, accounts -----------------------------------------------------


def test_a_track_has_one_row_a_frame():
    track = Track(3, np.array([0, 4, 5]), people(3))
    assert (len(track), repr(track)) == (3, "Track(3, 3 frames)")


@pytest.mark.parametrize(
    "frames", [[0, 1], [0, 1, 1], [2, 1, 3]], ids=["too-few", "twice", "backwards"]
)
def test_tracks_that_do_not_fit_are_refused(frames):
    with pytest.raises(ValueError, match=r"frame_indices|one row per frame"):
        Track(3, np.array(frames), people(3))


def sample(m: int = 2, t: int = 5) -> Sample:
    rng = np.random.default_rng(0)
    return Sample(
        "clip",
        1,
        rng.random((m, t, 17, 2), np.float32),
        rng.random((m, t, 17), np.float32),
        (64, 48),
        np.arange(m),
    )


@pytest.mark.parametrize("m", [0, 1, 4])
def test_a_sample_may_have_nobody(m):
    assert repr(sample(m)) == f"Sample('clip', label 1, {m} people, 5 frames)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": np.full((2, 5, 17, 2), np.nan, np.float32)}, "clip: expected finite"),
        ({"keypoint_scores": np.full((2, 5, 17), np.inf, np.float32)}, "clip: expected finite"),
        ({"keypoint_scores": np.zeros((2, 4, 17), np.float32)}, "keypoint_scores"),
        ({"keypoints": np.zeros((2, 5, 17, 3), np.float32)}, "keypoints"),
        ({"track_ids": np.arange(3)}, "track_ids"),
    ],
)
def test_samples_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(sample(), **change)


@pytest.mark.parametrize(
    ("account", "intact"),
    [
        (FrameAccount(10, 10), True),
        (FrameAccount(10, 5, skipped={"sample_fps": 5}), True),
        (FrameAccount(10, 9, damaged=1), False),
        (FrameAccount(10, 10, corrupt=1), False),
        (FrameAccount(10, 8, ended_early=True), False),
        (FrameAccount(10, 10, notes=("resolution changed",)), False),
    ],
)
def test_an_account_tells_whether_all_is_there(account, intact):
    assert account.intact is intact
