"""Who stays down: made people whose posture is known, and real falls of the samples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recognizer.config.schema import TrackingConfig
from recognizer.scoring.lying import (
    NOWHERE,
    PostureRows,
    find_lying,
    lying_measure,
    posture_rows,
    standing_height,
)
from recognizer.storage.artifacts import read_poses
from recognizer.tracking.tracker import Tracker
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder
from tests.scoring.actors import STANDING, Actor, Shooting, bend, fall, film, lie, sit, stand, walk

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "falls_stage1"
LONG = Shooting(seconds=14.0, fps=10.0)


def towards(t):
    """Return a body that lies towards the camera, feet further away, seen from above."""
    return -STANDING * [1.0, 0.55] - [0, 0.55]


def kneel(t):
    body = STANDING.copy()
    body[:, 1] *= 0.7
    return body


def stooped(t):
    """Return somebody with a level trunk on upright legs."""
    body = STANDING.copy()
    hips, upper = body[[11, 12]].mean(axis=0), [*range(11)]
    body[upper] = hips + (body[upper] - hips) @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    return body


def found(sequence, *, zones=None, long_lie_s=10.0, gap_s=5.0):
    seen = posture_rows(sequence)
    numbers = np.full(len(seen), NOWHERE) if zones is None else zones(seen)
    return seen, find_lying(seen, numbers, long_lie_s=long_lie_s, gap_s=gap_s)


def ids_of(seen, one):
    return sorted(set(seen.track_id[one.rows].tolist()))


@pytest.mark.parametrize("pose", [lie, towards], ids=["across", "towards the camera"])
def test_somebody_who_was_never_seen_standing_lies(pose):
    seen, (one,) = found(film({3: Actor(pose, (700, 500))}, LONG))
    assert ids_of(seen, one) == [3]
    assert (one.start_s, one.stop_s) == pytest.approx((0.0, 14.0), abs=0.11)
    assert one.seen == pytest.approx(1.0, abs=0.01)
    assert one.zone == NOWHERE


@pytest.mark.parametrize(
    "pose", [stand, walk, sit, kneel, bend, stooped], ids=lambda pose: pose.__name__
)
def test_who_stands_walks_sits_kneels_or_bends_does_not_lie(pose):
    scene = film({1: Actor(pose, (600, 500)), 2: Actor(stand, (900, 500))}, LONG)
    seen, lies = found(scene, long_lie_s=0.5)
    assert lies == ()
    assert lying_measure(seen).max() < 0.5


def test_who_falls_lies_from_when_the_fall_is_over():
    seen, (one,) = found(film({4: Actor(fall(1.5), (600, 600)), 5: Actor(walk, (200, 500))}, LONG))
    assert ids_of(seen, one) == [4]
    assert 1.7 <= one.start_s <= 2.8
    assert one.stop_s == pytest.approx(14.0, abs=0.11)


@pytest.mark.parametrize(("seconds", "expected"), [(9.0, 0), (11.5, 1)])
def test_only_a_long_lie_counts(seconds, expected):
    """Somebody gets up again after ``seconds``."""
    down = fall(1.0)
    scene = {1: Actor(lambda t: down(min(t, max(1.0, 1.0 + seconds + 1.2 - t))), (600, 600))}
    _, lies = found(film(scene, replace(LONG, seconds=16.0)))
    assert len(lies) == expected


def test_the_same_at_every_frame_rate_size_and_time():
    actors = {4: Actor(fall(1.5), (600, 600))}
    spans = []
    for how in (
        replace(LONG, fps=3.0),
        replace(LONG, fps=30.0),
        replace(LONG, scale=0.25),
        replace(LONG, start_s=5000.0),
    ):
        _, (one,) = found(film(actors, how))
        spans.append((one.start_s - how.start_s, one.stop_s - how.start_s))
    assert np.ptp(np.array(spans), axis=0).max() <= 0.7


def rows_without(sequence, gone):
    """Return a sequence without the rows that ``gone(frame time)`` names."""
    builder = PoseSequenceBuilder()
    for poses, time_s in zip(sequence.frames(), sequence.time_s.tolist(), strict=True):
        builder.append(Poses.empty() if gone(time_s) else poses, time_s)
    return builder.build(sequence.size_wh)


def test_gaps_and_new_ids_make_no_new_lying():
    parts = {
        1: Actor(lie, (700, 500), last_s=3.0),
        2: Actor(lie, (704, 502), first_s=6.0, last_s=8.0),
        7: Actor(lie, (697, 499), first_s=11.0),
    }
    seen, (one,) = found(film(parts, LONG))
    assert ids_of(seen, one) == [1, 2, 7]
    assert (one.start_s, one.stop_s) == pytest.approx((0.0, 14.0), abs=0.2)
    assert one.seen == pytest.approx(8 / 14, abs=0.05)


def test_a_gap_longer_than_allowed_parts_a_lying():
    scene = rows_without(film({1: Actor(lie, (700, 500))}, LONG), lambda t: 5 < t < 9)
    assert len(found(scene, long_lie_s=3.0, gap_s=5.0)[1]) == 1
    assert len(found(scene, long_lie_s=3.0, gap_s=3.0)[1]) == 2


def test_two_who_lie_apart_are_two():
    scene = film({1: Actor(lie, (300, 500)), 2: Actor(lie, (900, 500))}, LONG)
    assert len(found(scene)[1]) == 2


def test_two_boxes_on_one_body_are_one():
    scene = film({1: Actor(lie, (700, 500)), 2: Actor(lie, (706, 503))}, LONG)
    seen, (one,) = found(scene)
    assert ids_of(seen, one) == [1, 2]
    assert one.seen <= 1.0


def test_somebody_hardly_ever_seen_does_not_lie():
    scene = rows_without(film({1: Actor(lie, (700, 500))}, LONG), lambda t: t % 4 > 0.35)
    assert found(scene)[1] == ()


def test_low_against_the_own_height_where_the_pose_is_not_known():
    """A heap as wide as high, without a keypoint: only its height tells."""
    standing = film({1: Actor(stand, (600, 500)), 2: Actor(stand, (300, 250), 100)}, LONG)

    def heap(height_px):
        boxes = standing.poses.boxes.copy()
        scores = standing.poses.keypoint_scores.copy()
        later = (standing.poses.track_ids == 1) & (np.repeat(standing.time_s, 2) > 3)
        boxes[later] = np.array([600 - height_px / 2, 500 - height_px, 600 + height_px / 2, 500])
        scores[later] = 0
        return replace(standing, poses=replace(standing.poses, boxes=boxes, keypoint_scores=scores))

    assert ids_of(*(lambda s, f: (s, f[0]))(*found(heap(65)))) == [1]
    seen = posture_rows(heap(65))
    heights = standing_height(seen)[seen.time_s > 5]
    ids = seen.track_id[seen.time_s > 5]
    assert heights[ids == 1] == pytest.approx(224, rel=0.1)
    assert heights[ids == 2] == pytest.approx(112, rel=0.1)


def test_a_box_as_high_as_who_stands_and_wider_does_not_lie():
    """Turned detection puts such boxes around beds."""
    scene = film({1: Actor(stand, (600, 500)), 2: Actor(lie, (900, 520))}, LONG)
    boxes, scores = scene.poses.boxes.copy(), scene.poses.keypoint_scores.copy()
    mine = scene.poses.track_ids == 2
    boxes[mine], scores[mine] = [700, 280, 1100, 520], 0
    ghost = replace(scene, poses=replace(scene.poses, boxes=boxes, keypoint_scores=scores))
    assert len(found(scene)[1]) == 1
    assert found(ghost)[1] == ()


def test_where_nobody_stands_the_height_is_not_known():
    seen = posture_rows(film({1: Actor(lie, (700, 500))}, LONG))
    assert np.isnan(standing_height(seen)).all()
    assert np.isfinite(lying_measure(seen)).all()


def test_a_head_over_a_table_does_not_lie():
    """Only head and shoulders are seen, in a box wider than high."""
    scene = film({1: Actor(stand, (600, 500)), 2: Actor(stand, (900, 500))}, LONG)
    mine = scene.poses.track_ids == 1
    boxes, scores = scene.poses.boxes.copy(), scene.poses.keypoint_scores.copy()
    boxes[mine] = [540, 290, 660, 370]
    scores[np.ix_(mine, range(7, 17))] = 0
    poses = replace(scene.poses, boxes=boxes, keypoint_scores=scores)
    assert found(replace(scene, poses=poses))[1] == ()


def beside(x_px):
    """Return zone 0 left of a line and none right of it."""
    return lambda seen: np.where(seen.place[:, 0] < x_px, 0, NOWHERE)


def test_a_zone_belongs_to_who_lies_in_it():
    scene = film({1: Actor(lie, (400, 500)), 2: Actor(lie, (1000, 500))}, LONG)
    seen, lies = found(scene, zones=beside(700))
    assert {one.zone: ids_of(seen, one) for one in lies} == {0: [1], NOWHERE: [2]}


def test_who_rolls_out_of_bed_lies_outside_from_then_on():
    """The hour in bed before neither hides it nor is part of it."""

    def rolls(t):
        return lie(t) + np.array([0.6, 0.1]) * np.clip(t - 20, 0, 1)

    scene = film({1: Actor(rolls, (640, 500))}, replace(LONG, seconds=36.0))
    seen = posture_rows(scene)
    edge = float(np.median(seen.place[seen.time_s < 19, 0])) + 50
    _, lies = found(scene, zones=beside(edge))
    bed, floor = sorted(lies, key=lambda one: one.start_s)
    assert (bed.zone, floor.zone) == (0, NOWHERE)
    assert 19 < floor.start_s < 23
    assert floor.stop_s == pytest.approx(36.0, abs=0.11)


def test_the_edge_of_a_zone_does_not_part_a_lying():
    seen = posture_rows(film({1: Actor(lie, (700, 500))}, LONG))
    flickers = np.where(np.random.default_rng(1).random(len(seen)) < 0.3, NOWHERE, 0)
    (one,) = find_lying(seen, flickers, long_lie_s=10.0, gap_s=5.0)
    assert one.zone == 0


def test_nobody_at_all():
    scene = film({}, LONG)
    assert found(scene)[1] == ()
    empty = PoseSequence(
        Poses.empty(), np.zeros(1, np.int64), np.zeros(0), np.zeros(0, bool), (64, 48)
    )
    assert len(PostureRows.join([posture_rows(empty), posture_rows(scene)])) == 0


def test_what_is_not_finite_is_nobody():
    scene = film({1: Actor(lie, (700, 500))}, LONG)
    broken = scene.poses.boxes.copy()
    broken[::3] = np.nan
    seen, (one,) = found(replace(scene, poses=replace(scene.poses, boxes=broken)))
    assert ids_of(seen, one) == [1]
    assert np.isfinite(lying_measure(seen)).all()


def tracked(video):
    """Return a sample's real poses, tracked as stage 2 does it."""
    sequence, _, _ = read_poses(SAMPLES / f"{video}.npz")
    tracker = Tracker(TrackingConfig().for_kind("topdown"))
    builder = PoseSequenceBuilder()
    for poses, time_s in zip(sequence.frames(), sequence.time_s.tolist(), strict=True):
        builder.append(tracker.update(poses, time_s), time_s)
    return builder.build(sequence.size_wh)


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        ("Subject_1/Fall/14.mp4", True),
        ("Subject_3/Fall/19.mp4", True),
        ("Subject_3/Fall/20.mp4", True),
        ("Subject_1/ADL/10.mp4", False),
        ("Subject_1/ADL/16.mp4", False),
        ("Subject_3/ADL/19.mp4", False),
        ("Subject_2/ADL/23.mp4", False),
        ("Subject_3/ADL/20.mp4", False),
    ],
)
def test_real_people(video, expected):
    """The clips last 3 to 9 s, and detectors lose most who lie: a second of lying must do."""
    _, lies = found(tracked(video), long_lie_s=1.0)
    assert bool(lies) == expected
