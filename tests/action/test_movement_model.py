"""The movement stream: chosen without a leak, and the same in ONNX as in scikit-learn."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from recognizer.action.measures import measure_names
from recognizer.action.movement_graph import read_movement
from recognizer.action.movement_model import (
    SETTINGS,
    choose_setting,
    fit_movement,
    inner_folds,
    predict_movement,
)
from recognizer.backends.network import ModelError
from recognizer.storage.artifacts import METADATA_KEY
from tests.action.moving import FUSION, movement_file, rows

NAMES = ("A", "B", "C")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_file_says_what_scikit_learn_says(tmp_path, setting, classes):
    bias = (0.0, 0.1, 0.2)[:classes]
    fusion = type(FUSION)(1.0, 1.0, bias)
    path, model = movement_file(
        tmp_path / "m.onnx", setting=setting, fusion=fusion, classes=NAMES[:classes]
    )
    values = rows(classes=classes, count=120, seed=3)[0] * 2
    # Some measures lie exactly on thresholds and just beside them.
    trees = getattr(model, "estimators_", [])
    edges = [float(t) for tree in np.ravel(trees)[:20] for t in tree.tree_.threshold[:1]]
    for i, edge in enumerate(edges):
        values[i] = np.float32(edge)
        values[i, ::2] = np.nextafter(np.float32(edge), np.float32(np.inf))
    session = ort.InferenceSession(str(path))
    probabilities = np.concatenate(
        [session.run(None, {"measures": row[None]})[0] for row in values]
    )
    expected = predict_movement(model, values)
    assert np.abs(probabilities - expected).max() <= 1e-5
    assert np.ptp(expected[:, 0]) > 0.1
    assert read_movement(path)[1].fusion == fusion


def test_the_choice_is_made_on_sources_that_were_held_out():
    values, labels, sources = rows(count=100)
    folds = inner_folds(labels.tolist(), sources, 3, 0)
    for fold in folds:
        assert not {sources[i] for i in fold.train} & {sources[i] for i in fold.test}
    choice = choose_setting(values[:, None], labels, folds, 0)
    assert choice.log_loss.keys() == SETTINGS.keys()
    assert choice.log_loss[choice.setting] == min(choice.log_loss.values()) < np.log(2)
    fold = folds[0]
    again = fit_movement(choice.setting, values[fold.train, None], labels[fold.train], 0)
    np.testing.assert_array_equal(
        choice.held_out[fold.test], predict_movement(again, values[fold.test])
    )


def test_a_source_that_gives_its_label_away_does_not_help():
    """Each source has a number of its own and one label: by heart that is right, held out not."""
    random = np.random.default_rng(0)
    sources = [f"s{i // 5}" for i in range(100)]
    labels = np.array([(i // 5) % 2 for i in range(100)])
    values = random.normal(size=(20, 57))[np.arange(100) // 5].astype(np.float32)
    choice = choose_setting(values[:, None], labels, inner_folds(labels.tolist(), sources, 4, 0), 0)
    right = (choice.held_out.argmax(1) == labels).mean()
    whole = fit_movement("random forest, leaves of 2", values[:, None], labels, 0)
    assert (predict_movement(whole, values).argmax(1) == labels).mean() > 0.95 > 0.75 > right


def test_what_cannot_be_learnt_from_is_refused():
    values, labels, sources = rows(count=20)
    with pytest.raises(ValueError, match="finite measures"):
        fit_movement("random forest, leaves of 2", np.full_like(values, np.nan)[:, None], labels, 0)
    with pytest.raises(ValueError, match="every label"):
        fit_movement("random forest, leaves of 2", values[:, None], labels * 0, 0)
    with pytest.raises(ValueError, match="two sources or more"):
        inner_folds(labels.tolist(), ["one"] * 20, 3, 0)
    assert len(inner_folds(labels.tolist(), sources[:10] * 2, 9, 0)) == 2


# --- hostile files -----------------------------------------------------------------


def with_nan(model):
    for constant in model.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype == np.float32:
            broken = value.copy()
            broken.flat[0] = np.nan
            constant.CopyFrom(numpy_helper.from_array(broken, constant.name))
            return


def with_size(model):
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[1].dim_value = 5


def without_metadata(model):
    del model.metadata_props[:]


def with_text(change):
    def apply(model):
        (entry,) = model.metadata_props
        assert entry.key == METADATA_KEY
        entry.value = change(entry.value)

    return apply


def with_strange_name(model):
    for node in model.graph.node:
        node.input[:] = [n.replace("movement/constant_0", "persons") for n in node.input]
    model.graph.initializer[0].name = "persons"


HOSTILE = {
    "NaN weights": (with_nan, "finite weights"),
    "other size": (with_size, "not a file of the movement stream|expected inputs"),
    "no metadata": (without_metadata, "train.movement makes it"),
    "not JSON": (with_text(lambda text: "{"), "expected JSON"),
    "deep": (with_text(lambda text: "[" * 100_000), "expected JSON"),
    "other schema": (with_text(lambda text: text.replace("r.movement", "r.x")), "expected schema"),
    "other service": (with_text(lambda t: t.replace('"fight"', '"theft"')), "service: expected"),
    "other measures": (
        with_text(lambda t: t.replace("first_mean_p80", "first_other")),
        r"measures of this version",
    ),
    "one class": (with_text(lambda t: t.replace('"NonFight", ', "")), "classes: expected two"),
    "NaN fusion": (with_text(lambda t: t.replace("0.6", "NaN")), "fusion: expected"),
    "a name of the pose network": (with_strange_name, "expected names that start with"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(tmp_path, name):
    change, message = HOSTILE[name]
    path, _ = movement_file(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=message):
        read_movement(path)


def test_a_damaged_file_and_none_are_refused(tmp_path):
    path, _ = movement_file(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError):
        read_movement(path)
    with pytest.raises(FileNotFoundError, match=r"--mode train\.movement makes it"):
        read_movement(tmp_path / "none.onnx")


def test_the_names_stand_in_the_file(tmp_path):
    path, _ = movement_file(tmp_path / "m.onnx", service="falldown")
    _, metadata, service, classes = read_movement(path)
    assert metadata.measures == measure_names("falldown")
    assert (service, classes) == ("falldown", ("Normal", "Falldown"))
