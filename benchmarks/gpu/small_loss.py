"""Targets of the small network: which cell predicts which person, and the losses.

Cells are assigned as in YOLOX (dynamic k by overlap), for a whole batch at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from annotation.teacher_labels import CROWD, DOUBT, PERSON
from benchmarks.gpu.small_augment import Batch
from benchmarks.gpu.small_network import Cells, SmallPose, grid
from recognizer.skeleton import OKS_SIGMAS

_RADIUS = 2.5  # strides from a person's centre within which cells may answer
_MOST_CELLS = 10
_MOST_POSES = 4096
WEIGHTS = {"score": 1.0, "box": 5.0, "first": 1.0, "second": 1.0, "keypoint_score": 0.5}


@dataclass(frozen=True)
class Assigned:
    """Which cells predict which person.

    Attributes:
        image, cell, person: (P,) indices of the pairs.
        overlap: (P,) IoU of the cell's box with the person's.
        doubtful: (B, A) cells without a target score.

    """

    image: Tensor
    cell: Tensor
    person: Tensor
    overlap: Tensor
    doubtful: Tensor


@torch.no_grad()
def assign(cells: Cells, batch: Batch, sizes: list[tuple[int, int]]) -> Assigned:
    """Choose for every person the cells of the least cost, as many as their overlaps add up to."""
    corners, strides = grid(sizes, cells.boxes.device)
    middle = (corners + 0.5) * strides  # (A, 2)
    overlap, part = _overlaps(batch.boxes, cells.boxes)  # (B, M, A)
    centre = (batch.boxes[..., :2] + batch.boxes[..., 2:]) / 2
    far = (middle - centre[:, :, None]).abs().amax(-1) > _RADIUS * strides[:, 0]
    person = (batch.kinds == PERSON)[..., None]
    allowed = person & ~far
    score = cells.scores.clamp(1e-6, 1 - 1e-6)[:, None]
    cost = 3 * -overlap.clamp(min=1e-4).log() - score.log()
    cost = torch.where(allowed, cost, torch.inf)
    overlap = torch.where(allowed, overlap, 0.0)
    counts = overlap.topk(_MOST_CELLS, -1).values.sum(-1).int().clamp(min=1)
    best = cost.topk(_MOST_CELLS, -1, largest=False)
    within = torch.arange(_MOST_CELLS, device=counts.device) < counts[..., None]
    within &= best.values.isfinite()
    chosen = torch.zeros_like(allowed).scatter_(-1, best.indices, within)
    # A cell that several people want answers for the one it costs least.
    cheapest = torch.where(chosen, cost, torch.inf).argmin(1, keepdim=True)
    chosen &= torch.zeros_like(chosen).scatter_(1, cheapest, True)
    image, row, cell = chosen.nonzero(as_tuple=True)
    doubt = (batch.kinds == DOUBT)[..., None] & _alike(part, batch, cells)
    crowd = (batch.kinds == CROWD)[..., None] & (part > 0.5)
    return Assigned(image, cell, row, overlap[image, row, cell], (doubt | crowd).any(1))


def _alike(part: Tensor, batch: Batch, cells: Cells) -> Tensor:
    """Return (B, M, A): whether a cell's box is about that of the row, wherever the cell is."""
    own, other = _area(cells.boxes)[:, None], _area(batch.boxes)[..., None]
    shared = part * own
    return shared > 0.3 * (own + other - shared)


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


