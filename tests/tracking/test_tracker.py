import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.config.schema import TrackingConfig
from recognizer.tracking.tracker import Tracker
from recognizer.types import Poses
from tests.people import Camera, Person, crowd, film, identities, shoot

DEFAULT = TrackingConfig()
BOXES_ONLY = TrackingConfig(keypoint_weight=0.0)
BY_COST = pytest.mark.parametrize("config", [DEFAULT, BOXES_ONLY], ids=["hybrid", "boxes only"])


def track(shots, config=DEFAULT):
    tracker = Tracker(config)
    return [tracker.update(shot.poses, shot.time_s).track_ids for shot in shots]


def standing(x=100.0, **keys):
    return Person((x, 200), (0, 0), 150, **keys)


def walkers(seed, count=6):
    """Return people who walk either way at up to 1.5 heights/s and pass in front of each other."""
    rng = np.random.default_rng(seed)
    people = []
    for lane in range(count):
        height = rng.uniform(150, 250)
        pace = rng.uniform(0.3, 1.5) * height * rng.choice([-1, 1])
        start = (rng.uniform(100, 1800), 200 + lane * 700 / count)
        people.append(Person(start, (pace, rng.uniform(-0.05, 0.05) * height), height))
    return people


def assert_one_id_each(shots, ids, least_share):
    given = identities(shots, ids)
    owners = {}
    for who, own in given.items():
        assert len(set(own)) == 1, f"person {who} got the ids {sorted(set(own))}"
        assert owners.setdefault(own[0], who) == who, f"id {own[0]} went to two people"
    share = sum(map(len, given.values())) / sum(len(shot.who) for shot in shots)
    assert share >= least_share


@BY_COST
@pytest.mark.parametrize("fps", [3, 10, 25, 30, 60])
@pytest.mark.parametrize("seed", range(4))
def test_same_identities_at_every_frame_rate(fps, seed, config):
    shots = list(film(walkers(seed), fps, 6, Camera(jitter=0.015), seed))
    assert_one_id_each(shots, track(shots, config), least_share=1.0)


@pytest.mark.parametrize("fps", [3, 10, 25, 30, 60])
def test_same_identities_when_people_are_missed(fps):
    camera = Camera(jitter=0.015, missed=0.03, low=0.05)
    shots = list(film(walkers(5, 4), fps, 8, camera, 1))
    assert_one_id_each(shots, track(shots), least_share=0.97)


@pytest.mark.parametrize("fps", [3, 10, 30])
def test_newcomer_who_walks_counts_from_the_second_frame(fps):
    walker = Person((100, 300), (300, 0), 200, first_s=1.0)
    shots = list(film([standing(1500), walker], fps, 3))
    given = identities(shots, track(shots))
    frames = sum(1 in shot.who for shot in shots)
    assert given[1] == [2] * (frames - 1)


def test_irregular_times():
    rng = np.random.default_rng(4)
    times = np.cumsum(rng.choice([1 / 30, 1 / 15, 0.2, 0.4], 60))
    shots = [shoot(walkers(2, 3), t, Camera(), rng) for t in times]
    assert_one_id_each(shots, track(shots), least_share=1.0)


def test_keypoints_distinguish_two_in_one_box():
    # Both are seen in nearly the same box; one stands, the other is doubled up.
    rng = np.random.default_rng(0)
    standing_up, bent = standing().keypoints(0), standing().keypoints(0)
    bent[:11, 1] = 230 + 0.2 * (bent[:11, 1] - 140)
    box = standing().box(0)

    def shot(order):
        keypoints = np.stack([standing_up, bent])[order] + rng.normal(0, 1, (2, 17, 2))
        boxes = np.stack([box, box + 2.0])[rng.permutation(2)]  # boxes tell nothing
        return Poses.untracked(
            keypoints.astype(np.float32),
            np.full((2, 17), 0.9, np.float32),
            boxes.astype(np.float32),
            np.full(2, 0.9, np.float32),
        )

    tracker = Tracker(TrackingConfig(iou_weight=0.7, keypoint_weight=0.3))
    first = tracker.update(shot([0, 1]), 0.0).track_ids
    for frame in range(1, 60):
        order = rng.permutation(2)
        assert (tracker.update(shot(order), frame / 30).track_ids == first[order]).all()


