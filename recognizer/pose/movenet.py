"""MoveNet (Google 2021, TensorFlow Hub): MultiPose, and the places that Thunder and Lightning give.

MultiPose sees up to 6 or 12 people at once. Contract: input (1, H, W, 3) RGB 0-255 (int32, float32
or uint8), H and W multiples of 32 -> people (1, N, 56): 17 x (y, x, score), ymin, xmin, ymax, xmax,
score, all places 0-1 of the input. Rows without a person have a score near 0. Thunder and Lightning
see one person, (B, S, S, 3) -> (B, 1, 17, 3) y, x, score: a ``TopDownPose`` shows them crops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.backends.metadata import PoseConfig
from recognizer.backends.network import (
    FLOAT,
    INT32,
    UINT8,
    ModelError,
    Network,
    TensorSpec,
    check_finite,
    describe,
)
from recognizer.backends.pose_kind import is_multipose
from recognizer.config.models import KEYPOINT_THRESHOLD, SCORE_THRESHOLD
from recognizer.config.types import PoseKind
from recognizer.pose.detector import LetterboxBatch
from recognizer.pose.outputs import check_input_size, check_places, check_scores
from recognizer.skeleton import FLIP_INDEX, NUM_KEYPOINTS
from recognizer.types import FloatArray, Image, ImageArray, Poses

WHICH = "MoveNet MultiPose"
"""The network's name in messages."""
LONG_SIDE = 512
"""Pixels of MultiPose's input where it is free: it finds most people at this size."""
MULTIPLE = 32
_DTYPES: dict[str, Any] = {INT32: np.int32, FLOAT: np.float32, UINT8: np.uint8}
_COORDINATES = 3 * NUM_KEYPOINTS
# Two detections are parts of one person where keypoints of which both are sure lie on each other:
# at least so many, and half of all. Seen in a fall beside the camera: 6 to 9 of as many on upper
# and lower body; of two people in a fight at most 1.
_SURE, _SHARED = 0.2, 4
_SAME_PLACE = 0.02  # of the root of the area of both boxes together


@dataclass(frozen=True, eq=False, slots=True)
class People:
    """People that MultiPose found, in pixels of the image.

    Attributes:
        keypoints: (N, 17, 3) x, y, score.
        boxes: (N, 4).
        scores: (N,).

    """

    keypoints: FloatArray
    boxes: FloatArray
    scores: FloatArray


def pixel_dtype(spec: TensorSpec) -> Any:
    """Return NumPy's type of an input of RGB pixels (B, H, W, 3); None for another input."""
    fits = len(spec.shape) == 4 and spec.shape[3] == 3 and spec.shape[0] in (1, None)
    return _DTYPES.get(spec.dtype) if fits else None


def input_wh(image_wh: tuple[int, int]) -> tuple[int, int]:
    """Return the input's size for an image: the long side 512, both sides multiples of 32."""
    scale = LONG_SIDE / max(image_wh)
    width, height = (max(MULTIPLE, round(s * scale / MULTIPLE) * MULTIPLE) for s in image_wh)
    return width, height


def check_multipose(network: Network, which: str = WHICH) -> None:
    """Refuse a network that does not keep MultiPose's contract.

    Raises:
        ModelError: the message says what came.

    """
    fits = len(network.inputs) == 1 and is_multipose(network.outputs)
    if not fits or pixel_dtype(network.inputs[0]) is None:
        raise ModelError(
            f"{which}: expected RGB pictures (1,H,W,3) int32, float32 or uint8 -> people "
            f"(1,N,56), got {describe(network)}"
        )


def see(
    network: Network,
    bgr: ImageArray,
    extent_wh: tuple[float, float],
    least: float,
    which: str = WHICH,
) -> People:
    """Return the people of one picture that score at least ``least``, best first.

    Args:
        network: MultiPose.
        bgr: (H, W, 3) of the input's size.
        extent_wh: width and height, image pixels, of what the whole input shows.
        least: 0-1.
        which: the network, for messages.

    Raises:
        NonFiniteOutputError: the network gives NaN.
        ModelError: an output of another shape, scores outside 0-1, or places far outside.

    """
    spec = network.inputs[0]
    rgb = np.ascontiguousarray(bgr[None, ..., ::-1], _DTYPES[spec.dtype])
    (output,) = network.run({spec.name: rgb}).values()
    _check_output(output, which)
    return decode_people(output[0], extent_wh, least)


def _check_output(output: FloatArray, which: str) -> None:
    if output.ndim != 3 or not len(output) or output.shape[2] != _COORDINATES + 5:
        raise ModelError(
            f"{which}: expected people (1,N,56), got {output.shape}; this file is not MoveNet "
            "MultiPose: get it again or use another file"
        )
    check_finite([output], which)
    check_scores(output[0, :, 2:_COORDINATES:3], which)
    check_scores(output[0, :, -1], which)
    check_places(output[0], (1, 1), which)


def decode_people(rows: FloatArray, extent_wh: tuple[float, float], least: float) -> People:
    """Return people from the rows (N, 56) of one picture, best first; arguments as of ``see``."""
    rows = rows[rows[:, -1] >= least]
    rows = rows[np.argsort(-rows[:, -1], kind="stable")]
    points = rows[:, :_COORDINATES].reshape(-1, NUM_KEYPOINTS, 3)[..., [1, 0, 2]]
    boxes = rows[:, [_COORDINATES + column for column in (1, 0, 3, 2)]]
    return People(
        np.asarray(points * [*extent_wh, 1], np.float32),
        np.asarray(boxes * [*extent_wh, *extent_wh], np.float32),
        np.ascontiguousarray(rows[:, -1], np.float32),
    )


