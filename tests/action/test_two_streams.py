"""A classifier of two streams: fused, each alone, and the pose stream where nothing moved."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from recognizer.action.classifier import Classifier
from recognizer.action.measures import clip_measures
from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.action import ClassifierConfig
from tests.action.moving import FUSION, change_metadata, clip, joined_file, without_movement
from tests.analysis.classifiers import place_classifier


def opened(path):
    return Classifier(path, ClassifierConfig())


@pytest.fixture(scope="module", params=["fight", "falldown"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    joined_file(folder, request.param)
    place_classifier(folder / "pose.onnx", request.param)
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_it_says_what_both_streams_and_their_fusion_say(folder, seed):
    classifier, pose = opened(folder / "joined.onnx"), opened(folder / "pose.onnx")
    sample = clip(2, seed=seed, rate=0.2 + seed, shift=(seed / 2, 0))
    prediction = classifier.predict(sample)
    assert prediction.streams.keys() == {"pose", "movement"}
    assert prediction.streams["pose"] == pytest.approx(pose.probabilities(sample), abs=1e-6)
    alone = OnnxNetwork(folder / "movement.onnx", ClassifierConfig(), 1)
    measures = clip_measures(sample, classifier.service)
    probabilities = alone.run({"measures": measures[None]})["movement_probabilities"]
    assert prediction.streams["movement"] == pytest.approx(probabilities[0], abs=1e-6)
    fused = FUSION(prediction.streams["pose"][None], prediction.streams["movement"][None])
    assert prediction.probabilities == pytest.approx(fused[0], abs=1e-6)
    assert np.abs(prediction.probabilities - prediction.streams["pose"]).max() > 1e-3


def test_without_movement_the_pose_stream_speaks_and_that_shows(folder):
    classifier = opened(folder / "joined.onnx")
    sample = clip(2)
    for nothing in (without_movement(sample), replace(sample, movement=sample.movement * np.nan)):
        prediction = classifier.predict(nothing)
        assert prediction.streams.keys() == {"pose"}
        assert prediction.probabilities.tolist() == prediction.streams["pose"].tolist()
        assert prediction.people == 2
    assert classifier.run({"persons": np.zeros((0, 20, 17, 3), np.float32)}).sum() == 1


def test_nobody_is_normal_and_no_stream_is_asked(folder):
    sample = clip(1)
    empty = replace(
        sample,
        keypoints=sample.keypoints * 0,
        keypoint_scores=sample.keypoint_scores * 0,
        size_wh=(2, 2),
    )
    joined = opened(folder / "joined.onnx")
    expected = opened(folder / "pose.onnx").predict(empty)
    prediction = joined.predict(empty)
    assert (prediction.people, prediction.no_people) == (expected.people, expected.no_people)


def test_a_file_of_one_stream_is_judged_as_before(folder):
    classifier = opened(folder / "pose.onnx")
    prediction = classifier.predict(clip(2))
    assert prediction.streams == {}
    assert classifier.metadata.movement is None
    assert "movement" not in json.loads(classifier.metadata.to_text())
    same = classifier.predict(without_movement(clip(2)))
    assert prediction.probabilities.tolist() == same.probabilities.tolist()


# --- hostile files -----------------------------------------------------------------


def edited(**values):
    """Return what replaces keys of the metadata's part about movement."""

    def change(metadata):
        text = json.loads(metadata.to_text())
        return json.dumps({**text, "movement": {**text["movement"], **values}})

    return change


HOSTILE = {
    "no object": (lambda f: json.dumps({**json.loads(f.to_text()), "movement": 3}), "movement: ex"),
    "fewer measures": (edited(measures=["first_mean_mean"]), "measures of this version"),
    "measures of another kind": (edited(measures="all"), "got 0 others"),
    "NaN weight": (edited(fusion={"pose": float("nan"), "movement": 1, "bias": [0, 0]}), "weights"),
    "third bias": (edited(fusion={"pose": 1, "movement": 1, "bias": [0, 0, 0]}), "a bias for each"),
    "training": (edited(training=None), "movement: expected"),
    "no people": (edited(num_person=0), "num_person: expected 1 to 100, got 0"),
    "people as text": (edited(num_person="4"), "num_person: expected 1 to 100, got '4'"),
    "one stream promised": (lambda f: replace(f, movement=None), "metadata promises"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused(tmp_path, name):
    change, message = HOSTILE[name]
    path = joined_file(tmp_path)
    change_metadata(path, change)
    with pytest.raises(ModelError, match=message):
        opened(path)


@pytest.mark.parametrize("output", ["pose_probabilities", "movement_probabilities"])
def test_a_missing_output_is_refused(tmp_path, output):
    path = joined_file(tmp_path)
    model = onnx.load(str(path))
    (gone,) = [value for value in model.graph.output if value.name == output]
    model.graph.output.remove(gone)
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="metadata promises"):
        opened(path)


def test_two_streams_promised_of_a_pose_network_are_refused(tmp_path):
    joined = joined_file(tmp_path)
    metadata = opened(joined).metadata
    path = place_classifier(tmp_path / "pose.onnx")
    change_metadata(path, lambda own: replace(own, movement=metadata.movement))
    with pytest.raises(ModelError, match=r"promises .*measures"):
        opened(path)
