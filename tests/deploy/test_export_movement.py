"""Mode deploy.export with the movement stream: one file of both, compared, or none."""

import json
import logging
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

import deploy.movement as deploy_movement  # noqa: E402
from deploy.export import export, made_samples  # noqa: E402
from recognizer.action.classifier import Classifier  # noqa: E402
from recognizer.action.movement_graph import join_movement, read_movement  # noqa: E402
from recognizer.action.movement_metadata import movement_text  # noqa: E402
from recognizer.action.onnx_export import load_member, reference_probabilities  # noqa: E402
from recognizer.backends.network import ModelError  # noqa: E402
from recognizer.config.action import ClassifierConfig  # noqa: E402
from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.schema import Config  # noqa: E402
from recognizer.runs.progress import silent  # noqa: E402
from recognizer.storage.artifacts import METADATA_KEY  # noqa: E402
from tests.action.checkpoints import save, train_config  # noqa: E402
from tests.action.moving import FUSION, movement_file, without_movement  # noqa: E402

logging.getLogger("mmengine").setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("trained") / "best.pth", train_config())


def settings(checkpoint, movement, output):
    deploy = {"checkpoint": [str(checkpoint)], "movement": str(movement), "output": str(output)}
    return Config.model_validate({"deploy": deploy})


@pytest.mark.parametrize("setting", ["logistic regression, C 0.03", "random forest, leaves of 4"])
def test_both_streams_in_one_file(tmp_path, checkpoint, setting):
    movement, _ = movement_file(tmp_path / "movement.onnx", setting=setting)
    output = tmp_path / "fight.onnx"
    assert export(settings(checkpoint, movement, output), silent) == 0
    classifier = Classifier(output, ClassifierConfig())
    assert classifier.metadata.movement.training == {"setting": setting}
    assert classifier.metadata.movement.fusion == FUSION
    assert classifier.threshold == 0.5  # of calibrated probabilities, not the checkpoint's 0.4
    assert classifier.metadata.training["checkpoints"][0]["file"] == "best.pth"
    member = load_member(checkpoint)
    for sample in made_samples(4):
        prediction = classifier.predict(sample)
        expected = reference_probabilities(member, sample)
        assert prediction.streams["pose"] == pytest.approx(expected, abs=1e-5)
        alone = classifier.predict(without_movement(sample))
        assert alone.probabilities == pytest.approx(expected, abs=1e-5)
        fused = FUSION(prediction.streams["pose"][None], prediction.streams["movement"][None])
        assert prediction.probabilities == pytest.approx(fused[0], abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fight.onnx", "movement.onnx"]


def test_a_stream_that_does_not_fit_is_refused(tmp_path, checkpoint):
    output = tmp_path / "fight.onnx"
    falls, _ = movement_file(tmp_path / "falls.onnx", "falldown")
    with pytest.raises(ConfigError, match=r"deploy\.movement: expected service fight"):
        export(settings(checkpoint, falls, output), silent)
    names, _ = movement_file(tmp_path / "names.onnx", classes=("Calm", "Fight"))
    with pytest.raises(ConfigError, match=r"deploy\.movement: expected classes"):
        export(settings(checkpoint, names, output), silent)
    with pytest.raises(FileNotFoundError, match=r"--mode train\.movement makes it"):
        export(settings(checkpoint, tmp_path / "none.onnx", output), silent)
    assert not output.exists()


def test_a_damaged_stream_is_named_and_not_the_checkpoint(tmp_path, checkpoint):
    output, movement = tmp_path / "fight.onnx", tmp_path / "movement.onnx"
    movement.write_bytes(b"no network")
    with pytest.raises(ModelError) as error:
        export(settings(checkpoint, movement, output), silent)
    assert str(error.value).startswith(f"{movement}: ")
    metadata = {"setting": "logistic regression, C 0.03", "threshold": 7}
    movement_file(movement)
    model, before, service, classes = read_movement(movement)
    text = movement_text(replace(before, training=metadata), service, classes)
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(movement))
    with pytest.raises(ModelError) as error:
        export(settings(checkpoint, movement, output), silent)
    assert str(error.value).startswith(f"{movement}: expected metadata that inference accepts: ")
    assert not output.exists()


def broken(path):
    """Put NaN into the weights of a movement stream."""
    model = onnx.load(str(path))
    for constant in model.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype == np.float32:
            constant.CopyFrom(numpy_helper.from_array(value * np.nan, constant.name))
    onnx.save(model, str(path))


def test_no_file_of_a_stream_of_nan(tmp_path, checkpoint):
    movement, _ = movement_file(tmp_path / "movement.onnx")
    broken(movement)
    with pytest.raises(ValueError, match="expected finite weights"):
        export(settings(checkpoint, movement, tmp_path / "fight.onnx"), silent)
    assert not (tmp_path / "fight.onnx").exists()


def test_no_file_whose_fusion_is_another(tmp_path, checkpoint, monkeypatch):
    movement, _ = movement_file(tmp_path / "movement.onnx")
    monkeypatch.setattr(deploy_movement, "_TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="of the joined file differ from"):
        export(settings(checkpoint, movement, tmp_path / "fight.onnx"), silent)
    assert not (tmp_path / "fight.onnx").exists()


def test_weights_in_the_metadata_that_are_not_the_graphs_are_seen(tmp_path, checkpoint):
    """The comparison is with the weights that the file names."""
    from tests.action.moving import change_metadata, clip
    from tests.analysis.classifiers import place_classifier

    movement, _ = movement_file(tmp_path / "movement.onnx")
    model, metadata, *_ = read_movement(movement)
    path = place_classifier(tmp_path / "joined.onnx")
    join_movement(path, model, replace(metadata.fusion, pose=0.1))
    change_metadata(path, lambda own: replace(own, movement=metadata))
    with pytest.raises(ValueError, match="differ from"):
        deploy_movement.check_fusion(path, movement, [clip(2, shift=(1.0, 0.0))])
    assert json.loads(Classifier(path, ClassifierConfig()).metadata.to_text())["movement"]
