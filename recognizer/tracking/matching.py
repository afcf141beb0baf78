"""Box and keypoint similarity, and assignment.

Boxes are x1, y1, x2, y2 as (4, n): one contiguous row per side, which for 100 x 100
boxes takes a fifth of the time of ``geometry.box_iou``'s (n, 4).
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from recognizer.skeleton import OKS_SIGMAS
from recognizer.types import AnyFloat, BoolArray, Float64Array, FloatArray, IntArray

_TWICE_VARIANCE = (2 * np.square(2 * OKS_SIGMAS)).astype(np.float32)


def overlaps(a: Float64Array, b: Float64Array) -> Float64Array:
    """Return the intersection over union (n, m) of boxes (4, n) and (4, m) that have an area."""
    left, top, right, bottom = a[:, :, None]
    common: Float64Array = np.minimum(right, b[2])
    common -= np.maximum(left, b[0])
    np.maximum(common, 0, out=common)
    heights = np.minimum(bottom, b[3])
    heights -= np.maximum(top, b[1])
    np.maximum(heights, 0, out=heights)
    common *= heights
    union = (right - left) * (bottom - top) + (b[2] - b[0]) * (b[3] - b[1])
    union -= common
    common /= union
    return common


def buffered(corners: Float64Array, share: float) -> Float64Array:
    """Return boxes (4, n) with ``share`` of their height added on all four sides.

    Source: buffered IoU, Yang et al. 2023 (C-BIoU), there in proportion to each side.
    """
    margin = share * (corners[3] - corners[1])
    larger: Float64Array = corners + margin * np.array([[-1], [-1], [1], [1]])
    return larger


def keypoint_similarity(
    a: FloatArray, b: FloatArray, areas: AnyFloat, blur_px: Float64Array
) -> tuple[FloatArray, BoolArray]:
    """Return the object keypoint similarity (p,) of p pairs, and whether it is defined.

    Args:
        a: (p, 17, 3) x, y in pixels and 1 where the keypoint was seen, else 0.
        b: the same of the others.
        areas: (p,) square pixels, the scale of each pair.
        blur_px: (p,) standard deviation added to that of the labelling.

    Returns:
        Similarity over the keypoints seen in both, 0 where there are none, and whether
        there are any. Source: COCO's OKS, its variance widened by ``blur_px`` squared.

    """
    both = a[..., 2] * b[..., 2]
    apart = a[..., :2] - b[..., :2]
    squared = np.einsum("pkc,pkc->pk", apart, apart)
    spread = areas.astype(np.float32)[:, None] * _TWICE_VARIANCE
    spread += 2 * np.square(blur_px, dtype=np.float32)[:, None]
    similarity = np.exp(-squared / spread)
    seen = both.sum(1)
    mean: FloatArray = (similarity * both).sum(1) / np.maximum(seen, 1)
    return mean, seen > 0


def assign(gain: Float64Array, threshold: float) -> tuple[IntArray, IntArray]:
    """Pair rows with columns so that the sum of ``gain - threshold`` over the pairs is greatest.

    This is the assignment of least cost where no pair costs as much as a pair with a
    gain of ``threshold`` (lapjv with ``extend_cost`` and ``cost_limit``). Only pairs with more
    gain than that can be part of it, and in most frames hardly any two of them compete, so
    that only those which do are given to the solver.

    Args:
        gain: (n, m).
        threshold: pairs with this gain or less are never made.

    Returns:
        Rows and columns of the pairs.

    """
    rows, columns = np.nonzero(gain > threshold)
    if _all_differ(rows) and _all_differ(columns):
        return rows, columns
    alone = np.bincount(rows)[rows] + np.bincount(columns)[columns] == 2
    contested = ~alone
    some_rows = _distinct(rows[contested], gain.shape[0])
    some_columns = _distinct(columns[contested], gain.shape[1])
    worth = np.maximum(gain[some_rows[:, None], some_columns] - threshold, 0)
    i, j = linear_sum_assignment(worth, maximize=True)
    useful = worth[i, j] > 0
    return (
        np.concatenate([rows[alone], some_rows[i[useful]]]),
        np.concatenate([columns[alone], some_columns[j[useful]]]),
    )


def _all_differ(numbers: IntArray) -> bool:
    return len(set(numbers.tolist())) == len(numbers)


def _distinct(numbers: IntArray, stop: int) -> IntArray:
    present = np.zeros(stop, bool)
    present[numbers] = True
    return np.flatnonzero(present)
