"""Which boxes are worth a pose: tables of two or three frames."""

import numpy as np
import pytest

from recognizer.pose.selection import KeptPeople

HERE, BESIDE, FAR = [10, 10, 50, 110], [16, 12, 56, 112], [300, 10, 340, 110]


def kept(keep_s=1.0):
    return KeptPeople(sure_score=0.25, keep_s=keep_s)


def see(people, time_s, *found):
    boxes = np.float32([box for box, _ in found]).reshape(-1, 4)
    return people.select(boxes, np.float32([score for _, score in found]), time_s)


def test_only_a_high_score_is_worth_a_pose_where_nobody_is_kept():
    chosen = see(kept(), 0.0, (HERE, 0.8), (FAR, 0.26), (FAR, 0.12))
    assert chosen.needed.tolist() == [True, False, False]
    assert chosen.person.tolist() == [0, -1, -1]


def test_a_low_score_continues_somebody_seen_in_the_frame_before():
    people = kept()
    see(people, 0.0, (HERE, 0.8))
    chosen = see(people, 0.04, (BESIDE, 0.12), (FAR, 0.12))
    assert chosen.needed.tolist() == [True, False]
    assert chosen.person.tolist() == [0, -1]
    np.testing.assert_array_equal(people.boxes, [BESIDE])


def test_a_low_score_beside_somebody_who_has_a_better_box_is_not_worth_a_pose():
    people = kept()
    see(people, 0.0, (HERE, 0.8))
    assert see(people, 0.04, (HERE, 0.7), (BESIDE, 0.12)).needed.tolist() == [True, False]


def test_who_was_missed_comes_back_by_a_middle_score_alone():
    people = kept()
    see(people, 0.0, (HERE, 0.8))
    see(people, 0.04)
    assert see(people, 0.08, (BESIDE, 0.12)).needed.tolist() == [False]
    assert see(people, 0.12, (BESIDE, 0.26)).needed.tolist() == [True]


@pytest.mark.parametrize(("away_s", "needed"), [(0.9, True), (1.1, False)])
def test_people_are_kept_for_some_seconds_whatever_the_frame_rate(away_s, needed):
    people = kept()
    see(people, 0.0, (HERE, 0.8))
    for time_s in np.arange(0.05, away_s, 0.05):
        see(people, time_s)
    assert see(people, away_s, (HERE, 0.26)).needed.tolist() == [needed]


def test_somebody_new_counts_once_seen_twice():
    people = kept()
    see(people, 0.0)
    see(people, 0.04, (HERE, 0.8))
    assert see(people, 0.08, (HERE, 0.12)).needed.tolist() == [False]


def test_boxes_grow_at_low_frame_rates():
    apart = [60, 10, 100, 110]
    for step_s, needed in ((0.04, False), (0.33, True)):
        people = kept()
        see(people, 0.0, (HERE, 0.8))
        assert see(people, step_s, (apart, 0.26)).needed.tolist() == [needed]


def test_two_people_swap_no_boxes():
    people = kept()
    see(people, 0.0, (HERE, 0.8), (FAR, 0.7))
    assert see(people, 0.04, (FAR, 0.8), (HERE, 0.7)).person.tolist() == [1, 0]


NO_INDICES = np.zeros(0, np.int64)


def test_who_lies_waits_for_a_low_box_and_is_named_while_unseen():
    people = kept()
    see(people, 0.0)
    people.place(np.float32([HERE]), np.array([1]), np.float32([0.4]), NO_INDICES, 0.0)
    see(people, 0.04)
    assert people.lying_unseen(0.04).tolist() == [0]
    assert people.turns.tolist() == [1]
    assert see(people, 0.08, (BESIDE, 0.11)).needed.tolist() == [True]
    assert people.lying_unseen(0.08).tolist() == []
    people.turn(np.array([0]), np.array([0]), np.zeros(1, np.float32))
    see(people, 0.12)
    assert people.lying_unseen(0.12).tolist() == []


def test_who_is_found_lying_is_the_one_who_stood_there_unless_taken():
    for taken, count in ((NO_INDICES, 1), (np.array([0]), 2)):
        people = kept()
        see(people, 0.0, (HERE, 0.8))
        people.place(np.float32([BESIDE]), np.array([1]), np.float32([0.4]), taken, 0.0)
        assert len(people.boxes) == count
        np.testing.assert_array_equal(people.boxes[-1], BESIDE)


def test_who_was_lost_is_remembered_for_seconds_but_joined_by_no_box():
    people = kept()
    see(people, 0.0, (HERE, 0.8))
    for time_s in (1.2, 1.24):
        chosen = see(people, time_s, (HERE, 0.26))
    assert chosen.person.tolist() == [-1]
    assert len(people.boxes) == 1
    see(people, 3.1)
    assert len(people.boxes) == 0
