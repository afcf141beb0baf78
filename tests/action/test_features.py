"""What the network is given: against mmaction2's own pipeline, on real clips, bit for bit."""

# ruff: noqa: NPY002 - mmaction2 draws from the global generator, so it is what we compare with

import json

import numpy as np
import pytest

from recognizer.action.features import (
    BONES,
    FEATS,
    FeatureSettings,
    from_pipeline,
    network_input,
)
from recognizer.action.frames import evaluation_frames, even_frames, needed_frames, uniform_frames
from recognizer.skeleton import LEFT_HIP, LEFT_SHOULDER, NOSE, RIGHT_HIP, RIGHT_SHOULDER
from recognizer.types import Sample
from tests.action.clips import compose, item, plain_steps, real_samples, still

ALL_FEATS = (["j"], ["b"], ["jm"], ["bm"], ["j", "b", "jm", "bm"], ["bm", "j"])


def of_mmaction(sample, steps):
    pytest.importorskip("mmaction")
    x = compose(steps)(item(sample))["inputs"].numpy()
    assert x.shape[0] == 1
    return x[0][x[0].any(axis=(1, 2, 3))]


@pytest.mark.parametrize("feats", ALL_FEATS, ids="+".join)
@pytest.mark.parametrize("clip_len", [16, 40, 100])  # >= 2 x 16 frames, 1-2 x 40, < 100
def test_equal_to_mmactions_pipeline(feats, clip_len):
    steps = plain_steps(feats, clip_len)
    settings = from_pipeline(steps)
    for sample in real_samples()[::3]:
        got = network_input(sample, settings)
        assert got.dtype == np.float32
        assert got.shape[1:] == (clip_len, 17, settings.channels)
        np.testing.assert_array_equal(got, of_mmaction(sample, steps))


@pytest.mark.parametrize("feats", [["j"], ["b"]], ids="+".join)
def test_somebody_absent_is_not_zeros_and_nobody_is_made_up(feats):
    """PreNormalize2D makes (-1, -1) of a missing point: joints keep that, bones cancel it."""
    present = np.ones((3, 20), bool)
    present[0, :10] = False
    present[2] = False
    sample = still(people=3, present=present)
    steps = plain_steps(feats, 20, num_person=4)
    got = network_input(sample, from_pipeline(steps))
    np.testing.assert_array_equal(got, of_mmaction(sample, steps))
    assert len(got) == (3 if feats == ["j"] else 2)
    absent = {"j": [-1, -1, 0], "b": [0, 0, 0]}[feats[0]]
    np.testing.assert_array_equal(got[0, 0], np.tile(np.float32(absent), (17, 1)))


def test_people_beyond_num_person_are_not_seen():
    sample = still(people=5)
    few = network_input(sample, FeatureSettings(clip_len=10, num_person=2))
    first = still(people=5)
    first = Sample(
        "a", 0, first.keypoints[:2], first.keypoint_scores[:2], (320, 240), first.track_ids[:2]
    )
    np.testing.assert_array_equal(
        few, network_input(first, FeatureSettings(clip_len=10, num_person=4))
    )


def test_nobody_is_no_row():
    empty = np.zeros((0, 30, 17, 2), np.float32)
    no_people = Sample("a", 0, empty, empty[..., 0], (320, 240), np.zeros(0, np.int64))
    assert network_input(no_people, FeatureSettings(clip_len=8)).shape == (0, 8, 17, 3)


def test_no_frames_is_an_error():
    empty = np.zeros((1, 0, 17, 2), np.float32)
    sample = Sample("a", 0, empty, empty[..., 0], (320, 240), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="at least one frame"):
        network_input(sample, FeatureSettings())


@pytest.mark.parametrize("normalize", ["image", "body"])
@pytest.mark.parametrize(("frames", "size_wh"), [(0, (320, 240)), (5, (0, 240)), (5, (320, -1))])
def test_a_sample_of_nothing_is_an_error(normalize, frames, size_wh):
    sample = Sample(
        "odd",
        0,
        np.ones((1, frames, 17, 2), np.float32),
        np.ones((1, frames, 17), np.float32),
        size_wh,
        np.array([0], np.int64),
    )
    with pytest.raises(ValueError, match="odd: expected a clip of at least one frame"):
        network_input(sample, FeatureSettings(clip_len=8, normalize=normalize, feats=("b",)))


def test_inputs_stay_as_they_were_and_so_does_the_global_generator():
    sample = still()
    before = sample.keypoints.copy()
    np.random.seed(7)
    network_input(sample, FeatureSettings(clip_len=13, feats=FEATS))
    assert np.random.randint(10**9) == np.random.RandomState(7).randint(10**9)
    np.testing.assert_array_equal(sample.keypoints, before)


def test_bones_by_name_differ_at_the_hips_only():
    pytest.importorskip("mmaction")
    from mmaction.datasets.transforms import JointToBone
    from mmaction.models.utils import Graph

    mmactions = JointToBone(dataset="coco").pairs
    assert BONES["mmaction"].tolist() == [parent for _, parent in sorted(mmactions)]
    graph = {child: parent for child, parent in Graph(layout="coco", mode="spatial").inward}
    graph[NOSE] = NOSE
    assert BONES["skeleton"].tolist() == [graph[joint] for joint in range(17)]
    differ = np.flatnonzero(BONES["mmaction"] != BONES["skeleton"])
    assert differ.tolist() == [LEFT_HIP, RIGHT_HIP]
    sample = still()
    joints = network_input(sample, FeatureSettings(clip_len=10, feats=("j",)))
    found = network_input(sample, FeatureSettings(clip_len=10, feats=("b",), bones="skeleton"))
    expected = joints[:, :, [LEFT_HIP, RIGHT_HIP]] - joints[:, :, [LEFT_SHOULDER, RIGHT_SHOULDER]]
    np.testing.assert_array_equal(found[:, :, [LEFT_HIP, RIGHT_HIP], :2], expected[..., :2])


