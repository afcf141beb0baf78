"""Two grades of falls: which are events, what they follow, and what rest zones suppress."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from recognizer.action.results import Event
from recognizer.analysis import grades
from recognizer.analysis.grades import LYING, grade_events, lying_rules
from recognizer.analysis.zones import Zone
from recognizer.config.schema import Config
from recognizer.types import Poses, PoseSequence
from tests.analysis.records import person
from tests.scoring.actors import Actor, Shooting, fall, film, lie, stand

RULES = {"long_lie_s": 10.0, "gap_s": 5.0}
HOW = Shooting(seconds=16.0, fps=10.0)
BED = Zone("rest", "bed", ((0.3, 0.5), (0.8, 0.5), (0.8, 0.95), (0.3, 0.95)))
FAR = Zone("rest", "sofa", ((0.0, 0.5), (0.2, 0.5), (0.2, 0.95), (0.0, 0.95)))


def falling(start_s=1.0, stop_s=4.0, people=(4,), box=(500.0, 300.0, 900.0, 620.0)):
    seen = tuple(person(i, start_s, stop_s, box=box) for i in people)
    return Event("Falldown", start_s, stop_s, 0.9, start_s + 1, 3, seen)


FALLS = film({4: Actor(fall(1.5), (600, 600))}, HOW)
LIES = film({4: Actor(lie, (800, 550))}, HOW)


def test_a_fall_and_the_lying_after_it():
    (first, second), suppressed = grade_events([falling()], FALLS, (), RULES)
    assert suppressed == ()
    assert (first.grade, second.grade) == ("fall", "lying")
    assert replace(first, grade=None) == falling()
    assert second.class_name == LYING
    assert second.follows_fall_s == 1.0
    assert second.windows == 0
    assert second.peak_s == pytest.approx(second.start_s + 10.0)
    assert second.peak_probability == pytest.approx(1.0, abs=0.01)
    (who,) = second.people
    assert who.track_id == 4
    assert who.box[0] < 640 < who.box[2]
    assert second.start_s <= who.first_s < who.last_s < second.stop_s


def test_lying_needs_no_fall_and_no_standing():
    (event,), _ = grade_events([], LIES, (), RULES)
    assert (event.grade, event.follows_fall_s) == ("lying", None)


@pytest.mark.parametrize(
    ("before", "follows"),
    [
        (falling(0.0, 2.0), 0.0),
        (falling(0.0, 2.0, people=(9,)), 0.0),  # another id, at the same place
        (falling(0.0, 2.0, people=(9,), box=(10.0, 10.0, 60.0, 200.0)), None),
        (falling(9.0, 12.0), None),  # later
    ],
    ids=["same id", "same place", "elsewhere", "later"],
)
def test_lying_follows_the_fall_of_the_same_person(before, follows):
    events, _ = grade_events([before], FALLS, (), RULES)
    (last,) = (event for event in events if event.grade == "lying")
    assert last.follows_fall_s == follows


def test_a_fall_long_ago_is_not_followed():
    late = film({4: Actor(lie, (800, 550), first_s=12.0)}, replace(HOW, seconds=24.0))
    events, _ = grade_events([falling(1.0, 4.0)], late, (), RULES)
    assert [event.follows_fall_s for event in events if event.grade == "lying"] == [None]


def test_what_ends_in_a_rest_zone_is_suppressed_and_kept():
    events, suppressed = grade_events([falling()], FALLS, (FAR, BED), RULES)
    assert events == ()
    assert [(e.grade, e.zone) for e in suppressed] == [("fall", "bed"), ("lying", "bed")]
    assert suppressed[1].follows_fall_s == 1.0


def test_a_zone_elsewhere_or_an_ignored_one_suppresses_nothing():
    for zones in [(FAR,), (replace(BED, kind="ignore"),)]:
        events, suppressed = grade_events([falling()], FALLS, zones, RULES)
        assert [event.grade for event in events] == ["fall", "lying"]
        assert suppressed == ()


def test_who_sleeps_does_not_hide_who_falls_beside_the_bed():
    """The most involved person rests in the zone, another one lies outside."""
    scene = film({1: Actor(lie, (800, 550)), 2: Actor(fall(1.5), (100, 300))}, HOW)
    events, suppressed = grade_events([falling(people=(1, 2))], scene, (BED,), RULES)
    assert [(e.grade, [p.track_id for p in e.people]) for e in events] == [
        ("fall", [1, 2]),
        ("lying", [2]),
    ]
    assert [(e.grade, e.zone) for e in suppressed] == [("lying", "bed")]


def test_a_carer_who_stands_outside_changes_nothing():
    scene = film({4: Actor(fall(1.5), (600, 600)), 5: Actor(stand, (200, 600))}, HOW)
    events, suppressed = grade_events([falling(people=(4, 5))], scene, (BED,), RULES)
    assert events == ()
    assert len(suppressed) == 2


def test_who_is_lost_on_the_way_down_is_an_alarm_and_not_if_found_in_bed():
    """Before the bed and on it look alike from the front, as long as somebody still falls."""
    lost = film({4: Actor(fall(1.5, lasts_s=2.0), (600, 600), last_s=2.4)}, HOW)
    (event,), suppressed = grade_events([falling()], lost, (BED,), RULES)
    assert (event.grade, suppressed) == ("fall", ())
    again = film(
        {
            4: Actor(fall(1.5, lasts_s=2.0), (600, 600), last_s=2.4),
            8: Actor(lie, (760, 600), first_s=3.0),
        },
        HOW,
    )
    events, suppressed = grade_events([falling()], again, (BED,), RULES)
    assert events == ()
    assert [e.grade for e in suppressed] == ["fall", "lying"]


def test_without_a_long_lie_only_falls_are_graded():
    assert lying_rules(Config()) == {"long_lie_s": 10.0, "gap_s": 5.0}
    off = Config.model_validate({"inference": {"falldown": {"long_lie_s": None}}})
    assert lying_rules(off) == {}
    events, _ = grade_events([falling()], FALLS, (), {})
    assert [event.grade for event in events] == ["fall"]
    events, suppressed = grade_events([falling()], FALLS, (BED,), {})
    assert (events, [e.grade for e in suppressed]) == ((), ["fall"])


@pytest.mark.parametrize("people", [(), (77,)], ids=["nobody", "somebody never seen"])
def test_a_fall_of_nobody_who_is_seen_is_kept(people):
    events, _ = grade_events([falling(people=people)], FALLS, (BED,), RULES)
    assert [event.grade for event in events] == ["fall"]


def test_parts_of_a_video_give_the_same_as_the_whole(monkeypatch):
    scene = film(
        {4: Actor(fall(7.5), (600, 600)), 5: Actor(stand, (200, 600))}, replace(HOW, seconds=30.0)
    )
    whole = grade_events([falling()], scene, (), RULES)
    monkeypatch.setattr(grades, "_PART_S", 3.0)
    assert grade_events([falling()], scene, (), RULES) == whole
    assert [event.grade for event in whole[0]] == ["fall", "lying"]


def test_a_hole_of_weeks_in_the_clock_is_no_lying():
    scene = film({4: Actor(lie, (800, 550))}, replace(HOW, seconds=18.0))
    times = scene.time_s.copy()
    times[90:] += 3e6
    events, _ = grade_events([], replace(scene, time_s=times), (), {**RULES, "long_lie_s": 8.0})
    assert [round(e.stop_s - e.start_s) for e in events] == [9, 9]


def test_no_frames_at_all():
    empty = PoseSequence(
        Poses.empty(), np.zeros(1, np.int64), np.zeros(0), np.zeros(0, bool), (64, 48)
    )
    assert grade_events([], empty, (BED,), RULES) == ((), ())


def test_memory_beyond_the_poses_stays_small():
    """A long video is measured part after part: less than its own size on top of it."""
    scene = film({4: Actor(lie, (800, 550))}, replace(HOW, seconds=40.0))
    times = 250
    poses = Poses.concatenate([scene.poses] * times)
    count = len(scene) * times
    long = PoseSequence(
        poses, np.arange(count + 1), np.arange(count) / 10, np.zeros(count, bool), scene.size_wh
    )
    size = sum(getattr(poses, name).nbytes for name in ("keypoints", "keypoint_scores", "boxes"))
    tracemalloc.start()
    (event,), _ = grade_events([], long, (), RULES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert event.stop_s - event.start_s > 9900
    assert peak < 2.5 * size