def test_without_seen_keypoints_boxes_alone_count():
    shots = list(film(walkers(1), 30, 2, Camera(jitter=0.01)))
    config = TrackingConfig(iou_weight=0.7, keypoint_weight=0.3)
    hybrid, boxes_only = Tracker(config), Tracker(BOXES_ONLY)
    for shot in shots:
        p = shot.poses
        blind = Poses.untracked(
            p.keypoints, np.zeros_like(p.keypoint_scores), p.boxes, p.box_scores
        )
        assert (
            hybrid.update(blind, shot.time_s).track_ids
            == boxes_only.update(blind, shot.time_s).track_ids
        ).all()


@pytest.mark.parametrize(
    ("away_s", "fps", "same"),
    [(0.9, 30, True), (1.2, 30, False), (0.6, 3, True), (1.6, 3, False), (1.2, 60, False)],
)
def test_comes_back_within_the_buffer(away_s, fps, same):
    before = standing(last_s=1.0)
    after = standing(first_s=1.0 + away_s)
    shots = list(film([before, after, standing(900)], fps, 5, Camera(jitter=0.002)))
    given = identities(shots, track(shots))
    assert (set(given[0]) == set(given[1])) is same


def test_after_a_long_pause_nobody_is_the_same():
    tracker = Tracker(DEFAULT)
    shots = list(film([standing(), standing(700)], 30, 1))
    for shot in shots:
        before = tracker.update(shot.poses, shot.time_s)
    assert sorted(before.track_ids) == [1, 2]
    for shot in shots:
        after = tracker.update(shot.poses, 3600 + shot.time_s)
    assert sorted(after.track_ids) == [3, 4]


def test_low_scores_keep_an_id_but_never_start_one():
    def shot(score):
        poses = next(film([standing()], 1, 1)).poses
        return Poses.untracked(
            poses.keypoints, poses.keypoint_scores, poses.boxes, np.full(1, score, np.float32)
        )

    tracker = Tracker(DEFAULT)
    scores = [0.3, 0.3, 0.9, 0.9, 0.3, 0.15, 0.3, 0.05, 0.9]
    ids = [int(tracker.update(shot(s), i / 30).track_ids[0]) for i, s in enumerate(scores)]
    assert ids == [-1, -1, -1, 1, 1, 1, 1, -1, 1]


def test_new_track_threshold():
    tracker = Tracker(TrackingConfig(new_track_thresh=0.8))
    poses = next(film([standing()], 1, 1, Camera(scores=(0.7, 0.7)))).poses
    assert [int(tracker.update(poses, i / 30).track_ids[0]) for i in range(3)] == [-1, -1, -1]


def test_all_low_scores():
    shots = list(film(crowd(5, 0), 30, 1, Camera(scores=(0.1, 0.49))))
    assert all((ids == -1).all() for ids in track(shots))


def test_small_boxes_stay_without_id():
    tiny = Person((500, 500), (0, 0), 20, aspect=0.45)  # 180 square pixels
    shots = list(film([standing(), tiny], 30, 1, Camera(jitter=0.0)))
    for shot, ids in zip(shots, track(shots, TrackingConfig(min_box_area=200.0)), strict=True):
        assert ids[shot.who == 0] == 1
        assert ids[shot.who == 1] == -1


def test_nobody_in_the_frame():
    tracker = Tracker(DEFAULT)
    for i in range(1000):
        assert len(tracker.update(Poses.empty(), i / 30)) == 0
    shots = list(film([standing()], 30, 1))
    ids = [int(tracker.update(s.poses, 100 + s.time_s).track_ids[0]) for s in shots]
    assert ids[0] == -1
    assert set(ids[1:]) == {1}


def test_ids_start_at_one_and_belong_to_the_instance():
    shots = list(film(crowd(4, 0), 30, 0.5))
    one, other = Tracker(DEFAULT), Tracker(DEFAULT)
    for shot in shots:
        a = one.update(shot.poses, shot.time_s)
        b = other.update(shot.poses, shot.time_s)
        assert sorted(a.track_ids) == sorted(b.track_ids) == [1, 2, 3, 4]
    one.reset()
    assert sorted(one.update(shots[0].poses, 0.0).track_ids) == [1, 2, 3, 4]


