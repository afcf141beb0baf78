"""A classifier file: equal to mmaction2 for any number of people, and strict about what it says."""

import json
import logging

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

from mmaction.structures import ActionDataSample  # noqa: E402

from recognizer.action.classifier import (  # noqa: E402
    Classifier,
    ClassifierMetadata,
)
from recognizer.action.features import FeatureSettings  # noqa: E402
from recognizer.action.onnx_export import load_member, reference_probabilities, write_onnx  # noqa: E402
from recognizer.backends.network import ModelError  # noqa: E402
from recognizer.config.action import ClassifierConfig  # noqa: E402
from recognizer.storage.artifacts import METADATA_KEY  # noqa: E402
from tests.action.checkpoints import real_slots, save, train_config  # noqa: E402
from tests.action.clips import real_samples, still  # noqa: E402
from tests.networks import rtmo  # noqa: E402

logging.getLogger("mmengine").setLevel(logging.ERROR)


def metadata_for(members, **other):
    values = {
        "service": "fight",
        "classes": ("NonFight", "Fight"),
        "window_s": 2.0,
        "threshold": 0.4,
        "features": tuple(member.features for member in members),
        "training": {},
        "created_by": "test",
    }
    return ClassifierMetadata(**{**values, **other})


def ship(folder, configs):
    """Save one checkpoint per config, write them as one file; return it and the members."""
    members = [
        load_member(save(folder / f"{i}.pth", config, seed=i)) for i, config in enumerate(configs)
    ]
    path = folder / "classifier.onnx"
    write_onnx(path, members, metadata_for(members))
    return opened(path), members


def opened(path, **options):
    return Classifier.open(ClassifierConfig(model_path=str(path), **options))


def recognizer_on_slots(member, persons):
    """Return what mmaction2 says about people (P, T, V, C) and empty slots of zeros."""
    slots = np.zeros((1, member.features.num_person, *persons.shape[1:]), np.float32)
    slots[0, : len(persons)] = persons
    data = {"inputs": [torch.from_numpy(slots)], "data_samples": [ActionDataSample()]}
    with torch.inference_mode():
        return member.recognizer.test_step(data)[0].pred_scores.item.numpy()


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    config = train_config(width=64, clip_len=100)
    return ship(tmp_path_factory.mktemp("guide"), [config])


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    configs = [train_config(feats=(feat,)) for feat in ("j", "b", "bm", "b")]
    return ship(tmp_path_factory.mktemp("streams"), configs)


