"""Inputs of the losses: tokens, heatmaps, and each loss with options for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import recognizer.sdpose.losses  # noqa: F401  # registers what build names

WEIGHT = 0.25
JOINTS = 5


@dataclass(frozen=True)
class Case:
    """A loss, what kind of tokens it is for, and the options that make all of its weights 1."""

    type: str
    visual: bool
    options: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    epoch: float | None = None
    position_free: bool = True  # what a sample gives does not depend on its place in the batch

    def build(self, weight: float = WEIGHT, **more: Any) -> Any:
        from mmpose.registry import MODELS

        loss = MODELS.build({"type": self.type, "loss_weight": weight, **self.options, **more})
        if self.epoch is not None:
            loss.set_epoch(self.epoch)
        return loss


FLAT = {"foreground_weight": 1.0, "background_weight": 1.0}
ADAPTIVE = {"num_keypoints": JOINTS}
CASES = {
    "token": Case("TokenDistilLoss", True, {"detach_teacher": True}),
    "foreground": Case("ForegroundTokenDistilLoss", True, plain=FLAT),
    "not spatial": Case("ForegroundTokenDistilLoss", True, {"use_spatial_weight": False}),
    "dynamic": Case(
        "DynamicForegroundDistilLoss",
        True,
        epoch=110,
        plain={"max_fg_weight": 1.0, "min_bg_weight": 1.0},
    ),
    "adaptive": Case("AdaptiveForegroundDistilLoss", False, ADAPTIVE),
    "not guided": Case(
        "AdaptiveForegroundDistilLoss", False, {**ADAPTIVE, "use_keypoint_guidance": False}
    ),
    "masked": Case("MaskedTokenDistilLoss", True, plain={"mask_ratio": 0.0}, position_free=False),
    "masked visual": Case(
        "MaskedTokenDistilLoss", True, {"mask_strategy": "importance"}, {"mask_ratio": 0.0}
    ),
    "masked joints": Case(
        "MaskedTokenDistilLoss", False, {"mask_strategy": "importance"}, {"mask_ratio": 0.0}
    ),
}


def inputs(
    case: Case, seed: int = 0, n: int = 3, grid: tuple[int, int] = (2, 3), d: int = 4
) -> dict[str, Any]:
    """Return what a loss is called with: random tokens, heatmaps in about [-.2, 1], all visible."""
    make = torch.Generator().manual_seed(seed)
    tokens = math.prod(grid) if case.visual else JOINTS
    return {
        "student": torch.randn(n, tokens, d, generator=make, requires_grad=True),
        "teacher": torch.randn(n, tokens, d, generator=make, requires_grad=True),
        "heatmaps": (torch.rand(n, JOINTS, 8, 9, generator=make) * 1.2 - 0.2).requires_grad_(),
        "grid": grid if case.visual else None,
        "visible": torch.ones(n, JOINTS),
    }


def peaks(
    at: Sequence[tuple[float, float]], size: tuple[int, int] = (64, 48), sigma: float = 2.0
) -> Tensor:
    """Return heatmaps (1, J, *size) with a Gaussian of height 1 at each (row, column) of J."""
    rows, columns = torch.arange(size[0]).view(-1, 1), torch.arange(size[1]).view(1, -1)
    squares = torch.stack([(rows - row) ** 2 + (columns - column) ** 2 for row, column in at])
    return torch.exp(-squares / (2 * sigma**2)).unsqueeze(0)


def plain_loss(given: Mapping[str, Tensor], weight: float = WEIGHT) -> Tensor:
    return weight * (given["student"] - given["teacher"]).square().mean()
