"""How people move: known flow gives known speeds, on any camera, at any rate."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from recognizer.movement import NAMES, MovementMeter, flow_measures, small_size
from recognizer.storage.artifacts import read_poses
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT.parent / "shared" / "assets"
BOX = (100.0, 60.0, 160.0, 180.0)  # 60 x 120 pixels
SIZE_WH = (320, 240)


def texture(width, height, seed):
    """Return grey noise with detail of some pixels, as clothes and walls have."""
    noise = np.random.default_rng(seed).random((height, width), np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth -= smooth.min()
    return (smooth * (255 / smooth.max())).astype(np.uint8)


def picture(person_xy=(0.0, 0.0), pan_xy=(0.0, 0.0), scale=1):
    """Return a picture: a textured person in ``BOX``, moved, before a textured wall, panned."""
    wall, person = texture(600, 520, 0), texture(60, 120, 1)
    x, y = 140 + pan_xy[0], 140 + pan_xy[1]
    at = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    grey = cv2.warpAffine(wall, at, SIZE_WH)
    at = np.array(
        [[1, 0, BOX[0] + person_xy[0] - pan_xy[0]], [0, 1, BOX[1] + person_xy[1] - pan_xy[1]]],
        np.float32,
    )
    mask = cv2.warpAffine(np.ones_like(person), at, SIZE_WH)
    grey = np.where(mask > 0, cv2.warpAffine(person, at, SIZE_WH), grey)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return ArrayImage(np.repeat(grey[..., None], 3, axis=2))


def box_at(person_xy=(0.0, 0.0), pan_xy=(0.0, 0.0), scale=1):
    shift = np.subtract(person_xy, pan_xy)
    return ((np.array(BOX) + np.tile(shift, 2)) * scale).astype(np.float32)[None]


def measured(speed_xy=(0.0, 0.0), pan_xy=(0.0, 0.0), fps=25.0, scale=1, frames=9):
    """Return the mean of each column over frames of a person of a speed in pixels/s."""
    meter, rows = MovementMeter(), []
    for t in np.arange(frames) / fps:
        person, pan = np.multiply(speed_xy, t), np.multiply(pan_xy, t)
        image = picture(person, pan, scale)
        rows.append(meter.measure(image, float(t), box_at(person, pan, scale))[0])
    return dict(zip(NAMES, np.nanmean(rows, axis=0), strict=True))


# 60 pixels a second are half a box height a second.
def test_a_known_speed_comes_out_in_box_heights_per_second():
    found = measured((60, 0))
    assert found["mean"] == pytest.approx(0.5, rel=0.1)
    assert found["p90"] == pytest.approx(0.5, rel=0.1)
    assert found["translation"] == pytest.approx(0.5, rel=0.1)
    assert found["limbs"] < 0.1
    assert found["entropy"] < 0.1


@pytest.mark.parametrize("speed_xy", [(0, 90), (-45, 45), (30, -60)])
def test_the_direction_does_not_matter(speed_xy):
    expected = np.hypot(*speed_xy) / 120
    assert measured(speed_xy)["translation"] == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("pan_xy", [(50, 0), (-30, 30)])
def test_a_pan_of_the_camera_is_cancelled(pan_xy):
    still, moving = measured(pan_xy=pan_xy), measured((60, 0), pan_xy)
    assert still["p90"] < 0.05
    assert moving["translation"] == pytest.approx(0.5, rel=0.15)


def test_stillness_is_near_0():
    found = measured()
    assert max(found[name] for name in NAMES) < 0.01


@pytest.mark.parametrize("fps", [12.5, 10.0, 30.0, 50.0])
def test_another_frame_rate_gives_the_same_rates(fps):
    reference, found = measured((60, 20)), measured((60, 20), fps=fps, frames=int(fps * 0.6))
    for name in ("mean", "p90", "translation"):
        assert found[name] == pytest.approx(reference[name], rel=0.1)


def test_another_resolution_gives_the_same_numbers():
    reference, found = measured((60, 20)), measured((60, 20), scale=3)
    for name in ("mean", "p90", "translation", "difference"):
        assert found[name] == pytest.approx(reference[name], rel=0.15)


def test_the_difference_is_the_change_of_brightness_in_contrasts_per_second():
    """Grey 100 that becomes 110 in half of a picture whose contrast is 5 changes by 2 in 0.08 s."""
    before = np.full((240, 320, 3), 100, np.uint8)
    after = before.copy()
    after[:, :160] = 110
    meter, boxes = MovementMeter(), np.array([(10, 10, 100, 200), (200, 10, 300, 200)], np.float32)
    meter.measure(ArrayImage(before), 0.0, boxes)
    rows = meter.measure(ArrayImage(after), 0.08, boxes)
    assert rows[:, 5] == pytest.approx([2 / 0.08, 0], rel=1e-4)


def test_limbs_are_what_the_mean_vector_leaves():
    flow = np.zeros((10, 20, 2), np.float32)
    flow[:, :10] = (4, 0)
    mean, p90, entropy, translation, limbs = flow_measures(flow)
    assert (mean, p90, translation, limbs) == (2, 4, 2, 2)
    assert entropy == 0, "the fastest all go one way"


def test_entropy_is_1_where_every_direction_is_as_frequent():
    random = np.random.default_rng(0)
    angles, speeds = random.uniform(-np.pi, np.pi, 20_000), random.random(20_000)
    flow = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * speeds[:, None]
    flow = flow.reshape(100, 200, 2).astype(np.float32)
    assert flow_measures(flow)[2] == pytest.approx(1, abs=0.01)
    assert flow_measures(np.zeros((9, 9, 2), np.float32)) == (0, 0, 0, 0, 0)


# --- which frames have a pair -----------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "step"), [(5, 1), (10, 1), (12, 1), (15, 2), (20, 2), (25, 2), (30, 3), (60, 5)]
)
def test_frames_are_compared_some_10_times_a_second(fps, step):
    meter = MovementMeter()
    images = itertools.cycle([picture(), picture((3, 0))])
    there = [
        bool(np.isfinite(meter.measure(next(images), round(t / fps, 3), box_at())).all())
        for t in range(13)
    ]
    assert there == [t > 0 and t % step == 0 for t in range(13)]


def test_a_hole_in_the_recording_is_no_movement():
    meter = MovementMeter()
    times = [0.0, 0.08, 3.0, 3.08]
    rows = [meter.measure(picture((9 * t, 0)), t, box_at())[0, 0] for t in times]
    assert np.isnan(rows).tolist() == [True, False, True, False]


def test_boxes_without_pixels_are_not_measured():
    nan = np.nan
    boxes = np.array(
        [
            BOX,
            (-500, 10, -400, 100),
            (310, 230, 900, 900),
            (100, 100, 102, 160),
            (100, 100, 160, 104),
            (160, 180, 100, 60),
            (nan, nan, nan, nan),
            (-50, -50, 400, 400),
        ],
        np.float32,
    )
    meter = MovementMeter()
    meter.measure(picture(), 0.0, boxes)
    rows = meter.measure(picture((5, 0)), 0.08, boxes)
    known = np.isfinite(rows)
    assert known.all(axis=1).tolist() == [True, False, True, False, False, False, False, True]
    assert (known.all(axis=1) == known.any(axis=1)).all()
    assert meter.measure(picture(), 0.16, np.zeros((0, 4), np.float32)).shape == (0, 6)


def test_nobody_for_a_while_does_not_break_the_next_pair():
    meter, empty = MovementMeter(), np.zeros((0, 4), np.float32)
    for t in range(5):
        meter.measure(picture((6 * t, 0)), t * 0.1, empty)
    rows = meter.measure(picture((30, 0)), 0.5, box_at((30, 0)))
    assert rows[0, 3] == pytest.approx(60 / 120, rel=0.1)


@pytest.mark.parametrize(
    ("size_wh", "small"),
    [
        ((1920, 1080), (240, 135)),
        ((640, 480), (240, 180)),
        ((160, 120), (160, 120)),
        ((1080, 1920), (156, 277)),
        ((5000, 2), (240, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_picture_is_240_wide_and_never_enlarged(size_wh, small):
    assert small_size(size_wh) == small


@pytest.mark.parametrize("size_wh", [(1, 1), (5000, 2), (12, 12), (31, 9)])
def test_tiny_pictures_do_no_harm(size_wh):
    meter = MovementMeter()
    boxes = np.array([(0, 0, *size_wh)], np.float32)
    for t in range(3):
        noise = np.random.default_rng(t).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
        rows = meter.measure(ArrayImage(noise), t * 0.1, boxes)
        assert rows.shape == (1, 6)
        assert not np.isinf(rows).any()


# --- real footage ----------------------------------------------------------------------


@pytest.mark.skipif(not ASSETS.is_dir(), reason="needs the footage of ../shared/assets")
def test_people_in_a_fight_move_more_than_people_who_walk():
    """The limbs of a fight's clip against a quiet one's, at the boxes of the committed poses."""
    limbs = {}
    for video in ("Fight/fi007.mp4", "NonFight/nofi007.mp4"):
        sequence, _, _ = read_poses(ROOT / "samples" / "stage1" / f"{video}.npz")
        meter = MovementMeter()
        with VideoReader(ASSETS / "fight_surv" / video) as reader:
            rows = [
                meter.measure(frame.image, frame.time_s, sequence.frame(t).boxes)
                for t, frame in enumerate(reader)
            ]
        seen = np.concatenate(rows)[sequence.poses.box_scores > 0.3]
        assert np.isfinite(seen).any()
        assert np.nanmax(seen[:, :5]) < 20, "box heights per second"
        limbs[video] = np.nanpercentile(seen[:, 4], 80)
    assert limbs["Fight/fi007.mp4"] > 2 * limbs["NonFight/nofi007.mp4"]
