from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.config.schema import FalldownConfig, FightConfig, ScoringConfig
from recognizer.scoring.ranking import rank_people
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder
from tests.scoring.actors import (
    Actor,
    Shooting,
    accident,
    brawl,
    fall,
    fight,
    film,
    sit,
    stand,
    walk,
)

SERVICES = ("fight", "falldown")
SCORING = ScoringConfig()


def involvement(sequence, service, scoring=SCORING):
    return rank_people(sequence, service, scoring).by_id()


@cache
def scene(service):
    """Return the actors of a service's scene and their ranking."""
    actors = brawl() if service == "fight" else accident()
    return actors, rank_people(film(actors), service, SCORING)


def with_poses(sequence: PoseSequence, **arrays) -> PoseSequence:
    return replace(sequence, poses=replace(sequence.poses, **arrays))


def test_fighters_come_first():
    ranked = rank_people(film(brawl()), "fight", SCORING)
    assert set(ranked.track_ids[:2].tolist()) == {3, 7}
    assert ranked.involvement[1] > 1.5 * ranked.involvement[2]


def test_victim_who_hardly_moves_comes_before_bystanders():
    actors = {**brawl(), 3: Actor(stand, (610, 500))}
    assert rank_people(film(actors), "fight", SCORING).track_ids[:2].tolist() == [7, 3]


@pytest.mark.parametrize("degrees", [85, -85, 70], ids=["right", "left", "not quite flat"])
def test_faller_comes_first(degrees):
    actors = {**accident(), 4: Actor(fall(1.5, degrees), (900, 600))}
    ranked = rank_people(film(actors), "falldown", SCORING)
    assert ranked.track_ids[0] == 4
    assert ranked.involvement[0] > 1.4 * ranked.involvement[1]


def test_somebody_who_stays_down_comes_before_somebody_who_gets_up():
    gets_up = fall(1.5)
    actors = {
        1: Actor(lambda t: gets_up(min(t, max(1.5, 4.4 - t))), (300, 600)),
        2: Actor(fall(1.5), (900, 600)),
    }
    assert rank_people(film(actors), "falldown", SCORING).track_ids[0] == 2


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("jitter", [0.003, 0.03], ids=["sharp", "noisy"])
def test_short_phantom_does_not_come_before_actors(service, jitter):
    rng = np.random.default_rng(0)
    actors, main = (brawl(), {3, 7}) if service == "fight" else (accident(), {4})
    actors[11] = Actor(
        lambda t: stand(t) + rng.normal(0, 0.2, (17, 2)), (650, 480), first_s=1, last_s=1.2
    )
    ranked = rank_people(film(actors, Shooting(jitter=jitter)), service, SCORING)
    assert set(ranked.track_ids[: len(main)].tolist()) == main


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("fps", [10, 12.5, 15, 30, 60])
def test_frame_rate_hardly_matters(service, fps):
    actors = brawl() if service == "fight" else accident()
    at_25 = involvement(film(actors), service)
    other = involvement(film(actors, Shooting(fps=fps)), service)
    assert other == pytest.approx(at_25, abs=0.05)


@pytest.mark.parametrize("service", SERVICES)
def test_low_frame_rate_keeps_the_order(service):
    actors, main = (brawl(), {3, 7}) if service == "fight" else (accident(), {4})
    ranked = rank_people(film(actors, Shooting(fps=4)), service, SCORING)
    assert set(ranked.track_ids[: len(main)].tolist()) == main


@pytest.mark.parametrize("service", SERVICES)
@given(scale=st.floats(0.2, 4), start_s=st.floats(-100, 1e6))
@settings(max_examples=20, deadline=None)
def test_picture_size_and_clock_do_not_matter(service, scale, start_s):
    actors, one = scene(service)
    other = rank_people(film(actors, Shooting(scale=scale, start_s=start_s)), service, SCORING)
    assert other.track_ids.tolist() == one.track_ids.tolist()
    np.testing.assert_allclose(other.measures, one.measures, atol=2e-3)


@pytest.mark.parametrize("service", SERVICES)
@given(dx=st.floats(-600, 600), dy=st.floats(-400, 400))
@settings(max_examples=20, deadline=None)
def test_only_position_depends_on_the_place(service, dx, dy):
    actors, one = scene(service)
    other = rank_people(film(actors, Shooting(shift_px=(dx, dy))), service, SCORING)
    keep = [i for i, name in enumerate(one.measure_names) if name != "position"]
    a, b = np.argsort(one.track_ids), np.argsort(other.track_ids)
    np.testing.assert_allclose(other.measures[b][:, keep], one.measures[a][:, keep], atol=2e-3)


