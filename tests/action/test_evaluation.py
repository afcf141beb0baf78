"""Figures of a classifier: scikit-learn's, with intervals, and defined in odd cases."""

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics

from recognizer.action import bootstrap
from recognizer.action.evaluation import (
    at_threshold,
    choose_threshold,
    decide,
    fuse,
    measure,
)

TWO = ("NonFight", "Fight")
THREE = ("Normal", "Fight", "Fall")


def drawn(n, classes, seed=0, skill=1.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = random.normal(size=(n, classes)) + skill * np.eye(classes)[labels]
    rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, np.round(rows, 2) / np.round(rows, 2).sum(1, keepdims=True)  # with ties


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_hand_counted_figures():
    labels = [0, 0, 0, 1, 1]
    rows = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.7, 0.3]]
    scores = measure(labels, rows, TWO, bootstrap=0, seed=0)
    assert scores.confusion == ((2, 1), (1, 1))
    assert scores.counts == (3, 2)
    assert scores.overall["accuracy"].value == pytest.approx(3 / 5)
    assert scores.overall["balanced_accuracy"].value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.overall["roc_auc"].value == pytest.approx(5 / 6)
    assert scores.by_class["Fight"]["precision"].value == pytest.approx(1 / 2)
    assert scores.by_class["NonFight"]["recall"].value == pytest.approx(2 / 3)
    assert scores.by_class["Fight"]["f1"].value == pytest.approx(1 / 2)
    assert scores.overall["accuracy"].low is None


@pytest.mark.parametrize("classes", [2, 3])
def test_every_resample_has_the_figures_of_scikit_learn(classes):
    labels, rows = drawn(60, classes)
    names = [str(i % 7) for i in range(60)]
    unit = bootstrap.units(names, 60)
    (w,) = bootstrap.weights(unit, 20, seed=3)
    many = bootstrap.figures(labels, rows, w)
    for b in range(20):
        chosen = np.repeat(np.arange(60), w[b].astype(int))
        one = measure(labels[chosen], rows[chosen], THREE[:classes], bootstrap=0, seed=0)
        for name in (
            "accuracy",
            "balanced_accuracy",
            "log_loss",
            "brier_score",
            "roc_auc",
            "average_precision",
        ):
            assert many[name][b] == pytest.approx(one.overall[name].value, rel=1e-9), name
        for label, name in enumerate(THREE[:classes]):
            for key in ("precision", "recall", "f1"):
                assert many[f"{key}/{label}"][b] == pytest.approx(one.by_class[name][key].value)


def test_the_figures_are_scikit_learns_own():
    labels, rows = drawn(80, 3)
    scores = measure(labels, rows, THREE, bootstrap=0, seed=0)
    auc = metrics.roc_auc_score(labels, rows, multi_class="ovr", average="macro")
    assert scores.overall["roc_auc"].value == pytest.approx(auc)
    expected = metrics.balanced_accuracy_score(labels, rows.argmax(1))
    assert scores.overall["balanced_accuracy"].value == pytest.approx(expected)
    labels, rows = drawn(80, 2)
    scores = measure(labels, rows, THREE[:2], bootstrap=0, seed=0)
    brier = metrics.brier_score_loss(labels, rows[:, 1])
    assert scores.overall["brier_score"].value == pytest.approx(brier)


def test_whole_sources_are_resampled_and_that_widens_the_interval():
    # Ten sources, each all right or all wrong: ten independent outcomes, not two hundred.
    labels = np.tile([0, 1], 100)
    right = np.repeat(np.arange(10) % 10 < 7, 20)
    predicted = np.where(right, labels, 1 - labels)
    rows = np.where(np.eye(2)[predicted] > 0, 0.9, 0.1)
    sources = np.repeat([f"s{i}" for i in range(10)], 20).tolist()
    alone = measure(labels, rows, TWO, bootstrap=2000, seed=0)
    by_source = measure(labels, rows, TWO, bootstrap=2000, seed=0, groups=sources)
    a, b = alone.overall["accuracy"], by_source.overall["accuracy"]
    assert a.value == b.value == pytest.approx(0.7)
    # Standard errors sqrt(.21 / 200) and sqrt(.21 / 10), times 1.96 to both sides.
    assert a.high - a.low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 200), rel=0.15)
    assert b.high - b.low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 10), rel=0.15)
    assert by_source.to_json()["bootstrap"] == {
        "level": 0.95,
        "method": "percentile",
        "unit": "source",
        "units": 10,
        "resamples": 2000,
        "seed": 0,
    }


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    labels, rows = drawn(50, 2)
    first, again, other = (
        measure(labels, rows, TWO, bootstrap=300, seed=seed).to_json() for seed in (1, 1, 2)
    )
    assert first == again
    assert first["overall"]["log_loss"] != other["overall"]["log_loss"]


def test_parts_of_resamples_are_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr(bootstrap, "_CHUNK", 100)
    parts = list(bootstrap.weights(np.arange(30), 20, seed=0))
    assert len(parts) > 1
    assert sum(len(part) for part in parts) == 20
    assert all((part.sum(1) == 30).all() for part in parts)


