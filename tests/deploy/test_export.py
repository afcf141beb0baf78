"""Mode deploy.export: a file that says what mmaction2 says, or no file."""

import json
import logging
import os
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmaction")

import deploy.export as deploy_export  # noqa: E402
from deploy.export import export  # noqa: E402
from recognizer.action.classifier import Classifier  # noqa: E402
from recognizer.config.action import ClassifierConfig  # noqa: E402
from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.schema import Config  # noqa: E402
from recognizer.dataset.mmaction import write_split  # noqa: E402
from recognizer.runs.progress import on_console, silent  # noqa: E402
from recognizer.storage.artifacts import sha256_file  # noqa: E402
from tests.action.checkpoints import META, save, train_config  # noqa: E402
from tests.action.clips import real_samples  # noqa: E402

logging.getLogger("mmengine").setLevel(logging.ERROR)


def settings(checkpoints, output=None, **dataset):
    paths = [str(path) for path in checkpoints]
    deploy = {"checkpoint": paths, "output": output and str(output)}
    return Config.model_validate({"deploy": deploy, "dataset": dataset})


def opened(path):
    return Classifier.open(ClassifierConfig(model_path=str(path)))


def left_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".pth")


def test_exported_and_compared_on_the_clips_of_the_config(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pickled = tmp_path / "data" / "test.pkl"
    write_split(pickled, tmp_path, real_samples()[:6])
    checkpoint = save(tmp_path / "best.pth", train_config(ann_file=pickled))
    assert export(settings([checkpoint]), on_console) == 0
    assert f"comparing on {pickled}" in caplog.text
    assert "10 samples, largest difference" in caplog.text  # 6 real ones, 1 to 4 people
    classifier = opened(tmp_path / "fight.onnx")
    (trained,) = classifier.metadata.training["checkpoints"]
    assert trained["sha256"] == sha256_file(checkpoint)
    assert (classifier.window_s, classifier.threshold) == (META["window_s"], META["threshold"])


def test_several_become_one(tmp_path):
    configs = [train_config(feats=("j",)), train_config(feats=("b", "bm"), kind="FastSTGCN")]
    paths = [save(tmp_path / f"{i}.pth", config, seed=i) for i, config in enumerate(configs)]
    export(settings(paths, tmp_path / "both.onnx"), silent)
    assert [s.feats for s in opened(tmp_path / "both.onnx").metadata.features] == [
        ("j",),
        ("b", "bm"),
    ]


def test_no_file_where_probabilities_differ(tmp_path, monkeypatch):
    checkpoint = save(tmp_path / "best.pth", train_config())
    monkeypatch.setattr(deploy_export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="not written: its probabilities differ"):
        export(settings([checkpoint]), silent)
    assert left_in(tmp_path) == []


def test_no_file_of_a_network_of_nan_and_the_old_one_stays(tmp_path):
    checkpoint = save(tmp_path / "best.pth", train_config())
    export(settings([checkpoint]), silent)
    before = (tmp_path / "fight.onnx").read_bytes()
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["cls_head.fc.bias"][0] = np.nan
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match="differ from mmaction2's by nan"):
        export(settings([checkpoint]), silent)
    assert left_in(tmp_path) == ["fight.onnx"]
    assert (tmp_path / "fight.onnx").read_bytes() == before


