"""Augmentation on real and made clips: what moves, what stays, where it may stand."""

# ruff: noqa: NPY002 - the transforms draw from the global generator, as mmaction2's do

import numpy as np
import pytest

pytest.importorskip("mmaction")

from mmaction.datasets.transforms import RandomRescale as ImageRescale
from mmaction.registry import TRANSFORMS

import recognizer.action.registered  # noqa: F401 - registers
from recognizer.action.augmentation import (
    FlipSkeleton,
    KeypointDropout,
    KeypointJitter,
    RandomRescale,
    RandomRotate,
    RandomShift,
    TemporalCrop,
    TemporalSpeed,
)
from recognizer.openmmlab import scope
from recognizer.skeleton import LEFT_WRIST, RIGHT_WRIST
from tests.action.clips import compose, item, plain_steps, real_samples, still

SIZE = np.array([320, 240])  # of still()
SPACE = {
    "shift": {"type": "RandomShift", "shift_ratio": 0.1},
    "rotate": {"type": "RandomRotate", "angle": 15},
    "rescale": {"type": "RandomRescale", "scale_factor": (0.8, 1.2)},
    "rescale per frame": {
        "type": "RandomRescale",
        "scale_factor": (0.8, 1.2),
        "per_frame": True,
    },
    "flip": {"type": "FlipSkeleton", "prob": 1},
    "jitter": {"type": "KeypointJitter", "sigma": 0.05},
    "dropout": {"type": "KeypointDropout", "prob": 0.3},
    "dropout per frame": {"type": "KeypointDropout", "prob": 0.3, "per_frame": True},
}
TIME = {
    "crop": {"type": "TemporalCrop", "ratio": (0.5, 0.9)},
    "speed": {"type": "TemporalSpeed", "factor": (0.5, 2), "parts": 3},
}


def with_gaps():
    present = np.random.default_rng(0).random((3, 30)) < 0.7
    present[2] = False
    return still(people=3, frames=30, present=present), present


def normalised(results):
    return compose([{"type": "PreNormalize2D"}])(results)


def pixels(results):
    """Undo PreNormalize2D."""
    half = np.array(results["img_shape"][::-1]) / 2
    return results["keypoint"] * half + half


def run(step, results, seed=0):
    np.random.seed(seed)
    return compose([step])(results)


@pytest.mark.parametrize("name", SPACE)
def test_missing_stays_missing(name):
    sample, present = with_gaps()
    for results, origin in ((item(sample), 0), (normalised(item(sample)), -1)):
        before = {key: np.copy(results[key]) for key in ("keypoint", "keypoint_score")}
        after = run(SPACE[name], results)
        assert np.all(after["keypoint"][~present] == origin)
        assert np.all(after["keypoint_score"][~present] == 0)
        assert after["keypoint"].dtype == after["keypoint_score"].dtype == np.float32
        assert after["keypoint"].shape == before["keypoint"].shape
        assert not np.array_equal(after["keypoint"][present], before["keypoint"][present])
        for key, value in before.items():
            np.testing.assert_array_equal(results[key], value, "changed in place")


@pytest.mark.parametrize("name", SPACE)
def test_pixels_or_normalised_first_gives_the_same(name):
    for sample in (with_gaps()[0], real_samples()[0], real_samples()[14]):
        a = normalised(run(SPACE[name], item(sample)))
        b = run(SPACE[name], normalised(item(sample)))
        np.testing.assert_allclose(a["keypoint"], b["keypoint"], atol=2e-5)
        np.testing.assert_array_equal(a["keypoint_score"], b["keypoint_score"])


@pytest.mark.parametrize("name", SPACE)
def test_bones_are_those_of_the_changed_keypoints(name):
    sample = real_samples()[2]
    steps = plain_steps(["b"], 20, first=[SPACE[name]])
    np.random.seed(3)
    found = compose(steps)(item(sample))["inputs"]
    np.random.seed(3)
    changed = compose([SPACE[name]])(item(sample))
    expected = compose(plain_steps(["b"], 20))(changed)["inputs"]
    np.testing.assert_allclose(found, expected, atol=5e-5)
    untouched = compose(plain_steps(["b"], 20))(item(sample))["inputs"]
    if name != "shift":  # bones do not know where a body is
        assert np.abs(found - untouched).max() > 1e-2


