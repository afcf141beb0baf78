"""Parts of pose sequences: cut and joined again they are the video."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.sequences import evenly_spaced, join_sequences, slice_frames
from recognizer.types import PoseSequence
from tests.dataset.tracked import sequence

VIDEO = sequence(seconds=3.0, people=3, present=lambda i, t: (i + int(10 * t)) % 3 > 0)


def parts_of(video, cuts):
    edges = [0, *sorted(cuts), len(video)]
    return [slice_frames(video, a, b) for a, b in pairwise(edges)]


def assert_equal(one, other):
    assert one.size_wh == other.size_wh
    for name in ("frame_offsets", "time_s", "corrupt"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("keypoints", "keypoint_scores", "boxes", "box_scores", "track_ids"):
        np.testing.assert_array_equal(getattr(one.poses, name), getattr(other.poses, name))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(VIDEO)), max_size=8))
def test_parts_joined_are_the_whole(cuts):
    assert_equal(join_sequences(parts_of(VIDEO, cuts)), VIDEO)


def test_one_part_is_not_copied():
    assert join_sequences([VIDEO]) is VIDEO
    part = slice_frames(VIDEO, 2, 9)
    assert np.shares_memory(part.poses.keypoints, VIDEO.poses.keypoints)
    assert (len(part), part.time_s[0]) == (7, VIDEO.time_s[2])


def test_parts_that_do_not_belong_together_are_refused():
    first, last = parts_of(VIDEO, [10])
    with pytest.raises(ValueError, match="one or more pose sequences, got none"):
        join_sequences([])
    with pytest.raises(ValueError, match="times that never fall"):
        join_sequences([last, first])
    larger = PoseSequence(last.poses, last.frame_offsets, last.time_s, last.corrupt, (640, 480))
    with pytest.raises(ValueError, match="expected 320x240 as in the frames before, got 640x480"):
        join_sequences([first, larger])


@pytest.mark.parametrize(
    ("count", "expected"),
    [(None, "abcdefg"), (7, "abcdefg"), (9, "abcdefg"), (3, "bdf"), (2, "bf"), (1, "d"), (0, "")],
)
def test_evenly_spaced_items_leave_equal_gaps(count, expected):
    assert "".join(evenly_spaced("abcdefg", count)) == expected
