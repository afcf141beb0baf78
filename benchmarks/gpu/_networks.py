"""Pose networks with weights from a seed, and their input: real scenes and people."""

import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._images import read_image
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.torch import TrainedPose, load_pose, open_graph, with_options
from recognizer.backends.torch_network import TorchNetwork
from recognizer.config.models import TopDownConfig, TorchPoseConfig
from recognizer.geometry import crop_affine
from recognizer.pose.detector import Boxes, LetterboxBatch
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.types import Image, Poses
from recognizer.video.array_image import ArrayImage
from tests.backends import pose_models

CONFIGS = pose_models.ROOT / "configs" / "body_2d_keypoint" / "sdpose" / "coco"
RTMO = {
    "rtmo-s": pose_models.RTMO_S,
    "rtmo-m": pose_models.RTMO_S.replace("rtmo-s_8xb32", "rtmo-m_16xb16"),
    "rtmo-l": pose_models.RTMO_S.replace("rtmo-s_8xb32", "rtmo-l_16xb16"),
}
SDPOSE = {
    f"sdpose-{name}": CONFIGS / f"sdpose_{name}_stemnet_coco_256x192.py"
    for name in ("t", "s_v1", "b")
}
SCORE, NMS, MOST = 0.3, 0.45, 50
LEVELS = 255
CPU = TorchPoseConfig(device="cpu")


@dataclass(frozen=True)
class Subject:
    """A pose network on the CPU and its input.

    Attributes:
        pose: the network, as ``load_pose`` gives it.
        even: the same network with weights that make no more of a rounding than trained ones;
            its errors speak of a precision, while ``pose`` finds people.
        images: whole pictures.
        boxes: where people are in them, for a top-down network.
        input_wh: width and height of the input.

    """

    pose: TrainedPose
    even: TrainedPose
    images: list[Image]
    boxes: list[Boxes]
    input_wh: tuple[int, int]

    def open(self, section: TorchPoseConfig, *, even: bool = False) -> TorchNetwork:
        """Return the network as the backend runs it with these settings."""
        chosen = self.even if even else self.pose
        metadata = self.metadata(section.precision)
        return open_graph(TrainedPose(copy.deepcopy(chosen.model), metadata), metadata, section)

    def metadata(self, precision: str) -> PoseModelMetadata:
        """Return its metadata, run in a precision."""
        metadata = with_options(
            self.pose.metadata, Thresholds(SCORE, NMS, MOST), precision=precision
        )
        return replace(metadata, input_size=self.input_wh)

    def pixels(self) -> NDArray[Any]:
        """Return the network's input for its pictures, or for the people in them."""
        if self.pose.metadata.kind == "rtmo":
            return LetterboxBatch(self.input_wh).fill(self.images)[0].copy()
        owners = np.repeat(np.arange(len(self.boxes)), [len(boxes.scores) for boxes in self.boxes])
        corners = np.concatenate([boxes.xyxy for boxes in self.boxes])
        matrices, _, _ = crop_affine(corners, self.input_wh, TopDownConfig().box_padding)
        people = TopDownPose(lambda _: self.boxes, self.open(CPU), TopDownConfig())
        return people.crop(self.images, owners, matrices)

    def poses(self, network: TorchNetwork, section: TorchPoseConfig) -> Callable[[], list[Poses]]:
        """Return a call that finds the people of all images, from pixels to keypoints."""
        if self.pose.metadata.kind == "rtmo":
            settings = section.model_copy(
                update={
                    "score_threshold": SCORE,
                    "nms_threshold": NMS,
                    "keypoint_threshold": 0.0,
                    "max_detections": MOST,
                }
            )
            model = RtmoPose(network, settings, self.input_wh)
            return lambda: model(self.images)
        people = TopDownPose(lambda _: self.boxes, network, TopDownConfig())
        return lambda: people(self.images)


def rtmo(name: str, data: Path, count: int, side: int = 640) -> Subject:
    """Return an RTMO whose weights find boxes of people's sizes in the street scene.

    Args:
        name: a key of ``RTMO``.
        data: folder of the packed data.
        count: how many pictures to show.
        side: of its square input.

    """
    images = frames(data / "videos" / "street_14_people.mp4", count)
    with tempfile.TemporaryDirectory() as folder:
        saved = pose_models.save_rtmo(folder, RTMO[name], side, images[:4])
        pose = load_pose(*saved)
    model = pose_models.random_model(saved[0])
    with torch.no_grad():  # as if levels were 0-1: as born its values outgrow float16
        stem = next(one for one in model.backbone.modules() if isinstance(one, torch.nn.Conv2d))
        stem.weight.div_(LEVELS)
    return Subject(pose, TrainedPose(model, pose.metadata), images, [], (side, side))