def test_a_shift_is_the_same_for_all_and_within_bounds():
    sample = still()
    seen = []
    for seed in range(50):
        after = run(SPACE["shift"], item(sample), seed)
        moved = (after["keypoint"] - sample.keypoints).reshape(-1, 2)
        assert np.ptp(moved, axis=0).max() < 1e-3
        seen.append(moved.mean(0) / SIZE)
    assert np.abs(seen).max() <= 0.1 + 1e-6
    assert np.abs(seen).max(0).min() > 0.05, "both directions are used"


def test_a_turn_keeps_distances_in_pixels():
    sample = still()
    for results in (item(sample), normalised(item(sample))):
        after = run({"type": "RandomRotate", "angle": 90}, results)
        points = pixels(after) if results["keypoint"].max() < 2 else after["keypoint"]
        before = np.linalg.norm(np.diff(sample.keypoints, axis=2), axis=-1)
        np.testing.assert_allclose(
            np.linalg.norm(np.diff(points, axis=2), axis=-1), before, rtol=1e-3, atol=1e-2
        )
        assert np.abs(points - sample.keypoints).max() > 1


def test_turns_go_both_ways_and_not_further_than_asked():
    sample = still(people=1, frames=1)
    angles = []
    for seed in range(60):
        points = run({"type": "RandomRotate", "angle": 15}, item(sample), seed)["keypoint"]
        a, b = (sample.keypoints - SIZE / 2)[0, 0], (points - SIZE / 2)[0, 0]
        turn = np.angle((b[:, 0] + 1j * b[:, 1]) / (a[:, 0] + 1j * a[:, 1]), deg=True)
        assert np.ptp(turn) < 0.01
        angles.append(turn[0])
    assert max(angles) <= 15.01
    assert min(angles) >= -15.01
    assert np.ptp(angles) > 20


def test_flip_twice_is_identity_and_left_becomes_right():
    for sample in (with_gaps()[0], real_samples()[3]):
        once = FlipSkeleton(prob=1)(item(sample))
        width = sample.size_wh[0]
        here = sample.keypoint_scores[:, :, LEFT_WRIST] > 0
        left = sample.keypoints[:, :, LEFT_WRIST][here]
        right = once["keypoint"][:, :, RIGHT_WRIST][here]
        np.testing.assert_allclose(right, [width, 0] + left * [-1, 1], atol=1e-3)
        twice = FlipSkeleton(prob=1)(once)
        np.testing.assert_allclose(twice["keypoint"], sample.keypoints, atol=1e-3)
        np.testing.assert_array_equal(twice["keypoint_score"], sample.keypoint_scores)


def test_flip_by_chance():
    sample = still()
    flipped = [
        not np.array_equal(
            run({"type": "FlipSkeleton"}, item(sample), s)["keypoint"], sample.keypoints
        )
        for s in range(100)
    ]
    assert 30 < sum(flipped) < 70
    same = FlipSkeleton(prob=0)(item(sample))
    np.testing.assert_array_equal(same["keypoint"], sample.keypoints)


def test_rescale_is_a_zoom_at_the_image_centre():
    sample = still()
    after = run(SPACE["rescale"], item(sample))["keypoint"]
    ratio = (after - SIZE / 2) / (sample.keypoints - SIZE / 2)
    assert 0.8 <= np.median(ratio) <= 1.2
    np.testing.assert_allclose(
        after, (sample.keypoints - SIZE / 2) * np.median(ratio) + SIZE / 2, atol=1e-2
    )
    after = run(SPACE["rescale per frame"], item(sample))["keypoint"]
    ratios = np.median((after - SIZE / 2) / (sample.keypoints - SIZE / 2), axis=(0, 2, 3))
    assert np.std(ratios) > 0.05


