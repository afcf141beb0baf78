"""The movement stream in training: nothing leaks, real trainings, one file at the end."""

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.export import export
from recognizer.action.classifier import Classifier
from recognizer.action.evaluation import decide
from recognizer.action.movement_graph import read_movement
from recognizer.action.movement_model import SETTINGS, SelectedSetting
from recognizer.action.views import VIEWS, View, views_of
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import ConfigError
from recognizer.dataset.mmaction import read_split
from recognizer.dataset.split import SPLITS
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import write_npz
from recognizer.training.classifier.crossval import crossval
from recognizer.training.classifier.crossval_fold import (
    RESULT,
    SCHEMA,
    FoldJob,
    read_result,
)
from recognizer.training.classifier.evaluate import test_fight as run_test
from recognizer.training.classifier.labels import read_labels
from recognizer.training.classifier.movement import train_movement
from recognizer.training.classifier.movement_fit import (
    MovementStream,
    fit_stream,
    inner_jobs,
    measure_samples,
    measure_views,
    predict_streams,
)
from recognizer.training.classifier.train import train_fight
from tests.action.moving import FUSION, clip, joined_file, movement_file
from tests.training.measured import dataset, guesses, small_crossval

pytestmark = pytest.mark.usefixtures("quick_figures", "few_trees")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py"
UNMEASURED = 2  # clips of ``dataset(moving=True)`` in which nobody's movement was measured


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("data"), clips=12, moving=True)


@pytest.fixture(scope="module")
def old_stage3(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("old"))


def config(tmp_path, stage3, *more):
    return small_crossval(
        tmp_path,
        stage3,
        CONFIG,
        f"train.work_dir={tmp_path / 'work'}",
        "crossval.inner_folds=2",
        *more,
    )


def all_samples(stage3):
    return [sample for split in SPLITS for sample in read_split(stage3 / f"{split}.pkl")]


# --- fitting, on pose predictions that are given -----------------------------------


def outer_job(folder, truth):
    test = tuple(name for name, label in truth.samples.items() if label.source == "s1")
    train = tuple(sorted(set(truth.samples) - set(test)))
    sources = {name: truth.samples[name].source for name in train}
    return FoldJob("x/outer", CONFIG, (), 3, folder / "outer", "key", train, test, sources)


def finish(job, truth, skill):
    """Write what a training would say of a job's test part."""
    labels = [truth.samples[name].label for name in job.test]
    meta = {"schema": SCHEMA, "schema_version": 1, "key": job.key, "names": list(job.test)}
    predicted = {"probabilities": guesses(labels, len(labels), skill)}
    write_npz(job.folder / RESULT, job.folder, predicted, meta)


def fitted(folder, stage3, skill=0.5, truth=None):
    truth = truth or read_labels(stage3)
    job = outer_job(folder, truth)
    inner = inner_jobs(job, truth, 3)
    for one in inner:
        finish(one, truth, skill)
    measures = measure_samples(all_samples(stage3), "fight", enabled=True)
    return fit_stream(job, [inner], measures, truth, 3), measures, job


def test_inner_trainings_stay_inside_and_hold_each_source_out_once(tmp_path, stage3):
    truth = read_labels(stage3)
    job = outer_job(tmp_path, truth)
    jobs = inner_jobs(job, truth, 3)
    assert sorted(name for one in jobs for name in one.test) == sorted(job.train)
    for one in jobs:
        sides = [{truth.samples[n].source for n in part} for part in (one.train, one.test)]
        assert not sides[0] & sides[1]
        assert not set(one.train) & set(job.test)
        assert one.source_of.keys() == set(one.train)
    assert len({one.key for one in (*jobs, job)}) == len({one.folder for one in (*jobs, job)}) == 4
    seen = inner_jobs(replace(job, views=("mirror",)), truth, 3)
    assert {one.views for one in seen} == {()}  # train.movement fits the fusion without views
    other = inner_jobs(replace(job, key="other settings"), truth, 3)
    assert not {one.key for one in other} & {one.key for one in jobs}