def test_rows_come_back_unchanged_and_in_order():
    for shot in film(crowd(10, 0), 30, 0.5, Camera(missed=0.1, low=0.2)):
        poses = shot.poses
        copies = [poses.keypoints.copy(), poses.keypoint_scores.copy(), poses.boxes.copy()]
        result = Tracker(DEFAULT).update(poses, shot.time_s)
        for name, copy in zip(("keypoints", "keypoint_scores", "boxes"), copies, strict=True):
            np.testing.assert_array_equal(getattr(result, name), copy)
        assert (poses.track_ids == -1).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), by_boxes=st.booleans())
def test_order_of_rows_does_not_change_who_is_who(seed, by_boxes):
    shots = list(film(crowd(8, seed), 30, 1, Camera(0.02, 0.1, 0.1), seed))
    rng = np.random.default_rng(seed)
    config = BOXES_ONLY if by_boxes else DEFAULT
    plain, shuffled = Tracker(config), Tracker(config)
    same = {}
    for shot in shots:
        order = rng.permutation(len(shot.who))
        a = plain.update(shot.poses, shot.time_s).track_ids[order]
        b = shuffled.update(shot.poses[order], shot.time_s).track_ids
        for ours, theirs in zip(a.tolist(), b.tolist(), strict=True):
            assert same.setdefault(ours, theirs) == theirs
    assert len(set(same.values())) == len(same)


floats = st.floats(-1e6, 1e6, width=32)
rows = st.lists(
    st.tuples(st.tuples(floats, floats, floats, floats), st.floats(0, 1, width=32)), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(rows, st.sampled_from([0.0, 1 / 60, 0.3, 5.0])), max_size=8))
def test_takes_any_boxes(frames):
    tracker, time_s = Tracker(TrackingConfig(min_box_area=0.0)), 0.0
    for people, step_s in frames:
        time_s += step_s
        n = len(people)
        boxes = np.array([box for box, _ in people], np.float32).reshape(n, 4)
        poses = Poses.untracked(
            np.repeat(boxes[:, None, :2], 17, axis=1),
            np.ones((n, 17), np.float32),
            boxes,
            np.array([score for _, score in people], np.float32),
        )
        ids = tracker.update(poses, time_s).track_ids
        tracked = ids[ids != -1]
        assert (tracked > 0).all()
        assert len(set(tracked)) == len(tracked)
        flat = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
        assert (ids[flat] == -1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["keypoints", "keypoint_scores", "boxes", "box_scores"])
def test_refuses_numbers_that_are_none(name, bad):
    poses = next(film(crowd(4, 0), 30, 1)).poses
    getattr(poses, name)[2] = bad
    with pytest.raises(ValueError, match=rf"{name}: .*row 2 of 4"):
        Tracker(DEFAULT).update(poses, 0.0)


def test_huge_numbers_are_numbers():
    poses = next(film(crowd(4, 0), 30, 1)).poses
    poses.keypoints[2] = 3e38
    assert sorted(Tracker(DEFAULT).update(poses, 0.0).track_ids) == [1, 2, 3, 4]


@pytest.mark.parametrize("time_s", [0.9, -1.0, np.nan, np.inf])
def test_refuses_time_that_falls(time_s):
    tracker = Tracker(DEFAULT)
    poses = next(film([standing()], 30, 1)).poses
    tracker.update(poses, 1.0)
    with pytest.raises(ValueError, match="time_s"):
        tracker.update(poses, time_s)


def test_tolerates_equal_times():
    tracker = Tracker(DEFAULT)
    poses = next(film([standing()], 30, 1)).poses
    times = [0.0, 0.0, 1 / 30, 1 / 30, 2 / 30]
    assert [int(tracker.update(poses, t).track_ids[0]) for t in times] == [1] * 5


def _resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _growth():
    # 16,000 frames of 10 people who stay for a second: some 5,300 tracks come and go.
    shots = list(film(crowd(10, 0, seconds=40, stay_s=1.0), 30, 40, Camera(missed=0.05)))
    tracker = Tracker(DEFAULT)
    for i in range(16_000):
        if i == 4_000:
            before = _resident_bytes()
        tracker.update(shots[i % len(shots)].poses, i / 30)
    return _resident_bytes() - before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_the_same():
    # In a process of its own: what other tests left is given back in between, or grows.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        assert alone.submit(_growth).result() < 2**20
