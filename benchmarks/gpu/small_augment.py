"""Augmentation of whole batches where the pictures are: on the GPU.

Pictures stay uint8 (N, 3, 416, 416); a batch is drawn, turned, scaled, moved and mirrored in one
``grid_sample``; some pictures are put together, four into one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from annotation.teacher_labels import CROWD, DOUBT, PERSON
from benchmarks.gpu.small_data import SLOTS, Data
from recognizer.skeleton import FLIP_INDEX

_GREY = 114.0
_LEAST_PIXELS = 5.0


@dataclass(frozen=True)
class Batch:
    """Pictures and who is in them.

    Attributes:
        pictures: (B, 3, S, S) BGR 0-255, float.
        boxes: (B, M, 4) x1 y1 x2 y2, pixels.
        keypoints: (B, M, 17, 3): x, y, weight of the place.
        scores: (B, M, 17) target scores, -1 without a target.
        kinds: (B, M) 0 for an empty slot, PERSON, DOUBT or CROWD.
        areas: (B, M) scale of OKS, square pixels.

    """

    pictures: Tensor
    boxes: Tensor
    keypoints: Tensor
    scores: Tensor
    kinds: Tensor
    areas: Tensor

    def labels(self) -> tuple[Tensor, ...]:
        """Return everything but the pictures."""
        return self.boxes, self.keypoints, self.scores, self.kinds, self.areas


class Pool:
    """All training pictures on the device, drawn with given chances.

    Args:
        data: what is learnt from.
        chances: (N,) relative chance of each picture.
        device: where it shall lie.

    """

    def __init__(self, data: Data, chances: Tensor, device: str) -> None:
        self.pictures = torch.from_numpy(data.pictures).permute(0, 3, 1, 2).contiguous().to(device)
        seen = data.labels
        self.labels = tuple(
            torch.from_numpy(values).to(device)
            for values in (
                seen.boxes,
                seen.keypoints,
                seen.scores,
                seen.kinds.astype("int64"),
                seen.areas,
            )
        )
        self.chances = chances.to(device)
        self.flip = torch.from_numpy(FLIP_INDEX.copy()).to(device)

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, size: int) -> Batch:
        """Return pictures as they are."""
        rows = torch.multinomial(self.chances, size, replacement=True)
        return Batch(self.pictures[rows].float(), *(part[rows] for part in self.labels))


@dataclass(frozen=True)
class Strength:
    """How much is changed."""

    full_circle: float = 0.3  # share of pictures turned by any angle
    turn: float = 30.0  # degrees, of the others
    scale: tuple[float, float] = (0.65, 1.9)
    shift: float = 0.18  # of the picture's side
    mosaic: float = 0.25  # share of pictures put together from four


def augment(pool: Pool, size: int, strength: Strength) -> Batch:
    """Return a batch of ``size`` changed pictures."""
    fours = int(size * strength.mosaic)
    drawn = pool.draw(size - fours + 4 * fours)
    moved = _move(drawn, pool.flip, strength)
    if fours:
        single, four = _split(moved, size - fours)
        moved = _join(single, _mosaic(four))
    return Batch(_colour(moved.pictures), *moved.labels())


def _uniform(n: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(n, device=device) * (high - low) + low


def _move(batch: Batch, flip: Tensor, strength: Strength) -> Batch:
    """Turn, scale, shift and mirror every picture of a batch around its people."""
    n, _, side, _ = batch.pictures.shape
    device = batch.pictures.device
    any_turn = torch.rand(n, device=device) < strength.full_circle
    angle = torch.where(
        any_turn,
        _uniform(n, -180, 180, device),
        torch.randn(n, device=device).clamp(-2, 2) * strength.turn / 2,
    )
    angle = torch.deg2rad(angle)
    low, high = (torch.tensor(s).log().item() for s in strength.scale)
    scale = _uniform(n, low, high, device).exp()
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    linear = torch.stack([cos * mirror, -sin, sin * mirror, cos], -1).view(n, 2, 2)
    source = _centre(batch, side)
    target = side / 2 + _uniform(2 * n, -1, 1, device).view(n, 2) * strength.shift * side
    shift = target - (linear @ source[..., None])[..., 0]
    pictures = _warp(batch.pictures, linear, shift)
    return Batch(pictures, *_move_labels(batch, flip, linear, shift, mirror < 0, side))


def _centre(batch: Batch, side: int) -> Tensor:
    """Return the point (B, 2) of each picture that comes near the middle: a person's or its own."""
    n = len(batch.kinds)
    chance = (batch.kinds == PERSON).float() + 1e-6
    chosen = torch.multinomial(chance, 1)[:, 0]
    rows = torch.arange(n, device=chosen.device)
    box = batch.boxes[rows, chosen]
    middle = (box[:, :2] + box[:, 2:]) / 2
    to_person = (batch.kinds[rows, chosen] == PERSON) & (torch.rand(n, device=box.device) < 0.7)
    return torch.where(to_person[:, None], middle, torch.full_like(middle, side / 2))