def test_the_stream_learns_what_the_pose_stream_does_not_see(tmp_path, stage3):
    stream, measures, job = fitted(tmp_path, stage3, skill=0.0)
    truth = read_labels(stage3)
    labels = np.array([truth.samples[name].label for name in job.test])
    predicted = predict_streams(stream, job.test, np.full((1, len(job.test), 2), 0.5), [measures])
    known = np.array([measures[name] is not None for name in job.test])
    assert (decide(predicted["fused"])[known] == labels[known]).mean() > 0.7
    assert stream.fusion.movement > stream.fusion.pose
    assert stream.choice.setting in SETTINGS
    assert len(stream.names) == len([name for name in job.train if measures[name] is not None])


def test_the_test_part_decides_nothing(tmp_path, stage3):
    truth = read_labels(stage3)
    test = outer_job(tmp_path, truth).test
    turned = {
        name: replace(label, label=1 - label.label) if name in test else label
        for name, label in truth.samples.items()
    }
    one, *_ = fitted(tmp_path / "one", stage3)
    other, *_ = fitted(tmp_path / "other", stage3, truth=replace(truth, samples=turned))
    assert one.to_json() == other.to_json()
    np.testing.assert_array_equal(one.choice.held_out, other.choice.held_out)


def test_where_no_movement_was_measured_the_pose_stream_speaks(tmp_path, stage3):
    stream, measures, _ = fitted(tmp_path, stage3)
    names = [name for name in measures if measures[name] is None]
    assert len(names) == UNMEASURED
    pose = np.array([[0.2, 0.8], [0.9, 0.1]])
    predicted = predict_streams(stream, names, pose[None], [measures])
    assert predicted["fused"].tolist() == predicted["equal_weights"].tolist() == pose.tolist()
    assert predicted["movement"].tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("views", [(), tuple(VIEWS)], ids=["plain", "views"])
def test_streams_are_fused_and_averaged_over_views_as_the_shipped_file_does(tmp_path, views):
    """One clip of which nothing was measured is among them."""
    classifier = Classifier(joined_file(tmp_path), ClassifierConfig())
    _, model = movement_file(tmp_path / "movement.onnx")
    stream = MovementStream(model, SelectedSetting("", {}, np.zeros((0, 2))), FUSION, ())
    samples = [
        replace(clip(2, rate=0.2 + i, shift=(i / 2, 0), seed=i), name=str(i)) for i in range(4)
    ]
    samples[3] = replace(samples[3], movement=samples[3].movement * np.nan)
    shown = [views_of(sample, views) for sample in samples]
    pose = [[classifier.predict(view.sample).streams["pose"] for view in of] for of in shown]
    pose = np.swapaxes(pose, 0, 1)
    measures = (
        measure_samples(samples, "fight", enabled=True),
        *measure_views(samples, "fight", views),
    )
    found = predict_streams(stream, [s.name for s in samples], pose, measures)["fused"]
    expected = [classifier.predict(sample, views).probabilities for sample in samples]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if views:
        first = predict_streams(
            stream, [s.name for s in samples], pose.mean(axis=0)[None], measures[:1]
        )
        assert np.abs(first["fused"] - found).max() > 1e-3, "views that change nothing"


def test_views_are_measured_one_after_another(monkeypatch):
    """Of thousands of samples, all views at once would not fit the memory."""
    made, alive = [], []

    def view(sample):
        changed = replace(sample, keypoints=sample.keypoints.copy())
        made.append(weakref.ref(changed.keypoints))
        alive.append(sum(one() is not None for one in made))
        return View(changed)

    monkeypatch.setitem(VIEWS, "mirror", view)
    samples = [replace(clip(2, seed=i), name=str(i)) for i in range(5)]
    (found,) = measure_views(samples, "fight", ["mirror"])
    assert list(found) == list("01234")
    assert len(alive) == 5
    assert max(alive) <= 2  # the one before is let go of as the next one is there


