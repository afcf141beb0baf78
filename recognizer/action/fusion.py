"""Late fusion: the probabilities of the pose stream and the movement stream, joined by logits.

``softmax(pose * log p_pose + movement * log p_movement + bias)``; with two classes that is a
logistic regression on the two logits, so it calibrates as well. The weights are fitted on
predictions of samples that neither stream has learnt from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.types import Float64Array

# Probabilities of 0 and 1, which forests give, would decide alone.
LOWEST = 1e-3
# Without data both streams count half. Loss, summed over the samples, for each
# squared unit of distance from that: few samples move the weights little.
_START, _STRENGTH = 0.5, 10.0
_MAX_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Fusion:
    """The weights of a fusion.

    Attributes:
        pose: of the pose stream's logarithms, >= 0.
        movement: of the movement stream's, >= 0.
        bias: one per class, 0 for the first.

    """

    pose: float
    movement: float
    bias: tuple[float, ...]

    def __call__(self, pose: Float64Array, movement: Float64Array) -> Float64Array:
        """Return the fused probabilities (N, K) of two arrays of that shape."""
        joined: Float64Array = self.pose * logarithms(pose) + self.movement * logarithms(movement)
        return _softmax(joined + np.array(self.bias, np.float64))

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"pose": self.pose, "movement": self.movement, "bias": list(self.bias)}

    @classmethod
    def from_json(cls, value: object, classes: int) -> "Fusion":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: invalid weights, or another number of classes.

        """
        if not isinstance(value, Mapping) or not isinstance(value.get("bias"), list):
            raise ValueError(f"fusion: expected pose, movement and bias, got {value!r:.60}")
        weights: list[Any] = [value.get("pose"), value.get("movement")]
        bias: list[Any] = value["bias"]
        if not all(_is_number(w) and 0 <= w <= _MAX_WEIGHT for w in weights):
            raise ValueError(f"fusion: expected weights of 0 to {_MAX_WEIGHT:g}, got {weights}")
        if len(bias) != classes or not all(_is_number(b) and abs(b) <= _MAX_WEIGHT for b in bias):
            raise ValueError(f"fusion: expected a bias for each of {classes} classes, got {bias}")
        return cls(float(value["pose"]), float(value["movement"]), tuple(map(float, bias)))


def _is_number(value: object) -> bool:
    return type(value) in (int, float)  # NaN is in no range


def logarithms(probabilities: Float64Array) -> Float64Array:
    """Return the logarithms (N, K) of probabilities kept away from 0 and 1."""
    logs: Float64Array = np.log(np.clip(probabilities, LOWEST, 1 - LOWEST))
    return logs


def fit_fusion(pose: Float64Array, movement: Float64Array, labels: NDArray[np.int64]) -> Fusion:
    """Fit the weights; on samples that neither stream was trained on.

    Args:
        pose: (N, K) probabilities of the pose stream.
        movement: (N, K) of the movement stream, of the same samples.
        labels: (N,) the truth.

    Raises:
        ValueError: no samples, shapes that differ, or probabilities that are no numbers.

    """
    from scipy.optimize import minimize

    if pose.shape != movement.shape or pose.shape[:1] != labels.shape or not len(labels):
        raise ValueError(
            f"fusion: expected two (N, K) arrays and N labels, got {pose.shape}, "
            f"{movement.shape} and {labels.shape}"
        )
    if not (np.isfinite(pose).all() and np.isfinite(movement).all()):
        raise ValueError("fusion: expected finite probabilities, got NaN or inf")
    classes = pose.shape[1]
    logs = np.stack([logarithms(pose), logarithms(movement)])
    truth = np.eye(classes)[labels]
    start = np.array([_START, _START, *np.zeros(classes - 1)])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        bias = np.concatenate([[0.0], weights[2:]])
        predicted = _softmax(np.tensordot(weights[:2], logs, axes=1) + bias)
        away = weights - start
        error = predicted - truth
        slope = np.concatenate([(logs * error).sum(axis=(1, 2)), error.sum(axis=0)[1:]])
        total = -np.log(np.maximum((predicted * truth).sum(axis=1), 1e-300)).sum()
        return float(total + _STRENGTH * (away**2).sum()), slope + 2 * _STRENGTH * away

    limits = [(0.0, _MAX_WEIGHT)] * 2 + [(-_MAX_WEIGHT, _MAX_WEIGHT)] * (classes - 1)
    found = minimize(loss, start, jac=True, bounds=limits, method="L-BFGS-B")
    pose_weight, movement_weight, *bias_weights = (round(float(w), 6) for w in found.x)
    return Fusion(pose_weight, movement_weight, (0.0, *bias_weights))


def _softmax(values: Float64Array) -> Float64Array:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    probabilities: Float64Array = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