def test_what_a_checkpoint_does_not_say_comes_from_the_config(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    checkpoint = save(tmp_path / "best.pth", train_config(), meta=None)
    classes = {"fight": 1, "calm": 0}
    export(settings([checkpoint], window_s=1.5, classes=classes), silent)
    classifier = opened(tmp_path / "fight.onnx")
    assert (classifier.classes, classifier.window_s) == (("calm", "fight"), 1.5)
    assert classifier.threshold == 0.5
    assert "does not name its classes" in caplog.text
    with pytest.raises(ConfigError, match=r"set dataset\.window_s="):
        export(settings([checkpoint]), silent)
    with pytest.raises(ConfigError, match=r"set dataset\.service=fight"):
        export(settings([checkpoint], service="falldown", window_s=1.5), silent)


def test_a_model_of_whole_clips_gets_their_median_length(tmp_path):
    pickled = tmp_path / "test.pkl"
    write_split(pickled, tmp_path, real_samples()[:2])
    samples = {str(i): {"start_s": 0.0, "stop_s": stop} for i, stop in enumerate((1.0, 2.5, 9.0))}
    (tmp_path / "metadata.json").write_text(json.dumps({"samples": samples}))
    meta = {**META, "window_s": None}
    checkpoint = save(tmp_path / "best.pth", train_config(ann_file=pickled), meta=meta)
    export(settings([checkpoint]), silent)
    assert opened(tmp_path / "fight.onnx").window_s == 2.5


def test_metadata_that_are_no_metadata_are_refused(tmp_path):
    for metadata in (
        {"window_s": [2.0]},
        {"window_s": "long"},
        {"window_s": float("nan")},
        {"window_s": -1.0},
        {"threshold": 7.0},
        {"classes": "AB"},
        {"train_sha256": torch.zeros(2)},
    ):
        checkpoint = save(tmp_path / "best.pth", train_config(), meta={**META, **metadata})
        with pytest.raises(
            ValueError, match=r"best\.pth: meta\['recognizer'\]: expected plain val"
        ):
            export(settings([checkpoint]), silent)
    checkpoint = save(tmp_path / "best.pth", train_config(), meta={**META, "classes": [0, 1]})
    with pytest.raises(ValueError, match="classes: expected two or more different names"):
        export(settings([checkpoint]), silent)
    assert left_in(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    checkpoint = save(tmp_path / "best.pth", train_config())
    (tmp_path / "folder.onnx").mkdir()
    for output in (tmp_path / "folder.onnx", checkpoint / "x.onnx"):
        with pytest.raises(OSError, match=r"deploy\.output: expected a file that can be written"):
            export(settings([checkpoint], output), silent)
    assert left_in(tmp_path) == []


def test_contradictions_are_named(tmp_path):
    other = {**META, "service": "falldown"}
    checkpoint = save(tmp_path / "best.pth", train_config(), meta=other)
    with pytest.raises(ConfigError, match=r"set deploy\.model=falldown"):
        export(settings([checkpoint]), silent)
    both = [save(tmp_path / "fight.pth", train_config()), checkpoint]
    with pytest.raises(ConfigError, match="checkpoints of one service"):
        export(settings(both), silent)
    three = save(tmp_path / "three.pth", train_config(classes=3))
    with pytest.raises(ValueError, match="expected 2 classes"):
        export(settings([three]), silent)
    with pytest.raises(ConfigError, match=r"deploy\.checkpoint: expected one checkpoint or more"):
        export(settings([]), silent)
    with pytest.raises(FileNotFoundError, match="expected a checkpoint at"):
        export(settings([tmp_path / "none.pth"]), silent)
    assert left_in(tmp_path) == []


class _Runs:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def hostile_config(marker):
    text = train_config().pretty_text
    harmless = "type='RecognizerGCN'"
    assert harmless in text
    return {
        "code": (f"import os\nos.mkdir({str(marker)!r})\n" + text, "more than plain values"),
        "call": (f"x = __import__('os').mkdir({str(marker)!r})\n" + text, "more than plain values"),
        "type": (text.replace(harmless, "type='os.mkdir'"), "name of a registered type"),
        "model": (text.replace(harmless, "type='antigravity'"), "cannot ship 'antigravity'"),
        "step": (text.replace("'PoseDecode'", "'this'"), "does not know the step"),
        "nothing": ("model = dict()", "lacks"),
    }


@pytest.mark.parametrize("name", ["code", "call", "type", "model", "step", "nothing"])
def test_the_config_in_a_checkpoint_is_read_and_never_run(tmp_path, name):
    marker = tmp_path / "ran"
    text, message = hostile_config(marker)[name]
    path = save(tmp_path / "best.pth", train_config())
    content = torch.load(path, weights_only=True)
    content["meta"]["cfg"] = text
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        export(settings([path]), silent)
    assert not marker.exists()


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    path = tmp_path / "best.pth"
    torch.save({"state_dict": {}, "meta": {"cfg": _Runs(tmp_path / "ran")}}, path)
    with pytest.raises(ValueError, match=r"best\.pth"):
        export(settings([path]), silent)
    path.write_bytes(pickle.dumps(_Runs(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"best\.pth"):
        export(settings([path]), silent)
    assert not (tmp_path / "ran").exists()
