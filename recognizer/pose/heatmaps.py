"""From heatmaps to keypoints: arg-max, quarter offset, DARK.

DARK (Zhang et al. 2020) reads the peak of a blurred heatmap as that of a Gaussian: one
Newton step on its logarithm. The blur is needed only around the peak, so it is taken
there as two small matrix products instead of over every heatmap.
"""

import numpy as np
from numpy.typing import NDArray

from recognizer.types import FloatArray


def peaks(heatmaps: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Return column, row and height (each (N, K)) of the highest cell of (N, K, H, W)."""
    n, k, _, width = heatmaps.shape
    flat = heatmaps.reshape(n, k, -1)
    best = flat.argmax(-1)
    scores = np.take_along_axis(flat, best[..., None], -1)[..., 0]
    return best % width, best // width, scores


def decode_quarter_offset(heatmaps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Move each peak a quarter of a cell towards its higher neighbour.

    Args:
        heatmaps: (N, K, H, W).

    Returns:
        keypoints (N, K, 2) in heatmap cells and scores (N, K).

    """
    height, width = heatmaps.shape[2:]
    x, y, scores = peaks(heatmaps)
    rows, cols = np.ogrid[: heatmaps.shape[0], : heatmaps.shape[1]]
    left, right = np.maximum(x - 1, 0), np.minimum(x + 1, width - 1)
    above, below = np.maximum(y - 1, 0), np.minimum(y + 1, height - 1)
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    dx = np.sign(heatmaps[rows, cols, y, right] - heatmaps[rows, cols, y, left]) * inside
    dy = np.sign(heatmaps[rows, cols, below, x] - heatmaps[rows, cols, above, x]) * inside
    keypoints = np.stack([x + 0.25 * dx, y + 0.25 * dy], axis=-1)
    return keypoints.astype(np.float32), scores


def decode_dark(heatmaps: FloatArray, blur_kernel: int = 11) -> tuple[FloatArray, FloatArray]:
    """Move each peak by one Newton step on the logarithm of the blurred heatmap.

    Args:
        heatmaps: (N, K, H, W).
        blur_kernel: size of the Gaussian, odd, in cells; 11 fits sigma 2 at 64 x 48.

    Returns:
        keypoints (N, K, 2) in heatmap cells and scores (N, K), the unblurred peaks.

    """
    n, k, height, width = heatmaps.shape
    x, y, scores = peaks(heatmaps)
    patches = _patches(heatmaps.reshape(n * k, height, width), x.ravel(), y.ravel(), blur_kernel)
    blur = _blur_matrix(blur_kernel)
    log = np.log(np.maximum(blur @ patches @ blur.T, 1e-10))  # (N K, 5, 5) around the peak
    dx = 0.5 * (log[:, 2, 3] - log[:, 2, 1])
    dy = 0.5 * (log[:, 3, 2] - log[:, 1, 2])
    dxx = 0.25 * (log[:, 2, 4] - 2 * log[:, 2, 2] + log[:, 2, 0])
    dyy = 0.25 * (log[:, 4, 2] - 2 * log[:, 2, 2] + log[:, 0, 2])
    dxy = 0.25 * (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1])
    determinant = dxx * dyy - dxy**2
    # A true peak curves downwards both ways; elsewhere the step would lead anywhere.
    usable = (determinant > 1e-9) & (dxx < 0)
    usable &= ((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)).ravel()
    safe = np.where(usable, determinant, 1.0)
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / safe[:, None]
    step = np.clip(np.where(usable[:, None], step, 0), -1, 1)
    keypoints = np.stack([x, y], axis=-1) + step.reshape(n, k, 2)
    return keypoints.astype(np.float32), scores


def _patches(
    maps: FloatArray, x: NDArray[np.int64], y: NDArray[np.int64], blur_kernel: int
) -> FloatArray:
    """Cut (M, S, S) around each peak, S = 5 + kernel - 1, zero outside the heatmap."""
    margin = 2 + blur_kernel // 2
    span = np.arange(-margin, margin + 1)
    height, width = maps.shape[1:]
    rows, cols = y[:, None] + span, x[:, None] + span  # (M, S)
    inside_rows, inside_cols = (rows >= 0) & (rows < height), (cols >= 0) & (cols < width)
    # Clipped and then blanked: padding every heatmap would copy all for a few cells of each.
    rows, cols = rows.clip(0, height - 1)[:, :, None], cols.clip(0, width - 1)[:, None, :]
    patches: FloatArray = maps[np.arange(len(maps))[:, None, None], rows, cols]
    patches *= inside_rows[:, :, None] & inside_cols[:, None, :]
    return patches


def _blur_matrix(kernel: int) -> FloatArray:
    """Return the (5, 5 + kernel - 1) matrix that blurs a patch down to its inner 5 cells."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8  # OpenCV's sigma for a kernel size
    weights = np.exp(-((np.arange(kernel) - kernel // 2) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    matrix = np.zeros((5, 4 + kernel), np.float32)
    for i in range(5):
        matrix[i, i : i + kernel] = weights
    return matrix