@pytest.mark.parametrize("feats", [["j"], ["b"], ["bm"], ["j", "b", "jm", "bm"]], ids="+".join)
def test_rescale_of_features_is_features_of_rescaled_keypoints(feats):
    """The guide has it after PoseDecode. Person 0 is always there, person 1 comes and goes."""
    present = np.ones((2, 20), bool)
    present[1, 5:15] = False
    sample = still(present=present)
    after = plain_steps(feats, 20)
    after.insert(4, SPACE["rescale"])
    found = compose(after)(item(sample))["inputs"].numpy()
    plain = compose(plain_steps(feats, 20))(item(sample))["inputs"].numpy()
    moved = np.abs(plain[..., 0] + 1) > 1e-3
    factor = np.median(
        found[..., 0][moved & (plain[..., 0] != 0)] / plain[..., 0][moved & (plain[..., 0] != 0)]
    )
    assert 0.8 <= factor <= 1.2
    assert abs(factor - 1) > 1e-3
    fixed = {"type": "RandomRescale", "scale_factor": (float(factor), float(factor))}
    expected = compose(plain_steps(feats, 20, first=[fixed]))(item(sample))["inputs"].numpy()
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-5)
    if feats == ["j"]:
        absent = (plain[..., :2] == -1).all(-1) & (plain[..., 2] == 0)
        assert absent.any()
        np.testing.assert_array_equal(found[absent], plain[absent])


def test_rescale_still_is_mmactions_for_images():
    with scope("mmaction"):
        built = TRANSFORMS.build({"type": "RandomRescale", "scale_range": (20, 20 + 1)})
    assert isinstance(built, ImageRescale)
    assert isinstance(built, RandomRescale)
    image = np.zeros((40, 60, 3), np.uint8)
    out = built({"imgs": [image], "img_shape": (40, 60), "modality": "RGB"})
    assert out["imgs"][0].shape[0] in (20, 21)
    assert "scale_range" in repr(built)
    for wrong in ({}, {"scale_range": (1, 2), "scale_factor": (0.8, 1.2)}):
        with pytest.raises(ValueError, match="scale_factor"):
            RandomRescale(**wrong)


def test_dropout_loses_a_share_and_for_the_whole_clip():
    sample = still(people=40, frames=12)
    lost = KeypointDropout(prob=0.2)(item(sample))["keypoint_score"] == 0
    assert 0.15 < lost.mean() < 0.25
    assert np.all(lost.all(1) == lost.any(1))
    lost = KeypointDropout(prob=0.2, per_frame=True)(item(sample))["keypoint_score"] == 0
    assert 0.17 < lost.mean() < 0.23
    assert np.any(lost.all(1) != lost.any(1))


def test_jitter_is_measured_in_bodies():
    sample = still(people=2, frames=200)
    small = sample.keypoints.copy()
    small[1] = small[1] * 0.1 + 100
    results = {**item(sample), "keypoint": small}
    noise = run({"type": "KeypointJitter", "sigma": 0.02}, results)["keypoint"] - small
    sizes = [np.median(np.hypot(*np.ptp(small[m], axis=1).T)) for m in range(2)]
    np.testing.assert_allclose(noise.std(axis=(1, 2, 3)) / sizes, 0.02, rtol=0.05)


def test_crop_keeps_a_part_in_order():
    sample = still(frames=40)
    starts, lengths = set(), set()
    for seed in range(40):
        after = run(TIME["crop"], item(sample), seed)
        length = after["total_frames"]
        assert after["keypoint"].shape[1] == after["keypoint_score"].shape[1] == length
        assert 20 <= length <= 36
        start = int(
            np.flatnonzero((sample.keypoints == after["keypoint"][:, :1]).all((0, 2, 3)))[0]
        )
        np.testing.assert_array_equal(
            after["keypoint"], sample.keypoints[:, start : start + length]
        )
        starts.add(start)
        lengths.add(length)
    assert len(starts) > 5
    assert len(lengths) > 5


