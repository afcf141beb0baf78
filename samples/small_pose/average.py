"""Weights averaged over the steps of a training."""

import copy

import torch

from samples.small_pose.graph import TrainableGraph


class Average:
    """A running mean of a network's weights.

    Args:
        network: what is trained.
        decay: of the mean after many steps; it is shorter at the beginning.

    """

    def __init__(self, network: TrainableGraph, decay: float = 0.998) -> None:
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
