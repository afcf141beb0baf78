"""The compact form of poses: how far it moves them, that it is small, that damage is refused."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recognizer.storage.artifacts import (
    POSE_SCHEMA,
    ArtifactError,
    read_npz,
    read_npz_meta,
    read_poses,
    write_npz,
    write_poses,
)
from recognizer.storage.compact import BOX_STEPS, KEYPOINT_STEPS, SCORE_STEPS, pack, unpack
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder
from tests.records import damaged_copies, flat, outcome, sequence

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "stage1" / "Fight" / "fi007.mp4.npz"


def poses(keypoints, scores=None, boxes=None):
    n = len(keypoints)
    scores = np.full((n, 17), 0.5) if scores is None else scores
    boxes = np.zeros((n, 4)) if boxes is None else boxes
    arrays = (np.asarray(a, np.float32) for a in (keypoints, scores, boxes, np.full(n, 0.3)))
    return Poses(*arrays, np.arange(n, dtype=np.int64))


def pixels(*shape):
    return hnp.arrays(np.float32, (3, *shape), elements=st.floats(-60_000, 60_000, width=32))


@settings(max_examples=60, deadline=None)
@given(
    pixels(17, 2),
    pixels(4),
    hnp.arrays(np.float32, (3, 17), elements=st.floats(0, 2, width=32)),
)
def test_nothing_moves_by_more_than_half_a_step_and_missing_stays_missing(keypoints, boxes, scores):
    before = poses(keypoints, scores, boxes)
    after = unpack(pack(before))
    for name, steps in (("keypoints", KEYPOINT_STEPS), ("boxes", BOX_STEPS)):
        moved = getattr(after, name).astype(np.float64) - getattr(before, name)
        assert np.abs(moved).max() <= 0.5 / steps
    changed = np.abs(after.keypoint_scores.astype(np.float64) - scores)
    # The smallest scores are raised to one step: 0 says that a point is missing.
    assert (changed <= np.where(scores * SCORE_STEPS < 0.5, 1, 0.5) / SCORE_STEPS).all()
    np.testing.assert_array_equal(after.keypoint_scores == 0, scores == 0)
    np.testing.assert_array_equal(after.box_scores, before.box_scores)
    np.testing.assert_array_equal(after.track_ids, before.track_ids)
    again = unpack(pack(after))
    for name in ("keypoints", "keypoint_scores", "boxes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(after, name))


@pytest.mark.parametrize("frames", [0, 1, 20], ids=["no-frame", "nobody", "people"])
def test_a_compact_file_is_read_as_any_other(tmp_path, frames):
    before, extra = sequence(frames), {"fight_involvement": np.arange(3.0)}
    write_poses(tmp_path / "full.npz", tmp_path, before, {"source": "x"}, extra)
    write_poses(tmp_path / "small.npz", tmp_path, before, {"source": "x"}, extra, small=True)
    (full, _, full_meta), (small, more, small_meta) = (
        read_poses(tmp_path / f"{name}.npz") for name in ("full", "small")
    )
    assert (full_meta.pop("schema_version"), small_meta.pop("schema_version")) == (1, 2)
    assert full_meta == small_meta
    assert read_npz_meta(tmp_path / "small.npz", POSE_SCHEMA)["source"] == "x"
    np.testing.assert_array_equal(small.time_s, full.time_s)
    np.testing.assert_array_equal(small.corrupt, full.corrupt)
    np.testing.assert_array_equal(small.frame_offsets, full.frame_offsets)
    np.testing.assert_array_equal(more["fight_involvement"], np.arange(3.0))
    np.testing.assert_allclose(small.poses.keypoints, full.poses.keypoints, atol=0.5 / 16)


def test_metadata_of_a_compact_file_do_not_mark_a_full_one_as_compact(tmp_path):
    write_poses(tmp_path / "small.npz", tmp_path, sequence(), {}, small=True)
    came, _, meta = read_poses(tmp_path / "small.npz")
    write_poses(tmp_path / "full.npz", tmp_path, came, {**meta, "measures": {}})  # as stage 2 does
    assert read_npz_meta(tmp_path / "full.npz", POSE_SCHEMA)["schema_version"] == 1
    assert flat(read_poses(tmp_path / "full.npz"))[:-1] == flat((came, {}, meta))[:-1]


def test_compact_poses_of_a_real_clip_take_less_than_half(tmp_path):
    before, extra, meta = read_poses(SAMPLE)
    write_poses(tmp_path / "small.npz", tmp_path, before, meta, extra, small=True)
    # Noise below the steps, as a network's own numbers have it, is what does not pack.
    rough = np.random.default_rng(0).uniform(-0.03, 0.03, before.poses.keypoints.shape)
    noisy = PoseSequenceBuilder()
    for t, frame in enumerate(before.frames()):
        rows = slice(before.frame_offsets[t], before.frame_offsets[t + 1])
        moved = (frame.keypoints + rough[rows]).astype(np.float32)
        scores = (frame.keypoint_scores * np.float32(0.999)).astype(np.float32)
        assert frame.movement is not None
        movement = (frame.movement * np.float32(1.0001)).astype(np.float32)
        others = (frame.boxes, frame.box_scores, frame.track_ids, movement)
        noisy.append(Poses(moved, scores, *others), t)
    write_poses(tmp_path / "full.npz", tmp_path, noisy.build(before.size_wh), meta)
    small, full = ((tmp_path / f"{n}.npz").stat().st_size for n in ("small", "full"))
    assert small < 0.5 * full
    # Coding what was rounded before changes nothing: samples/ can be made from samples/.
    assert (tmp_path / "small.npz").read_bytes() == SAMPLE.read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"keypoints": np.full((1, 17, 2), np.nan)}, "keypoints: expected finite"),
        ({"keypoints": np.full((1, 17, 2), 1e6)}, "keypoints: expected finite numbers up to 65536"),
        ({"boxes": [[0, 0, np.inf, 1]]}, "boxes: expected finite"),
        ({"scores": np.full((1, 17), -0.1)}, "keypoint scores: expected none below 0"),
    ],
    ids=["nan", "far", "infinite", "negative"],
)
def test_what_has_no_compact_form_is_refused_and_nothing_is_written(tmp_path, change, says):
    one = poses(**{"keypoints": np.zeros((1, 17, 2)), **change})
    value = PoseSequence(one, np.array([0, 1]), np.zeros(1), np.zeros(1, np.bool_), (640, 360))
    with pytest.raises(ValueError, match=says):
        write_poses(tmp_path / "p.npz", tmp_path, value, {}, small=True)
    assert not (tmp_path / "p.npz").exists()


# --- damage ----------------------------------------------------------------------------


def test_of_400_damaged_compact_files_none_loads_wrong(tmp_path):
    final = tmp_path / "p.npz"
    write_poses(final, tmp_path, sequence(), {"source": "x"}, {"a": np.arange(3.0)}, small=True)
    whole, refused = flat(read_poses(final)), 0
    for copy in damaged_copies(final.read_bytes(), 400):
        final.write_bytes(copy)
        came = outcome(final)
        assert came in ("refused", whole), "loaded as something else"
        refused += came == "refused"
    assert refused > 300


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("keypoint_moves", None, "not a pose record: 'keypoint_moves'"),
        ("track_ids", None, "not a pose record: 'track_ids'"),
        ("keypoint_moves", np.zeros((1, 2, 17, 2), np.uint8), "as many boxes as people"),
        ("keypoint_moves", np.zeros((5, 20, 17, 2), np.uint8), r"\(1-4, N, 17, 2\) uint8"),
        ("keypoint_moves", np.zeros((0, 20, 17, 2), np.uint8), r"\(1-4, N, 17, 2\) uint8"),
        ("keypoint_moves", np.zeros((1, 20, 17, 2), np.float32), r"\(1-4, N, 17, 2\) uint8"),
        ("keypoint_score_steps", np.zeros((1, 20, 16), np.uint8), r"\(1-4, N, 17\) uint8"),
        ("keypoint_score_steps", np.zeros((1, 3, 17), np.uint8), "keypoint_scores: expected"),
        ("box_corner_and_size", np.zeros(4, np.uint8), r"\(1-4, N, 4\) uint8"),
        ("box_scores", np.zeros(20, np.float64), "box_scores: expected"),
    ],
)
def test_a_compact_file_with_a_wrong_part_is_refused(tmp_path, name, array, says):
    path = tmp_path / "p.npz"
    write_poses(path, tmp_path, sequence(), {}, small=True)
    arrays, meta = read_npz(path, POSE_SCHEMA)
    arrays[name] = array
    write_npz(path, tmp_path, {k: v for k, v in arrays.items() if v is not None}, meta)
    with pytest.raises(ArtifactError, match=says):
        read_poses(path)


def test_a_version_that_nobody_knows_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    write_poses(path, tmp_path, sequence(), {})
    arrays, meta = read_npz(path, POSE_SCHEMA)
    write_npz(path, tmp_path, arrays, {**meta, "schema_version": 3})
    with pytest.raises(ArtifactError, match="expected schema version 1 or 2, found 3"):
        read_poses(path)


def test_compact_bytes_under_the_name_of_full_ones_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    write_poses(path, tmp_path, sequence(), {}, small=True)
    arrays, meta = read_npz(path, POSE_SCHEMA)
    write_npz(path, tmp_path, arrays, {**meta, "schema_version": 1})
    with pytest.raises(ArtifactError, match="not a pose record: 'keypoints'"):
        read_poses(path)


def test_any_numbers_in_the_right_shape_load_as_finite_poses():
    chance = random.Random(0)
    arrays = {
        "keypoint_moves": np.frombuffer(chance.randbytes(4 * 5 * 34), np.uint8),
        "keypoint_score_steps": np.frombuffer(chance.randbytes(4 * 5 * 17), np.uint8),
        "box_corner_and_size": np.frombuffer(chance.randbytes(4 * 5 * 4), np.uint8),
        "box_scores": np.ones(5, np.float32),
        "track_ids": np.arange(5),
    }
    shapes = {"keypoint_moves": (17, 2), "keypoint_score_steps": (17,), "box_corner_and_size": (4,)}
    for name, shape in shapes.items():
        arrays[name] = arrays[name].reshape(4, 5, *shape)
    came = unpack(arrays)
    assert np.isfinite(came.keypoints).all()
    assert np.isfinite(came.boxes).all()


def measured(seed=0):
    """Return a sequence of whom every second row was measured."""
    before = sequence(20, seed=seed)
    movement = np.random.default_rng(seed).gamma(1, 2, (len(before.poses), 6)).astype(np.float32)
    movement[::2] = np.nan
    return replace(before, poses=before.poses.with_movement(movement))


@pytest.mark.parametrize("small", [False, True], ids=["full", "compact"])
def test_movement_is_written_and_a_file_without_it_stays_without(tmp_path, small):
    before = measured()
    write_poses(tmp_path / "with.npz", tmp_path, before, {}, small=small)
    after, extra, meta = read_poses(tmp_path / "with.npz")
    assert (extra, meta["schema_version"]) == ({}, 2 if small else 1)
    tolerance = 2**-11 if small else 0  # of float16
    np.testing.assert_allclose(after.poses.movement, before.poses.movement, rtol=tolerance)
    write_poses(tmp_path / "again.npz", tmp_path, after, {}, small=small)
    again = read_poses(tmp_path / "again.npz")[0].poses.movement
    np.testing.assert_array_equal(again, after.poses.movement)
    write_poses(tmp_path / "without.npz", tmp_path, sequence(20), {}, small=small)
    assert read_poses(tmp_path / "without.npz")[0].poses.movement is None


def test_movement_that_a_half_cannot_hold_is_refused():
    before = measured().poses
    with pytest.raises(ValueError, match="movement: expected numbers that float16 holds"):
        pack(before.with_movement(before.movement * np.float32(1e6)))


@pytest.mark.parametrize(
    ("small", "member", "message"),
    [
        (False, lambda n: np.zeros((n, 5), np.float32), r"movement: expected \(\d+, 6\) float32"),
        (False, lambda n: np.zeros((n + 1, 6), np.float32), "movement: expected"),
        (False, lambda n: np.zeros((n, 6), np.float64), "got .* float64"),
        (True, lambda n: np.zeros((6, n), np.float32), r"movement: expected \(6, N\) float16"),
        (True, lambda n: np.zeros((6, n + 1), np.float16), "movement: expected"),
        (True, lambda n: np.zeros(n, np.float16), r"expected \(6, N\) float16"),
    ],
)
def test_a_hostile_movement_is_refused(tmp_path, small, member, message):
    path = tmp_path / "p.npz"
    write_poses(path, tmp_path, measured(), {}, small=small)
    arrays, meta = read_npz(path, POSE_SCHEMA)
    name = "movement_halves" if small else "movement"
    assert name in arrays
    arrays[name] = member(len(arrays["track_ids"]))
    write_npz(path, tmp_path, arrays, meta)
    with pytest.raises(ArtifactError, match=message):
        read_poses(path)