# --- odd cases ---------------------------------------------------------------------


@pytest.mark.parametrize("label", [0, 1])
def test_labels_of_one_class_leave_the_ranking_figures_undefined(label):
    rows = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
    scores = measure([label] * 3, rows, TWO, bootstrap=100, seed=0)
    for name in ("roc_auc", "average_precision"):
        assert scores.overall[name].value is None
        assert "one class only" in scores.overall[name].reason
    share = (2 / 3, 1 / 3)[label]
    assert scores.overall["accuracy"].value == pytest.approx(share)
    assert scores.overall["balanced_accuracy"].value == pytest.approx(share)
    assert scores.by_class[TWO[1 - label]]["recall"].value is None
    json.dumps(scores.to_json(), allow_nan=False)


def test_a_class_that_is_never_predicted_has_no_precision():
    scores = measure([0, 1], [[0.9, 0.1], [0.8, 0.2]], TWO, bootstrap=0, seed=0)
    precision = scores.by_class["Fight"]["precision"]
    assert precision.value is None
    assert "never predicted" in precision.reason
    assert scores.by_class["Fight"]["f1"].value == 0


def test_three_classes_of_which_one_is_missing():
    labels, rows = drawn(30, 3)
    labels[labels == 2] = 0
    scores = measure(labels, rows, THREE, bootstrap=50, seed=0)
    assert scores.overall["roc_auc"].value is None
    assert "not every class" in scores.overall["roc_auc"].reason
    assert scores.overall["accuracy"].low is not None


def test_one_source_cannot_be_resampled():
    labels, rows = drawn(20, 2)
    scores = measure(labels, rows, TWO, bootstrap=100, seed=0, groups=["a"] * 20)
    assert scores.overall["accuracy"].low is None
    assert scores.bootstrap["resamples"] == 0


def test_a_certain_wrong_answer_costs_a_finite_loss():
    scores = measure([1, 0], [[1.0, 0.0], [1.0, 0.0]], TWO, bootstrap=20, seed=0)
    assert 10 < scores.overall["log_loss"].value < 40


@pytest.mark.parametrize(
    ("labels", "rows", "text"),
    [
        ([], np.zeros((0, 2)), "at least one sample"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "finite numbers.* at sample 1"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.6]], "a sum of 1.* at sample 1"),
        ([0, 1], [[0.5, 0.5], [-0.5, 1.5]], "0 to 1.* at sample 1"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "labels: expected 0 to 1, got 2 at sample 1"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "whole numbers"),
        ([0, 1], [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], r"\(N, 2\)"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], r"got \(1,\) and \(2, 2\)"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_named(labels, rows, text):
    with pytest.raises(ValueError, match=text):
        measure(labels, rows, TWO, bootstrap=0, seed=0)


def test_groups_must_be_one_for_each_sample():
    with pytest.raises(ValueError, match="groups: expected one for each of 2"):
        measure([0, 1], [[0.5, 0.5]] * 2, TWO, bootstrap=0, seed=0, groups=["a"])


# --- threshold, fusion, calibration ------------------------------------------------


def test_the_threshold_is_the_best_of_all_that_differ():
    labels, rows = drawn(70, 2, seed=5)
    rows[:, 1] = rows[:, 1] ** 3  # far from calibrated
    rows[:, 0] = 1 - rows[:, 1]
    chosen = choose_threshold(labels, rows)
    # Each row's own probability as the threshold: all decisions there are but "never".
    every = [metrics.balanced_accuracy_score(labels, rows[:, 1] >= t) for t in rows[:, 1]]
    got = at_threshold(labels, rows, chosen)
    assert got["balanced_accuracy"] == pytest.approx(max(every))
    assert got["balanced_accuracy"] > metrics.balanced_accuracy_score(labels, rows.argmax(1))


def test_of_equal_thresholds_the_one_nearest_a_half_is_taken():
    rows = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]
    assert choose_threshold([0, 0, 1], rows) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="one class only"):
        choose_threshold([0, 0, 0], rows)


def test_a_threshold_is_for_two_classes():
    assert decide(np.array([[0.7, 0.3], [0.6, 0.4]]), 0.4).tolist() == [0, 1]
    with pytest.raises(ValueError, match="2 classes, got 3"):
        decide(np.full((1, 3), 1 / 3), 0.4)


def test_streams_are_fused_by_the_mean():
    joint, bone = [[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.6, 0.4]]
    assert fuse([joint, bone]) == pytest.approx(np.array([[0.7, 0.3], [0.4, 0.6]]))
    with pytest.raises(ValueError, match="equal shape"):
        fuse([joint, bone[:1]])
    with pytest.raises(ValueError, match="equal shape"):
        fuse([])


def test_calibration_error_of_a_classifier_that_is_always_too_sure():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])  # says 0.85 of label 1, right in half
    rows = np.tile([0.15, 0.85], (8, 1))
    scores = measure(labels, rows, TWO, bootstrap=0, seed=0)
    assert scores.overall["calibration_error"].value == pytest.approx(0.35)
    (only,) = scores.calibration
    assert only["samples"] == 8
    assert only["came_true"] == 0.5
