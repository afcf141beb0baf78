"""Top-down pose estimation: a detector's boxes, then one pose network per person.

Contract of the pose network: input (B, 3, H, W) float32 RGB, ImageNet mean and standard deviation;
output heatmaps (B, 17, h, w) (SDPose, ViTPose, HRNet, PP-TinyPose, any COCO-17 heatmap model) or
SimCC vectors ``simcc_x`` (B, 17, 2 W) and ``simcc_y`` (B, 17, 2 H) (RTMPose). A file may take
(B, H, W, 3) uint8 BGR instead (``deploy.uint8_input``). MoveNet Thunder and Lightning take
(B, H, W, 3) RGB 0-255 and give (B, 1, 17, 3), see ``movenet``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.backends.network import (
    UINT8,
    ModelError,
    Network,
    TensorSpec,
    batches,
    check_finite,
    describe,
    has_pixels,
    host_arrays,
    pad_batch,
    run_limit,
)
from recognizer.backends.pose_kind import is_simcc, is_single_pose
from recognizer.config.models import TopDownConfig
from recognizer.config.types import PoseKind
from recognizer.geometry import crop_affine, crop_to_image
from recognizer.pose.detector import Boxes, Detector
from recognizer.pose.heatmaps import decode_dark, decode_quarter_offset
from recognizer.pose.movenet import decode_single, pixel_dtype, unmirror_single
from recognizer.pose.simcc import decode_simcc, unmirror_simcc
from recognizer.pose.topdown_video import TopDownVideo
from recognizer.skeleton import FLIP_INDEX, NUM_KEYPOINTS
from recognizer.types import FloatArray, Image, ImageArray, IntArray, Poses

_MAX_BATCH = 16
_TOGETHER = 64  # so many people, or those of one run, are cropped and decoded in one go


@dataclass(frozen=True, slots=True)
class _Contract:
    """What a top-down network takes and gives.

    Attributes:
        name, batch: of its input; batch None: any.
        crop_wh: width and height of the crops, pixels.
        pixels: normalised (B, 3, H, W) float32 RGB, or (B, H, W, 3) BGR or RGB levels 0-255.
        dtype: NumPy's type of the input.
        output: how keypoints are read from what it gives.

    """

    name: str
    batch: int | None
    crop_wh: tuple[int, int]
    pixels: Literal["normalised", "bgr", "rgb"]
    dtype: Any
    output: Literal["heatmaps", "simcc", "places"]


class TopDownPose:
    """Image -> Poses by a person detector and a network that sees one person.

    Args:
        detector: images to person boxes.
        network: one crop to 17 heatmaps, to the SimCC vectors of 17 keypoints, or to their places.
        settings: crop, normalisation and decoding.
        keypoint_threshold: keypoints scored below become missing (score 0, place 0).

    Raises:
        ModelError: the network does not keep the contract.

    """

    kind: PoseKind = "topdown"

    def __init__(
        self,
        detector: Detector,
        network: Network,
        settings: TopDownConfig,
        keypoint_threshold: float = 0.0,
    ) -> None:
        self._detector = detector
        self._network = network
        self._settings = settings
        self._threshold = keypoint_threshold
        self._contract = contract = _check(network)
        self._batch = contract.batch
        # In the order of simcc_x, simcc_y where the outputs have these names.
        self._outputs = sorted(spec.name for spec in network.outputs)
        self._limit, self._make = run_limit(network, _MAX_BATCH), host_arrays(network)
        width, height = contract.crop_wh
        planes = contract.pixels == "normalised"
        shape = (0, 3, height, width) if planes else (0, height, width, 3)
        self._buffer: NDArray[Any] = np.empty(shape, contract.dtype)
        levels = np.arange(256, dtype=np.float32)
        # Value of each level in each channel (3, 256): normalising a crop is one look-up.
        self._levels = np.stack(
            [
                (levels - np.float32(m)) / np.float32(s)
                for m, s in zip(settings.mean_rgb, settings.std_rgb, strict=True)
            ]
        )

    @property
    def input_wh(self) -> tuple[int, int]:
        """Return width and height of what the network is shown of a person."""
        return self._contract.crop_wh

    @property
    def detector(self) -> Detector:
        """Return what finds the people."""
        return self._detector

    def with_flip_test(self) -> "TopDownPose":
        """Return a model of the same networks, not opened again, with ``flip_test``."""
        settings = self._settings.model_copy(update={"flip_test": True})
        return TopDownPose(self._detector, self._network, settings, self._threshold)

    def __call__(self, images: Sequence[Image]) -> list[Poses]:
        """Return the people of each image, in image pixels, clipped to nothing."""
        return self.with_boxes(images, self._detector(images))

    def for_video(self) -> TopDownVideo:
        """Return the model for the frames of one video; for one thread at a time, as this one."""
        return TopDownVideo(self._detector, self.keypoints_of, self._settings)

    def with_boxes(self, images: Sequence[Image], found: Sequence[Boxes]) -> list[Poses]:
        """Return the poses of people whose boxes are known, in the order of the boxes."""
        counts = [len(boxes.scores) for boxes in found]
        if not sum(counts):
            return [Poses.empty() for _ in images]
        boxes = np.concatenate([b.xyxy for b in found]).astype(np.float32)
        owners = np.repeat(np.arange(len(images)), counts)
        keypoints, scores = self.keypoints_of(images, owners, boxes)
        box_scores = np.concatenate([b.scores for b in found])
        everyone = Poses.untracked(keypoints, scores, boxes, box_scores)
        stops = np.cumsum(counts)
        return [everyone[stop - n : stop] for n, stop in zip(counts, stops, strict=True)]

    def keypoints_of(
        self,
        images: Sequence[Image],
        owners: IntArray,
        boxes: FloatArray,
        turns: IntArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, 17, 2) in image pixels and their scores (N, 17).

        Args:
            images: what the people are in.
            owners: (N,) index of each person's image, one or more people.
            boxes: (N, 4) pixels.
            turns: (N,) quarter turns of the picture in which the network is shown each person,
                counterclockwise; None: as it is.

        """
        matrices, centres, sizes = crop_affine(
            boxes, self._contract.crop_wh, self._settings.box_padding, turns
        )
        shares, scores = self._infer(images, owners, matrices)
        keypoints = crop_to_image(shares, centres, sizes, turns)
        missing = scores < self._threshold
        if self._contract.output == "simcc":
            missing |= scores <= 0
        scores[missing], keypoints[missing] = 0, 0
        return keypoints, scores

    def crop(
        self, images: Sequence[Image], owners: NDArray[np.int64], matrices: NDArray[np.float64]
    ) -> NDArray[Any]:
        """Return crops of people: normalised (N, 3, H, W), or levels (N, H, W, 3).

        The array is filled anew by the next call.

        Args:
            images: what the people are in.
            owners: (N,) index of each person's image.
            matrices: (N, 2, 3) from image to crop pixels.

        """
        crops, seen = self._buffer_of(len(owners)), -1
        for row, owner in enumerate(owners):
            if owner != seen:
                seen, pixels = int(owner), images[owner].bgr()
            crop: ImageArray = cv2.warpAffine(
                pixels, matrices[row], self._contract.crop_wh, flags=cv2.INTER_LINEAR
            )
            match self._contract.pixels:
                case "bgr":
                    crops[row] = crop
                case "rgb":
                    crops[row] = crop[..., ::-1]
                case "normalised":
                    self._normalise(crop, crops[row])
        return crops

    def _buffer_of(self, count: int) -> NDArray[Any]:
        """Return room for ``count`` crops; it is used again by the next call."""
        if count > len(self._buffer):
            self._buffer = self._make((count, *self._buffer.shape[1:]), self._buffer.dtype)
        return self._buffer[:count]

    def _normalise(self, crop: ImageArray, into: FloatArray) -> None:
        blue, green, red = cv2.split(crop)
        for channel, plane in enumerate((red, green, blue)):
            cv2.LUT(plane, self._levels[channel], dst=into[channel])

    def _infer(
        self, images: Sequence[Image], owners: NDArray[np.int64], matrices: NDArray[np.float64]
    ) -> tuple[FloatArray, FloatArray]:
        """Return places (N, 17, 2), 0-1 of the crop's width and height, and scores (N, 17)."""
        places, scores = [], []
        for start, stop in batches(len(owners), None, max(self._limit, _TOGETHER)):
            part = slice(start, stop)
            found, heights = self._decode(
                *self._predict(self.crop(images, owners[part], matrices[part]))
            )
            places.append(found)
            scores.append(heights)
        return np.concatenate(places), np.concatenate(scores).astype(np.float32)

    def _decode(self, *outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        # NaN is its array's maximum.
        highest = [output.reshape(*output.shape[:2], -1).max(-1) for output in outputs]
        check_finite(highest, "top-down pose network")
        if self._contract.output == "simcc":
            return decode_simcc(*outputs)
        if self._contract.output == "places":
            return decode_single(*outputs)
        (heatmaps,) = outputs
        if self._settings.decoding == "dark":
            found, heights = decode_dark(heatmaps, self._settings.dark_blur_kernel)
        else:
            found, heights = decode_quarter_offset(heatmaps)
        return found / np.asarray(heatmaps.shape[:1:-1], np.float32), heights

    def _predict(self, crops: NDArray[Any]) -> list[FloatArray]:
        """Return the outputs of all crops; with ``flip_test`` the mean with the mirrored ones."""
        outputs = self._run(crops)
        if not self._settings.flip_test:
            return outputs
        planes = self._contract.pixels == "normalised"
        columns = crops[..., ::-1] if planes else crops[:, :, ::-1]
        mirrored = self._run(np.ascontiguousarray(columns))
        turned: Sequence[FloatArray]
        match self._contract.output:
            case "simcc":
                turned = unmirror_simcc(*mirrored)
            case "places":
                turned = [unmirror_single(*mirrored)]
            case "heatmaps":
                turned = [_unmirror_heatmaps(*mirrored)]
        return [(one + other) / 2 for one, other in zip(outputs, turned, strict=True)]

    def _run(self, crops: NDArray[Any]) -> list[FloatArray]:
        parts = []
        for start, stop in batches(len(crops), self._batch, self._limit):
            feeds = {self._contract.name: pad_batch(crops[start:stop], self._batch)}
            results = self._network.run(feeds)
            parts.append([results[name][: stop - start] for name in self._outputs])
        outputs = [
            np.asarray(np.concatenate(same), np.float32) for same in zip(*parts, strict=True)
        ]
        if self._contract.output == "simcc" and any(
            one.shape[1] != NUM_KEYPOINTS for one in outputs
        ):
            raise ModelError(
                f"top-down pose network: expected SimCC vectors of {NUM_KEYPOINTS} keypoints, got "
                f"{outputs[0].shape[1]}; use a file trained for COCO's keypoints (body7, not "
                "body8-halpe26 or whole body)"
            )
        return outputs


def _unmirror_heatmaps(mirrored: FloatArray) -> FloatArray:
    """Return heatmaps (N, 17, h, w) of a mirrored crop as those of the crop."""
    turned = mirrored[:, FLIP_INDEX, :, ::-1]
    # Strided convolutions see a mirrored image one cell off; shift it back.
    shifted = turned.copy()
    shifted[..., 1:] = turned[..., :-1]
    return shifted


def _check(network: Network) -> _Contract:
    """Return what a network takes and gives; raise ModelError where it is no top-down network."""
    outputs = network.outputs
    places, simcc = is_single_pose(outputs), is_simcc(outputs)
    fits = len(network.inputs) == 1 and (places or simcc or _are_coco_heatmaps(outputs))
    if fits:
        spec = network.inputs[0]
        rgb = pixel_dtype(spec) if places else None
        fits = (rgb is not None if places else has_pixels(spec)) and None not in spec.shape[1:]
    if not fits:
        raise ModelError(
            "top-down pose network: expected (B,3,H,W) float32 or (B,H,W,3) uint8 -> heatmaps "
            "(B,17,h,w) or SimCC simcc_x (B,17,2W), simcc_y (B,17,2H), or (B,H,W,3) int32 or "
            f"float32 -> places (B,1,17,3), got {describe(network)}; if this is an RTMO file, set "
            "models.pose_estimation.kind: rtmo"
        )
    levels = places or spec.dtype == UINT8
    batch, height, width = (spec.shape[i] for i in ((0, 1, 2) if levels else (0, 2, 3)))
    return _Contract(
        spec.name,
        batch,
        (int(width or 0), int(height or 0)),
        "rgb" if places else "bgr" if levels else "normalised",
        rgb if places else np.uint8 if levels else np.float32,
        "places" if places else "simcc" if simcc else "heatmaps",
    )


def _are_coco_heatmaps(outputs: Sequence[TensorSpec]) -> bool:
    shape = outputs[0].shape
    return len(outputs) == 1 and len(shape) == 4 and shape[1] == NUM_KEYPOINTS
