"""Image -> person boxes, by a detector with suppression inside, in mmdeploy's end2end form.

Contract: input (B, 3, H, W) float32 BGR, letterboxed at the top left with 114; outputs ``dets``
(B, N, 5) boxes in network pixels and score, best or not, and ``labels`` (B, N), of which class 0 is
the person. YOLOX takes pixels as they are, RTMDet (Lyu et al. 2022) takes them normalised.
Suppression is not done again here, except to join tiles.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recognizer.backends.network import (
    ModelError,
    Network,
    batches,
    check_finite,
    describe,
    has_pixels,
    pad_batch,
)
from recognizer.backends.pose_kind import is_normalised
from recognizer.config.models import DetectorConfig
from recognizer.geometry import Letterbox
from recognizer.imagenet import MEAN_RGB, STD_RGB
from recognizer.pose.detector import (
    MAX_BATCH,
    SET,
    WHICH,
    BoxDetector,
    Boxes,
    YoloxDetector,
    input_size,
)
from recognizer.pose.outputs import are_rows, check_boxes, check_scores
from recognizer.types import FloatArray, Image, IntArray

# BGR, as RTMDet was trained by mmdet 3.3.0's configs/rtmdet.
_MEAN_BGR = np.array(MEAN_RGB[::-1], np.float32).reshape(3, 1, 1)
_STD_BGR = np.array(STD_RGB[::-1], np.float32).reshape(3, 1, 1)
_PERSON = 0


class End2EndDetector(BoxDetector):
    """Finds people in images by RTMDet or YOLOX in mmdeploy's end2end form.

    Args:
        network: one that keeps the contract.
        settings: the config's section.
        normalised: whether the network takes pixels as RTMDet does; False: as YOLOX does.
        file: of the network, for messages; None: not named.

    Raises:
        ModelError: the network does not keep the contract.

    """

    def __init__(
        self,
        network: Network,
        settings: DetectorConfig,
        *,
        normalised: bool,
        file: Path | None = None,
    ) -> None:
        self._which = WHICH if file is None else f"{file}: {WHICH}"
        contract = _check(network, settings.network_input_size, self._which)
        super().__init__(network, settings, *contract)
        self._normalised = normalised

    def _look(self, images: Sequence[Image]) -> list[Boxes]:
        found: list[Boxes] = []
        for start, stop in batches(len(images), self._batch, MAX_BATCH):
            pixels, fits = self._letterboxes.fill(images[start:stop])
            if self._normalised:
                pixels = (pixels - _MEAN_BGR) / _STD_BGR
            out = self._network.run({self._input_name: pad_batch(pixels, self._batch)})
            self._check_outputs(out["dets"], out["labels"], len(fits))
            found += [self._read(out["dets"][i], out["labels"][i], f) for i, f in enumerate(fits)]
        return found

    def _check_outputs(self, dets: FloatArray, labels: IntArray, images: int) -> None:
        """Refuse outputs of another form than the contract's, and numbers that cannot be."""
        if not are_rows((dets, labels), ((5,), ()), images):
            raise ModelError(
                f"{self._which}: expected dets ({images},N,5) and labels ({images},N) for {images} "
                f"images, got {dets.shape} and {labels.shape}; this file does not keep mmdeploy's "
                f"end2end contract: get it again or {SET}"
            )
        check_finite([dets], self._which)
        check_scores(dets[..., 4], self._which)

    def _read(self, dets: FloatArray, labels: IntArray, fit: Letterbox) -> Boxes:
        people = dets[(labels == _PERSON) & (dets[:, 4] > self._settings.score_threshold)]
        order = np.argsort(-people[:, 4], kind="stable")[: self._settings.max_detections]
        check_boxes(people[order, :4], fit.input_wh, self._which)
        scores = people[order, 4].astype(np.float32).clip(0, 1)
        return Boxes(fit.to_image(people[order, :4]), scores)


def build_detector(network: Network, settings: DetectorConfig, file: Path) -> BoxDetector:
    """Return the person detector that a network is: end2end, or YOLOX without suppression.

    Args:
        network: opened from the file.
        settings: the config's section.
        file: where it is; the names of its weights tell RTMDet from YOLOX.

    Raises:
        ModelError: no person detector, or one whose normalisation is not known.

    """
    if not {"dets", "labels"} <= {spec.name for spec in network.outputs}:
        return YoloxDetector(network, settings, file)
    normalised = is_normalised(settings.normalisation, file)
    return End2EndDetector(network, settings, normalised=normalised, file=file)


def _check(
    network: Network, size_wh: tuple[int, int] | None, which: str
) -> tuple[str, int | None, tuple[int, int]]:
    """Return the input's name, batch and (width, height)."""
    outputs = {spec.name: spec.shape for spec in network.outputs}
    fits = len(network.inputs) == 1 and {"dets", "labels"} <= outputs.keys()
    if fits:
        shape = network.inputs[0].shape
        fits = has_pixels(network.inputs[0]) and shape[1] == 3
        fits = fits and len(outputs["dets"]) == 3 and outputs["dets"][2] in (5, None)
    if not fits:
        raise ModelError(
            f"{which}: expected (B,3,H,W) float32 -> dets (B,N,5), labels (B,N), got "
            f"{describe(network)}; {SET}"
        )
    batch, _, height, width = shape
    return network.inputs[0].name, batch, input_size((width, height), size_wh, which)
