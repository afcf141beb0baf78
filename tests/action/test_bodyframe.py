"""The input in the people's own bodies: what it does not depend on, what it measures, parity."""

from pathlib import Path

import numpy as np
import pytest

from recognizer.action.bodyframe import BODY_FEATS, body_input, channels
from recognizer.action.features import BONES, FeatureSettings, from_pipeline, network_input
from recognizer.dataset.mmaction import to_mmaction
from recognizer.types import Sample

FEATS = tuple(BODY_FEATS)
SETTINGS = FeatureSettings(
    clip_len=16, num_person=2, normalize="body", feats=FEATS, sampling="even"
)
BODY = np.array(
    [
        (0, -90),
        (3, -93),
        (-3, -93),
        (7, -90),
        (-7, -90),
        (15, -75),
        (-15, -75),
        (20, -50),
        (-20, -50),
        (22, -28),
        (-22, -28),
        (10, -30),
        (-10, -30),
        (11, 10),
        (-11, 10),
        (12, 50),
        (-12, 50),
    ],
    np.float32,
)


def sample(swing_px=0.0, shift=(300.0, 200.0), scale=1.0, frames=40, gap=0.0):
    """Two people who stand ``gap`` beside each other; the first swings both wrists."""
    time = np.linspace(0, 2, frames, endpoint=False)
    points = np.stack([np.repeat(BODY[None], frames, 0), np.repeat(BODY[None], frames, 0)])
    points[0, :, 9:11, 0] += swing_px * np.sin(2 * np.pi * 1.5 * time)[:, None]
    points[1, :, :, 0] += 60 + gap
    points = (points * scale + np.asarray(shift)).astype(np.float32)
    scores = np.full(points.shape[:3], 0.9, np.float32)
    return Sample("s", 0, points, scores, (640, 480), np.array([1, 2]))


def stream(x, name):
    start = sum(BODY_FEATS[feat] for feat in FEATS[: FEATS.index(name)])
    return x[..., start : start + BODY_FEATS[name]]


def test_shape_and_channels():
    x = network_input(sample(), SETTINGS)
    assert x.shape == (2, 16, 17, channels(FEATS))
    assert x.dtype == np.float32
    assert SETTINGS.channels == x.shape[-1] == 19
    assert np.all(x[..., -1] == 1)  # a score of 0.9 is fully trusted


@pytest.mark.parametrize(
    "other",
    [{"shift": (900.0, 20.0)}, {"scale": 3.0}, {"frames": 160}],
    ids=["elsewhere", "larger", "four times the frame rate"],
)
def test_place_size_and_frame_rate_do_not_matter(other):
    here, there = (network_input(sample(swing_px=25, **k), SETTINGS) for k in ({}, other))
    difference = np.abs(here - there)
    if "frames" in other:  # other frames: the ends of the clip are seen differently
        assert difference.max() < 0.2
        assert difference.mean() < 0.01
    else:
        assert difference.max() < 2e-4


def test_who_swings_is_fast_and_who_stands_is_not():
    x = network_input(sample(swing_px=25), SETTINGS)
    speed, activity = stream(x, "s"), stream(x, "a")
    assert speed[0, :, 9:11].max() > 0.4
    assert speed[1].max() < 0.05
    assert activity[0].max() > 0.3
    assert activity[1].max() == 0
    assert np.ptp(activity, axis=2).max() == 0  # the same at every joint


def test_interaction_falls_with_distance():
    near, far = (
        stream(network_input(sample(swing_px=25, gap=gap), SETTINGS), "i") for gap in (0, 400)
    )
    assert near.max() > 0.2
    assert far.max() < 0.02


def test_the_mirror_image_has_mirrored_vectors_and_equal_amounts():
    s = sample(swing_px=25)
    mirrored = Sample(
        s.name,
        s.label,
        s.keypoints * np.array([-1, 1], np.float32) + np.float32([640, 0]),
        s.keypoint_scores,
        s.size_wh,
        s.track_ids,
    )
    a, b = network_input(s, SETTINGS), network_input(mirrored, SETTINGS)
    for name in ("b", "t"):
        assert np.allclose(stream(a, name) * [-1, 1], stream(b, name), atol=1e-4)
    for name in ("s", "a", "i", "p", "f", "q"):
        assert np.allclose(stream(a, name), stream(b, name), atol=1e-4)