def losses(
    network: SmallPose, batch: Batch, see: Callable[[Tensor], Cells] | None = None
) -> dict[str, Tensor]:
    """Return each loss of a batch, weighted; their sum is what is made small.

    Args:
        network: what learns.
        batch: pictures and people.
        see: the network's forward pass, where it is recorded.

    """
    cells = (see or network)(batch.pictures)
    side = batch.pictures.shape[-2:]
    sizes = [(side[0] // s, side[1] // s) for s in (8, 16, 32)]
    found = assign(cells, batch, sizes)
    boxes = cells.boxes[found.image, found.cell]
    target = batch.boxes[found.image, found.person]
    count = max(1, len(found.image))
    out = {"box": (1 - _giou(boxes, target)).sum() / count}
    if len(found.image) > _MOST_POSES:
        kept = torch.randperm(len(found.image), device=boxes.device)[:_MOST_POSES]
    else:
        kept = torch.arange(len(found.image), device=boxes.device)
    image, cell, person = found.image[kept], found.cell[kept], found.person[kept]
    first, second = network.poses(boxes[kept], cells.features[image, cell], cells.detail, image)
    keypoints, scores = batch.keypoints[image, person], batch.scores[image, person]
    areas = batch.areas[image, person]
    out["first"] = _place(first, keypoints, areas)
    out["second"] = _place(second, keypoints, areas)
    out["keypoint_score"] = _keypoint_score(first, scores) + _keypoint_score(second, scores)
    quality = torch.ones_like(found.overlap)
    quality[kept] = similarity(second, keypoints, areas)
    out["score"] = _score(cells, found, quality)
    return {name: value * WEIGHTS[name] for name, value in out.items()}


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised IoU of pairs of boxes (Rezatofighi et al. 2019)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (_area(a) + _area(b) - shared).clamp(min=1)
    hull = torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], 1)
    around = _area(hull).clamp(min=1)
    return shared / union - (around - union) / around


@cache
def _sigmas(device: torch.device) -> Tensor:
    return torch.as_tensor(OKS_SIGMAS, dtype=torch.float32, device=device)


def _distances(keypoints: Tensor, target: Tensor, areas: Tensor) -> Tensor:
    """Return (P, 17) squared distances over the variance of OKS."""
    variance = (2 * _sigmas(target.device)).square() * areas[:, None].clamp(min=64)
    return (keypoints[..., :2] - target[..., :2]).square().sum(-1) / (2 * variance)


def _place(keypoints: Tensor, target: Tensor, areas: Tensor) -> Tensor:
    """Return log(1 + e), e being OKS's exponent: as OKS near the place, and a pull from afar."""
    weight = target[..., 2]
    wrong = _distances(keypoints, target, areas).log1p()
    return (wrong * weight).sum() / weight.sum().clamp(min=1)


@torch.no_grad()
def similarity(keypoints: Tensor, target: Tensor, areas: Tensor) -> Tensor:
    """Return OKS (P,) over the places that are known; 1 where none is."""
    weight = (target[..., 2] > 0).float()
    alike = (-_distances(keypoints, target, areas)).exp()
    count = weight.sum(-1)
    return torch.where(count > 0, (alike * weight).sum(-1) / count.clamp(min=1), 1.0)


def _keypoint_score(keypoints: Tensor, target: Tensor) -> Tensor:
    known = (target >= 0).float()
    wrong = functional.binary_cross_entropy_with_logits(
        keypoints[..., 2], target.clamp(0, 1), reduction="none"
    )
    return (wrong * known).sum() / known.sum().clamp(min=1)


def _score(cells: Cells, found: Assigned, quality: Tensor) -> Tensor:
    """Return the cross-entropy of the product of object and person, as YOLOX learns its objects.

    The varifocal loss (Zhang et al. 2021) weighs background by the square of its score: a cell
    that is somebody's in 7 of 100 cases then says 0.3 (target 0.7). With cross-entropy a score is
    a probability times the target, as in the start's weights, and one threshold fits both.
    """
    target = torch.zeros_like(cells.boxes[..., 0])
    good = found.overlap.clamp(0, 1) * (0.5 + 0.5 * quality)
    target[found.image, found.cell] = good
    logs = functional.logsigmoid(cells.logits.float()).sum(-1).clamp(max=-1e-6)
    rest = (-torch.expm1(logs)).clamp(min=1e-6).log()
    taught = (target > 0) | ~found.doubtful
    wrong = -(target * logs + (1 - target) * rest)
    return (wrong * taught).sum() / good.sum().clamp(min=1)
