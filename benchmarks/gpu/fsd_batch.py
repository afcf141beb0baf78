"""Batches of augmented people, made on the device; and where people's keypoints are found.

The same numbers as mmpose's TopdownAffine, MSRAHeatmap and PoseDataPreprocessor give, for a whole
batch at once. Places are (x, y) in pixels; pictures are RGB.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional

from recognizer.imagenet import MEAN_RGB, STD_RGB
from recognizer.skeleton import FLIP_INDEX

INPUT = (192, 256)  # width, height of what the network sees
HEATMAP = (48, 64)
STRIDE = 4
SIGMA = 2.0
PADDING = 1.25
BLUR = 11  # cells, of DARK


@dataclass(frozen=True)
class People:
    """Crops on the device, all in canvases of one size, the picture at the top left.

    Attributes:
        pictures: (N, 3, S, S) uint8, RGB, 0 outside the picture.
        keypoints: (N, 17, 2) float32 in pixels of the crop.
        visible: (N, 17) float32, 0 or 1.
        matrices: (E, N, 2, 3) float32, crop to network input, mirroring included; E is 1 where
            nothing is augmented.
        mirrored: (E, N) bool.
        notes: what only the evaluation reads, as NumPy arrays by name.

    """

    pictures: Any
    keypoints: Any
    visible: Any
    matrices: Any
    mirrored: Any
    notes: dict[str, Any]

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Batch:
    """What a training step reads: images (B, 3, 256, 192) and their targets."""

    images: Any
    heatmaps: Any  # (B, 17, 64, 48)
    weights: Any  # (B, 17)


# --- geometry -----------------------------------------------------------------------------


def warp_matrices(centre: Any, width: Any, degrees: Any) -> Any:
    """Return the (..., 2, 3) matrices that put 3 : 4 regions onto the network's input.

    As mmpose's get_warp_matrix: ``width`` of the region, turned by ``degrees`` about its centre.
    """
    turn = np.deg2rad(np.asarray(degrees, np.float64))
    scale = INPUT[0] / np.asarray(width, np.float64)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    middle = np.array(INPUT, np.float64) / 2
    shift = middle - (linear @ np.asarray(centre, np.float64)[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], -1)


def mirror(matrices: Any, widths: Any) -> Any:
    """Return matrices (..., 2, 3) that first mirror a picture of so many columns."""
    mirrored = matrices.copy()
    mirrored[..., 2] += matrices[..., 0] * (np.asarray(widths) - 1)[..., None]
    mirrored[..., 0] *= -1
    return mirrored


def box_regions(boxes: Any) -> tuple[Any, Any]:
    """Return centre (N, 2) and width (N,) of the padded 3 : 4 regions of x1, y1, x2, y2."""
    size = (boxes[:, 2:] - boxes[:, :2]) * PADDING
    return (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(size[:, 0], size[:, 1] * 0.75)


# --- on the device -----------------------------------------------------------------------------


def load(file: Path, device: Any, limit: int | None = None) -> People:
    """Read people of a packed file; their augmentations where the file has them."""
    with np.load(file) as packed:
        arrays = {name: packed[name] for name in packed.files}
    ends = np.cumsum(arrays["lengths"])
    count = min(len(ends), limit or len(ends))
    side = int(arrays["shape"].max())
    pictures = np.zeros((count, side, side, 3), np.uint8)
    for row in range(count):
        coded = arrays["bytes"][ends[row] - arrays["lengths"][row] : ends[row]]
        picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        pictures[row, : picture.shape[0], : picture.shape[1]] = picture[..., ::-1]
    if "draws" in arrays:
        draws = arrays["draws"][:, :count].astype(np.float64)
        flips = draws[..., 0] > 0
        plain = warp_matrices(draws[..., 1:3], draws[..., 3], draws[..., 4])
        widths = np.broadcast_to(arrays["shape"][:count, 1], flips.shape)
        matrices = np.where(flips[..., None, None], mirror(plain, widths), plain)
    else:
        centre, width = box_regions(arrays["box"][:count])
        matrices = warp_matrices(centre, width, np.zeros(count))[None]
        flips = np.zeros((1, count), bool)

    def put(array: Any, kind: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, kind)

    notes = {k: arrays[k][:count] for k in ("area", "image", "origin", "keypoints", "visible")}
    channels_first = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).contiguous()
    return People(
        channels_first,
        put(notes["keypoints"], torch.float32),
        put(notes["visible"], torch.float32),
        put(matrices, torch.float32),
        put(flips, torch.bool),
        notes,
    )


def warp(pictures: Any, matrices: Any) -> Any:
    """Return (B, 3, 256, 192) float32 in 0..255 of pictures (B, 3, S, S); 0 outside."""
    side = pictures.shape[-1]
    linear = torch.linalg.inv(matrices[:, :, :2].double())
    y, x = torch.meshgrid(
        torch.arange(INPUT[1], device=pictures.device, dtype=torch.float32),
        torch.arange(INPUT[0], device=pictures.device, dtype=torch.float32),
        indexing="ij",
    )
    inverse = linear.float()
    offset = -(linear @ matrices[:, :, 2:].double()).float()  # (B, 2, 1)
    places = inverse @ torch.stack([x.flatten(), y.flatten()]) + offset  # (B, 2, P)
    places = places.transpose(1, 2).reshape(-1, INPUT[1], INPUT[0], 2)
    grid = (places + 0.5) * (2.0 / side) - 1.0
    return functional.grid_sample(
        pictures.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )


@functools.cache
def constants(device: torch.device) -> tuple[Any, Any, Any]:
    """Return mean and deviation (1, 3, 1, 1) and the order of mirrored keypoints (17,).

    Made once: a copy to the device at each step would wait for all that it is doing.
    """
    mean, std = (torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (MEAN_RGB, STD_RGB))
    return mean, std, torch.as_tensor(FLIP_INDEX, device=device)


def normalise(images: Any) -> Any:
    """Return RGB images of 0..255 as the network wants them."""
    mean, std, _ = constants(images.device)
    return (images - mean) / std


def move(keypoints: Any, matrices: Any) -> Any:
    """Return keypoints (B, 17, 2) after their matrices (B, 2, 3)."""
    return keypoints @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]


def targets(keypoints: Any, visible: Any) -> tuple[Any, Any]:
    """Return heatmaps (B, 17, 64, 48) and weights (B, 17) of keypoints in the network's input.

    A Gaussian around each labelled keypoint, not rounded to a cell; one whose three-sigma square
    lies outside has weight 0.
    """
    centre = keypoints / STRIDE
    reach = 3 * SIGMA
    inside = (centre + reach + 1 >= 0).all(-1)
    for axis in (0, 1):
        inside &= centre[..., axis] - reach < HEATMAP[axis]
    weights = visible * inside
    x = torch.arange(HEATMAP[0], device=keypoints.device)
    y = torch.arange(HEATMAP[1], device=keypoints.device)
    across = torch.exp(-((x - centre[..., :1]) ** 2) / (2 * SIGMA**2))  # (B, 17, 48)
    down = torch.exp(-((y - centre[..., 1:]) ** 2) / (2 * SIGMA**2))  # (B, 17, 64)
    return down[..., None] * across[..., None, :] * weights[..., None, None], weights


def make(people: People, rows: Any, epoch: int) -> Batch:
    """Return the batch of some people with the augmentations of an epoch."""
    number = epoch % len(people.matrices)
    matrices, flipped = people.matrices[number, rows], people.mirrored[number, rows]
    images = normalise(warp(people.pictures[rows], matrices))
    order = constants(images.device)[2]
    places, visible = move(people.keypoints[rows], matrices), people.visible[rows]
    places = torch.where(flipped[:, None, None], places[:, order], places)
    visible = torch.where(flipped[:, None], visible[:, order], visible)
    return Batch(images, *targets(places, visible))


def batches(people: People, size: int, seed: int) -> Iterator[tuple[float, Batch]]:
    """Yield (epochs done, batch) without end; the order follows from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    per_epoch = len(people) // size
    if not per_epoch:
        raise ValueError(f"batches: expected at least {size} people, got {len(people)}")
    epoch = 0
    while True:
        order = torch.randperm(len(people), generator=generator).to(people.pictures.device)
        for step in range(per_epoch):
            rows = order[step * size : (step + 1) * size]
            yield epoch + step / per_epoch, make(people, rows, epoch)
        epoch += 1