def test_old_pickles_are_distinguished(stage3, old_stage3, caplog):
    assert measure_samples(all_samples(old_stage3), "fight", enabled=False) is None
    assert measure_samples(all_samples(old_stage3), "fight", enabled="auto") is None
    assert "the pose stream alone is measured: expected movement in every sample" in caplog.text
    with pytest.raises(ConfigError, match=r"movement stream: .*got none in 18 of 18.*annotation"):
        measure_samples(all_samples(old_stage3), "fight", enabled=True)
    assert len(measure_samples(all_samples(stage3), "fight", enabled="auto")) == 24


def test_old_pickles_are_refused_before_any_training(tmp_path, old_stage3):
    with pytest.raises(ConfigError, match="movement stream: expected movement in every sample"):
        crossval(config(tmp_path, old_stage3, "crossval.movement=true"), silent)
    with pytest.raises(ConfigError, match="movement stream: expected movement in every sample"):
        train_movement(config(tmp_path, old_stage3), silent)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_class_without_measured_movement_is_refused_before_any_training(
    tmp_path, stage3, monkeypatch
):
    """It is known from the pickles, and the pose trainings take hours."""

    def measured(samples, service, enabled):
        found = measure_samples(samples, service, enabled)
        return {name: None if name.startswith("Fight") else rows for name, rows in found.items()}

    for module, mode in (("movement", train_movement), ("crossval", crossval)):
        home = f"recognizer.training.classifier.{module}.measure_samples"
        monkeypatch.setattr(home, measured)
        with pytest.raises(ValueError, match=r"got none of Fight in one of 2 .*inner_folds"):
            mode(config(tmp_path, stage3), silent)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_source_without_measured_movement_is_left_out(tmp_path, stage3):
    truth = read_labels(stage3)
    job = outer_job(tmp_path, truth)
    measures = measure_samples(all_samples(stage3), "fight", enabled=True)
    sources = len(set(job.source_of.values()))
    lost = {name for name, source in job.source_of.items() if source == "s2"}
    measures = {name: None if name in lost else rows for name, rows in measures.items()}
    inner = inner_jobs(job, truth, sources)
    for one in inner:
        finish(one, truth, 0.5)
    stream = fit_stream(job, [inner], measures, truth, sources)
    assert not lost & set(stream.names)
    assert np.allclose(stream.choice.held_out.sum(axis=1), 1)


@pytest.mark.parametrize("gone", ["boxes", "time_s"])
def test_movement_without_boxes_or_times_is_none(stage3, gone):
    samples = [replace(sample, **{gone: None}) for sample in all_samples(stage3)[:2]]
    with pytest.raises(ConfigError, match="got none in 2 of 2"):
        measure_samples(samples, "fight", enabled=True)


# --- the whole, with real networks -------------------------------------------------