@pytest.mark.parametrize("people", [1, 2, 3, 4])
def test_absent_people_are_skipped_exactly(guide, people):
    classifier, (member,) = guide
    everyone = real_slots(member.features).flatten(0, 1)
    persons = everyone[everyone.flatten(1).any(1)][-people:].numpy()
    assert len(persons) == people
    expected = recognizer_on_slots(member, persons)
    np.testing.assert_allclose(classifier.run({"persons": persons}), expected, rtol=0, atol=1e-6)
    # The empty slots do matter: the mean over the people alone is something else.
    if people in (1, 2):
        alone = recognizer_on_slots(member, np.concatenate([persons] * (4 // people)))
        assert np.abs(alone - expected).max() > 1e-4


def test_real_clips_get_the_probabilities_of_mmaction2(guide):
    classifier, (member,) = guide
    seen = []
    for sample in real_samples()[:12]:
        expected = reference_probabilities(member, sample)
        got = classifier.probabilities(sample)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        seen.append(got[1])
    assert np.ptp(seen) > 1e-3  # the clips are told apart


def test_streams_are_averaged_and_share_equal_inputs(streams):
    classifier, members = streams
    assert list(classifier.metadata.inputs) == ["persons_0", "persons_1", "persons_2"]
    for sample in real_samples()[:4]:
        expected = np.mean([reference_probabilities(m, sample) for m in members], axis=0)
        np.testing.assert_allclose(classifier.probabilities(sample), expected, rtol=0, atol=1e-5)


def test_somebody_to_one_stream_is_nobody_to_another(streams):
    classifier, members = streams
    # Frame 0 of 400 is not among the chosen: of it the joints keep (-1, -1), the bones nothing.
    seen = np.zeros((1, 400), np.bool_)
    seen[0, 1] = True
    sample = still(1, 400, present=seen)
    expected = np.mean([reference_probabilities(m, sample) for m in members], axis=0)
    np.testing.assert_allclose(classifier.probabilities(sample), expected, rtol=0, atol=1e-5)


def test_nobody_is_the_normal_class_by_definition(guide):
    classifier, _ = guide
    prediction = classifier.predict(still(2, 20, present=np.zeros((2, 20), np.bool_)))
    assert prediction.no_people
    assert prediction.probabilities.tolist() == [1, 0]
    assert not classifier.predict(still(2, 20)).no_people


def test_what_the_file_says(guide):
    classifier, (member,) = guide
    assert (classifier.service, classifier.classes) == ("fight", ("NonFight", "Fight"))
    assert (classifier.window_s, classifier.threshold) == (2.0, 0.4)
    assert classifier.features == member.features == FeatureSettings()
    assert opened(classifier.path, threshold=0.9).threshold == 0.9
    assert ClassifierMetadata.from_text(classifier.metadata.to_text()) == classifier.metadata


def test_a_name_is_searched_in_the_folders(guide, tmp_path):
    path = guide[0].path
    section = ClassifierConfig(model_path=path.name)
    assert Classifier.open(section, [tmp_path, path.parent]).path == path
    with pytest.raises(FileNotFoundError, match=rf"found none at .*{tmp_path.name}.*deploy.export"):
        Classifier.open(section, [tmp_path])


def test_a_pose_model_is_no_classifier(tmp_path):
    with pytest.raises(ModelError, match=r"a pose model belongs to models\.pose_estimation"):
        opened(rtmo(tmp_path / "rtmo.onnx"))


def changed(key, value):
    def change(metadata):
        return json.dumps({**metadata, key: value})

    return change


def changed_features(**values):
    def change(metadata):
        return json.dumps({**metadata, "features": [{**metadata["features"][0], **values}]})

    return change


HOSTILE = {
    "not JSON": (lambda metadata: "{", "expected JSON"),
    "deep": (lambda metadata: "[" * 100_000, "expected JSON"),
    "a list": (lambda metadata: "[]", "expected a JSON object"),
    "huge": (lambda metadata: " " * 2_000_000, "at most"),
    "other schema": (changed("schema", "recognizer.poses"), "expected schema"),
    "other version": (changed("version", 99), "export the checkpoint again"),
    "other service": (changed("service", "__import__('os')"), "service: expected one of"),
    "service list": (changed("service", ["fight"]), "service: expected one of"),
    "one class": (changed("classes", ["Fight"]), "classes: expected two"),
    "same classes": (changed("classes", ["Fight", "Fight"]), "classes: expected two"),
    "classes of numbers": (changed("classes", [0, 1]), "classes: expected two"),
    "more classes": (changed("classes", ["a", "b", "c"]), "metadata promises"),
    "steering classes": (changed("classes", ["a", "b\x1b[31m"]), "classes: expected two"),
    "window 0": (changed("window_s", 0), "window_s: expected 0.02 to 3600"),
    "window of nothing": (changed("window_s", 1e-9), "window_s: expected 0.02 to 3600"),
    "window NaN": (changed("window_s", float("nan")), "window_s: expected"),
    "window text": (changed("window_s", "2"), "window_s: expected"),
    "window true": (changed("window_s", True), "window_s: expected"),
    "window 10^400": (changed("window_s", 10**400), "window_s: expected"),
    "threshold 2": (changed("threshold", 2), "threshold: expected"),
    "people": (changed("num_person", 3), "num_person 4"),
    "no features": (changed("features", []), "features: expected 1 to"),
    "features text": (changed("features", "b"), "features: expected 1 to"),
    "unknown stream": (changed_features(feats=["x"]), "unknown feats"),
    "nested stream": (changed_features(feats=[["b"]]), "unknown feats"),
    "unknown setting": (changed_features(run="rm"), "unknown settings"),
    "long clip": (changed_features(clip_len=10**9), "clip_len at most"),
    "other clip": (changed_features(clip_len=50), "metadata promises"),
    "many people": (changed_features(num_person=10**9), "at most 100"),
    "training": (changed("training", None), "training: expected"),
    "author": (changed("created_by", 1), "created_by: expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused_by_name(guide, tmp_path, name):
    change, message = HOSTILE[name]
    model = onnx.load(str(guide[0].path))
    (entry,) = model.metadata_props
    assert entry.key == METADATA_KEY
    entry.value = change(json.loads(entry.value))
    path = tmp_path / "changed.onnx"
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=message):
        opened(path)


def test_a_damaged_file_is_refused(guide, tmp_path):
    path = tmp_path / "half.onnx"
    data = guide[0].path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="none or is damaged"):
        opened(path)