def test_a_fall_shows_as_it_happens_and_in_its_peaks():
    s = sample(frames=60)
    angle = np.clip(np.linspace(-1, 2, 60), 0, 1) * np.pi / 2  # upright, falls, lies
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    feet = np.add((300, 200), (11, 55))
    s.keypoints[0] = np.einsum("ijt,tkj->tki", turn, s.keypoints[0] - feet) + feet
    x = network_input(s, SETTINGS)
    fallen, lying, height = np.moveaxis(stream(x, "f")[:, :, 0], -1, 0)
    assert fallen[0, :3].max() < 0.05
    assert fallen[0].max() == 1
    assert lying[0, -1] > 0.9 > 0.1 > lying[0, 0]
    assert height[0, -1] < 0.5 * height[0, 0]
    assert stream(x, "t")[0, :, 0, 1].max() > 0.3  # downwards
    peaks = stream(x, "q")
    assert peaks[0].min() > 0.3
    assert peaks[1].max() < 0.1  # who stands beside


def test_frames_without_the_person_are_zeros_and_an_absent_person_is_left_out():
    s = sample(swing_px=25)
    s.keypoints[1, :20] = 0
    s.keypoint_scores[1, :20] = 0
    x = network_input(s, SETTINGS)
    assert not x[1, :7].any()
    assert x[1, 9:].any(axis=(1, 2)).all()
    s.keypoints[1] = 0
    s.keypoint_scores[1] = 0
    assert len(network_input(s, SETTINGS)) == 1


def test_a_missing_keypoint_makes_no_bone():
    whole, part = sample(), sample()
    part.keypoints[:, :, [5, 9]] = 0
    part.keypoint_scores[:, :, [5, 9]] = 0
    bones, left = (stream(network_input(s, SETTINGS), "b") for s in (whole, part))
    ends = [5, 7, 9]  # elbow and wrist hang on the shoulder, the wrist is missing itself
    assert not left[:, :, ends].any()
    others = np.setdiff1d(np.arange(17), ends)
    assert np.allclose(left[:, :, others], bones[:, :, others], atol=0.05)


def test_one_frame_and_nobody():
    s = sample(frames=1)
    assert network_input(s, SETTINGS).shape == (2, 16, 17, 19)
    none = np.zeros((1, 5, 17, 2), np.float32)
    x = body_input(none, none[..., 0], (8, FEATS, 2.0), BONES["mmaction"])
    assert x.shape == (1, 8, 17, 19)
    assert not x.any()


def test_the_transform_gives_the_network_what_inference_gives():
    pytest.importorskip("mmaction")
    from recognizer.action.body_transform import BodyInput

    step = {"type": "BodyInput", "clip_len": 16, "num_person": 3, "feats": list(FEATS)}
    settings = from_pipeline([step, {"type": "PackActionInputs"}])
    assert settings.normalize == "body"
    assert FeatureSettings.from_json(settings.to_json()) == settings
    s = sample(swing_px=25)
    arguments = {k: v for k, v in step.items() if k != "type"}
    x = BodyInput(**arguments).transform(to_mmaction(s))["keypoint"]
    assert x.shape == (1, 3, 16, 17, 19)
    assert np.array_equal(x[0, :2], network_input(s, settings))
    assert not x[0, 2].any()


def test_a_part_of_a_clip_has_the_speeds_of_the_clip():
    pytest.importorskip("mmaction")
    from recognizer.action.augmentation import TemporalCrop
    from recognizer.action.body_transform import BodyInput

    whole = sample(swing_px=25, frames=160)
    make = BodyInput(clip_len=16, feats=["s"])
    part = make.transform(TemporalCrop(ratio=(0.5, 0.5)).transform(to_mmaction(whole)))
    full = make.transform(to_mmaction(whole))
    fastest = [x["keypoint"][0, 0, :, 9, 0].max() for x in (part, full)]
    assert fastest[0] == pytest.approx(fastest[1], abs=0.05)


def test_real_footage_has_finite_numbers():
    from recognizer.storage.artifacts import read_poses

    files = sorted((Path(__file__).parents[2] / "samples" / "stage1").rglob("*.npz"))[:3]
    for file in files:
        poses, _, _ = read_poses(file)
        first = poses.frame(0)
        if len(first) == 0:
            continue
        s = Sample(
            "r",
            0,
            first.keypoints[:, None],
            first.keypoint_scores[:, None],
            poses.size_wh,
            np.arange(len(first)),
        )
        assert np.isfinite(network_input(s, SETTINGS)).all()
