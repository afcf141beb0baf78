"""Heatmaps -> keypoints, in operators that ONNX Runtime and TensorRT have."""

import torch
from torch import Tensor

_FLOOR = 1e-3


def decoded(heatmaps: Tensor) -> Tensor:
    """Return keypoints (B, 17, 3): x, y in cells of the heatmap, score.

    The place is the top of the parabola through the logarithms of the highest cell and its two
    neighbours on each axis: exact for a Gaussian, and the cell's middle in the first and last cell
    of an axis. Places are of corners: the middle of the first cell is 0.5.

    Args:
        heatmaps: (B, 17, H, W).

    """
    width = heatmaps.shape[3]
    batch, joints, height = heatmaps.shape[0], heatmaps.shape[1], heatmaps.shape[2]
    flat = heatmaps.reshape(batch, joints, height * width)
    score, index = flat.max(2, keepdim=True)
    row = torch.div(index, width, rounding_mode="floor")
    column = index - row * width
    places = []
    for place, last, step in ((column, width - 1, 1), (row, height - 1, width)):
        before = torch.where(place > 0, index - step, index + step)
        after = torch.where(place < last, index + step, index - step)
        low, mid, high = (flat.gather(2, i).clamp(min=_FLOOR).log() for i in (before, index, after))
        bend = (2 * mid - low - high).clamp(min=_FLOOR)
        places.append(place.to(mid.dtype) + ((high - low) / (2 * bend)).clamp(-0.5, 0.5) + 0.5)
    return torch.cat([*places, score], 2)