def join_parts(people: People) -> People:
    """Return people with parts of one person joined, best first.

    A person who fills the picture is often found twice, as an upper and a lower body. Of each
    keypoint the surer of the two stays; the box holds both boxes, its score is the higher one.

    Args:
        people: best first.

    """
    points, boxes = people.keypoints.copy(), people.boxes.copy()
    kept: list[int] = []
    for row in range(len(boxes)):
        whole = next((k for k in kept if _are_parts(points, boxes, k, row)), None)
        if whole is None:
            kept.append(row)
            continue
        surer = points[row, :, 2] > points[whole, :, 2]
        points[whole, surer] = points[row, surer]
        boxes[whole] = _around(boxes[whole], boxes[row])
    return People(points[kept], boxes[kept], people.scores[kept])


def _around(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the box (4,) around two boxes."""
    corners = np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])
    return np.concatenate(corners)


def _are_parts(points: FloatArray, boxes: FloatArray, one: int, other: int) -> bool:
    sure = (points[[one, other], :, 2] > _SURE).all(0)
    box = _around(boxes[one], boxes[other])
    reach = _SAME_PLACE * np.sqrt(max((box[2:] - box[:2]).prod(), 0))
    apart = np.linalg.norm(points[one, :, :2] - points[other, :, :2], axis=1)
    same = int((sure & (apart < reach)).sum())
    return same >= _SHARED and 2 * same >= int(sure.sum())


def decode_single(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return places (N, 17, 2), x y 0-1 of the crop, and scores (N, 17) of (N, 1, 17, 3)."""
    people = rows[:, 0]
    return np.ascontiguousarray(people[..., 1::-1], np.float32), people[..., 2].astype(np.float32)


def unmirror_single(rows: FloatArray) -> FloatArray:
    """Return what a network gave for mirrored crops, (N, 1, 17, 3), as for the crops."""
    turned = rows[:, :, FLIP_INDEX].copy()
    turned[..., 1] = 1 - turned[..., 1]
    return turned


class MoveNetPose:
    """Image -> Poses by MoveNet MultiPose.

    Args:
        network: one that keeps the contract.
        settings: the config's block of the backend: its thresholds for people and keypoints.
        size_wh: width and height of the input, pixels, into which pictures are letterboxed; None:
            as the network says, and where it is free the picture's own shape at 512 pixels.
        file: of the network, for messages; None: not named.

    Raises:
        ModelError: the network does not keep the contract, or does not take ``size_wh``.

    """

    kind: PoseKind = "movenet"

    def __init__(
        self,
        network: Network,
        settings: PoseConfig,
        size_wh: tuple[int, int] | None = None,
        file: Path | None = None,
    ) -> None:
        self._which = WHICH if file is None else f"{file}: {WHICH}"
        check_multipose(network, self._which)
        least, sure = settings.score_threshold, settings.keypoint_threshold
        self._network = network
        self._score_threshold = SCORE_THRESHOLD["movenet"] if least is None else least
        self._keypoint_threshold = KEYPOINT_THRESHOLD["movenet"] if sure is None else sure
        self._max_detections = settings.max_detections
        fixed = _fixed_size(network.inputs[0], size_wh, self._which)
        self._letterboxes = None if fixed is None else LetterboxBatch(fixed, uint8=True)

    def __call__(self, images: Sequence[Image]) -> list[Poses]:
        """Return the people of each image, in image pixels, clipped to nothing."""
        return [self._poses(image) for image in images]

    def for_video(self) -> Callable[[Sequence[Image], Sequence[float]], list[Poses]]:
        """Return the model for the frames of one video: it sees each by itself."""
        return lambda images, times_s: self(images)

    def _poses(self, image: Image) -> Poses:
        pixels, extent_wh = self._pixels(image)
        seen = see(self._network, pixels, extent_wh, self._score_threshold, self._which)
        people = join_parts(seen)
        few = slice(self._max_detections)
        points = people.keypoints[few, :, :2].copy()
        scores = people.keypoints[few, :, 2].copy()
        missing = scores < self._keypoint_threshold
        scores[missing], points[missing] = 0, 0
        return Poses.untracked(points, scores, people.boxes[few], people.scores[few])

    def _pixels(self, image: Image) -> tuple[NDArray[np.uint8], tuple[float, float]]:
        """Return the input's BGR pixels (H, W, 3) and what they show, in image pixels."""
        if self._letterboxes is None:
            return image.bgr(input_wh(image.size_wh)), image.size_wh
        pixels, (fit,) = self._letterboxes.fill([image])
        width, height = fit.input_wh
        return pixels[0], (width / fit.scale, height / fit.scale)


def _fixed_size(
    spec: TensorSpec, asked_wh: tuple[int, int] | None, which: str
) -> tuple[int, int] | None:
    """Return the input's width and height; None where every picture may have its own."""
    own = spec.shape[2], spec.shape[1]
    if asked_wh is not None and any(
        size is not None and size != asked for size, asked in zip(own, asked_wh, strict=True)
    ):
        raise ModelError(
            f"{which}: model_input_size: the file takes {list(own)} (width, height), got "
            f"{list(asked_wh)}; set it to null"
        )
    width, height = asked_wh or own
    if width is None or height is None:
        return None
    check_input_size((width, height), which)
    if width % MULTIPLE or height % MULTIPLE:
        raise ModelError(
            f"{which}: model_input_size: expected multiples of {MULTIPLE}, got "
            f"{[width, height]}; set it to null"
        )
    return width, height
