"""Open the pose model that the config names: what it means times what runs it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from recognizer.backends.network import Network
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config_models import PoseEstimationSection
from recognizer.config_types import OnnxRuntimeOptions
from recognizer.pose.detector import YoloxDetector
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.types import Image, Poses


class PoseModel(Protocol):
    """Anything that sees people in images."""

    def __call__(self, images: Sequence[Image]) -> list[Poses]:
        """Return the people of each image, in image pixels."""
        ...


def open_pose_model(
    settings: PoseEstimationSection,
    files: Mapping[str, Path],
    *,
    threads: int = 1,
    gpu: int | None = None,
) -> PoseModel:
    """Open the network files and return the model they make.

    Args:
        settings: the config's section.
        files: where the ``pose`` network and, for top-down, the ``detector`` are.
        threads: CPU threads for each network where the config says ``auto``.
        gpu: device number that replaces the config's, where several are used in turn.

    Raises:
        ModelError: a file of another kind, or a device that is not there.
        NotImplementedError: a backend that this version does not have.

    """

    def open_network(path: Path, options: OnnxRuntimeOptions) -> Network:
        if gpu is not None:
            options = options.model_copy(update={"device": f"cuda:{gpu}"})
        return OnnxNetwork(path, options, threads)

    if settings.inference_mode != "onnx":
        raise NotImplementedError(
            f"models.pose_estimation.inference_mode: {settings.inference_mode} is not there yet; "
            "export the model to ONNX and set inference_mode: onnx"
        )
    network = open_network(files["pose"], settings.onnx)
    match settings.kind:
        case "rtmo":
            return RtmoPose(network, settings.onnx)
        case "topdown":
            topdown = settings.topdown
            boxes = YoloxDetector(
                open_network(files["detector"], topdown.detector), topdown.detector
            )
            return TopDownPose(boxes, network, topdown, settings.onnx.keypoint_threshold)