@pytest.mark.parametrize("service", SERVICES)
@given(st.permutations([0, 1, 2, 3, 4, 5, 6]))
@settings(max_examples=20, deadline=None)
def test_ids_do_not_matter(service, names):
    actors, ranked = scene(service)
    renamed = {10 + 3 * names[i]: actor for i, actor in enumerate(actors.values())}
    one, other = ranked.by_id(), involvement(film(renamed), service)
    for old, new in zip(actors, renamed, strict=True):
        assert other[new] == pytest.approx(one[old], abs=1e-5)


@pytest.mark.parametrize("service", SERVICES)
def test_result_is_well_formed(service):
    ranked = rank_people(film(brawl()), service, SCORING)
    assert ranked.track_ids.dtype == np.int64
    assert ranked.involvement.dtype == ranked.measures.dtype == np.float32
    assert ranked.measures.shape == (7, len(ranked.measure_names))
    assert (np.diff(ranked.involvement) <= 0).all()
    assert (ranked.measures >= 0).all()
    assert (ranked.measures <= 1).all()
    assert "7 people" in repr(ranked)


@pytest.mark.parametrize("service", SERVICES)
def test_weights_decide(service):
    """With one weight alone the involvement is that measure."""
    section = FightConfig if service == "fight" else FalldownConfig
    for column, name in enumerate(section.model_fields):
        only = section(**{n: float(n == name) for n in section.model_fields})
        ranked = rank_people(film(brawl()), service, ScoringConfig(**{service: only}))
        assert ranked.measure_names[column] == name
        np.testing.assert_allclose(ranked.involvement, ranked.measures[:, column], atol=1e-6)


# --- little or nothing to go by -----------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("frames", [0, 1, 50])
def test_nobody(service, frames):
    builder = PoseSequenceBuilder()
    for t in range(frames):
        builder.append(Poses.empty(), t / 25)
    ranked = rank_people(builder.build((640, 480)), service, SCORING)
    assert ranked.track_ids.shape == (0,)
    assert ranked.measures.shape == (0, len(ranked.measure_names))


@pytest.mark.parametrize("service", SERVICES)
def test_untracked_people_are_nobody(service):
    sequence = film(brawl())
    ids = np.full(len(sequence.poses), -1, np.int64)
    assert len(rank_people(with_poses(sequence, track_ids=ids), service, SCORING).track_ids) == 0


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("pose", [stand, walk, sit, fight(1), fall(1)])
def test_one_person(service, pose):
    ranked = rank_people(film({5: Actor(pose, (600, 500))}), service, SCORING)
    assert ranked.track_ids.tolist() == [5]
    assert 0 < ranked.involvement[0] < 1


def test_nobody_to_fight_with():
    ranked = rank_people(film({5: Actor(fight(1), (600, 500))}), "fight", SCORING)
    assert ranked.measures[0, ranked.measure_names.index("interaction")] == 0


@pytest.mark.parametrize(
    ("service", "zero"),
    [("fight", ["movement"]), ("falldown", ["height_change", "posture_angle"])],
)
def test_everybody_static(service, zero):
    actors = {i: Actor(stand, (100 + 300 * i, 500)) for i in range(4)}
    ranked = rank_people(film(actors), service, SCORING)
    for name in zero:
        assert (ranked.measures[:, ranked.measure_names.index(name)] < 0.05).all()
    assert (ranked.involvement < 0.3).all()


@pytest.mark.parametrize("service", SERVICES)
def test_equal_people_are_ordered_by_id(service):
    sequence = film({1: Actor(stand, (400, 500))}, Shooting(jitter=0))
    builder = PoseSequenceBuilder()
    for poses, time_s in zip(sequence.frames(), sequence.time_s, strict=True):
        both = Poses.concatenate([poses.with_ids(np.array([i])) for i in (9, 2, 5)])
        builder.append(both, float(time_s))
    ranked = rank_people(builder.build((1280, 720)), service, SCORING)
    assert ranked.track_ids.tolist() == [2, 5, 9]


@pytest.mark.parametrize("service", SERVICES)
def test_track_of_one_frame_comes_last(service):
    actors = brawl()
    actors[20] = Actor(fight(1), (640, 500), first_s=1, last_s=1.03)
    ranked = rank_people(film(actors), service, SCORING)
    assert ranked.track_ids[-1] == 20
    assert np.isfinite(ranked.measures).all()


