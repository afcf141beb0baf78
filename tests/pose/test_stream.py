"""Batches of frames to poses: sizes, times, movement and numbers that are none."""

import numpy as np
import pytest

from recognizer.backends.network import ModelError
from recognizer.pose.stream import estimate_poses
from recognizer.sequences import join_sequences
from recognizer.types import Frame
from recognizer.video.array_image import ArrayImage
from tests.dataset.tracked import person

SIZE_WH = (320, 240)


class OneWalker:
    """A pose model that sees one person, whose place tells the time."""

    def __init__(self, spoilt=()):
        self.batches, self._spoilt = [], spoilt

    def for_video(self):
        return self

    def __call__(self, images, times_s):
        self.batches.append(len(images))
        found = [person(-1, time_s) for time_s in times_s]
        for poses, time_s in zip(found, times_s, strict=True):
            if time_s in self._spoilt:
                poses.keypoint_scores[:] = np.nan
        return found


def frames(count, corrupt=()):
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 255, (count, *SIZE_WH[::-1], 3), np.uint8)
    return [Frame(ArrayImage(p), t, t / 10, t in corrupt) for t, p in enumerate(pictures)]


@pytest.mark.parametrize(("size", "batches"), [(1, [1] * 7), (3, [3, 3, 1]), (9, [7])])
def test_the_size_of_a_batch_changes_nothing(size, batches):
    model = OneWalker()
    parts = list(estimate_poses(frames(7, corrupt=[2]), model, batch_size=size, movement=False))
    assert model.batches == [len(part) for part in parts] == batches
    video = join_sequences(parts)
    assert video.size_wh == SIZE_WH
    np.testing.assert_array_equal(video.time_s, np.arange(7) / 10)
    assert np.flatnonzero(video.corrupt).tolist() == [2]
    expected = [person(-1, t / 10).boxes[0] for t in range(7)]
    np.testing.assert_array_equal(video.poses.boxes, expected)
    assert video.poses.movement is None


def test_a_batch_comes_before_the_next_frame_is_asked_for():
    requested = []

    def camera():
        for frame in frames(6):
            requested.append(frame.index)
            yield frame

    stream = estimate_poses(camera(), OneWalker(), batch_size=2)
    assert (len(next(stream)), requested) == (2, [0, 1])
    assert (len(next(stream)), requested) == (2, [0, 1, 2, 3])


def test_movement_is_measured_but_for_damaged_frames():
    parts = estimate_poses(frames(5, corrupt=[3]), OneWalker(), batch_size=2)
    measured = ~np.isnan(join_sequences(list(parts)).poses.movement).any(axis=1)
    assert measured.tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("size", [1, 4])
def test_numbers_that_are_none_stop_the_video(size):
    with pytest.raises(ModelError, match="numbers that are not finite"):
        list(estimate_poses(frames(6), OneWalker(spoilt=[0.4]), batch_size=size))


def test_a_batch_holds_at_least_one_frame():
    with pytest.raises(ValueError, match="batch_size: expected a whole number of 1 to 256, got 0"):
        next(estimate_poses(frames(2), OneWalker(), batch_size=0))
    assert list(estimate_poses([], OneWalker())) == []
