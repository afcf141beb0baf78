"""Metadata, pickles and results that are not what stage 3 and the trainings write."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from recognizer.dataset.mmaction import read_split, write_split
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import ArtifactError, write_npz
from recognizer.training.classifier.crossval import crossval
from recognizer.training.classifier.crossval_fold import (
    RESULT,
    SCHEMA,
    FoldJob,
    read_result,
)
from recognizer.training.classifier.labels import read_labels
from recognizer.training.classifier.movement import train_movement
from tests.annotation.datasets import read_metadata
from tests.annotation.made_tracks import FALLS, config, stage2
from tests.annotation.real_tracks import without_pictures
from tests.training.measured import small_crossval

RIGHT = np.array([[[0.2, 0.8], [0.9, 0.1]], [[0.3, 0.7], [1.0, 0.0]]])
ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py"


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return without_pictures(config(folder, [stage2(folder / "falls", FALLS)]))


def edited(stage3, folder, edit):
    """Copy a stage 3 and change its metadata."""
    shutil.copytree(stage3, folder)
    value = read_metadata(folder)
    edit(value)
    (folder / "metadata.json").write_text(json.dumps(value))
    return folder


def with_negative(key, value):
    def edit(metadata):
        next(iter(metadata["negatives"]["samples"].values()))[key] = value

    return edit


def also_under(key):
    def edit(metadata):
        metadata[key] |= dict(list(metadata["negatives"]["samples"].items())[:1])

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (also_under("samples"), "stands under samples as well"),
        (also_under("nobody_tracked"), "stands under nobody_tracked as well"),
        (with_negative("source", "Fight/0.mp4"), "of 'Fight/0.mp4', which is a source of the data"),
        (with_negative("split", "test"), "is of the split 'test'"),
        (with_negative("split", None), "is of the split None"),
    ],
)
def test_negatives_that_are_judged_by_as_well_are_refused(tmp_path, stage3, edit, says):
    folder = edited(stage3, tmp_path / "edited", edit)
    with pytest.raises(ArtifactError, match=says) as error:
        read_labels(folder)
    assert str(folder / "metadata.json") in str(error.value)


@pytest.mark.parametrize("value", [None, [], {}, {"samples": []}, 3])
def test_negatives_that_are_no_table_are_refused(tmp_path, stage3, value):
    folder = edited(stage3, tmp_path / "edited", lambda m: m.update(negatives=value))
    with pytest.raises(ArtifactError, match="negatives: expected an object with samples") as error:
        read_labels(folder)
    assert str(folder / "metadata.json") in str(error.value)


@pytest.mark.parametrize("mode", [crossval, train_movement])
def test_a_negative_that_no_pickle_has_is_refused_before_any_training(tmp_path, stage3, mode):
    def edit(metadata):
        samples = metadata["negatives"]["samples"]
        samples["negatives/1/gone"] = next(iter(samples.values()))

    folder = edited(stage3, tmp_path / "edited", edit)
    with pytest.raises(ArtifactError, match=r"found 'negatives/1/gone', which none of them has"):
        mode(small_crossval(tmp_path, folder, CONFIG), silent)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, True),
        ({"probabilities": RIGHT.astype(np.float32)}, True),
        ({"probabilities": RIGHT[:, :1]}, False),
        ({"probabilities": RIGHT[:1]}, False),
        ({"probabilities": RIGHT[..., :1]}, False),
        ({"probabilities": RIGHT[0, 0]}, False),
        ({"probabilities": np.float64(0.5)}, False),
        ({"probabilities": RIGHT[None]}, False),
        ({"probabilities": RIGHT > 0.5}, False),
        ({"probabilities": RIGHT.astype(np.int64)}, False),
        ({"probabilities": np.full_like(RIGHT, np.nan)}, False),
        ({"probabilities": RIGHT * 2}, False),
        ({"probabilities": RIGHT - 0.5}, False),
        ({"other": RIGHT}, False),
        ({"views": None}, False),
        ({"views": 3}, False),
        ({"views": "m"}, False),
        ({"views": [["mirror"]]}, False),
        ({"views": [{}]}, False),
        ({"names": None}, False),
        ({"names": 3}, False),
        ({"names": "ab"}, False),
        ({"names": [["a"], "b"]}, False),
    ],
)
def test_a_result_of_another_shape_or_type_counts_as_none(tmp_path, change, known):
    job = FoldJob("x", CONFIG, (), 0, tmp_path, "key", (), ("a", "b"), {}, ("mirror",))
    meta = {
        "schema": SCHEMA,
        "schema_version": 1,
        "key": "key",
        "names": ["a", "b"],
        "views": ["mirror"],
    }
    arrays = {k: v for k, v in change.items() if isinstance(v, np.ndarray | np.float64)}
    meta |= {key: value for key, value in change.items() if key not in arrays}
    arrays = {k: np.asarray(v) for k, v in arrays.items()} or {"probabilities": RIGHT}
    write_npz(tmp_path / RESULT, tmp_path, arrays, meta)
    found = read_result(job)
    assert (found is not None) == known


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("mode", [crossval, train_movement])
def test_pickles_changed_by_hand_are_refused_before_any_training(tmp_path, stage3, mode, split):
    folder = edited(stage3, tmp_path / "edited", lambda metadata: None)
    samples = list(read_split(folder / f"{split}.pkl"))
    samples[0].keypoints[:] += 1
    write_split(folder / f"{split}.pkl", folder, samples)
    with pytest.raises(ValueError, match=rf"{split}.pkl: is not the pickle that metadata.json"):
        mode(small_crossval(tmp_path, folder, CONFIG), silent)
    assert not list(tmp_path.rglob("*.npz"))
