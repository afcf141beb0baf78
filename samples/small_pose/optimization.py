"""How the weights of the public networks are moved: in small steps, and averaged over them."""

import copy
import math

import torch

from samples.small_pose.graph import TrainableGraph

_WARM_UP_STEPS = 100
_FINAL_FACTOR = 0.02  # of the learning rate, at the end
_MIN_RMS = 1e-3


class ExponentialMovingAverage:
    """An exponential moving average (EMA) of a network's weights.

    Args:
        network: what is trained.
        decay: after many steps; it is smaller at the beginning.

    """

    def __init__(self, network: TrainableGraph, decay: float = 0.996) -> None:
        self.model = copy.deepcopy(network)
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self, network: TrainableGraph) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        pairs = zip(self.model.parameters(), network.parameters(), strict=True)
        for mean, now in pairs:
            mean.lerp_(now, 1 - decay)


def learning_rate_factor(step: int, done: float) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine annealing.

    Args:
        step: from 0; the warm-up takes 100.
        done: share of the time that is over, 0 to 1.

    """
    warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return warm_up * (_FINAL_FACTOR + (1 - _FINAL_FACTOR) * cosine)


def layerwise_adamw(network: TrainableGraph, *, fused: bool) -> torch.optim.AdamW:
    """Return AdamW with one parameter group for each layer, for ``set_learning_rate``.

    A layer's learning rate is in proportion to the root mean square of its weights. The
    normalisation is folded into the weights, so that they differ by orders of magnitude between
    layers, and a step that suits the large ones ruins the small: with one learning rate for all,
    the start forgets what it knows in a few hundred steps.
    """
    groups = [
        {
            "params": [value],
            "weight_rms": float(value.detach().square().mean().sqrt().clamp(min=_MIN_RMS)),
        }
        for value in network.parameters()
    ]
    return torch.optim.AdamW(groups, weight_decay=0.0, fused=fused)


def set_learning_rate(optimizer: torch.optim.AdamW, relative: float) -> None:
    """Set the learning rate of each layer to ``relative`` of its weights' root mean square."""
    for group in optimizer.param_groups:
        group["lr"] = relative * group["weight_rms"]
