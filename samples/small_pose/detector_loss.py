"""SimOTA label assignment and the losses of YOLOX.

Source: Ge et al. 2021, "YOLOX"; dynamic k is the sum of the best IoUs. A cell's score is the
product of its object and person scores, and is learnt as one probability.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from annotation.teacher_labels import CROWD, DOUBT, PERSON

STRIDES = (8, 16, 32)
_CENTRE_RADIUS = 2.5  # strides from a person's centre within which cells are candidates
_MAX_K = 10
_IOU_LOSS_WEIGHT = 5.0


@dataclass(frozen=True)
class Cells:
    """What all cells say: boxes (B, A, 4) x1 y1 x2 y2 in pixels and the logits (B, A, 2)."""

    boxes: Tensor
    scores: Tensor


def grid(size_hw: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return corners (A, 2) of all cells, in cells, and their strides (A, 1).

    Args:
        size_hw: height and width of the pictures, multiples of 32, pixels.
        device: where they are put.

    """
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = (torch.arange(side // stride, dtype=torch.float32) for side in size_hw)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        corners.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides.append(torch.full_like(corners[-1][:, :1], float(stride)))
    return torch.cat(corners).to(device), torch.cat(strides).to(device)


def cells_of(raw: Tensor, size_hw: tuple[int, int]) -> Cells:
    """Return what the network's output (B, A, 6) says of pictures of this height and width."""
    corners, strides = grid(size_hw, raw.device)
    middle = (raw[..., :2] + corners) * strides
    half = raw[..., 2:4].clamp(max=8).exp() * strides / 2
    boxes = torch.cat([middle - half, middle + half], -1)
    return Cells(boxes, raw[..., 4] * raw[..., 5])


@torch.no_grad()
def simota(cells: Cells, boxes: Tensor, kinds: Tensor, side: int) -> tuple[Tensor, ...]:
    """Return image, cell, person and IoU (P,) of each positive, and ignored cells (B, A).

    Args:
        cells: what they say.
        boxes: (B, M, 4) of people and doubts.
        kinds: (B, M) PERSON, DOUBT, CROWD or 0.
        side: of the pictures, pixels.

    """
    corners, strides = grid((side, side), boxes.device)
    middle = (corners + 0.5) * strides
    overlap, part = _overlaps(boxes, cells.boxes)  # (B, M, A)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    far = (middle - centre[:, :, None]).abs().amax(-1) > _CENTRE_RADIUS * strides[:, 0]
    allowed = (kinds == PERSON)[..., None] & ~far
    score = cells.scores.clamp(1e-6, 1 - 1e-6)[:, None]
    cost = torch.where(allowed, -3 * overlap.clamp(min=1e-4).log() - score.log(), torch.inf)
    overlap = torch.where(allowed, overlap, 0.0)
    dynamic_k = overlap.topk(_MAX_K, -1).values.sum(-1).int().clamp(min=1)
    best = cost.topk(_MAX_K, -1, largest=False)
    within = torch.arange(_MAX_K, device=boxes.device) < dynamic_k[..., None]
    chosen = torch.zeros_like(allowed).scatter_(-1, best.indices, within & best.values.isfinite())
    # A cell that is assigned to several people stays with that of the lowest cost.
    cheapest = torch.where(chosen, cost, torch.inf).argmin(1, keepdim=True)
    chosen &= torch.zeros_like(chosen).scatter_(1, cheapest, True)
    image, row, cell = chosen.nonzero(as_tuple=True)
    own, other = _area(cells.boxes)[:, None], _area(boxes)[..., None]
    alike = part * own > 0.3 * (own + other - part * own)
    doubt = (kinds == DOUBT)[..., None] & (alike | (part > 0.7))
    crowd = (kinds == CROWD)[..., None] & (part > 0.5)
    return image, cell, row, overlap[image, row, cell], (doubt | crowd).any(1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _overlaps(people: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, M, A) IoU, and the share of each cell's box that lies in the person's."""
    low = torch.maximum(people[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(people[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    own = _area(boxes)[:, None]
    union = own + _area(people)[..., None] - shared
    return shared / union.clamp(min=1), shared / own.clamp(min=1)


def loss(raw: Tensor, boxes: Tensor, kinds: Tensor, side: int) -> Tensor:
    """Return the loss of a batch: cross-entropy of the scores, and of boxes 1 - GIoU."""
    cells = cells_of(raw, (side, side))
    image, cell, person, overlap, ignored = simota(cells, boxes, kinds, side)
    target = torch.zeros_like(cells.scores)
    target[image, cell] = overlap.clamp(0, 1)
    taught = (target > 0) | ~ignored
    wrong = functional.binary_cross_entropy(
        cells.scores.clamp(1e-6, 1 - 1e-6), target, reduction="none"
    )
    count = overlap.sum().clamp(min=1)
    box = (1 - _giou(cells.boxes[image, cell], boxes[image, person])).sum() / max(1, len(image))
    return (wrong * taught).sum() / count + _IOU_LOSS_WEIGHT * box


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU of pairs of boxes (Rezatofighi et al. 2019)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (_area(a) + _area(b) - shared).clamp(min=1)
    hull = torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], 1)
    around = _area(hull).clamp(min=1)
    return shared / union - (around - union) / around
