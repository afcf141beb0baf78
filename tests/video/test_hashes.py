"""Difference hashes: what encoding and scaling change of them, and what another scene does."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from recognizer.dataset.near_duplicates import find_pairs
from recognizer.types import Frame
from recognizer.video.array_image import ArrayImage
from recognizer.video.hashes import (
    PERIOD_S,
    TIMES,
    VALUES,
    HashRecorder,
    check_hashes,
    difference_hash,
)
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "fight_surv"


def scene(seed: int, size_wh: tuple[int, int] = (160, 120)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC)


def bits(first: int | None, second: int | None) -> int:
    assert first is not None
    assert second is not None
    return (first ^ second).bit_count()


def record(frames):
    recorder = HashRecorder()
    seen = list(recorder.watch(frames))
    arrays = recorder.arrays()
    return seen, arrays["hash_time_s"], arrays["hashes"]


def test_a_bit_says_whether_the_right_neighbour_is_lighter():
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[None] * 20, 8, axis=0)
    picture = np.repeat(ramp[..., None], 3, axis=2)
    assert difference_hash(ArrayImage(picture)) == 2**64 - 1
    assert difference_hash(ArrayImage(picture[:, ::-1].copy())) == 0


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_has_no_hash(level):
    noise = np.random.default_rng(0).integers(-3, 4, (120, 160, 3))
    picture = np.clip(noise + level, 0, 255).astype(np.uint8)
    assert difference_hash(ArrayImage(picture)) is None


def test_scaling_changes_little_another_scene_much():
    one = difference_hash(ArrayImage(scene(1, (640, 480))))
    smaller = cv2.resize(scene(1, (640, 480)), (200, 150), interpolation=cv2.INTER_AREA)
    assert bits(one, difference_hash(ArrayImage(smaller))) <= 4
    assert bits(one, difference_hash(ArrayImage(scene(2)))) > 16


def test_a_picture_is_hashed_every_quarter_of_a_second_also_after_a_hole():
    times = [*np.arange(20) / 20, 7.3, 7.35, 7.55]
    frames = [Frame(ArrayImage(scene(i)), i, float(t)) for i, t in enumerate(times)]
    seen, at, values = record(frames)
    assert seen == frames
    assert PERIOD_S == 0.25
    np.testing.assert_allclose(at, [0, 0.25, 0.5, 0.75, 7.3, 7.55])
    assert (values.dtype, values.shape) == (np.uint64, (6,))
    assert values[1] == difference_hash(frames[5].image)


def test_a_video_without_frames_has_no_hash():
    _, at, values = record([])
    assert at.shape == values.shape == (0,)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs the clips of ../shared/assets/fight_surv")
def test_a_copy_of_a_real_clip_is_found_encoded_anew_and_half_as_large(tmp_path):
    names = ["Fight/fi007.mp4", "Fight/fi040.mp4", "NonFight/nofi016.mp4", "NonFight/nofi076.mp4"]
    clips = [hashes_of(CLIPS / name) for name in names]
    copy = tmp_path / "copy.mp4"
    with VideoReader(CLIPS / names[0]) as reader:
        size_wh = tuple(side // 4 * 2 for side in reader.size_wh)
        with VideoWriter(copy, size_wh, reader.info.fps, crf=38) as writer:
            for frame in reader:
                writer.write(frame.image.bgr(size_wh), frame.time_s)
    pairs = find_pairs([*clips, hashes_of(copy)], ["a", "b", "c", "d", "copy"], 8.0)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 4)]


def hashes_of(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return record(reader)[2]


GOOD = {TIMES: np.array([0.0, 0.25]), VALUES: np.array([1, 2], np.uint64)}


def test_hashes_of_a_result_are_taken_as_they_are_and_older_ones_have_none():
    assert check_hashes({**GOOD, "other": np.zeros(3)}).keys() == GOOD.keys()
    assert check_hashes({"other": np.zeros(3)}) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {VALUES: GOOD[VALUES][:1]},
        {VALUES: GOOD[VALUES][None]},
        {VALUES: GOOD[VALUES].astype(np.float64)},
        {TIMES: np.array(["a", "b"])},
        {TIMES: np.array([0.0, np.nan])},
        {TIMES: np.array([0.25, 0.0])},
        {TIMES: np.array(0.0), VALUES: np.array(1, np.uint64)},
    ],
)
def test_other_members_of_that_name_are_refused(wrong):
    with pytest.raises(ValueError, match="hash_time_s"):
        check_hashes({**GOOD, **wrong})


def test_one_of_the_two_members_alone_is_refused():
    with pytest.raises(ValueError, match="hashes, got hash_time_s alone"):
        check_hashes({TIMES: GOOD[TIMES]})
