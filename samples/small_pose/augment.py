"""Turned, scaled, mirrored and recoloured pictures with their labels; also crops of people."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.teacher_labels import DOUBT, PERSON, Labels, around_keypoints
from recognizer.geometry import LETTERBOX_GREY, box_area
from recognizer.skeleton import FLIP_INDEX
from recognizer.types import FloatArray, ImageArray

_LEAST_SHARE, _LEAST_PX = 0.3, 5.0  # of a person inside the picture, else a doubt


@dataclass(frozen=True, eq=False)
class Placement:
    """An affine map of pixels, ``linear @ (x, y) + shift``.

    Attributes:
        linear: (2, 2).
        shift: (2,) pixels.

    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return bool(np.linalg.det(self.linear) < 0)

    def matrix(self) -> NDArray[np.float64]:
        """Return OpenCV's (2, 3) matrix, whose places are middles of pixels."""
        shift = self.linear @ [0.5, 0.5] + self.shift - 0.5
        return np.concatenate([self.linear, shift[:, None]], axis=1)

    def points(self, points: FloatArray) -> FloatArray:
        """Map points (..., 2)."""
        return np.asarray(points @ self.linear.T + self.shift, np.float32)


def turn(degrees: float, scale: float, mirror: bool) -> NDArray[np.float64]:
    """Return the (2, 2) map that turns, scales and mirrors."""
    angle = np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    side = -1.0 if mirror else 1.0
    return np.array([[cos * side, -sin], [sin * side, cos]])


def moved(labels: Labels, placement: Placement) -> Labels:
    """Return labels in the moved picture, not cut at its border."""
    keypoints, scores = labels.keypoints.copy(), labels.scores
    keypoints[..., :2] = placement.points(keypoints[..., :2])
    if placement.mirrored:
        keypoints, scores = keypoints[:, FLIP_INDEX], scores[:, FLIP_INDEX]
    areas = labels.areas * abs(np.linalg.det(placement.linear))
    boxes = _moved_boxes(labels.boxes, keypoints, placement)
    return Labels(boxes, keypoints, scores, labels.kinds, areas.astype(np.float32))


def _moved_boxes(boxes: FloatArray, keypoints: FloatArray, placement: Placement) -> FloatArray:
    """Return boxes around the turned ellipses of the old boxes, and around the keypoints."""
    centre = placement.points((boxes[:, :2] + boxes[:, 2:]) / 2)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    extent = np.sqrt(half**2 @ (placement.linear**2).T)
    moved_boxes = np.concatenate([centre - extent, centre + extent], axis=1, dtype=np.float32)
    return around_keypoints(moved_boxes, keypoints)


def cut(labels: Labels, size_wh: tuple[int, int]) -> Labels:
    """Return labels cut at the picture's border; who is mostly outside becomes a doubt."""
    limits = np.array(size_wh, np.float32)
    boxes = labels.boxes.copy()
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, limits[0])
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, limits[1])
    share = box_area(boxes) / np.maximum(box_area(labels.boxes), 1)
    keypoints = labels.keypoints.copy()
    inside = ((keypoints[..., :2] >= 0) & (keypoints[..., :2] < limits)).all(-1)
    keypoints[..., 2] *= inside
    scores = np.where(inside | (labels.scores < 0), labels.scores, 0).astype(np.float32)
    small = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) < _LEAST_PX
    unsure = (labels.kinds == PERSON) & ((share < _LEAST_SHARE) | small)
    kinds = np.where(unsure, DOUBT, labels.kinds).astype(np.uint8)
    rows = np.flatnonzero((share > 0.03) & (box_area(boxes) >= 4))
    areas = (labels.areas * np.maximum(share, _LEAST_SHARE)).astype(np.float32)
    return Labels(boxes, keypoints, scores, kinds, areas)[rows]


def warped(picture: ImageArray, placement: Placement, side: int) -> ImageArray:
    """Return a square of the moved picture, grey outside; averaged where it shrinks."""
    scale = float(np.sqrt(abs(np.linalg.det(placement.linear))))
    fine = 2 if scale < 0.75 else 1  # two samples a pixel and side, as RoiAlign takes them
    matrix = Placement(placement.linear * fine, placement.shift * fine).matrix()
    big = cv2.warpAffine(
        picture,
        matrix,
        (side * fine, side * fine),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(LETTERBOX_GREY,) * 3,
    )
    if fine > 1:
        big = cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(big, np.uint8)


def recoloured(picture: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Change light, contrast, colour, sharpness and noise."""
    x = picture.astype(np.float32) / 255
    if rng.random() < 0.6:
        x = x ** np.float32(np.exp(np.clip(rng.normal(0, 0.3), -0.7, 0.7)))
    if rng.random() < 0.6:
        gain = rng.normal(1, 0.08, 3).astype(np.float32)
        mean = x.mean()
        x = (x * gain - mean) * np.float32(rng.uniform(0.6, 1.35)) + mean
    grey = x.mean(-1, keepdims=True)
    if rng.random() < 0.2:
        x = np.repeat(grey, 3, -1)
    elif rng.random() < 0.5:
        x = grey + (x - grey) * np.float32(rng.uniform(0.4, 1.4))
    if rng.random() < 0.25:  # a camera of fewer pixels
        side = picture.shape[0]
        less = max(8, int(side * rng.uniform(0.3, 0.8)))
        fewer = cv2.resize(x, (less, less), interpolation=cv2.INTER_AREA)
        x = np.asarray(cv2.resize(fewer, (side, side)), np.float32)
    if rng.random() < 0.3:
        x = x + rng.normal(0, rng.uniform(0.01, 0.05), x.shape).astype(np.float32)
    return np.asarray(np.clip(x, 0, 1) * 255, np.uint8)
