from dataclasses import replace

import numpy as np
import pytest

from recognizer.tracking.backward import adopt_backward, track_backward, track_forward
from recognizer.tracking.joining import join_tracks
from recognizer.tracking.merging import keep_merged
from recognizer.tracking.offline import track_people
from recognizer.types import PoseSequence, PoseSequenceBuilder
from tests.people import Camera, Person, crowd
from tests.tracking.boxes import FPS, SETTINGS, SIZE_WH, box, rows, shots_of, video, walk

TRACKER_ALONE = SETTINGS.model_copy(
    update={"track_backward": False, "join_gap_s": 0.0, "merge_s": 0.0}
)


def ids_by_frame(sequence):
    return [sorted(frame.track_ids.tolist()) for frame in sequence.frames()]


def test_adopts_rows_by_their_backward_track():
    forward = np.array([-1, -1, 4, 4, -1, 7, -1])
    backward = np.array([2, 2, 2, -1, 2, 3, 9])
    adopted = adopt_backward(forward, backward, np.arange(7))
    assert adopted.tolist() == [4, 4, 4, 4, 4, 7, -1]


def test_adoption_never_doubles_an_id_in_a_frame():
    frames = np.array([0, 0, 1, 1])
    adopted = adopt_backward(np.array([-1, 5, 5, -1]), np.array([1, -1, 1, 2]), frames)
    assert adopted.tolist() == [-1, 5, 5, -1]


def test_weak_detections_before_the_first_sure_one_are_the_same_person():
    builder = PoseSequenceBuilder()
    for t, place in enumerate(walk(20)):
        builder.append(rows([place], [-1], [0.15 if t < 10 else 0.8]), t / FPS)
    sequence = builder.build(SIZE_WH)
    assert (track_forward(sequence, SETTINGS)[:10] == -1).all()
    assert (track_backward(sequence, SETTINGS) >= 0).sum() >= 18
    people = track_people(sequence, SETTINGS)
    # The tracker knows a newcomer from the second sight on: here from the end.
    assert ids_by_frame(people)[:-1] == [[1]] * 19


@pytest.mark.parametrize(("max_gap_s", "expected"), [(0.0, 2), (0.3, 2), (0.6, 1), (2.0, 1)])
def test_joins_what_goes_on_within_the_limit(max_gap_s, expected):
    places = walk(30)
    frames = [{1: p} for p in places[:10]] + [{}] * 10 + [{2: p} for p in places[20:]]
    joined = join_tracks(video(frames), max_gap_s)
    ids = np.unique(joined.poses.track_ids)
    assert len(ids) == expected
    assert ids[0] == 1


def test_does_not_join_far_or_other_people():
    places = walk(30)
    for later in (box(400), box(130, height=30, width=10)):
        frames = [{1: p} for p in places[:10]] + [{}] * 4 + [{2: later}] * 10
        assert set(join_tracks(video(frames), 2.0).poses.track_ids) == {1, 2}


def test_does_not_join_people_who_are_there_together():
    frames = [{1: p} for p in walk(10)] + [{1: p, 2: p} for p in walk(10, 130)]
    assert set(join_tracks(video(frames), 2.0).poses.track_ids) == {1, 2}


def test_joins_all_at_once_and_not_the_first_best():
    # 1 could go on as 3 or 4, 2 only as 3: greedily 1 -> 3 leaves 2 alone.
    frames = [{1: box(100), 2: box(60)}] * 10 + [{}] * 10 + [{3: box(98), 4: box(140)}] * 10
    joined = join_tracks(video(frames), 1.0)
    assert ids_by_frame(joined)[-1] == [1, 2]
    last = joined.frame(len(joined) - 1)
    assert dict(zip(last.track_ids.tolist(), last.boxes[:, 0].tolist(), strict=True)) == {
        1: 120.0,
        2: 78.0,
    }


def test_joining_does_not_depend_on_the_order_of_rows_nor_on_ids():
    places = [walk(40, x) for x in (60, 200, 340)]
    frames = []
    for t in range(40):
        second = 10 * (t >= 20)
        frames.append({} if 15 <= t < 20 else {i + second: p[t] for i, p in enumerate(places)})
    joined = join_tracks(video(frames), 1.0)
    assert ids_by_frame(joined)[-1] == [0, 1, 2]
    shuffled = join_tracks(video([dict(reversed(f.items())) for f in frames]), 1.0)
    for one, other in zip(joined.frames(), shuffled.frames(), strict=True):
        order = np.argsort(one.boxes[:, 0]), np.argsort(other.boxes[:, 0])
        assert one.track_ids[order[0]].tolist() == other.track_ids[order[1]].tolist()


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
@pytest.mark.parametrize("step", [join_tracks, keep_merged])
def test_refuses_limits_that_are_none(step, wrong):
    with pytest.raises(ValueError, match="expected 0 or more seconds"):
        step(video([{1: box(100)}]), wrong)


def clinch(apart=10, merged=10, after=0, width=70):
    """Return two who stand side by side, then in one box under the first id, then apart."""
    two = {1: box(100), 2: box(130)}
    return [two] * apart + [{1: box(115, width=width)}] * merged + [two] * after


def test_keeps_the_other_of_a_merged_box_up_to_the_limit():
    kept = keep_merged(video(clinch(merged=30)), 1.0)
    assert ids_by_frame(kept)[:10] == [[1, 2]] * 10
    assert ids_by_frame(kept)[10:] == [[1, 2]] * 20 + [[1]] * 10
    added = kept.frame(15)
    added = added[added.track_ids == 2]
    assert (added.box_scores == 0).all()
    assert (added.keypoint_scores == 0).all()
    np.testing.assert_allclose(added.boxes[0], box(130), atol=1e-3)
    np.testing.assert_allclose(added.keypoints[0], rows([box(130)], [2]).keypoints[0], atol=1e-2)


