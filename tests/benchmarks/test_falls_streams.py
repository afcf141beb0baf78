"""Leaving groups out of the measurement of falls: nothing of a group decides about it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._falls_data import BED, BED_GROUP, FIGHTS, _deal
from benchmarks._falls_report import Footage, measure
from benchmarks._falls_streams import Learning, Poses, Task, pose_jobs, predict
from benchmarks._falls_windows import FALL, Window, _with_descent
from recognizer.action.measures import measure_names
from recognizer.action.movement_model import SETTINGS
from tests.action.moving import LOGISTIC, clip

GROUPS = ("A", "B", "C", BED_GROUP)
WIDTH = len(measure_names("falldown"))
NETWORK = Path(__file__).parents[2] / "configs" / "skeleton" / "stgcnpp" / "falldown_body.py"
EVERYTHING = [Learning(bed, fights) for bed in (True, False) for fights in (True, False)]


@pytest.fixture(autouse=True)
def few_settings(monkeypatch):
    monkeypatch.setattr("recognizer.action.movement_model.SETTINGS", {LOGISTIC: SETTINGS[LOGISTIC]})


def windows(seed=0):
    """Return windows of four groups, a third of them falls, and of a fight in group A."""
    random = np.random.default_rng(seed)
    found, group_of = [], {}
    for group in GROUPS:
        folder = BED if group == BED_GROUP else "falls/"
        for number in range(24):
            label = int(number % 3 == 0)
            found.append(window(f"{folder}{group}{number}.mp4", label, random))
            group_of[found[-1].video] = group
    found.append(window(f"{FIGHTS}1.mp4", 0, random))
    found.append(window(f"{FIGHTS}2.mp4", 0, random))
    group_of |= {f"{FIGHTS}1.mp4": "A", f"{FIGHTS}2.mp4": "A"}
    return found, group_of


def window(video, label, random):
    name = f"{video}@0.000-2.000"
    movement = (random.normal(size=WIDTH) + label).astype(np.float32)
    sample = replace(clip(1, 4), name=name, label=label)
    return Window(video, 0.0, 2.0, label, sample, movement[:5], movement)


def pretend(jobs, monkeypatch, predictions):
    """Let finished trainings say what ``predictions`` makes of a job and a window's name."""

    def finished(job):
        return np.array([[1 - predictions(job, name), predictions(job, name)] for name in job.test])

    monkeypatch.setattr("benchmarks._falls_streams.finished", finished)
    return jobs


@pytest.mark.parametrize("learning", EVERYTHING, ids=lambda one: one.name)
def test_a_training_knows_nothing_of_the_groups_that_it_leaves_out(learning, tmp_path):
    found, group_of = windows()
    task = Task(found, group_of, learning)
    group_of_name = {w.sample.name: group_of[w.video] for w in found}
    for without, job in pose_jobs(task, (NETWORK, ()), tmp_path, 0).items():
        assert without.isdisjoint(group_of_name[name] for name in job.train)
        assert {group_of_name[name] for name in job.test} == without
        assert learning.fights or not any(name.startswith(FIGHTS) for name in job.train)
        assert learning.bed or not any(name.startswith(BED) for name in job.train)
        assert learning.bed or BED_GROUP in without


def test_no_training_is_done_twice(tmp_path):
    found, group_of = windows()
    jobs = {
        job.folder: job
        for seed in (0, 1)
        for learning in EVERYTHING
        for job in pose_jobs(
            Task(found, group_of, learning), (NETWORK, ()), tmp_path, seed
        ).values()
    }.values()
    assert len({job.folder for job in jobs}) == len({job.name for job in jobs}) == len(jobs)
    # With fights and without, two seeds: four groups, six pairs, three pairs with the beds.
    assert len(jobs) == 2 * 2 * (4 + 6 + 3)


