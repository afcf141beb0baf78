"""RTMO's head with what mmpose's lacks: batches in which one place or none holds a person.

mmpose 1.3 stops there: without such places a plain number stands among the losses, where mmengine
expects tensors, and the targets of the box loss are cut out of a tuple; with one, a batch norm is
asked for the spread of a single value. Everything else is mmpose's, weights and names included.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recognizer.sdpose import mmpose
from recognizer.sdpose.mmpose import MODELS

_LEAST_SIDE = 1e-8  # strides; the logarithm of 0 is no target
_BOXES, _BOX_OFFSETS, _PLACES, _COUNTS = 4, 5, 11, 13  # places in mmpose's tuple of targets


class OneRowNorm(nn.BatchNorm1d):
    """A batch norm over rows (N, C) that takes its running statistics for a single row."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Return the normalised rows (N, C)."""
        if len(input) > 1 or not self.training:
            return super().forward(input)
        return nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


@MODELS.register_module(name="RTMOHead", force=True)
class RTMOHead(mmpose.RTMOHead):
    """mmpose's RTMOHead; its losses are tensors for any number of people in a batch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if hasattr(self, "dcc"):
            self.dcc.pose_to_kpts[1] = OneRowNorm(self.dcc.pose_to_kpts[1].num_features)

    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[Any],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss items, each a tensor; without people ``loss_cls`` is the only loss."""
        losses = super().loss(feats, batch_data_samples, train_cfg or {})
        device = feats[0].device
        return {name: torch.as_tensor(value, device=device) for name, value in losses.items()}

    def _get_targets(self, *predictions: Any) -> tuple[Any, ...]:
        """Return mmpose's targets; those of the L1 loss of boxes are made here."""
        auxiliary, self.use_aux_loss = self.use_aux_loss, False
        try:
            targets = list(super()._get_targets(*predictions))
        finally:
            self.use_aux_loss = auxiliary
        if auxiliary and sum(targets[_COUNTS]):
            targets[_BOX_OFFSETS] = box_offsets(targets[_BOXES], targets[_PLACES])
        return tuple(targets)


def box_offsets(boxes: Tensor, places: Tensor) -> Tensor:
    """Return boxes as YOLOX predicts them: offset of the centre and logarithm of the sides.

    Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv:2107.08430.

    Args:
        boxes: (P, 4) x1 y1 x2 y2, pixels of the network's input.
        places: (P, 4) x y, pixels, and the two strides.

    Returns:
        (P, 4) in strides: x, y, log(width), log(height).

    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    sides = (boxes[:, 2:] - boxes[:, :2]) / places[:, 2:]
    return torch.cat([(centres - places[:, :2]) / places[:, 2:], torch.log(sides + _LEAST_SIDE)], 1)