def test_keeps_backward_who_comes_out_of_a_merged_box():
    kept = keep_merged(video([*reversed(clinch(apart=10, merged=10))]), 1.0)
    assert ids_by_frame(kept) == [[1, 2]] * 20


def test_a_kept_person_moves_with_the_merged_box():
    frames = clinch(apart=10, merged=0)
    frames += [{1: box(115 + 3 * t, width=70)} for t in range(10)]
    last = keep_merged(video(frames), 1.0).frame(19)
    np.testing.assert_allclose(last.boxes[last.track_ids == 2][0], box(130 + 27), atol=1e-3)


@pytest.mark.parametrize(
    "frames",
    [
        clinch(width=40),  # the other's box does not grow: somebody has gone
        [{1: box(100), 2: box(130)}] * 10 + [{}] * 10,  # no detection
        [{1: box(100), 2: box(104)}] * 10 + [{1: box(115, width=70)}] * 10,  # one seen twice
        [{1: box(100, 150, height=50), 2: box(100, 202, height=50)}] * 10
        + [{1: box(100, 175, height=100)}] * 10,  # two halves of one body
        clinch(apart=3),  # hardly seen
    ],
    ids=["not grown", "nobody", "double", "halves", "short"],
)
def test_invents_nobody(frames):
    sequence = video(frames)
    assert len(keep_merged(sequence, 1.0).poses) == len(sequence.poses)


def test_keeps_nobody_with_weak_scores():
    sequence = video(clinch())
    assert len(keep_merged(sequence, 1.0, least_score=0.95).poses) == len(sequence.poses)


def test_does_not_double_whoever_is_seen_there():
    frames = clinch(apart=10, merged=0)
    frames += [{1: box(115, width=70), 3: box(130)}] * 10  # the lost one has another id
    sequence = video(frames)
    assert len(keep_merged(sequence, 1.0).poses) == len(sequence.poses)


def test_fills_a_merge_up_to_the_return():
    kept = keep_merged(video(clinch(apart=10, merged=10, after=5)), 1.0)
    assert ids_by_frame(kept) == [[1, 2]] * 25


@pytest.mark.parametrize("frames", [[], [{}], [{1: box(100)}]], ids=["none", "empty", "one"])
def test_nobody_and_one(frames):
    sequence = video(frames)
    assert isinstance(track_people(sequence, SETTINGS), PoseSequence)
    assert ids_by_frame(keep_merged(join_tracks(sequence, 1.0), 1.0)) == ids_by_frame(sequence)


def changes(sequence, who):
    """Return how often the id of a person changes."""
    seen = sequence.poses.box_scores > 0
    ids = sequence.poses.track_ids[seen]
    return sum(
        int((np.diff(ids[(who == person) & (ids >= 0)]) != 0).sum()) for person in np.unique(who)
    )


@pytest.mark.parametrize("seed", range(3))
def test_people_of_a_crowd_keep_their_ids_better(seed):
    sequence, who = shots_of(crowd(12, seed), 8, Camera(jitter=0.03, missed=0.4, low=0.3), seed)
    alone = changes(track_people(sequence, TRACKER_ALONE), who)
    after = changes(track_people(sequence, SETTINGS), who)
    assert after <= alone


def test_every_id_once_per_frame_and_no_seen_row_lost():
    sequence, _ = shots_of(crowd(30, 5, stay_s=2.0, seconds=6), 6, Camera(missed=0.4, low=0.4), 5)
    people = track_people(sequence, SETTINGS)
    for frame in people.frames():
        ids = frame.track_ids[frame.track_ids >= 0]
        assert len(np.unique(ids)) == len(ids)
    seen = people.poses.box_scores > 0
    np.testing.assert_array_equal(people.poses.boxes[seen], sequence.poses.boxes)
    before = track_people(sequence, TRACKER_ALONE).poses
    tracked = before.track_ids[before.box_scores > 0] >= 0
    assert (people.poses.track_ids[seen][tracked] >= 0).all()


def test_the_same_video_twice_gives_the_same_people():
    sequence, _ = shots_of(crowd(10, 2), 3, Camera(missed=0.3, low=0.3), 2)
    one, other = track_people(sequence, SETTINGS), track_people(sequence, SETTINGS)
    np.testing.assert_array_equal(one.poses.track_ids, other.poses.track_ids)
    np.testing.assert_array_equal(one.poses.boxes, other.poses.boxes)


def test_switched_off_is_the_tracker_with_gaps_filled():
    sequence, _ = shots_of([Person((100.0, 200.0), (50.0, 0.0), 150.0)], 2, Camera(missed=0.3), 1)
    alone = track_people(sequence, TRACKER_ALONE)
    forward = replace(
        sequence, poses=sequence.poses.with_ids(track_forward(sequence, TRACKER_ALONE))
    )
    seen = alone.poses.box_scores > 0
    np.testing.assert_array_equal(alone.poses.track_ids[seen], forward.poses.track_ids)


def test_progress_sees_every_frame_of_both_directions():
    """A worker that is silent for long counts as hung, and the video would be refused."""
    sequence, seen = video([{1: place} for place in walk(8)]), []

    def progress(items):
        for item in items:
            seen.append(item)
            yield item

    track_people(sequence, SETTINGS, progress)
    assert len(seen) == 2 * len(sequence)