def test_from_pickles_to_one_file_of_both_streams(tmp_path, stage3, caplog):
    caplog.set_level("INFO")
    own = config(tmp_path, stage3)
    train_fight(own, silent)
    assert "and the movement stream beside it: " in caplog.text
    assert train_movement(own, silent) == 0
    path = tmp_path / "work" / "movement.onnx"
    _, metadata, service, classes = read_movement(path)
    assert (service, classes) == ("fight", ("NonFight", "Fight"))
    truth = read_labels(stage3)
    learnt = [name for name, metadata in truth.samples.items() if metadata.split != "test"]
    assert len(learnt) - UNMEASURED <= metadata.training["samples"] <= len(learnt)
    assert metadata.training["held_out"].keys() == {"pose", "movement", "fused"}
    assert metadata.training["pose_configs"] == [CONFIG.name]
    assert metadata.num_person == json.loads((stage3 / "metadata.json").read_text())["num_person"]
    command = next(line for line in caplog.text.splitlines() if "--mode deploy.export" in line)
    assert f"deploy.movement={path}" in command
    assert "--checkpoint" in command

    results = {file: file.stat().st_mtime_ns for file in path.with_suffix("").rglob(RESULT)}
    assert len(results) == 2
    before = path.read_bytes()
    assert train_movement(own, silent) == 0  # nothing is trained again, and nothing changes
    assert results == {file: file.stat().st_mtime_ns for file in results}
    assert path.read_bytes() == before

    (best,) = (tmp_path / "work").glob("best_*.pth")
    output = tmp_path / "fight.onnx"
    shipped = config(
        tmp_path,
        stage3,
        f"deploy.checkpoint={best}",
        f"deploy.movement={path}",
        f"deploy.output={output}",
    )
    assert export(shipped, silent) == 0
    classifier = Classifier(output, ClassifierConfig())
    streams = [tuple(classifier.predict(sample).streams) for sample in all_samples(stage3)]
    assert streams.count(("pose",)) == UNMEASURED
    assert streams.count(("pose", "movement")) == len(streams) - UNMEASURED
    reported = config(tmp_path, stage3, f"test.checkpoint={output}", "test.worst=0")
    assert run_test(reported, silent) == 0
    tested = read_split(stage3 / "test.pkl")
    quiet = sum(len(classifier.predict(sample).streams) == 1 for sample in tested)
    text = f"no movement was measured in {quiet} of {len(tested)} samples"
    assert (text in caplog.text) == (quiet > 0)


@pytest.mark.slow
def test_nested_cross_validation(tmp_path):
    # Each inner training needs two sources more, for its validation part.
    stage3 = dataset(tmp_path / "data", clips=12, sources=12, moving=True)
    own = config(tmp_path, stage3, "crossval.movement=true", "test.views=[mirror]")
    assert crossval(own, silent) == 0
    out = tmp_path / "out"
    value = json.loads((out / "report.json").read_text())
    assert value["inner_folds"] == 2
    scores = value["scores"]
    assert scores.keys() == {"all", "tracked", "pose", "movement", "equal_weights"}
    for part in scores.values():
        for key in ("accuracy", "roc_auc", "average_precision", "brier_score"):
            assert part["overall"][key]["low"] <= part["overall"][key]["value"]
        assert part["overall"]["calibration_error"]["value"] >= 0
    for row in value["by_fold"]:
        assert row["movement"]["setting"] in SETTINGS
        assert row["alone"].keys() == {"pose", "movement", "equal_weights"}
    text = (out / "summary.txt").read_text()
    for line in ("the movement stream alone", "weight of movement: ", "not calibrated"):
        assert line in text
    results = {path: path.stat().st_mtime_ns for path in out.rglob(RESULT)}
    assert len(results) == 6  # two folds, each with two inner trainings
    report = (out / "report.json").read_bytes()
    assert crossval(own, silent) == 0
    assert results == {path: path.stat().st_mtime_ns for path in out.rglob(RESULT)}
    assert (out / "report.json").read_bytes() == report

    alone = config(tmp_path, stage3, "crossval.movement=false", "test.views=[mirror]")
    assert crossval(alone, silent) == 0  # the outer trainings are the same ones
    assert results == {path: path.stat().st_mtime_ns for path in out.rglob(RESULT)}
    pose = json.loads((out / "report.json").read_text())["scores"]
    assert pose.keys() == {"all", "tracked"}
    assert pose["all"] == scores["pose"]


def test_a_result_that_is_gone_is_named(tmp_path, stage3):
    truth = read_labels(stage3)
    job = outer_job(tmp_path, truth)
    inner = inner_jobs(job, truth, 3)
    for one in inner[:2]:
        finish(one, truth, 1.0)
    assert read_result(inner[2]) is None
    measures = measure_samples(all_samples(stage3), "fight", enabled=True)
    with pytest.raises(RuntimeError, match="the finished predictions are gone"):
        fit_stream(job, [inner], measures, truth, 3)
