"""Foreground from heatmaps: masks, token weights and peaks, all in float32.

The idea, to weight a distillation by the foreground, is that of FSD-BEV (Foreground
Self-Distillation for bird's-eye-view detection, ECCV 2024). Here the mask comes from the
teacher's own keypoint heatmaps, so that no label is needed. Heatmaps peak at 1 on a keypoint.

Nothing here carries a gradient back to the heatmaps.
"""

import torch
from torch import Tensor
from torch.nn import functional

_STEEPEST = 1e-30  # threshold * temperature never below: 0 * inf would be NaN at the threshold


def foreground_mask(heatmaps: Tensor, threshold: float, temperature: float) -> Tensor:
    """Return how much each pixel belongs to a person: (N, H, W) in [0, 1] of (N, J, H, W).

    A sigmoid centred on the threshold: 1/2 where the highest joint equals it, at every
    temperature; sigmoid(-4 / temperature) where there is nothing; 0 or 1 as the temperature
    goes to 0.

    Args:
        heatmaps: (N, J, H, W), any floating type.
        threshold: the heatmap's value on the border of the foreground, > 0.
        temperature: how soft that border is, > 0.

    """
    highest = heatmaps.detach().amax(1).float()  # (N, H, W); the maximum first: J times less work
    steepness = 4.0 / max(threshold * temperature, _STEEPEST)
    return torch.sigmoid((highest - threshold) * steepness)


def token_foreground(
    heatmaps: Tensor, grid: tuple[int, int], threshold: float, temperature: float
) -> Tensor:
    """Return the mean of the mask over each token's cell: (N, gh * gw), row-major.

    Args:
        heatmaps: (N, J, H, W).
        grid: (gh, gw) visual tokens; cells of a grid that does not divide H, W overlap by a
            pixel, as adaptive average pooling has them.
        threshold: as in ``foreground_mask``.
        temperature: as in ``foreground_mask``.

    """
    mask = foreground_mask(heatmaps, threshold, temperature)
    return functional.adaptive_avg_pool2d(mask.unsqueeze(1), grid).flatten(1)  # (N, P)


def foreground_weights(
    foreground: Tensor, inside: Tensor | float, outside: Tensor | float
) -> Tensor:
    """Return ``outside`` where the foreground is 0, ``inside`` where it is 1, and between."""
    return outside + (inside - outside) * foreground


def joint_peaks(heatmaps: Tensor) -> Tensor:
    """Return the highest value of each joint, clipped to [0, 1]: (N, J) of (N, J, H, W)."""
    return heatmaps.detach().amax((2, 3)).float().clamp(0.0, 1.0)
