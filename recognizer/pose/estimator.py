"""Open the pose model that the config names: its kind and its backend."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from recognizer.backends.metadata import PoseConfig, PoseModelMetadata, check
from recognizer.backends.network import ModelError, Network
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.pose_kind import check_backend, check_pair, kind_of_outputs
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.types import PoseKind, Section
from recognizer.pose.end2end import build_detector
from recognizer.pose.movenet import MoveNetPose
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.types import Image, Poses

_Section = TypeVar("_Section", bound=Section)


class VideoPose(Protocol):
    """A pose model on the successive frames of one video."""

    def __call__(self, images: Sequence[Image], times_s: Sequence[float]) -> list[Poses]:
        """Return the people of each of the next images, taken at ``times_s`` seconds."""
        ...


class PoseSource(Protocol):
    """Gives a fresh pose model for each video, such as a ``PoseModel``."""

    @property
    def kind(self) -> PoseKind:
        """Return ``rtmo``, ``topdown`` or ``movenet``: it selects the tracker's thresholds."""
        ...

    def for_video(self) -> VideoPose:
        """Return the model for one video, with a memory of the frames before where it has one."""
        ...


class PoseModel(PoseSource, Protocol):
    """Estimates poses in images; for one thread at a time, as its buffers are reused."""

    def __call__(self, images: Sequence[Image]) -> list[Poses]:
        """Return the people of each image, in image pixels."""
        ...


def build_pose_model(
    settings: PoseEstimationConfig,
    files: Mapping[str, Path],
    *,
    threads: int = 1,
    gpu: int | None = None,
) -> PoseModel:
    """Open the network files and return the model they make.

    Args:
        settings: the config's section.
        files: where the ``pose`` network and, for top-down, the ``detector`` are; for
            ``inference_mode: pth`` also mmpose's ``config``.
        threads: CPU threads for each network where the config says ``auto``.
        gpu: device number that replaces the config's, where several are used in turn.

    Raises:
        ModelError: a file of no kind or of another than is set, a wrong pair, thresholds
            other than those inside of it, or a device that is not there.
        FileNotFoundError, CheckpointError, ValueError: as ``backends.torch.load_pose``.
        ImportError: ``pth`` without the training set.

    """
    if files["pose"].suffix == ".onnx":
        check_pair(files)
    network = _open(settings, files, threads, gpu)
    try:
        metadata = PoseModelMetadata.of(network.metadata)
    except ModelError as error:
        raise ModelError(f"{files['pose']}: {error}") from error
    kind = kind_of_outputs(settings.kind, network.outputs, files["pose"])
    check_backend(kind, settings.inference_mode, files["pose"])
    settings = settings.for_kind(kind)
    check(metadata, settings)
    match kind:
        case "movenet":
            size_wh = settings.onnx.model_input_size
            return MoveNetPose(network, settings.onnx, size_wh, files["pose"])
        case "rtmo":
            return _build_rtmo(network, settings, metadata, files["pose"])
        case "topdown":
            return _build_topdown(network, settings, files, threads, gpu)


def _build_rtmo(
    network: Network,
    settings: PoseEstimationConfig,
    metadata: PoseModelMetadata | None,
    file: Path,
) -> RtmoPose:
    size_wh, follows = _input_size(settings), False
    if size_wh is None and metadata is not None:
        size_wh, follows = metadata.input_size, metadata.follows_picture
    return RtmoPose(network, block_of(settings), size_wh, file, follows_picture=follows)


def _build_topdown(
    network: Network,
    settings: PoseEstimationConfig,
    files: Mapping[str, Path],
    threads: int,
    gpu: int | None,
) -> TopDownPose:
    topdown = settings.topdown
    if "detector" not in files:
        raise ModelError(
            f"{files['pose']} sees one person at a time (kind: topdown): expected a person "
            "detector beside it, got none; set models.pose_estimation.topdown.detector.model_path"
        )
    detector = OnnxNetwork(files["detector"], _on_gpu(topdown.detector, gpu), threads)
    boxes = build_detector(detector, topdown.detector, files["detector"])
    model = TopDownPose(boxes, network, topdown, block_of(settings).keypoint_threshold or 0.0)
    if settings.inference_mode == "onnx":  # pth has refused it, engines bring their own
        _check_size(settings.onnx.model_input_size, model.input_wh, files["pose"])
    return model


class _Described(Network, Protocol):
    """A network with metadata in its file."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata of the file."""
        ...


def _open(
    settings: PoseEstimationConfig, files: Mapping[str, Path], threads: int, gpu: int | None
) -> _Described:
    match settings.inference_mode:
        case "onnx":
            return OnnxNetwork(files["pose"], _on_gpu(settings.onnx, gpu), threads)
        case "pth":
            from recognizer.backends.torch import open_pose

            return open_pose(files["config"], files["pose"], _on_gpu(settings.pth, gpu), threads)
        case "tensorrt":
            from recognizer.backends.tensorrt import TensorRTNetwork

            section = _on_gpu(settings.tensorrt, gpu)
            return TensorRTNetwork(files["pose"], section.device, section=section)


def _check_size(size_wh: tuple[int, int] | None, input_wh: tuple[int, int], file: Path) -> None:
    if size_wh not in (None, input_wh):
        raise ModelError(
            f"models.pose_estimation.onnx.model_input_size: {file} takes {list(input_wh)} (width, "
            f"height) and nothing else, got {size_wh and list(size_wh)}; set model_input_size: null"
        )


def _on_gpu(section: _Section, gpu: int | None) -> _Section:
    return section if gpu is None else section.model_copy(update={"device": f"cuda:{gpu}"})


def block_of(settings: PoseEstimationConfig) -> PoseConfig:
    """Return the block of the backend that runs the pose network."""
    match settings.inference_mode:
        case "onnx":
            return settings.onnx
        case "pth":
            return settings.pth
        case "tensorrt":
            return settings.tensorrt


def _input_size(settings: PoseEstimationConfig) -> tuple[int, int] | None:
    match settings.inference_mode:
        case "onnx":
            return settings.onnx.model_input_size
        case "pth":
            return settings.pth.input_size
        case "tensorrt":
            return settings.tensorrt.model_input_size