@pytest.mark.parametrize("service", SERVICES)
def test_one_frame_alone(service):
    ranked = rank_people(film(brawl(), Shooting(seconds=0.04)), service, SCORING)
    assert len(ranked.track_ids) == 7
    assert np.isfinite(ranked.involvement).all()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "missing",
    [list(range(17)), [11, 12], [5, 6, 11, 12], [9, 10], [0, 1, 2, 3, 4], [15, 16]],
    ids=["all", "hips", "trunk", "wrists", "head", "feet"],
)
def test_missing_keypoints_do_no_harm(service, missing):
    sequence = film(brawl() if service == "fight" else accident())
    scores, points = sequence.poses.keypoint_scores.copy(), sequence.poses.keypoints.copy()
    scores[:, missing], points[:, missing] = 0, 0
    ranked = rank_people(
        with_poses(sequence, keypoint_scores=scores, keypoints=points), service, SCORING
    )
    assert np.isfinite(ranked.measures).all()
    if len(missing) < 17:
        main = {3, 7} if service == "fight" else {4}
        assert set(ranked.track_ids[: len(main)].tolist()) == main


@pytest.mark.parametrize("service", SERVICES)
def test_keypoints_that_flicker_are_no_movement(service):
    """A missing keypoint stands at (0, 0): no measure may see it jump there and back."""
    sequence = film({i: Actor(stand, (300 + 150 * i, 500)) for i in range(3)})
    rng = np.random.default_rng(1)
    gone = rng.random(sequence.poses.keypoint_scores.shape) < 0.4
    flickering = with_poses(
        sequence,
        keypoint_scores=np.where(gone, 0, sequence.poses.keypoint_scores).astype(np.float32),
        keypoints=np.where(gone[:, :, None], 0, sequence.poses.keypoints).astype(np.float32),
    )
    whole, other = involvement(sequence, service), involvement(flickering, service)
    assert other == pytest.approx(whole, abs=0.1)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_numbers_that_are_none(service, value):
    sequence = film(brawl())
    keypoints, boxes = sequence.poses.keypoints.copy(), sequence.poses.boxes.copy()
    keypoints[::3, 9], boxes[::5, 2] = value, value
    damaged = with_poses(sequence, keypoints=keypoints, boxes=boxes)
    ranked = rank_people(damaged, service, SCORING)
    assert np.isfinite(ranked.measures).all()
    assert len(ranked.track_ids) == 7


@pytest.mark.parametrize("service", SERVICES)
def test_interpolated_rows_are_no_evidence(service):
    """What a gap was filled with may be anything: it changes nothing."""
    sequence = film(brawl())
    rows = np.flatnonzero((sequence.poses.track_ids == 1) & (sequence.frame_of_row % 4 == 1))
    keep = np.ones(len(sequence.poses), bool)
    keep[rows] = False
    offsets = np.concatenate([[0], np.cumsum(keep)])[sequence.frame_offsets].astype(np.int64)
    without = replace(sequence, poses=sequence.poses[keep], frame_offsets=offsets)
    scores, keypoint_scores = (
        sequence.poses.box_scores.copy(),
        sequence.poses.keypoint_scores.copy(),
    )
    scores[rows], keypoint_scores[rows] = 0, 0
    points = sequence.poses.keypoints.copy()
    points[rows] += 500
    filled = with_poses(
        sequence, box_scores=scores, keypoint_scores=keypoint_scores, keypoints=points
    )
    assert involvement(filled, service) == involvement(without, service)


@pytest.mark.parametrize("service", SERVICES)
def test_somebody_who_is_only_interpolated_has_no_part(service):
    sequence = film(brawl())
    scores = np.where(sequence.poses.track_ids == 7, 0, 0.9).astype(np.float32)
    ranked = rank_people(with_poses(sequence, box_scores=scores), service, SCORING)
    assert ranked.track_ids[-1] == 7
    assert ranked.involvement[-1] == 0


@pytest.mark.parametrize("service", SERVICES)
def test_damaged_frames_are_no_evidence(service):
    sequence = film(brawl())
    corrupt = np.arange(len(sequence)) % 10 == 3
    hit = corrupt[sequence.frame_of_row]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 200, sequence.poses.keypoints.shape) * hit[:, None, None]
    garbage = with_poses(sequence, keypoints=(sequence.poses.keypoints + noise).astype(np.float32))
    clean = involvement(sequence, service)
    assert involvement(replace(garbage, corrupt=corrupt), service) == pytest.approx(clean, abs=0.08)


@pytest.mark.parametrize("service", SERVICES)
def test_frames_with_equal_times(service):
    sequence = film(brawl())
    frozen = replace(sequence, time_s=np.zeros(len(sequence)))
    assert np.isfinite(rank_people(frozen, service, SCORING).measures).all()


def test_unknown_service():
    with pytest.raises(ValueError, match="expected 'fight' or 'falldown', got 'dance'"):
        rank_people(film({}), "dance", SCORING)