@pytest.mark.parametrize("learning", EVERYTHING, ids=lambda one: one.name)
def test_both_streams_are_judged_and_fused_by_models_without_the_group(
    learning, tmp_path, monkeypatch
):
    found, group_of = windows()
    task = Task(found, group_of, learning)
    jobs = pose_jobs(task, (NETWORK, ()), tmp_path, 0)
    label_of = {w.sample.name: w.label for w in found}
    pretend(jobs, monkeypatch, lambda job, name: 0.9 if label_of[name] else 0.1)
    predictions, chosen = predict(task, 0, Poses(task, jobs))
    truth = np.array([w.label for w in found])
    assert set(chosen) == set(GROUPS)
    assert ((predictions["pose"] > 0.5) == truth).all()
    assert ((predictions["fused"] > 0.5) == truth).all()
    assert ((predictions["movement"] > 0.5) == truth).mean() > 0.8
    assert not np.allclose(predictions["fused"], predictions["pose"])


def test_labels_of_a_group_do_not_change_what_is_reported_of_it():
    found, group_of = windows()
    predictions, _ = predict(Task(found, group_of, Learning()), 0)
    turned = [replace(w, label=1 - w.label) if group_of[w.video] == "B" else w for w in found]
    other, _ = predict(Task(turned, group_of, Learning()), 0)
    own = np.array([group_of[w.video] == "B" for w in found])
    np.testing.assert_array_equal(predictions["movement"][own], other["movement"][own])
    assert not np.allclose(predictions["movement"][~own], other["movement"][~own])


def test_the_window_of_the_fastest_descent_is_the_fall():
    found = [window(f"{BED}fall/x.mp4", 0, np.random.default_rng(i)) for i in range(4)]
    found = [replace(w, label=None) for w in found]
    for number, drop in enumerate((0.1, 0.2, 0.9, 0.3)):
        found[number].movement[:] = 0
        found[number].movement[measure_names("falldown").index("centre_fastest_1s")] = drop
    labelled = _with_descent(found)
    assert [w.label for w in labelled] == [None, None, FALL, None]
    assert labelled[2].sample.label == FALL
    nothing = [replace(w, label=None, movement=None) for w in found]
    assert [w.label for w in _with_descent(nothing)] == [None] * 4


def test_figures_of_a_perfect_classifier_and_of_one_who_always_shouts():
    found, group_of = windows()
    spans = {w.video: (0.0, 2.0) for w in found}
    falls = {w.video: [(0.0, 2.0)] for w in found if w.label}
    data = Footage(found, spans, falls, group_of, {"merge_gap_s": 0.0})
    truth = np.array([float(w.label) for w in found])
    figures = measure(data, truth)
    assert figures["window_roc_auc"] == figures["auc_Bed"] == 1
    assert figures["held_out_total"] | {"normal_hours": 0} == {
        "events": 24,
        "found": 24,
        "alarms": 24,
        "false_alarms": 0,
        "normal_hours": 0,
    }
    assert (figures["bed"]["found"], figures["bed"]["events"]) == (8, 8)
    assert figures["fights_alarmed"] == [0, 2]
    loud = measure(data, np.ones(len(found)))
    assert loud["fights_alarmed"] == [2, 2]
    assert loud["held_out_total"]["false_alarms"] == 48


def test_recordings_stay_together_and_where_they_are(monkeypatch):
    monkeypatch.setattr("benchmarks._falls_data._duration", lambda path: 2.0)
    videos = {f"{FIGHTS}{i}.mp4": (None, f"recording {i // 2}") for i in range(8)}
    dealt = _deal(videos, ["A", "B"], {"recording 3": "A"})
    assert dealt[f"{FIGHTS}6.mp4"] == dealt[f"{FIGHTS}7.mp4"] == "A"
    assert all(dealt[f"{FIGHTS}{i}.mp4"] == dealt[f"{FIGHTS}{i + 1}.mp4"] for i in (0, 2, 4))
    assert sorted(dealt.values()) == ["A"] * 4 + ["B"] * 4
