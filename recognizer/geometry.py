"""Boxes, crops and the letterbox, there and back; all on plain arrays.

Boxes are x1 y1 x2 y2 in pixels. OKS is the COCO keypoint similarity.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recognizer.skeleton import OKS_SIGMAS
from recognizer.types import AnyFloat, BoolArray, FloatArray, IntArray

LETTERBOX_GREY = 114
# What np.rot90(image, k) does to a place: (x, y) from the centre -> matrix @ (x, y).
_QUARTER_TURNS = np.array(
    [[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]], np.float64
)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """An image scaled to fit a network's input, its corner at the top left.

    Attributes:
        scale: network pixels per image pixel.
        inner_wh: size of the scaled image inside the input, pixels.
        input_wh: size of the network's input, pixels.

    """

    scale: float
    inner_wh: tuple[int, int]
    input_wh: tuple[int, int]

    @classmethod
    def fit(cls, image_wh: tuple[int, int], input_wh: tuple[int, int]) -> "Letterbox":
        """Return the letterbox that puts ``image_wh`` into ``input_wh``."""
        if min(*image_wh, *input_wh) < 1:
            raise ValueError(f"letterbox: expected sizes >= 1 px, got {image_wh} into {input_wh}")
        scale = min(input_wh[0] / image_wh[0], input_wh[1] / image_wh[1])
        inner = (max(1, int(image_wh[0] * scale)), max(1, int(image_wh[1] * scale)))
        return cls(scale, inner, input_wh)

    def to_image(self, points: AnyFloat) -> FloatArray:
        """Map (..., 2) or (..., 4) network pixels back to image pixels."""
        return np.asarray(points / self.scale, dtype=np.float32)

    def to_input(self, points: AnyFloat) -> FloatArray:
        """Map (..., 2) or (..., 4) image pixels to network pixels."""
        return np.asarray(points * self.scale, dtype=np.float32)


def box_area(boxes: AnyFloat) -> AnyFloat:
    """Return the areas (N,) of boxes (N, 4) in square pixels; inside-out boxes have area 0."""
    wh = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    area: AnyFloat = wh[..., 0] * wh[..., 1]
    return area


def box_iou(a: AnyFloat, b: AnyFloat) -> AnyFloat:
    """Return the intersection over union (A, B) of boxes (A, 4) and (B, 4)."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    wh = np.maximum(bottom_right - top_left, 0)
    overlap = wh[..., 0] * wh[..., 1]
    union = box_area(a)[:, None] + box_area(b)[None] - overlap
    iou: AnyFloat = overlap / np.maximum(union, 1e-9)
    return iou


def in_polygon(points: AnyFloat, polygon: AnyFloat) -> BoolArray:
    """Tell which points (N, 2) lie in a polygon (P, 2), by the even-odd rule; (N,) bool.

    Corners stand in their order, the last is joined to the first; either direction. A point that
    is not finite lies nowhere. Source: Shimrat 1962, "Position of point relative to polygon".
    """
    inside = np.zeros(len(points), np.bool_)
    x, y = points[:, 0], points[:, 1]
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            spans = (y1 > y) != (y2 > y)
            inside ^= spans & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    inside &= np.isfinite(points).all(axis=1)
    return inside


def oks(
    keypoints_a: AnyFloat, keypoints_b: AnyFloat, visible: BoolArray, areas: AnyFloat
) -> AnyFloat:
    """Return object keypoint similarity (A, B).

    Args:
        keypoints_a: (A, K, 2) pixels.
        keypoints_b: (B, K, 2) pixels.
        visible: (A, B, K), which keypoints count for which pair.
        areas: (A, B), the scale of each pair in square pixels.

    Returns:
        Mean over the counted keypoints of ``exp(-d^2 / (2 area (2 sigma)^2))``; 0 where
        none counts. Source: the COCO keypoint evaluation.

    """
    d2 = np.square(keypoints_a[:, None] - keypoints_b[None]).sum(-1)  # (A, B, K)
    variance = np.square(2 * OKS_SIGMAS)
    similarity = np.exp(-d2 / (2 * variance * np.maximum(areas, 1e-9)[..., None]))
    counted = visible.sum(-1)
    mean: AnyFloat = (similarity * visible).sum(-1) / np.maximum(counted, 1)
    return mean


def nms(boxes: AnyFloat, scores: AnyFloat, iou_threshold: float) -> IntArray:
    """Return the rows that survive greedy non-maximum suppression, best first.

    Args:
        boxes: (N, 4) pixels.
        scores: (N,).
        iou_threshold: a box overlapping a better one by more than this is dropped.

    """
    order = np.argsort(-scores, kind="stable")
    overlaps = box_iou(boxes[order], boxes[order]) > iou_threshold
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~overlaps[i, i + 1 :]
    kept: IntArray = order[alive].astype(np.int64)
    return kept


def crop_affine(
    boxes: AnyFloat, output_wh: tuple[int, int], padding: float, turns: IntArray | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the affine maps from image to crop pixels for top-down pose models.

    The box is widened to the crop's aspect ratio around its centre and enlarged by
    ``padding``; nothing is clipped, so a crop may reach outside the image. Pixel
    corners map as in mmpose's TopdownAffine (size over size, not size - 1). With a turn, the crop
    is that of the turned image, cut out of the image as it is.

    Args:
        boxes: (N, 4) pixels of the image as it is.
        output_wh: width and height of the crop.
        padding: enlargement, 1.25 in the recipes of COCO models.
        turns: (N,) quarter turns of the image, counterclockwise as ``np.rot90``; None: none.

    Returns:
        matrices (N, 2, 3) image -> crop, centres (N, 2) in image pixels and sizes (N, 2) of the
        crop in pixels of the turned image; ``crop_to_image`` maps back.

    """
    centres = (boxes[:, :2] + boxes[:, 2:]).astype(np.float64) / 2
    wh = np.maximum((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), 1e-3) * padding
    if turns is not None:
        wh = np.where((turns % 2 == 1)[:, None], wh[:, ::-1], wh)
    aspect = output_wh[0] / output_wh[1]
    sizes = np.stack(
        [np.maximum(wh[:, 0], wh[:, 1] * aspect), np.maximum(wh[:, 1], wh[:, 0] / aspect)], axis=1
    )
    scale = output_wh[0] / sizes[:, 0]
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    if turns is not None:
        matrices[:, :, :2] = scale[:, None, None] * _QUARTER_TURNS[turns % 4]
    moved = np.einsum("nij,nj->ni", matrices[:, :, :2], centres)
    matrices[:, :, 2] = np.asarray(output_wh) / 2 - moved
    return matrices, centres, sizes


def crop_to_image(
    shares: AnyFloat, centres: AnyFloat, sizes: AnyFloat, turns: IntArray | None = None
) -> FloatArray:
    """Map points of crops back to image pixels.

    Args:
        shares: (N, K, 2) places in each crop, 0-1 of its width and height.
        centres: (N, 2) of ``crop_affine``.
        sizes: (N, 2) of ``crop_affine``.
        turns: as ``crop_affine`` was given.

    Returns:
        (N, K, 2) image pixels.

    """
    offsets = (shares - 0.5) * sizes[:, None]
    if turns is not None:
        offsets = np.einsum("nki,nij->nkj", offsets, _QUARTER_TURNS[turns % 4])
    return np.asarray(offsets + centres[:, None], np.float32)
