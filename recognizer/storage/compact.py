"""Poses rounded and coded to less than half of their size on disk.

Keypoints are rounded to 1/16 pixel, boxes to 1/256, keypoint scores to 1/8192; box scores, on
which the tracker's thresholds act, and ids stay as they are; movement becomes float16. A
tracker chooses between people who stand close by little: these steps are as fine as they are
because coarser scores (1/255) gave 13 of 213 clips other tracks, and these none
(``python -m samples.make --compare``).

A keypoint is written as its move from the neighbour nearer to the head, a box as a corner and
its size: small numbers, whose upper bytes are nearly all 0 and pack to nothing. What has been
rounded once comes back the same however often it is coded.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.skeleton import (
    LEFT_ELBOW,
    LEFT_EYE,
    LEFT_HIP,
    LEFT_KNEE,
    LEFT_SHOULDER,
    NOSE,
    NUM_KEYPOINTS,
    RIGHT_ELBOW,
    RIGHT_EYE,
    RIGHT_HIP,
    RIGHT_KNEE,
    RIGHT_SHOULDER,
)
from recognizer.types import FloatArray, IntArray, Poses

# Powers of two: float32 holds every multiple exactly.
KEYPOINT_STEPS, BOX_STEPS, SCORE_STEPS = 16, 256, 8192
ROUNDED_TO = {
    "keypoints_px": 1 / KEYPOINT_STEPS,
    "boxes_px": 1 / BOX_STEPS,
    "keypoint_scores": 1 / SCORE_STEPS,
}

# The neighbour that each keypoint but the nose is written from; it always comes earlier.
_NEIGHBOUR = (
    NOSE,
    NOSE,
    NOSE,
    LEFT_EYE,
    RIGHT_EYE,
    NOSE,
    NOSE,
    LEFT_SHOULDER,
    RIGHT_SHOULDER,
    LEFT_ELBOW,
    RIGHT_ELBOW,
    LEFT_SHOULDER,
    RIGHT_SHOULDER,
    LEFT_HIP,
    RIGHT_HIP,
    LEFT_KNEE,
    RIGHT_KNEE,
)
_MAX = 2**16  # beyond, float32 has no 1/256 steps any more
_MAX_BYTES = 4


def pack(poses: Poses) -> dict[str, NDArray[Any]]:
    """Return poses as named arrays that deflate well; ``unpack`` reads them.

    Raises:
        ValueError: a number that is not finite (movement may be NaN), a keypoint score outside
            [0, 2^16], a coordinate beyond 2^16 pixels or a movement beyond float16.

    """
    boxes = _steps(poses.boxes, BOX_STEPS, "boxes")
    keypoints = _steps(poses.keypoints, KEYPOINT_STEPS, "keypoints")
    scores = _steps(poses.keypoint_scores, SCORE_STEPS, "keypoint scores")
    if (poses.keypoint_scores < 0).any():
        raise ValueError("keypoint scores: expected none below 0")
    scores[(poses.keypoint_scores > 0) & (scores == 0)] = 1  # 0 means missing, nothing else may
    moves = keypoints - keypoints[:, _NEIGHBOUR]
    moves[:, NOSE] = keypoints[:, NOSE] - _corners(boxes)
    boxes[:, 2:] -= boxes[:, :2]
    people: dict[str, NDArray[Any]] = {
        "keypoint_moves": _bytes_apart(_folded(moves)),
        "keypoint_score_steps": _bytes_apart(scores),
        "box_corner_and_size": _bytes_apart(_folded(boxes)),
        "box_scores": poses.box_scores,
        "track_ids": poses.track_ids,
    }
    if poses.movement is not None:
        people["movement_halves"] = _halves(poses.movement)
    return people


def unpack(arrays: dict[str, NDArray[Any]]) -> Poses:
    """Take the arrays of ``pack`` out of ``arrays`` and return the poses.

    Raises:
        KeyError: one is missing.
        ValueError: one has not the shape or type that ``pack`` gives it.

    """
    boxes = _unfolded(_bytes_joined(arrays.pop("box_corner_and_size"), (4,)))
    keypoints = _unfolded(_bytes_joined(arrays.pop("keypoint_moves"), (NUM_KEYPOINTS, 2)))
    scores = _bytes_joined(arrays.pop("keypoint_score_steps"), (NUM_KEYPOINTS,))
    if len(boxes) != len(keypoints):
        raise ValueError(f"expected as many boxes as people, got {len(boxes)}, {len(keypoints)}")
    boxes[:, 2:] += boxes[:, :2]
    keypoints[:, NOSE] += _corners(boxes)
    for joint, neighbour in enumerate(_NEIGHBOUR[1:], start=1):
        keypoints[:, joint] += keypoints[:, neighbour]
    return Poses(
        (keypoints / KEYPOINT_STEPS).astype(np.float32),
        (scores / SCORE_STEPS).astype(np.float32),
        (boxes / BOX_STEPS).astype(np.float32),
        arrays.pop("box_scores"),
        arrays.pop("track_ids"),
        _from_halves(arrays.pop("movement_halves", None)),
    )


def _halves(movement: FloatArray) -> NDArray[np.float16]:
    """Return a movement (N, 6) as (6, N) float16: what is alike stands together."""
    if (np.abs(movement) > np.finfo(np.float16).max).any():
        raise ValueError("movement: expected numbers that float16 holds, got larger ones")
    return np.ascontiguousarray(movement.T, np.float16)


def _from_halves(halves: NDArray[Any] | None) -> FloatArray | None:
    if halves is None:
        return None
    if halves.dtype != np.float16 or halves.ndim != 2:
        raise ValueError(f"movement: expected (6, N) float16, got {halves.shape} {halves.dtype}")
    return np.ascontiguousarray(halves.T, np.float32)


def _steps(values: FloatArray, per_unit: int, name: str) -> IntArray:
    if not (np.abs(values) <= _MAX).all():
        raise ValueError(f"{name}: expected finite numbers up to {_MAX}, got others")
    steps: IntArray = np.rint(values.astype(np.float64) * per_unit).astype(np.int64)
    return steps


def _corners(boxes: IntArray) -> IntArray:
    """Return the boxes' first corners in keypoint steps, (N, 2)."""
    return boxes[:, :2] // (BOX_STEPS // KEYPOINT_STEPS)


def _folded(values: IntArray) -> IntArray:
    """Return 0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return (values << 1) ^ (values >> 63)


def _unfolded(values: IntArray) -> IntArray:
    return (values >> 1) ^ -(values & 1)


def _bytes_apart(values: IntArray) -> NDArray[np.uint8]:
    """Return (B, *shape) uint8: all lowest bytes, then all next ones, as many as are needed."""
    count = max(1, -(-int(values.max(initial=0)).bit_length() // 8))
    return np.stack([(values >> 8 * i & 255).astype(np.uint8) for i in range(count)])


def _bytes_joined(planes: NDArray[Any], shape: tuple[int, ...]) -> IntArray:
    fits = planes.dtype == np.uint8 and planes.ndim == 2 + len(shape)
    if not fits or planes.shape[2:] != shape or not 1 <= len(planes) <= _MAX_BYTES:
        expected = f"(1-{_MAX_BYTES}, N, {', '.join(map(str, shape))}) uint8"
        raise ValueError(f"expected {expected}, got {planes.shape} {planes.dtype}")
    values = np.zeros(planes.shape[1:], np.int64)
    for i, plane in enumerate(planes):
        values |= plane.astype(np.int64) << 8 * i
    return values