# --- decoding ------------------------------------------------------------------------------


def decode(heatmaps: Any) -> tuple[Any, Any]:
    """Return keypoints (B, 17, 2) in the network's input and scores (B, 17): DARK.

    As ``recognizer.pose.heatmaps.decode_dark``, on the device.
    """
    width = heatmaps.shape[-1]
    score, index = heatmaps.flatten(2).max(-1)
    x, y = index % width, index // width
    log = torch.log(_blurred(heatmaps, x, y).clamp(min=1e-10))  # (B, 17, 5, 5)
    dx, dy = (log[..., 2, 3] - log[..., 2, 1]) / 2, (log[..., 3, 2] - log[..., 1, 2]) / 2
    dxx = (log[..., 2, 4] - 2 * log[..., 2, 2] + log[..., 2, 0]) / 4
    dyy = (log[..., 4, 2] - 2 * log[..., 2, 2] + log[..., 0, 2]) / 4
    dxy = (log[..., 3, 3] - log[..., 1, 3] - log[..., 3, 1] + log[..., 1, 1]) / 4
    determinant = dxx * dyy - dxy**2
    usable = (determinant > 1e-9) & (dxx < 0)
    usable &= (x > 1) & (x < width - 2) & (y > 1) & (y < heatmaps.shape[-2] - 2)
    step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], -1)
    step = step / torch.where(usable, determinant, 1.0)[..., None]
    step = torch.where(usable[..., None], step, 0.0).clamp(-1, 1)
    return (torch.stack([x, y], -1) + step) * STRIDE, score


def _blurred(heatmaps: Any, x: Any, y: Any) -> Any:
    """Return the blurred 5 x 5 cells around each peak (B, 17, 5, 5), zeros outside."""
    sigma = 0.3 * ((BLUR - 1) * 0.5 - 1) + 0.8
    taps = torch.arange(BLUR, device=heatmaps.device) - BLUR // 2
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(heatmaps)
    flat = heatmaps.flatten(0, 1)[:, None]
    half = BLUR // 2
    flat = functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, half))
    flat = functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(half, 0))
    maps = functional.pad(flat.view_as(heatmaps), (2, 2, 2, 2))
    span = torch.arange(5, device=heatmaps.device)
    rows = (y[..., None] + span)[..., :, None]  # of the padded map
    columns = (x[..., None] + span)[..., None, :]
    index = (rows * maps.shape[-1] + columns).flatten(2)
    return maps.flatten(2).gather(-1, index).unflatten(-1, (5, 5))
