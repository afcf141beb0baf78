"""Late fusion: weights that cannot turn a stream round, calibrated, and strict in files."""

import numpy as np
import pytest

from recognizer.action.evaluation import measure
from recognizer.action.fusion import Fusion, fit_fusion


def probabilities(labels, skill, seed, sharpness=1.0, classes=2):
    """Return probabilities (N, K) that are right the more often the higher the skill."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(labels), classes)) + skill * np.eye(classes)[labels]
    values = np.exp(sharpness * logits)
    return values / values.sum(1, keepdims=True)


def log_loss(labels, probabilities):
    return measure(labels, probabilities, ["A", "B"], bootstrap=0, seed=0).overall["log_loss"].value


LABELS = np.arange(400) % 2


def test_two_streams_are_better_than_each_and_calibrated():
    new = np.arange(2000) % 2
    fusion = fit_fusion(probabilities(LABELS, 1, 0, 4.0), probabilities(LABELS, 1, 1), LABELS)
    pose, movement = (
        probabilities(new, 1, 2, 4.0),
        probabilities(new, 1, 3),
    )  # the pose stream is too sure
    fused = fusion(pose, movement)
    assert log_loss(new, fused) < min(log_loss(new, pose), log_loss(new, movement)) - 0.02
    before, after = (
        measure(new, p, ["A", "B"], bootstrap=0, seed=0).overall for p in (pose, fused)
    )
    assert after["calibration_error"].value < before["calibration_error"].value / 2
    assert after["brier_score"].value < before["brier_score"].value
    assert after["accuracy"].value > before["accuracy"].value
    assert fused.sum(1) == pytest.approx(1)


def test_a_stream_that_is_wrong_is_left_out_and_never_turned_round():
    fusion = fit_fusion(probabilities(LABELS, 1.5, 0), probabilities(1 - LABELS, 1.5, 1), LABELS)
    assert fusion.movement == 0
    assert fusion.pose > 0


def test_few_samples_hardly_move_the_weights():
    few = np.array([0, 1])
    fusion = fit_fusion(probabilities(few, 5, 0), probabilities(few, -5, 1), few)
    assert abs(fusion.pose - 0.5) < 0.3
    assert abs(fusion.movement - 0.5) < 0.5


def test_with_two_classes_it_is_a_logistic_regression_on_the_logits():
    pose, movement = probabilities(LABELS, 1, 0), probabilities(LABELS, 1, 1)
    fusion = Fusion(0.7, 1.3, (0.0, -0.4))
    logit = {name: np.log(p[:, 1] / p[:, 0]) for name, p in (("p", pose), ("m", movement))}
    expected = 1 / (1 + np.exp(-(0.7 * logit["p"] + 1.3 * logit["m"] - 0.4)))
    assert fusion(pose, movement)[:, 1] == pytest.approx(expected, abs=1e-9)


def test_three_classes_and_certain_probabilities():
    labels = np.arange(300) % 3
    certain = np.eye(3)[labels]
    fusion = fit_fusion(certain, probabilities(labels, 1, 1, classes=3), labels)
    fused = fusion(certain, probabilities(labels, 1, 2, classes=3))
    assert np.isfinite(fused).all()
    assert (fused.argmax(1) == labels).all()


def test_what_cannot_be_fitted_is_refused():
    good = probabilities(LABELS, 1, 0)
    with pytest.raises(ValueError, match="finite probabilities"):
        fit_fusion(good, np.full_like(good, np.nan), LABELS)
    with pytest.raises(ValueError, match="expected two"):
        fit_fusion(good, good[1:], LABELS)
    with pytest.raises(ValueError, match="expected two"):
        fit_fusion(good[:0], good[:0], LABELS[:0])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"pose": 1.0, "movement": 1.0},
        {"pose": -0.1, "movement": 1.0, "bias": [0, 0]},
        {"pose": float("nan"), "movement": 1.0, "bias": [0, 0]},
        {"pose": 1.0, "movement": 1e9, "bias": [0, 0]},
        {"pose": True, "movement": 1.0, "bias": [0, 0]},
        {"pose": 10**400, "movement": 1.0, "bias": [0, 0]},
        {"pose": 1.0, "movement": 1.0, "bias": [0]},
        {"pose": 1.0, "movement": 1.0, "bias": [0, float("inf")]},
        {"pose": 1.0, "movement": 1.0, "bias": [0, "1"]},
    ],
)
def test_hostile_weights_are_refused(value):
    with pytest.raises(ValueError, match="fusion: expected"):
        Fusion.from_json(value, 2)


def test_json_there_and_back():
    fusion = Fusion(0.25, 1.5, (0.0, -0.125))
    assert Fusion.from_json(fusion.to_json(), 2) == fusion
