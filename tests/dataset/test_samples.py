from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, choose_people
from recognizer.types import PoseSequence
from tests.dataset.tracked import SIZE_WH, person, sequence


def test_slot_is_one_human_throughout():
    """People swap places in the frame's rows; slots must not follow the rows."""
    video = sequence(seconds=2, people=3, present=lambda i, t: (round(t * 10) + i) % 3 != 0)
    sample = build_sample(video, [2, 0, 1], 3, "a", 1)
    assert sample.track_ids.tolist() == [2, 0, 1]
    for slot, track_id in enumerate([2, 0, 1]):
        for frame in range(len(video)):
            t = frame / 10
            if (frame + track_id) % 3 != 0:
                expected = person(track_id, t, speed=20 / (track_id + 1))
                np.testing.assert_array_equal(sample.keypoints[slot, frame], expected.keypoints[0])
                assert (sample.keypoint_scores[slot, frame] == np.float32(0.8)).all()
            else:
                assert not sample.keypoints[slot, frame].any()
                assert not sample.keypoint_scores[slot, frame].any()


@given(
    present=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=12),
    num_person=st.integers(1, 6),
    order=st.permutations(range(4)),
)
def test_never_more_people_than_there_are(present, num_person, order):
    video = sequence(
        seconds=len(present) / 10, people=4, present=lambda i, t: present[round(t * 10)][i]
    )
    there = [i for i in order if any(frame[i] for frame in present)]
    if not there:
        with pytest.raises(NoTrackedPeopleError, match="nobody was tracked"):
            build_sample(video, order, num_person, "a", 0)
        return
    sample = build_sample(video, order, num_person, "a", 0)
    assert sample.track_ids.tolist() == there[:num_person]
    assert sample.keypoints.shape == (len(there[:num_person]), len(present), 17, 2)
    seen = sample.keypoint_scores.any(axis=2)
    np.testing.assert_array_equal(seen, np.array(present)[:, there[:num_person]].T)


def test_filled_gap_keeps_its_place_with_score_zero():
    video = sequence(seconds=1, people=1, filled=lambda i, t: 0.3 <= t < 0.5)
    sample = build_sample(video, [0], 4, "a", 0)
    assert not sample.keypoint_scores[0, 3:5].any()
    assert sample.keypoints[0, 3:5].all()


def test_somebody_of_which_only_a_filled_gap_is_here_is_nobody():
    video = sequence(seconds=1, people=2, filled=lambda i, t: i == 1)
    assert choose_people(video, [1, 0], 4).tolist() == [0]
    alone = sequence(seconds=1, people=1, filled=lambda i, t: True)
    with pytest.raises(NoTrackedPeopleError):
        build_sample(alone, [0], 4, "a", 0)


def test_untracked_people_take_no_slot():
    video = sequence(seconds=1, people=2)
    ids = np.where(video.poses.track_ids == 1, -1, 0)
    video = replace(video, poses=video.poses.with_ids(ids))
    assert build_sample(video, [-1, 0], 4, "a", 0).track_ids.tolist() == [0]


def test_a_frame_without_anybody_stays_a_frame():
    video = sequence(seconds=2, people=2, present=lambda i, t: t >= 1)
    sample = build_sample(video, [0, 1], 4, "a", 0)
    assert sample.keypoints.shape[1] == 20
    assert not sample.keypoints[:, :10].any()


def test_size_is_width_and_height():
    sample = build_sample(sequence(), [0], 1, "a", 0)
    assert sample.size_wh == SIZE_WH == (320, 240)


def _twice(video: PoseSequence) -> PoseSequence:
    return replace(video, poses=video.poses.with_ids(np.zeros(len(video.poses), np.int64)))


def test_refuses_one_id_twice_in_a_frame():
    with pytest.raises(ValueError, match=r"clip\.mp4: expected person 0 once per frame"):
        build_sample(_twice(sequence(people=2)), [0], 4, "clip.mp4", 0)


def test_refuses_one_id_twice_in_the_ranking():
    with pytest.raises(ValueError, match="every id once"):
        build_sample(sequence(), [0, 1, 0], 4, "a", 0)


def test_refuses_numbers_that_are_not_finite():
    video = sequence(people=1)
    video.poses.keypoints[3, 4, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        build_sample(video, [0], 4, "a", 0)


def test_boxes_movement_and_time_follow_the_person():
    """Movement goes with its row; where nobody is there is NaN, where a gap was filled as well."""
    video = sequence(seconds=2, people=2, present=lambda i, t: i == 0 or t >= 1)
    video = replace(video, time_s=video.time_s + 7.0)
    rows = np.arange(len(video.poses), dtype=np.float32)
    movement = np.repeat(rows[:, None], 6, axis=1)
    movement[4] = np.nan
    video = replace(video, poses=video.poses.with_movement(movement))
    sample = build_sample(video, [1, 0], 4, "a", 0)
    assert sample.boxes is not None
    assert sample.movement is not None
    assert np.isnan(sample.boxes[0, :10]).all()
    assert np.isnan(sample.movement[0, :10]).all()
    np.testing.assert_array_equal(sample.movement[0, 10:, 0], rows[11::2])
    np.testing.assert_array_equal(
        sample.movement[1, :, 5], [*rows[:4], np.nan, *rows[5:11:1], *rows[12::2]]
    )
    np.testing.assert_array_equal(sample.boxes[0, 15], person(1, 1.5, speed=10).boxes[0])
    np.testing.assert_allclose(sample.time_s, np.arange(20) / 10)
    assert build_sample(sequence(), [0], 4, "a", 0).movement is None
