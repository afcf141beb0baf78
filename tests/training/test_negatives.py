"""Negatives in training: in every part that is learnt from, in none that judges."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recognizer.action import movement_model
from recognizer.action.movement_model import SETTINGS
from recognizer.dataset.folds import source_folds
from recognizer.dataset.mmaction import read_split
from recognizer.dataset.split import SPLITS
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import write_npz
from recognizer.training.classifier.crossval import crossval
from recognizer.training.classifier.crossval_fold import (
    RESULT,
    SCHEMA,
    FoldJob,
    finished,
    run_fold,
)
from recognizer.training.classifier.evaluate import _clips, _predictions
from recognizer.training.classifier.labels import check_agreement, read_labels
from recognizer.training.classifier.movement import train_movement
from recognizer.training.classifier.movement_fit import (
    fit_alone,
    inner_jobs,
    measure_samples,
    measure_views,
)
from tests.action.moving import LOGISTIC
from tests.annotation.real_tracks import CLIPS, FALLS, of_fights, tracks, without_pictures
from tests.training.measured import TINY, guesses, small_crossval

pytestmark = pytest.mark.usefixtures("quick_figures", "few_trees")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py"


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    clips = tracks(folder / "clips", "stage1", CLIPS)
    falls = tracks(folder / "falls", "falls_stage1", FALLS)
    return without_pictures(of_fights(folder, clips, [falls]))


@pytest.fixture(autouse=True)
def one_setting(monkeypatch):
    monkeypatch.setattr(movement_model, "SETTINGS", {LOGISTIC: SETTINGS[LOGISTIC]})


def all_samples(stage3):
    return {s.name: s for split in SPLITS for s in read_split(stage3 / f"{split}.pkl")}


def outer_job(folder, truth):
    names = sorted(truth.samples)
    sources = {name: truth.samples[name].source for name in names}
    fold = source_folds([truth.samples[n].label for n in names], [sources[n] for n in names], 3, 0)[
        0
    ]
    train, test = (tuple(names[i] for i in part) for part in (fold.train, fold.test))
    return FoldJob(
        "x/outer",
        CONFIG,
        tuple(TINY),
        3,
        folder / "outer",
        "key",
        train,
        test,
        {name: sources[name] for name in train},
        negatives=tuple(sorted(truth.negatives)),
    )


def test_the_metadata_of_negatives_stand_apart(stage3):
    truth, samples = read_labels(stage3), all_samples(stage3)
    assert truth.negatives
    assert not truth.negatives.keys() & truth.samples.keys()
    assert truth.pickled.keys() == samples.keys()
    check_agreement(truth, list(samples.values()), stage3)
    assert {truth.negatives[name].label for name in truth.negatives} == {0}
    # A test on the training split may look them up; no other one sees them.
    learnt = read_split(stage3 / "train.pkl")
    predicted = _predictions(learnt, guesses([s.label for s in learnt]), truth.classes, truth)
    assert set(FALLS) < set(predicted.sources)
    assert truth.negatives.keys() <= _clips(truth, learnt).keys()
    tested = read_split(stage3 / "test.pkl")
    assert not truth.negatives.keys() & _clips(truth, tested).keys()


def test_a_fold_learns_from_all_of_them_and_validates_on_none(tmp_path, stage3, monkeypatch):
    import recognizer.action.training as learning

    truth, samples = read_labels(stage3), all_samples(stage3)
    job = outer_job(tmp_path, truth)
    seen = {}
    predict = learning.predict_views

    def spy(checkpoint, tested, views=()):
        folder = tmp_path / "outer"
        seen.update(
            {p: {s.name for s in read_split(folder / f"{p}.pkl")} for p in ("train", "val")}
        )
        seen["test"] = {s.name for s in tested}
        return predict(checkpoint, tested, views=views)

    monkeypatch.setattr(learning, "predict_views", spy)
    run_fold(job, samples)
    assert truth.negatives.keys() < seen["train"]
    assert seen["val"]
    assert not truth.negatives.keys() & (seen["val"] | seen["test"])
    assert seen["train"] | seen["val"] == {*job.train, *job.negatives}
    assert finished(job).shape == (len(job.test), 2)


def test_inner_trainings_keep_them_and_hold_none_out(tmp_path, stage3):
    truth = read_labels(stage3)
    job = outer_job(tmp_path, truth)
    jobs = inner_jobs(job, truth, 2)
    assert len(jobs) == 2
    for one in jobs:
        assert one.negatives == job.negatives
        assert not set(job.negatives) & {*one.train, *one.test}
        assert not set(FALLS) & set(one.source_of.values())


def test_the_movement_stream_learns_from_them_and_is_not_judged_by_them(
    tmp_path, stage3, monkeypatch
):
    truth, samples = read_labels(stage3), all_samples(stage3)
    job = outer_job(tmp_path, truth)
    measures = measure_samples(list(samples.values()), "fight", enabled=True)
    known = [name for name in job.negatives if measures[name] is not None]
    assert known
    learnt = []
    fit = movement_model.fit_movement

    def spy(setting, rows, labels, seed):
        learnt.append(rows)
        return fit(setting, rows, labels, seed)

    monkeypatch.setattr(movement_model, "fit_movement", spy)
    model, choice, names, count = fit_alone(job, measures, truth, 2)
    assert count == len(known)
    assert not set(names) & set(job.negatives)
    assert choice.held_out.shape == (len(names), 2)
    assert np.allclose(choice.held_out.sum(axis=1), 1)
    negatives = np.stack([measures[name] for name in known])
    assert len(learnt) == 2  # inner folds
    for rows in learnt:
        np.testing.assert_array_equal(rows[-len(known) :], negatives)
    labels = np.array([truth.samples[name].label for name in names])
    loss = -np.log(choice.held_out[np.arange(len(names)), labels]).mean()
    assert choice.log_loss[LOGISTIC] == pytest.approx(loss)

    # More negatives, fewer fights in what was held out.
    other = fit_alone(replace(job, negatives=()), measures, truth, 2)
    rows = negatives[:, 0]
    assert model.predict_proba(rows)[:, 1].mean() < other[0].predict_proba(rows)[:, 1].mean()
    assert other[3] == 0


def finish(jobs, truth):
    for job in jobs:
        labels = [truth.samples[name].label for name in job.test]
        meta = {
            "schema": SCHEMA,
            "schema_version": 1,
            "key": job.key,
            "names": list(job.test),
        }
        write_npz(job.folder / RESULT, job.folder, {"probabilities": guesses(labels)}, meta)


def test_nested_cross_validation_and_the_shipped_stream(tmp_path, stage3, monkeypatch):
    """With pose trainings that are pretended: what each would be given is looked at."""
    truth, requested = read_labels(stage3), []

    def pretend(section, folder, jobs, progress):
        requested.extend(jobs)
        finish(jobs, truth)

    measured = []

    def spy(samples, service, views):
        measured.extend(sample.name for sample in samples)
        return measure_views(samples, service, views)

    monkeypatch.setattr("recognizer.training.classifier.crossval.measure_views", spy)
    monkeypatch.setattr("recognizer.training.classifier.crossval.run_folds", pretend)
    monkeypatch.setattr("recognizer.training.classifier.movement.run_folds", pretend)
    own = small_crossval(
        tmp_path,
        stage3,
        CONFIG,
        "crossval.inner_folds=2",
        "crossval.movement=true",
        "test.worst=0",
        f"train.work_dir={tmp_path / 'work'}",
    )
    assert crossval(own, silent) == 0
    assert len(requested) == 2 + 4
    negatives = tuple(sorted(truth.negatives))
    assert {job.negatives for job in requested} == {negatives}
    tested = [name for job in requested if "inner" not in job.name for name in job.test]
    assert sorted(tested) == sorted(measured) == sorted(truth.samples)
    assert not any(set(negatives) & {*job.train, *job.test} for job in requested)
    value = json.loads((tmp_path / "out" / "report.json").read_text())
    assert value["dataset"]["negatives"] == len(negatives)
    assert value["dataset"]["samples"] == len(truth.samples)
    assert (
        f"{len(negatives)} negatives are in every training part and in no test part"
        in (tmp_path / "out" / "summary.txt").read_text()
    )
    assert value["by_fold"][0]["movement"]["negatives"] > 0
    predicted = (tmp_path / "out" / "predictions.csv").read_text()
    assert "negatives/" not in predicted
    assert not any(video in predicted for video in FALLS)

    requested.clear()
    assert train_movement(own, silent) == 0
    assert {job.negatives for job in requested} == {negatives}
    learnt = {name for name, label in truth.samples.items() if label.split != "test"}
    assert {name for job in requested for name in job.test} == learnt
