"""The fast pipeline against mmaction2's own: the same samples from the same random state."""

# ruff: noqa: NPY002 - mmaction2 draws from the global generator, so it is what we compare with

import pickle

import numpy as np
import pytest

pytest.importorskip("mmaction")

from mmaction.datasets import PoseDataset

import recognizer.action.registered  # noqa: F401 - registers
from recognizer.action.features import from_pipeline, network_input
from recognizer.action.pose_dataset import LeanPoseDataset
from recognizer.dataset.mmaction import write_split
from recognizer.openmmlab import scope
from recognizer.storage.artifacts import ArtifactError
from tests.action.clips import compose, item, plain_steps, real_samples, still


def fast_steps(feats, clip_len=100, num_person=4, **sampling):
    return [
        {"type": "SampleSkeleton", "clip_len": clip_len, "num_person": num_person, **sampling},
        {"type": "SkeletonInput", "feats": feats},
        {"type": "PackActionInputs"},
    ]


def equal(a, b):
    assert a["inputs"].dtype == b["inputs"].dtype
    np.testing.assert_array_equal(a["inputs"].numpy(), b["inputs"].numpy())
    assert a["data_samples"].gt_labels.item == b["data_samples"].gt_labels.item
    assert a["data_samples"].metainfo == b["data_samples"].metainfo


@pytest.mark.parametrize(
    "feats", [["j"], ["b"], ["jm"], ["bm"], ["j", "b", "jm", "bm"]], ids="+".join
)
@pytest.mark.parametrize("clip_len", [16, 40, 100])
def test_training_samples_are_equal_bit_for_bit(feats, clip_len):
    plain = compose(plain_steps(feats, clip_len, test_mode=False))
    fast = compose(fast_steps(feats, clip_len))
    for seed, sample in enumerate(real_samples()):
        np.random.seed(seed)
        expected, after = plain(item(sample)), np.random.randint(10**9)
        np.random.seed(seed)
        equal(fast(item(sample)), expected)
        assert np.random.randint(10**9) == after, "as many numbers were drawn"


@pytest.mark.parametrize("num_clips", [1, 3])
def test_test_samples_are_equal_and_leave_the_global_generator_alone(num_clips):
    steps = plain_steps(["b", "jm"], 24)
    steps[2]["num_clips"] = num_clips
    plain = compose(steps)
    fast = compose(fast_steps(["b", "jm"], 24, num_clips=num_clips, test_mode=True))
    for sample in real_samples()[::4]:
        expected = plain(item(sample))
        np.random.seed(7)
        equal(fast(item(sample)), expected)
        assert np.random.randint(10**9) == np.random.RandomState(7).randint(10**9)


@pytest.mark.parametrize("test_mode", [True, False])
def test_mmactions_own_steps_work_after_frames_are_chosen(test_mode):
    """So augmentations written for its pipeline do, and its samples stay the same."""
    feats = ["j", "bm"]
    plain = compose(plain_steps(feats, 24, test_mode=test_mode))
    steps = [
        {"type": "SampleSkeleton", "clip_len": 24, "num_person": 4, "test_mode": test_mode},
        {"type": "PreNormalize2D"},
        {"type": "GenSkeFeat", "dataset": "coco", "feats": feats},
        {"type": "PoseDecode"},
        {"type": "FormatGCNInput", "num_person": 4},
        {"type": "PackActionInputs"},
    ]
    mixed = compose(steps)
    for sample in real_samples()[::4]:
        np.random.seed(1)
        expected = plain(item(sample))
        np.random.seed(1)
        equal(mixed(item(sample)), expected)


def test_more_people_than_slots_and_fewer():
    present = np.ones((5, 30), bool)
    present[1, :20] = False
    sample = still(people=5, frames=30, present=present)
    for num_person in (2, 5, 7):
        np.random.seed(0)
        expected = compose(plain_steps(["j"], 12, num_person, test_mode=False))(item(sample))
        np.random.seed(0)
        equal(compose(fast_steps(["j"], 12, num_person))(item(sample)), expected)


@pytest.mark.parametrize("sampling", ["uniform", "even"])
@pytest.mark.parametrize("bones", ["mmaction", "skeleton"])
def test_inference_sees_what_the_test_pipeline_sees(sampling, bones):
    steps = fast_steps(["b", "j"], 20, test_mode=True, sampling=sampling)
    steps[1]["bones"] = bones
    settings = from_pipeline(steps)
    pipeline = compose(steps)
    for sample in real_samples()[::4]:
        x = pipeline(item(sample))["inputs"].numpy()[0]
        np.testing.assert_array_equal(network_input(sample, settings), x[x.any(axis=(1, 2, 3))])


def test_even_training_frames_differ_from_draw_to_draw():
    sample = still(frames=200)
    draw = compose(fast_steps(["j"], 10, sampling="even"))
    assert not np.array_equal(draw(item(sample))["inputs"], draw(item(sample))["inputs"])


def test_steps_in_another_order_say_so():
    with pytest.raises(KeyError, match="put SampleSkeleton before it"):
        compose(fast_steps(["b"])[1:])(item(still()))
    with pytest.raises(ValueError, match="start_index 0, got 1"):
        compose(fast_steps(["b"]))({**item(still()), "start_index": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_len": 0}, "clip_len"),
        ({"num_person": 0}, "num_person"),
        ({"num_clips": 0}, "num_clips"),
        ({"sampling": "x"}, "unknown sampling"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    steps = fast_steps(["b"])
    steps[0] |= change
    with pytest.raises(ValueError, match=message):
        compose(steps)
    with pytest.raises(ValueError, match="unknown feats"):
        compose(fast_steps(["x"]))


# --- LeanPoseDataset ---------------------------------------------------------------


@pytest.fixture
def pickled(tmp_path):
    write_split(tmp_path / "train.pkl", tmp_path, real_samples()[:4])
    return str(tmp_path / "train.pkl")


def test_lean_data_set_gives_what_the_plain_one_gives(pickled):
    with scope("mmaction"):
        lean = LeanPoseDataset(pickled, fast_steps(["b"], test_mode=True), test_mode=True)
        plain = PoseDataset(pickled, plain_steps(["b"]), test_mode=True)
    assert len(lean) == len(plain) == 4
    for i in range(4):
        equal(lean[i], plain[i])
        a, b = lean.get_data_info(i), plain.get_data_info(i)
        assert list(a.keys() ^ b.keys()) == []
        for key in a:  # boxes hold NaN
            np.testing.assert_array_equal(a[key], b[key])
    assert lean.get_data_info(-1)["sample_idx"] == 3


def test_lean_data_set_cannot_be_changed_by_a_pipeline(pickled):
    with scope("mmaction"):
        lean = LeanPoseDataset(pickled, [])
    info = lean.get_data_info(0)
    with pytest.raises(ValueError, match="read-only"):
        info["keypoint"][0] = 0
    info["label"] = 9
    assert lean.get_data_info(0)["label"] != 9
    with pytest.raises(ValueError, match="put SampleSkeleton before it"):
        LeanPoseDataset(pickled, plain_steps(["b"]))
    with pytest.raises(ValueError, match="split is not supported"):
        LeanPoseDataset(pickled, [], split="xsub_train")


def test_lean_data_set_executes_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",))

    (tmp_path / "train.pkl").write_bytes(pickle.dumps([Hostile()]))
    with pytest.raises(ArtifactError, match="could run code"):
        LeanPoseDataset(str(tmp_path / "train.pkl"), [])
    assert not (tmp_path / "ran").exists()
