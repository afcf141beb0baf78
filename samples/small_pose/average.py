"""How the weights of the public networks are moved: in small steps, and averaged over them."""

import copy
from typing import Any

import torch

from samples.small_pose.graph import TrainableGraph


class Average:
    """A running mean of a network's weights.

    Args:
        network: what is trained.
        decay: of the mean after many steps; it is shorter at the beginning.

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


def layers(network: TrainableGraph) -> list[dict[str, Any]]:
    """Return one group of parameters for each layer, with the root mean square of its weights.

    Steps are taken in proportion to it. The normalisation is folded into the weights, so that
    their sizes differ by orders of magnitude, and a step that suits the large ones ruins the small:
    with one rate for all, the start forgets what it knows in a few hundred steps.
    """
    return [
        {"params": [value], "size": float(value.detach().square().mean().sqrt().clamp(min=1e-3))}
        for value in network.parameters()
    ]
