"""Image -> person boxes, by a YOLOX network (Ge et al. 2021) without suppression.

``end2end`` has detectors with suppression inside. Contract: input (B, 3, H, W) float32 BGR 0-255,
letterboxed at the top left with 114; output (B, cells, 85): centre and size per grid cell of
strides 8, 16 and 32, objectness, 80 class scores of which class 0 is the person. Centre and size
are raw (offset in the cell and log size, in strides) or, as ``--decode_in_inference`` exports
them, in pixels of the input; which of them is seen from the first output.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from recognizer.backends.network import (
    HostArrays,
    ModelError,
    Network,
    batches,
    check_finite,
    describe,
    has_pixels,
    host_arrays,
    pad_batch,
)
from recognizer.config.models import DetectorConfig
from recognizer.geometry import LETTERBOX_GREY, Letterbox, nms
from recognizer.pose.outputs import check_input_size, check_scores
from recognizer.pose.tiles import cut_tiles, whole_boxes
from recognizer.types import FloatArray, Image

_STRIDES = (8, 16, 32)
MAX_BATCH = 8  # images of one run
WHICH = "person detector"
_KEY = "models.pose_estimation.topdown.detector"
SET = f"set {_KEY}.model_path"


@dataclass(frozen=True, eq=False, slots=True)
class Boxes:
    """Person boxes of one image: (N, 4) x1 y1 x2 y2 pixels and (N,) scores, best first."""

    xyxy: FloatArray
    scores: FloatArray


Detector = Callable[[Sequence[Image]], list[Boxes]]


class LetterboxBatch:
    """A reused buffer that images are letterboxed into.

    Args:
        input_wh: size of the network's input, pixels.
        uint8: make (B, H, W, 3) uint8 in place of (B, 3, H, W) float32.
        make: makes the buffer, given shape and type.

    """

    def __init__(
        self, input_wh: tuple[int, int], *, uint8: bool = False, make: HostArrays = np.empty
    ) -> None:
        self._input_wh, self._make = input_wh, make
        width, height = input_wh
        self._uint8 = uint8
        self._buffer: NDArray[Any] = (
            np.empty((0, height, width, 3), np.uint8)
            if uint8
            else np.empty((0, 3, height, width), np.float32)
        )
        self._inner: list[tuple[int, int]] = []

    def fill(self, images: Sequence[Image]) -> tuple[NDArray[Any], list[Letterbox]]:
        """Return the network's input (a view of the buffer) and each image's letterbox."""
        if len(images) > len(self._buffer):
            shape = (len(images), *self._buffer.shape[1:])
            self._buffer = self._make(shape, self._buffer.dtype)
            self._buffer[:] = LETTERBOX_GREY
            self._inner = [(0, 0)] * len(images)
        fits = [Letterbox.fit(image.size_wh, self._input_wh) for image in images]
        for i, (image, fit) in enumerate(zip(images, fits, strict=True)):
            if fit.inner_wh != self._inner[i]:
                self._buffer[i] = LETTERBOX_GREY
                self._inner[i] = fit.inner_wh
            small = image.bgr(fit.inner_wh)
            height, width = small.shape[:2]
            if self._uint8:
                self._buffer[i, :height, :width] = small
            else:
                # Planes side by side first: numbers that lie apart convert half as fast.
                for channel, plane in enumerate(cv2.split(small)):
                    self._buffer[i, channel, :height, :width] = plane
        return self._buffer[: len(images)], fits


class BoxDetector(ABC):
    """Finds people in images, and with ``tiles`` also in squares of them.

    Args:
        network: takes (B, 3, H, W) float32 BGR.
        settings: the config's section.
        input_name, batch, input_wh: of the network's input.

    """

    def __init__(
        self,
        network: Network,
        settings: DetectorConfig,
        input_name: str,
        batch: int | None,
        input_wh: tuple[int, int],
    ) -> None:
        self._network, self._settings = network, settings
        self._input_name, self._batch, self._input_wh = input_name, batch, input_wh
        self._letterboxes = LetterboxBatch(input_wh, make=host_arrays(network))

    @abstractmethod
    def _look(self, images: Sequence[Image]) -> list[Boxes]:
        """Return the people of each image as the network sees it."""

    def __call__(self, images: Sequence[Image]) -> list[Boxes]:
        """Return the people of each image."""
        found = self._look(images)
        if not self._settings.tiles:
            return found
        return [self._with_tiles(image, whole) for image, whole in zip(images, found, strict=True)]

    def _with_tiles(self, image: Image, whole: Boxes) -> Boxes:
        """Add what is seen in the squares of an image to what is seen in all of it."""
        boxes, scores = [whole.xyxy], [whole.scores]
        tiles = cut_tiles(image)
        for tile, seen in zip(tiles, self._look(tiles), strict=True):
            kept = whole_boxes(seen.xyxy, tile, image.size_wh)
            boxes.append(seen.xyxy[kept] + np.array([tile.left, tile.top] * 2, np.float32))
            scores.append(seen.scores[kept])
        return self._best(np.concatenate(boxes), np.concatenate(scores))

    def _best(self, boxes: FloatArray, scores: FloatArray) -> Boxes:
        kept = nms(boxes, scores, self._settings.nms_threshold)[: self._settings.max_detections]
        return Boxes(boxes[kept], scores[kept])


class YoloxDetector(BoxDetector):
    """Finds people in images by YOLOX without suppression, raw or decoded."""

    def __init__(
        self, network: Network, settings: DetectorConfig, file: Path | None = None
    ) -> None:
        """Check that the network keeps the contract; raise ModelError, with the file, if not."""
        self._which = WHICH if file is None else f"{file}: {WHICH}"
        contract = _check(network, settings.network_input_size, self._which)
        super().__init__(network, settings, *contract)
        self._grid, self._stride = _grid(self._input_wh)
        self._decoded: bool | None = None  # centre and size in pixels; None: not seen yet

    def _look(self, images: Sequence[Image]) -> list[Boxes]:
        found: list[Boxes] = []
        for start, stop in batches(len(images), self._batch, MAX_BATCH):
            pixels, fits = self._letterboxes.fill(images[start:stop])
            feeds = {self._input_name: pad_batch(pixels, self._batch)}
            (raw,) = self._network.run(feeds).values()
            self._check_output(raw)
            found += [self._decode(raw[i], fit) for i, fit in enumerate(fits)]
        return found

    def _check_output(self, raw: NDArray[Any]) -> None:
        """Refuse what is no output of YOLOX, and see whether it is decoded."""
        if raw.ndim != 3 or raw.shape[2] != 85:
            raise ModelError(f"{self._which}: expected (B,cells,85), got {raw.shape}; {SET}")
        if raw.shape[1] != len(self._grid):
            raise ModelError(
                f"{self._which}: expected {len(self._grid)} cells of strides 8, 16 and 32 for "
                f"{self._input_wh[0]}x{self._input_wh[1]} pixels, got {raw.shape[1]}; {SET}"
            )
        check_finite([raw], self._which)
        check_scores(raw[..., 4:6], self._which)
        if self._decoded is None:
            # Offsets within a cell are small, centres in pixels are spread over the input.
            self._decoded = float(np.median(np.abs(raw[..., :2]))) > _STRIDES[0]

    def _decode(self, raw: FloatArray, fit: Letterbox) -> Boxes:
        scores = raw[:, 4] * raw[:, 5]
        likely = np.flatnonzero(scores > self._settings.score_threshold)
        if self._decoded:
            centres, half = raw[likely, :2], raw[likely, 2:4] / 2
        else:
            stride = self._stride[likely, None]
            centres = (raw[likely, :2] + self._grid[likely]) * stride
            half = np.exp(raw[likely, 2:4]) * stride / 2
        boxes = np.concatenate([centres - half, centres + half], axis=1)
        return self._best(fit.to_image(boxes), scores[likely].astype(np.float32))


def input_size(
    own_wh: tuple[int | None, int | None],
    asked_wh: tuple[int, int] | None,
    which: str = WHICH,
) -> tuple[int, int]:
    """Return width and height of a detector's input: the file's, or those asked for where free.

    Args:
        own_wh: the file's; None where it takes any.
        asked_wh: ``topdown.detector.network_input_size``.
        which: the network, for messages.

    Raises:
        ModelError: another size than the file's, none at all, or one too large for memory.

    """
    pairs = zip(own_wh, asked_wh or own_wh, strict=True)
    if any(own not in (None, asked) for own, asked in pairs):
        raise ModelError(
            f"{which}: {_KEY}.network_input_size: the file takes {list(own_wh)} (width, "
            f"height), got {list(asked_wh or own_wh)}; set it to null"
        )
    width, height = asked_wh or own_wh
    if width is None or height is None:
        raise ModelError(
            f"{which}: the file takes any input size; set {_KEY}.network_input_size: [w, h] to "
            "what it was trained on (640x640, RTMDet-nano 320x320)"
        )
    check_input_size((width, height), which)
    return width, height


def _check(
    network: Network, size_wh: tuple[int, int] | None, which: str
) -> tuple[str, int | None, tuple[int, int]]:
    fits = len(network.inputs) == 1 and len(network.outputs) == 1
    if fits:
        shape, out = network.inputs[0].shape, network.outputs[0].shape
        fits = has_pixels(network.inputs[0]) and shape[1] == 3
        fits = fits and len(out) == 3 and out[2] == 85 and None not in shape[2:]
    if not fits:
        raise ModelError(
            f"{which}: expected a YOLOX network without NMS, (B,3,H,W) float32 -> (B,cells,85), "
            f"got {describe(network)}; {SET}"
        )
    batch, _, height, width = shape
    return network.inputs[0].name, batch, input_size((width, height), size_wh, which)


def _grid(input_wh: tuple[int, int]) -> tuple[FloatArray, NDArray[np.float32]]:
    """Return the cell corner (cells, 2) and the stride (cells,) of every output row."""
    corners, strides = [], []
    for stride in _STRIDES:
        xs, ys = np.meshgrid(np.arange(input_wh[0] // stride), np.arange(input_wh[1] // stride))
        corners.append(np.stack([xs.ravel(), ys.ravel()], axis=1))
        strides.append(np.full(xs.size, stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)
