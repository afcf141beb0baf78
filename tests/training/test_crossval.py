"""Cross-validation: real trainings of tiny networks, nothing leaks, nothing is done twice."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recognizer.config.file import ConfigError
from recognizer.dataset.mmaction import read_split
from recognizer.runs.progress import silent
from recognizer.runs.worker_pool import RunError
from recognizer.storage.artifacts import write_npz
from recognizer.training.classifier.crossval import crossval
from recognizer.training.classifier.crossval_fold import (
    RESULT,
    SCHEMA,
    FoldJob,
    _fill_in,
    _write_parts,
    finished,
    read_result,
    run_fold,
)
from recognizer.training.classifier.crossval_report import (
    FoldResult,
    fold_rows,
    source_rows,
)
from recognizer.training.classifier.labels import read_labels
from recognizer.training.classifier.predictions import Predictions, join, mean_over_seeds
from tests.training.measured import TINY, dataset, guesses, small_crossval

pytestmark = pytest.mark.usefixtures("quick_mmengine", "quick_figures", "few_trees")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py"


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("data"))


def config(tmp_path, stage3, *more):
    return small_crossval(tmp_path, stage3, CONFIG, *more)


# --- one fold, with a real network -------------------------------------------------


def fold_job(folder, stage3, key="key", options=tuple(TINY)):
    truth = read_labels(stage3)
    test = tuple(name for name, label in truth.samples.items() if label.source in {"s0", "s1"})
    train = tuple(name for name in truth.samples if name not in test)
    sources = {name: truth.samples[name].source for name in train}
    return FoldJob("x", CONFIG, tuple(options), 3, folder, key, train, test, sources)


def test_a_fold_is_learnt_without_its_test_part_and_predicted_as_the_checkpoint_does(
    tmp_path, stage3, monkeypatch
):
    import recognizer.action.training as training

    seen, messages = [], []
    predict = training.predict_views

    def spy(checkpoint, samples, views=()):
        seen.append(predict(checkpoint, samples, views=views))
        assert [s.name for s in samples] == list(job.test)
        learnt = {s.name for part in ("train", "val") for s in read_split(tmp_path / f"{part}.pkl")}
        assert learnt == set(job.train)
        return seen[-1]

    monkeypatch.setattr(training, "predict_views", spy)
    monkeypatch.setattr(training, "warn", lambda warnings: messages.extend(warnings))
    samples = {
        s.name: s for split in ("train", "val", "test") for s in read_split(stage3 / f"{split}.pkl")
    }
    job = replace(fold_job(tmp_path, stage3), views=("mirror",))
    run_fold(job, samples)
    assert not [text for text in messages if text.startswith("test:")]
    assert read_result(job).shape == (2, len(job.test), 2)
    assert read_result(job) == pytest.approx(seen[0])
    assert finished(job) == pytest.approx(seen[0].mean(axis=0))
    assert read_result(replace(job, views=())).tolist() == read_result(job)[:1].tolist()
    assert read_result(replace(job, views=("mirror", "speed_0.8"))) is None
    assert read_result(replace(job, key="other settings")) is None
    assert read_result(replace(job, test=job.test[1:])) is None
    assert not list(tmp_path.glob("*.p*th")) + list(tmp_path.glob("*.pkl"))

    first = (tmp_path / "predictions.npz").read_bytes()
    run_fold(job, samples)  # the same seed: the same result to the bit
    assert (tmp_path / "predictions.npz").read_bytes() == first


def test_classes_are_weighed_by_what_a_fold_learns_from(tmp_path, stage3):
    from recognizer.action.training import load_train_config

    cfg = load_train_config(CONFIG, TINY)
    cfg.class_weight_from = "metadata"
    learnt = read_split(stage3 / "train.pkl")
    few = [s for s in learnt if s.label == 1][:2] + [s for s in learnt if s.label == 0][:4]
    _fill_in(cfg, {"train": tmp_path / "train.pkl"}, fold_job(tmp_path, stage3), few)
    assert cfg.model.cls_head.loss_cls.class_weight == pytest.approx([2 / 3, 4 / 3])


# --- the whole, with real networks -------------------------------------------------


@pytest.mark.slow
def test_every_clip_is_tested_once_per_seed_and_finished_folds_are_kept(tmp_path, stage3):
    assert crossval(config(tmp_path, stage3), silent) == 0
    out = tmp_path / "out"
    value = json.loads((out / "report.json").read_text())
    truth = read_labels(stage3)
    assert len(truth.untracked) == 2
    everything = {**truth.samples, **truth.untracked}
    with (out / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {row["sample"] for row in rows} == set(everything)
    assert value["scores"]["all"]["samples"] == len(everything) == len(rows)
    assert value["scores"]["tracked"]["samples"] == len(truth.samples)
    assert value["scores"]["all"]["bootstrap"]["unit"] == "source"
    first, second = (set(row["sources"]) for row in value["by_fold"])
    assert not first & second
    assert value["over_folds"]["accuracy"]["values"] == 2
    for name in ("crossval.png", "confusion_matrix.png", "roc.png", "mistakes.png"):
        assert (out / name).stat().st_size > 1000
    assert not list(out.rglob("*.pth"))
    assert not list(out.glob("*/*/*.pkl"))

    results = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.npz")}
    assert len(results) == 2
    report = (out / "report.json").read_bytes()
    assert crossval(config(tmp_path, stage3), silent) == 0
    assert results == {path: path.stat().st_mtime_ns for path in out.rglob("predictions.npz")}
    assert (out / "report.json").read_bytes() == report

    lost = sorted(results)[0]
    lost.write_bytes(lost.read_bytes()[:-40])  # damaged: done again, the other is kept
    assert crossval(config(tmp_path, stage3), silent) == 0
    assert (out / "report.json").read_bytes() == report


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, stage3):
    assert crossval(config(tmp_path, stage3), silent) == 0
    whole = (tmp_path / "out" / "report.json").read_bytes()
    again = tmp_path / "again"
    command = [
        sys.executable,
        "main.py",
        "--mode",
        "test.crossval",
        "--set",
        f"train.dataset_dir={stage3}",
        "--set",
        f"train.cfg_options={json.dumps(TINY)}",
        "--set",
        f"train.config_file={CONFIG}",
        "--set",
        f"crossval.output_dir={again}",
        "--set",
        "crossval.folds=2",
        "--set",
        "crossval.seeds=[0]",
        "--set",
        "annotation.workers=1",
        "--set",
        "test.bootstrap=100",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 300
    while not list(again.rglob("predictions.npz")) and time.monotonic() < limit:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in text
    assert len(list(again.rglob("predictions.npz"))) == 1
    assert not (again / "report.json").exists()
    done = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ})
    assert done.returncode == 0
    assert (again / "report.json").read_bytes() == whole


@pytest.mark.slow
def test_a_training_that_fails_is_named_and_the_run_ends_with_an_error(tmp_path, stage3):
    options = json.dumps(
        [
            *TINY,
            "optim_wrapper.optimizer.lr=1e30",
            "optim_wrapper.clip_grad=None",
            "param_scheduler=[]",
            "train_cfg.max_epochs=3",
        ]
    )
    predicted = r"(?s)2 of 2 trainings failed, the first: .*/seed0.*: NotFiniteError: the loss is"
    with pytest.raises(RuntimeError, match=predicted):
        crossval(config(tmp_path, stage3, f"train.cfg_options={options}"), silent)
    assert not (tmp_path / "out" / "report.json").exists()


# --- refusals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (["crossval.config_files=[missing.py]"], "found none at"),
        (["crossval.seeds=[1, 1]"], "different seeds"),
        (["crossval.seeds=[]"], "one or more"),
        (["dataset.service=falldown"], "was made for fight"),
        (["crossval.folds=9"], "expected 2 to 6, the number of sources, got 9"),
    ],
)
def test_what_cannot_be_is_refused_before_any_training(tmp_path, stage3, sets, text):
    with pytest.raises((ConfigError, ValueError), match=text):
        crossval(config(tmp_path, stage3, *sets), silent)
    assert not list((tmp_path / "out").rglob("*.npz"))


def changed_metadata(folder, change):
    """Return a small stage 3 whose metadata says something else."""
    place = dataset(folder, clips=4, sources=4)
    value = json.loads((place / "metadata.json").read_text())
    change(value)
    (place / "metadata.json").write_text(json.dumps(value))
    return place


def first_sample(value):
    return next(iter(value["samples"].values()))


@pytest.mark.parametrize(
    ("change", "predicted"),
    [
        (lambda v: [f.update(label=1 - f["label"]) for f in v["samples"].values()], "found label"),
        (lambda v: v["samples"].pop(next(iter(v["samples"]))), "found nothing"),
        (lambda v: v["samples"].update({"ghost": first_sample(v)}), "found 'ghost', which none"),
        (lambda v: v.update(classes=[1]), "not readable metadata"),
        (lambda v: v.update(classes={"A": 0}), "each once"),
    ],
)
def test_metadata_that_contradicts_the_pickles_is_refused(tmp_path, change, predicted):
    place = changed_metadata(tmp_path / "data", change)
    with pytest.raises(ValueError, match=predicted):
        crossval(config(tmp_path, place), silent)
    assert not (tmp_path / "out").exists()


def test_a_config_that_cannot_be_built_stops_the_run(tmp_path, stage3):
    options = json.dumps([*TINY, "model.cls_head.num_classes=3"])
    with pytest.raises(ConfigError, match="num_classes: expected 2"):
        crossval(config(tmp_path, stage3, f"train.cfg_options={options}"), silent)
    options = json.dumps([*TINY, "optim_wrapper.optimizer.lrr=1"])
    with pytest.raises(ConfigError, match=r"did you mean optim_wrapper\.optimizer\.lr"):
        crossval(config(tmp_path, stage3, f"train.cfg_options={options}"), silent)
    options = json.dumps([*TINY, "optim_wrapper.type=NoSuchWrapper"])
    with pytest.raises(RunError, match=r"no training can be built: .*NoSuchWrapper"):
        crossval(config(tmp_path, stage3, f"train.cfg_options={options}"), silent)


def test_a_pickle_that_is_not_the_metadatas_is_refused(tmp_path):
    folder = dataset(tmp_path / "data", clips=4, sources=4)
    path = folder / "val.pkl"
    path.write_bytes((folder / "test.pkl").read_bytes())
    with pytest.raises(ValueError, match=r"val\.pkl: is not the pickle"):
        crossval(config(tmp_path, folder), silent)


# --- parts -------------------------------------------------------------------------


def test_the_inner_validation_part_shares_no_source_with_what_is_learnt(tmp_path, stage3):
    truth = read_labels(stage3)
    samples = {
        s.name: s for split in ("train", "val", "test") for s in read_split(stage3 / f"{split}.pkl")
    }
    names = tuple(sorted(samples))
    job = FoldJob(
        "x", CONFIG, (), 0, tmp_path, "key", names, (), {n: truth.samples[n].source for n in names}
    )
    pickles = _write_parts(job, list(samples.values()), inner=True)
    sides = {
        part: {truth.samples[s.name].source for s in read_split(path)}
        for part, path in pickles.items()
    }
    assert set(sides) == {"train", "val"}
    assert not sides["train"] & sides["val"]
    assert sum(len(read_split(path)) for path in pickles.values()) == len(names)
    (only,) = _write_parts(job, list(samples.values()), inner=False)
    assert only == "train"


def test_a_result_of_other_settings_counts_as_none(tmp_path):
    job = FoldJob("x", CONFIG, (), 0, tmp_path, "key", (), ("a",), {})
    assert read_result(job) is None


def test_a_result_of_before_views_were_kept_apart_is_read(tmp_path):
    job = FoldJob("x", CONFIG, (), 0, tmp_path, "key", (), ("a", "b"), {})
    meta = {"schema": SCHEMA, "schema_version": 1, "key": "key", "names": ["a", "b"]}
    rows = guesses([0, 1])
    write_npz(tmp_path / RESULT, tmp_path, {"probabilities": rows}, meta)
    assert read_result(job).tolist() == [rows.tolist()]
    assert finished(job).tolist() == rows.tolist()


def predictions(seed, names="abcdef"):
    labels = np.arange(len(names)) % 2
    return Predictions(
        ("No", "Yes"),
        tuple(names),
        labels,
        guesses(labels, seed),
        tuple("ssttuu"[: len(names)]),
        np.ones(len(names), bool),
    )


def test_seeds_are_averaged_clip_by_clip():
    one, two = predictions(0), predictions(1)
    mean = mean_over_seeds(join([one, two[np.arange(6)[::-1]]]))
    assert mean.names == tuple("abcdef")
    assert mean.probabilities == pytest.approx((one.probabilities + two.probabilities) / 2)
    assert mean.labels.tolist() == one.labels.tolist()


def test_the_accuracy_of_a_source_counts_all_seeds():
    predicted = predictions(0)
    right = predicted.predicted == predicted.labels
    rows = {row["source"]: row for row in source_rows(join([predicted, predicted]))}
    assert rows["s"] == {"source": "s", "clips": 2, "accuracy": right[:2].mean()}
    accuracies = [row["accuracy"] for row in source_rows(join([predicted, predicted]))]
    assert accuracies == sorted(accuracies)


def test_a_fold_of_one_class_has_no_auc():
    predicted = predictions(0)[np.array([0, 2, 4])]
    (row,) = fold_rows([FoldResult(0, 0, predicted, {"joint": predicted})])
    assert row["roc_auc"] is None
    assert row["accuracy"] == row["accuracy_of_stream"]["joint"]