def sdpose(name: str, data: Path, count: int) -> Subject:
    """Return an SDPose and as many annotated people of COCO's val2017, in whole pictures."""
    with tempfile.TemporaryDirectory() as folder:
        pose = load_pose(*pose_models.save_sdpose(folder, SDPOSE[name]))
    images, boxes = people(data / "coco", count)
    return Subject(pose, pose, images, boxes, pose.metadata.input_size)


def frames(video: Path, count: int) -> list[Image]:
    """Return the first frames of a video, decoded by OpenCV; from the start again where it ends.

    Raises:
        RuntimeError: no frame can be read.

    """
    import cv2

    capture = cv2.VideoCapture(str(video))
    found: list[Image] = []
    while len(found) < count:
        there, frame = capture.read()
        if not there:
            break
        found.append(ArrayImage(np.asarray(frame, np.uint8)))
    capture.release()
    if not found:
        raise RuntimeError(f"{video}: OpenCV reads no frame; run `python -m benchmarks.gpu.pack`")
    return [found[i % len(found)] for i in range(count)]


def people(coco: Path, count: int) -> tuple[list[Image], list[Boxes]]:
    """Return pictures of val2017 with ``count`` labelled people in all, and their boxes."""
    path = coco / "annotations" / "person_keypoints_val2017.json"
    given = json.loads(path.read_text(encoding="utf-8"))
    names = {one["id"]: one["file_name"] for one in given["images"]}
    labelled = [one for one in given["annotations"] if one["num_keypoints"] > 0][:count]
    images: list[Image] = []
    boxes = []
    for number in dict.fromkeys(one["image_id"] for one in labelled):
        rows = [one["bbox"] for one in labelled if one["image_id"] == number]
        corners = np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float32)
        images.append(ArrayImage(read_image(coco / "val2017" / names[number])))
        boxes.append(Boxes(corners, np.ones(len(rows), np.float32)))
    return images, boxes


@torch.inference_mode()
def outputs(
    network: TorchNetwork, pixels: NDArray[Any], device: str, *, features: bool = True
) -> dict[str, torch.Tensor]:
    """Return a network's outputs before suppression and decoding, in float32 on the CPU.

    Returns:
        ``features`` where asked for (the head's input, all levels in one row), and ``heatmaps``,
        or an RTMO's ``scores``, ``boxes``, ``visible``, ``vectors``.

    """
    graph: Any = network._graph
    given = torch.from_numpy(pixels).to(device)
    values: dict[str, torch.Tensor] = {}
    is_rtmo = hasattr(graph, "layers")
    part, hooks = graph.neck if is_rtmo else graph.backbone, []
    if features:
        keep = lambda *call: values.update(features=_row(call[2]))  # noqa: E731
        hooks.append(part.register_forward_hook(keep))
    try:
        if is_rtmo:
            found = graph._predictions(graph._prepared(given))
            values |= dict(zip(("scores", "boxes", "visible", "vectors"), found[:4], strict=True))
        else:
            values["heatmaps"] = graph(given)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: value.float().cpu() for name, value in values.items()}


def _row(levels: Any) -> torch.Tensor:
    """Return all levels' values in one row; None among them is left out."""
    if isinstance(levels, torch.Tensor):
        return levels.flatten()
    return torch.cat([_row(level) for level in levels if level is not None])


def error(reference: torch.Tensor, found: torch.Tensor) -> float:
    """Return the root mean square of the difference over that of the reference's spread."""
    spread = (reference - reference.mean()).square().mean().sqrt()
    return float((found - reference).square().mean().sqrt() / spread.clamp(min=1e-12))


def distance(reference: list[Poses], found: list[Poses]) -> dict[str, Any]:
    """Return how far people lie from those of a reference.

    Each person of the reference is compared with the nearest person of the same picture: the one
    whose largest difference of a coordinate of a keypoint is smallest.

    Returns:
        ``people`` of the reference, ``found``, and that difference in pixels of the picture:
        ``median_px``, ``p90_px`` and ``worst_px`` over the people; None: no person was near.

    """
    nearest = []
    for expected, poses in zip(reference, found, strict=True):
        for points in expected.keypoints:
            differences = np.abs(poses.keypoints - points).max((1, 2), initial=0)
            nearest.append(differences.min() if len(differences) else np.inf)
    known = np.array(nearest or [np.inf])
    return {
        "people": sum(len(one.boxes) for one in reference),
        "found": sum(len(one.boxes) for one in found),
        "median_px": _finite(np.median(known)),
        "p90_px": _finite(np.percentile(known, 90)),
        "worst_px": _finite(known.max()),
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