def test_crop_never_leaves_nobody():
    present = np.zeros((1, 40), bool)
    present[0, 7] = True
    for seed in range(30):
        after = run(
            {"type": "TemporalCrop", "ratio": (0.1, 0.2)},
            item(still(people=1, frames=40, present=present)),
            seed,
        )
        assert after["keypoint_score"].any()


def test_speed_changes_the_number_of_frames_and_keeps_their_order():
    sample = still(frames=50)
    sample.keypoints[...] = np.arange(50, dtype=np.float32)[None, :, None, None] + 1
    lengths = []
    for seed in range(40):
        after = run(TIME["speed"], item(sample), seed)
        shown = after["keypoint"][0, :, 0, 0] - 1
        assert np.all(np.diff(shown) >= 0)
        assert len(shown) == after["total_frames"]
        assert shown[0] <= 2
        assert shown[-1] >= 47
        lengths.append(len(shown))
    assert min(lengths) >= 25
    assert max(lengths) <= 100
    assert np.ptp(lengths) > 15
    fast = run({"type": "TemporalSpeed", "factor": (2, 2), "parts": 1}, item(sample))
    assert fast["keypoint"][0, :, 0, 0].tolist() == list(range(2, 52, 2))
    twice = run({"type": "TemporalCrop", "ratio": (0.4, 0.4)}, fast)
    assert (fast["part_of_clip"], twice["part_of_clip"]) == pytest.approx((0.5, 0.2))


@pytest.mark.parametrize("name", [*SPACE, *TIME])
def test_after_the_features_it_is_refused_by_name(name):
    step = {**SPACE, **TIME}[name]
    results = compose(plain_steps(["b"], 20)[:2])(item(still()))
    if name.startswith("rescale"):
        compose([step])(results)
        return
    with pytest.raises(ValueError, match=rf"{step['type']}: .*before GenSkeFeat"):
        compose([step])(results)


@pytest.mark.parametrize("name", TIME)
def test_frames_once_chosen_are_not_cut(name):
    results = compose([{"type": "SampleSkeleton", "clip_len": 10}])(item(still()))
    with pytest.raises(ValueError, match="before SampleSkeleton or UniformSampleFrames"):
        compose([TIME[name]])(results)


FAST = [{"type": "SkeletonInput", "feats": ["j", "bm"]}, {"type": "PackActionInputs"}]


@pytest.mark.parametrize(
    "sample", [still(), still(people=1, present=np.zeros((1, 20), bool))], ids=["people", "nobody"]
)
def test_all_of_it_in_both_pipelines(sample):
    time, space = list(TIME.values()), list(SPACE.values())
    plain = plain_steps(["j", "bm"], 16, test_mode=False, first=[*time, *space])
    fast = [*time, {"type": "SampleSkeleton", "clip_len": 16, "num_person": 4}, *space, *FAST]
    for steps in (plain, fast):
        x = compose(steps)(item(sample))["inputs"].numpy()
        assert x.shape == (1, 4, 16, 17, 6)
        assert np.isfinite(x).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RandomShift(-0.1), "RandomShift: shift_ratio"),
        (lambda: RandomShift("0.1"), "expected a number"),
        (lambda: RandomRotate(270), "RandomRotate: angle: expected a number from 0 to 180"),
        (lambda: RandomRescale(scale_factor=(1.2, 0.8)), "lower number first"),
        (lambda: RandomRescale(scale_factor=1.2), "expected two numbers"),
        (lambda: RandomRescale(scale_factor=(0, 1)), "expected a number from 0.001"),
        (lambda: FlipSkeleton(2), "FlipSkeleton: prob"),
        (lambda: KeypointDropout(-1), "KeypointDropout: prob"),
        (lambda: KeypointJitter(float("nan")), "KeypointJitter: sigma"),
        (lambda: TemporalCrop((0.5, 1.5)), "TemporalCrop: ratio"),
        (lambda: TemporalSpeed((0, 1)), "TemporalSpeed: factor"),
        (lambda: TemporalSpeed(parts=0), "parts >= 1"),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
