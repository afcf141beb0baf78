"""One-stage pose estimation with RTMO (Lu et al. 2024), in mmdeploy's end2end contract.

``input`` (B, 3, H, W) float32 BGR 0-255, letterboxed at the top left with 114 ->
``dets`` (B, K, 5) boxes and score, ``keypoints`` (B, K, 17, 3) places and score, in
network pixels. A file may take (B, H, W, 3) uint8 instead (``deploy.uint8_input``).
Non-maximum suppression is inside the graph and is not done again here: a second one would
lose people who stand close together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recognizer.backends.metadata import PoseConfig
from recognizer.backends.network import (
    UINT8,
    ModelError,
    Network,
    batches,
    check_finite,
    describe,
    has_pixels,
    host_arrays,
    image_limit,
    pad_batch,
)
from recognizer.config.models import KEYPOINT_THRESHOLD, SCORE_THRESHOLD
from recognizer.config.types import PoseKind
from recognizer.geometry import Letterbox
from recognizer.pose.detector import LetterboxBatch
from recognizer.pose.outputs import (
    are_rows,
    check_boxes,
    check_input_size,
    check_places,
    check_scores,
)
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.types import FloatArray, Image, Poses

_MAX_BATCH = 8
_STRIDE = 32
# Grey pixels beside a picture in the input that follows it: without them people at its edge, such
# as those who lie in front, are seen less often.
_ROOM = 64
_MAX_SHAPES = 4  # whose buffers are kept: cameras of one batch may differ


class RtmoPose:
    """Image -> Poses by one network, whatever runs it.

    Args:
        network: one that keeps the contract.
        settings: the config's block of the backend: its thresholds for people and keypoints.
        input_wh: width and height of the input, pixels; None: as the network says.
        file: of the network, for messages; None: not named.
        follows_picture: make the input as small as each picture allows, where the network leaves
            its sides free: ``input_wh`` is then the largest.

    Raises:
        ModelError: the network does not keep the contract, or its fixed input size is
            not ``input_wh``.

    """

    kind: PoseKind = "rtmo"

    def __init__(
        self,
        network: Network,
        settings: PoseConfig,
        input_wh: tuple[int, int] | None = None,
        file: Path | None = None,
        *,
        follows_picture: bool = False,
    ) -> None:
        self._network = network
        self._which = "RTMO" if file is None else f"{file}: RTMO"
        self._settings = settings
        asked = settings.keypoint_threshold
        self._keypoint_threshold = KEYPOINT_THRESHOLD["rtmo"] if asked is None else asked
        least = settings.score_threshold
        self._score_threshold = SCORE_THRESHOLD["rtmo"] if least is None else least
        checked = _check(network, input_wh, self._which)
        self._input_name, self._batch, self._largest_wh, self._uint8 = checked
        self._limit = image_limit(network, _MAX_BATCH)
        self._follows_picture = follows_picture and _is_free(network)
        self._letterboxes: dict[tuple[int, int], LetterboxBatch] = {}

    def __call__(self, images: Sequence[Image]) -> list[Poses]:
        """Return the people of each image, in image pixels, clipped to nothing."""
        alike: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            alike.setdefault(self._input_wh(image), []).append(i)
        found: dict[int, Poses] = {}
        for input_wh, rows in alike.items():
            poses = self._run([images[i] for i in rows], self._letterbox(input_wh))
            found |= zip(rows, poses, strict=True)
        return [found[i] for i in range(len(images))]

    def _run(self, images: Sequence[Image], letterboxes: LetterboxBatch) -> list[Poses]:
        found: list[Poses] = []
        for start, stop in batches(len(images), self._batch, self._limit):
            pixels, fits = letterboxes.fill(images[start:stop])
            out = self._network.run({self._input_name: pad_batch(pixels, self._batch)})
            self._check_outputs(out["dets"], out["keypoints"], len(fits))
            for i, fit in enumerate(fits):
                found.append(self._decode(out["dets"][i], out["keypoints"][i], fit))
        return found

    def _input_wh(self, image: Image) -> tuple[int, int]:
        """Return the size of the input that an image is put into."""
        if not self._follows_picture:
            return self._largest_wh
        inner_wh = Letterbox.fit(image.size_wh, self._largest_wh).inner_wh
        width, height = (
            min(largest, -(-(side + _ROOM) // _STRIDE) * _STRIDE)
            for side, largest in zip(inner_wh, self._largest_wh, strict=True)
        )
        return width, height

    def _letterbox(self, input_wh: tuple[int, int]) -> LetterboxBatch:
        if input_wh not in self._letterboxes:
            if len(self._letterboxes) == _MAX_SHAPES:
                del self._letterboxes[next(iter(self._letterboxes))]
            make = host_arrays(self._network)
            self._letterboxes[input_wh] = LetterboxBatch(input_wh, uint8=self._uint8, make=make)
        return self._letterboxes[input_wh]

    def for_video(self) -> Callable[[Sequence[Image], Sequence[float]], list[Poses]]:
        """Return the model for the frames of one video: it sees each by itself."""
        return lambda images, times_s: self(images)

    def _decode(self, dets: FloatArray, keypoints: FloatArray, fit: Letterbox) -> Poses:
        check_finite([dets[:, 4]], self._which)
        check_scores(dets[:, 4], self._which)
        order = np.argsort(-dets[:, 4], kind="stable")
        order = order[dets[order, 4] > self._score_threshold][: self._settings.max_detections]
        check_finite([dets[order], keypoints[order]], self._which)
        check_boxes(dets[order, :4], fit.input_wh, self._which)
        check_scores(keypoints[order, :, 2], self._which)
        scores = keypoints[order, :, 2].astype(np.float32).clip(0, 1)
        missing = scores < self._keypoint_threshold
        check_places(keypoints[order, :, :2][~missing], fit.input_wh, self._which)
        points = fit.to_image(keypoints[order, :, :2])
        scores[missing], points[missing] = 0, 0
        box_scores = dets[order, 4].astype(np.float32).clip(0, 1)
        return Poses.untracked(points, scores, fit.to_image(dets[order, :4]), box_scores)

    def _check_outputs(self, dets: FloatArray, keypoints: FloatArray, images: int) -> None:
        """Refuse outputs of other shapes than the file declares, or than the input asked for."""
        if not are_rows((dets, keypoints), ((5,), (NUM_KEYPOINTS, 3)), images):
            raise ModelError(
                f"{self._which}: expected dets ({images},K,5) and keypoints ({images},K,17,3) for "
                f"{images} images, got {dets.shape} and {keypoints.shape}; this file does not keep "
                "mmdeploy's end2end contract: get it again or use another file"
            )


def _is_free(network: Network) -> bool:
    shape = network.inputs[0].shape
    return None in (shape[1:3] if network.inputs[0].dtype == UINT8 else shape[2:])


def _check(
    network: Network, size_wh: tuple[int, int] | None, which: str
) -> tuple[str, int | None, tuple[int, int], bool]:
    """Return the input's name, batch, (width, height), and whether it is of 8-bit pixels."""
    outputs = {spec.name: spec.shape for spec in network.outputs}
    fits = len(network.inputs) == 1 and {"dets", "keypoints"} <= outputs.keys()
    if fits:
        shape, uint8 = network.inputs[0].shape, network.inputs[0].dtype == UINT8
        boxes, points = outputs["dets"], outputs["keypoints"]
        fits = has_pixels(network.inputs[0]) and len(boxes) == 3 and len(points) == 4
    if fits:
        fits = boxes[2] in (5, None) and points[2] in (NUM_KEYPOINTS, None)
        fits = fits and points[3] in (3, None)
        fits = fits and (boxes[1] == points[1] or None in (boxes[1], points[1]))
    if not fits:
        raise ModelError(
            f"{which}: expected input (B,3,H,W) float32 or (B,H,W,3) uint8 -> dets (B,K,5), "
            "keypoints (B,K,17,3), got "
            f"{describe(network)}; if this is a heatmap model, set models.pose_estimation.kind: "
            "topdown"
        )
    batch, height, width = (shape[i] for i in ((0, 1, 2) if uint8 else (0, 2, 3)))
    input_wh = (width, height)
    if size_wh is not None and any(
        o is not None and o != w for o, w in zip(input_wh, size_wh, strict=True)
    ):
        raise ModelError(
            f"{which}: model_input_size is {list(size_wh)}, the file takes {list(input_wh)} "
            "(width, height); set it to null"
        )
    columns, rows = size_wh or input_wh
    if columns is None or rows is None:
        raise ModelError(
            f"{which}: the file takes any input size; set model_input_size: [w, h], such as "
            "[640, 640] (RTMO-t: [416, 416])"
        )
    check_input_size((columns, rows), which)
    if None in input_wh and (columns % _STRIDE or rows % _STRIDE):
        raise ModelError(
            f"{which}: model_input_size: expected multiples of {_STRIDE}, got {[columns, rows]}"
        )
    return network.inputs[0].name, batch, (columns, rows), uint8