# --- frames ------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 7, 15, 16, 17, 31, 32, 33, 1000])
def test_random_frames_are_mmactions(total):
    pytest.importorskip("mmaction")
    from mmaction.datasets.transforms import UniformSampleFrames

    for seed in range(5):
        np.random.seed(seed)
        expected = UniformSampleFrames(clip_len=16).transform({"total_frames": total})["frame_inds"]
        frames = uniform_frames(total, 16, np.random.RandomState(seed))
        assert frames.tolist() == expected.tolist()
        if total >= 16:  # a shorter clip repeats frames
            assert np.all(np.diff(frames) > 0)


@pytest.mark.parametrize("total", [1, 3, 7, 16, 31, 200])
@pytest.mark.parametrize("num_clips", [1, 2, 10])
def test_frames_of_several_test_clips_are_mmactions(total, num_clips):
    pytest.importorskip("mmaction")
    from mmaction.datasets.transforms import UniformSampleFrames

    sampler = UniformSampleFrames(clip_len=16, num_clips=num_clips, test_mode=True)
    expected = sampler.transform({"total_frames": total})["frame_inds"]
    assert evaluation_frames(total, 16, "uniform", num_clips).tolist() == expected.tolist()


@pytest.mark.parametrize("total", [1, 5, 8, 9, 100])
def test_even_frames_cover_the_clip_in_order(total):
    frames = even_frames(total, 8)
    assert np.all(np.diff(frames) >= 0)
    assert frames.min() >= 0
    assert frames.max() <= total - 1
    shares = (frames + 0.5) / total
    assert np.abs(shares - (np.arange(8) + 0.5) / 8).max() <= 0.5 / min(total, 8)
    drawn = even_frames(total, 8, np.random.RandomState(0))
    low, high = np.arange(8) * total // 8, -(-np.arange(1, 9) * total // 8)
    assert np.all((drawn >= low) & (drawn < high))


def test_needed_frames_hold_the_chosen_ones_and_their_next():
    frames = np.array([9, 3, 3, 0])
    rows, at = needed_frames(frames, 10, motion=True)
    assert rows.tolist() == [0, 1, 3, 4, 9]
    assert rows[at].tolist() == frames.tolist()
    rows, at = needed_frames(frames, 10, motion=False)
    assert rows[at].tolist() == frames.tolist()


def test_judged_frames_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        evaluation_frames(50, 16)[0] = 3


# --- settings ----------------------------------------------------------------------


def test_settings_there_and_back_through_text():
    settings = FeatureSettings(48, 2, "image", ("j", "bm"), "even", "skeleton")
    assert FeatureSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalize": "world"}, "unknown normalize 'world'; known: 'image'"),
        ({"sampling": "random"}, "unknown sampling 'random'"),
        ({"bones": "h36m"}, "unknown bones 'h36m'"),
        ({"feats": ["x"]}, "unknown feats 'x'"),
        ({"feats": []}, "each stream once"),
        ({"feats": ["b", "b"]}, "each stream once"),
        ({"feats": "b"}, "to be a tuple"),
        ({"extras": ["magic"]}, "unknown settings 'extras'"),
        ({"clip_len": 0}, "clip_len to be a number >= 1"),
        ({"clip_len": 10.5}, "clip_len to be a number >= 1"),
        ({"num_person": True}, "num_person to be a number >= 1"),
        ({"speed": 1}, "unknown settings 'speed'"),
    ],
)
def test_unknown_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        FeatureSettings.from_json({**FeatureSettings().to_json(), **change})


def test_settings_that_are_no_mapping_are_refused():
    with pytest.raises(ValueError, match="expected a mapping"):
        FeatureSettings.from_json(["b"])


def test_settings_of_a_plain_pipeline():
    assert from_pipeline(plain_steps(["b", "bm"], 64, 3)) == FeatureSettings(
        clip_len=64, num_person=3, feats=("b", "bm")
    )


def test_mmactions_own_defaults_are_read_as_mmaction_reads_them():
    steps = plain_steps(["j"], 100, 2)
    del steps[1]["feats"], steps[4]["num_person"]
    assert from_pipeline(steps) == FeatureSettings(num_person=2, feats=("j",))


def _without(name):
    return [step for step in plain_steps(["b"]) if step["type"] != name]


def _with(name, **changes):
    return [{**step, **changes} if step["type"] == name else step for step in plain_steps(["b"])]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([*plain_steps(["b"]), {"type": "Collect"}], "does not know the step 'Collect'"),
        (plain_steps(["b"], first=[{"type": "RandomShift"}]), "the step 'RandomShift'"),
        (_without("PreNormalize2D"), "expected PreNormalize2D"),
        (plain_steps(["b"])[::-1], "expected PreNormalize2D"),
        (plain_steps(["b"], test_mode=False), "expected test_mode=True"),
        (_with("UniformSampleFrames", num_clips=10), "expected num_clips=1"),
        (_with("UniformSampleFrames", seed=1), "expected seed=255"),
        (_with("GenSkeFeat", dataset="nturgb+d"), "expected dataset='coco'"),
        (_with("GenSkeFeat", feats=["a"]), "unknown feats 'a'"),
        (_with("FormatGCNInput", mode="loop"), "expected mode='zero'"),
        (_with("PoseDecode", speed=2), "does not know 'speed' of PoseDecode"),
        ([{}], "the step 'None'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pipelines_that_inference_cannot_reproduce_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        from_pipeline(steps)