def _warp(pictures: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Map picture pixels by ``x -> linear x + shift``; what comes from outside is grey."""
    side = pictures.shape[-1]
    inverse = torch.linalg.inv(linear)
    # affine_grid works in coordinates from -1 to 1 of the picture.
    half = side / 2
    offset = (inverse @ (half - shift)[..., None])[..., 0] / half - 1
    theta = torch.cat([inverse, offset[..., None]], -1)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    lifted = pictures - _GREY
    return functional.grid_sample(lifted, grid.to(lifted.dtype), align_corners=False) + _GREY


def _move_labels(
    batch: Batch, flip: Tensor, linear: Tensor, shift: Tensor, mirrored: Tensor, side: int
) -> tuple[Tensor, ...]:
    places = torch.einsum("nij,nmkj->nmki", linear, batch.keypoints[..., :2])
    places = places + shift[:, None, None]
    keypoints = torch.cat([places, batch.keypoints[..., 2:]], -1)
    keypoints = torch.where(mirrored[:, None, None, None], keypoints[:, :, flip], keypoints)
    scores = torch.where(mirrored[:, None, None], batch.scores[..., flip], batch.scores)
    boxes = _move_boxes(batch.boxes, keypoints, linear, shift)
    areas = batch.areas * torch.linalg.det(linear).abs()[:, None]
    return inside(boxes, keypoints, scores, batch.kinds, areas, side)


def _move_boxes(boxes: Tensor, keypoints: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Return boxes around the turned ellipses of the old boxes, and around the keypoints."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    centre = torch.einsum("nij,nmj->nmi", linear, centre) + shift[:, None]
    extent = torch.einsum("nij,nmj->nmi", linear.square(), half.square()).sqrt()
    sure = keypoints[..., 2:] > 0.4
    low = torch.where(sure, keypoints[..., :2], torch.inf).amin(2)
    high = torch.where(sure, keypoints[..., :2], -torch.inf).amax(2)
    return torch.cat(
        [torch.minimum(centre - extent, low), torch.maximum(centre + extent, high)], -1
    )


def inside(
    boxes: Tensor, keypoints: Tensor, scores: Tensor, kinds: Tensor, areas: Tensor, side: int
) -> tuple[Tensor, ...]:
    """Cut labels at the picture's border: who is mostly outside becomes a doubt."""
    limits = torch.tensor([0.0, side], device=boxes.device)
    cut = boxes.clamp(limits[0], limits[1])
    whole, part = _area(boxes), _area(cut)
    share = part / whole.clamp(min=1)
    least = (cut[..., 2:] - cut[..., :2]).amin(-1)
    there = (keypoints[..., :2] >= 0).all(-1) & (keypoints[..., :2] < side).all(-1)
    keypoints = torch.cat([keypoints[..., :2], keypoints[..., 2:] * there[..., None]], -1)
    scores = torch.where(there | (scores < 0), scores, torch.zeros_like(scores))
    unsure = (kinds == PERSON) & ((share < 0.3) | (least < _LEAST_PIXELS))
    kinds = torch.where(unsure, DOUBT, kinds)
    kinds = torch.where((share < 0.03) | (part < 4), 0, kinds)
    return cut, keypoints, scores, kinds, areas * share.clamp(min=0.3)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _split(batch: Batch, first: int) -> tuple[Batch, Batch]:
    parts = (batch.pictures, *batch.labels())
    return Batch(*(p[:first] for p in parts)), Batch(*(p[first:] for p in parts))


def _join(a: Batch, b: Batch) -> Batch:
    pairs = zip(a.labels(), b.labels(), strict=True)
    labels = [torch.cat([x, y]) for x, y in pairs]
    return Batch(torch.cat([a.pictures, b.pictures]), *labels)


def _mosaic(batch: Batch, slots: int = SLOTS) -> Batch:
    """Return a quarter as many pictures, each of four at half their size."""
    n, side = len(batch.kinds) // 4, batch.pictures.shape[-1]
    half = functional.avg_pool2d(batch.pictures, 2).unflatten(0, (n, 4))
    rows = [torch.cat([half[:, i], half[:, i + 1]], -1) for i in (0, 2)]
    corner = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=half.device) * side / 2
    place = corner.repeat(n, 1)[:, None]
    boxes = batch.boxes / 2 + place.repeat(1, 1, 2)
    keypoints = torch.cat(
        [batch.keypoints[..., :2] / 2 + place[:, :, None], batch.keypoints[..., 2:]], -1
    )
    labels = [
        part.unflatten(0, (n, 4)).flatten(1, 2)
        for part in (boxes, keypoints, batch.scores, batch.kinds, batch.areas / 4)
    ]
    order = torch.where(labels[3] == 0, CROWD + 1, labels[3]).argsort(dim=1, stable=True)[:, :slots]
    index = torch.arange(n, device=half.device)[:, None]
    return Batch(torch.cat(rows, -2), *(part[index, order] for part in labels))


def _colour(pictures: Tensor) -> Tensor:
    """Change light, contrast, colour and sharpness of each picture."""
    n, device = len(pictures), pictures.device
    shape = (n, 1, 1, 1)
    x = pictures.float() / 255

    def chance(share: float) -> Tensor:
        return torch.rand(shape, device=device) < share

    gamma = (torch.randn(shape, device=device) * 0.3).clamp(-0.8, 0.8).exp()
    x = x.clamp(0, 1).pow(torch.where(chance(0.7), gamma, 1.0))
    gain = 1 + torch.randn((n, 3, 1, 1), device=device) * 0.08
    contrast = _uniform(n, 0.6, 1.35, device).view(shape)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = torch.where(chance(0.7), (x * gain - mean) * contrast + mean, x)
    grey = x.mean(1, keepdim=True)
    colour = torch.where(chance(0.2), 0.0, _uniform(n, 0.4, 1.4, device).view(shape))
    x = grey + (x - grey) * colour
    soft = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = torch.where(chance(0.2), soft, x)
    noise = torch.randn_like(x) * torch.where(chance(0.3), 0.04, 0.0)
    return (x + noise).clamp(0, 1) * 255
