"""PyTorch: a network of mmpose with a checkpoint's weights, run as the graph that export writes.

A config of mmpose is a program and runs when it is read. A checkpoint is data: it is read with
``load_checkpoint``, which executes nothing, and its weights must fit the network one by one.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recognizer import __version__
from recognizer.backends.graphs import RtmoGraph, TopDownGraph
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.network import FLOAT, ModelError, TensorSpec
from recognizer.backends.suppression import Suppression
from recognizer.backends.torch_network import Execution, TorchNetwork, check_device
from recognizer.config.models import TorchPoseConfig
from recognizer.config.types import PoseKind
from recognizer.openmmlab import build_pose_model, read_pose_config
from recognizer.runner.checkpoints import load_checkpoint, load_weights
from recognizer.storage.artifacts import METADATA_KEY, sha256_file

INPUT = "input"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
RECORDED: dict[PoseKind, tuple[int, ...]] = {"rtmo": (1, 2, 4, 8), "topdown": (1, 4, 16)}
"""Batch sizes of CUDA graphs where ``static_batch`` is null."""
STRIDE = 32
"""Sides of an RTMO's input are multiples of it."""
# Buffers with which batch norm works; other buffers are constants that the network computes.
_STATISTICS = ("running_mean", "running_var")
_OWN_LOSSES = "head.loss_"  # weights that a loss learns; only training reads them


# --- a trained network -------------------------------------------------------------


@dataclass(frozen=True)
class TrainedPose:
    """A network of mmpose with its trained weights, on the CPU.

    Attributes:
        model: mmpose's estimator, in eval mode.
        metadata: of the network in single precision and without thresholds.

    """

    model: Any
    metadata: PoseModelMetadata


def load_pose(config_file: Path, checkpoint: Path) -> TrainedPose:
    """Build the network of a config and put a checkpoint's weights into it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a config of which nothing can be built.
        CheckpointError: a checkpoint that is damaged, that holds code, which does not run, or
            with weights of another network.
        ModelError: a network that is neither RTMO nor top-down, with heatmaps or SimCC vectors of
            COCO's 17 keypoints.

    """
    config = read_pose_config(config_file)
    weights = load_checkpoint(checkpoint)["state_dict"]
    model = build_pose_model(config)
    kind, input_size = _kind_and_size(model, config)
    load_weights(model, weights, checkpoint, strict=True, required=_required(model))
    mean, std = _levels(model)
    metadata = PoseModelMetadata(
        kind=kind,
        input_size=input_size,
        layout="NCHW float32",
        normalised_inside=kind == "rtmo",
        mean_rgb=mean,
        std_rgb=std,
        thresholds=None,
        precision="fp32",
        opset=None,
        config=config_file.name,
        checkpoint=checkpoint.name,
        checkpoint_sha256=sha256_file(checkpoint),
        created_by=f"recognizer {__version__}",
    )
    return TrainedPose(model, metadata)


def _kind_and_size(model: Any, config: Any) -> tuple[PoseKind, tuple[int, int]]:
    """Return what the network is and the width and height of its input."""
    head, found = model.head, type(model).__name__
    kind: PoseKind
    if type(head).__name__ == "RTMOHead":
        kind, size = "rtmo", (config.get("codec") or {}).get("input_size")
    elif found == "TopdownPoseEstimator" and hasattr(head, "forward"):
        kind, size = "topdown", getattr(getattr(head, "decoder", None), "input_size", None)
        own = model.data_preprocessor
        if not (own._enable_normalize and own._channel_conversion):
            raise ModelError(
                f"{config.filename}: expected a data_preprocessor with mean, std and bgr_to_rgb"
            )
    else:
        raise ModelError(
            f"{config.filename}: expected an RTMO or a top-down network, got {found} with "
            f"{type(head).__name__}"
        )
    keypoints = getattr(head, "num_keypoints", getattr(head, "out_channels", 17))
    if size is None or keypoints != 17:
        raise ModelError(
            f"{config.filename}: expected COCO's 17 keypoints and a codec with an input_size"
        )
    return kind, (int(size[0]), int(size[1]))


def _levels(model: Any) -> tuple[Any, Any]:
    """Return mean and standard deviation of the levels 0-255, each (R, G, B) for top-down."""
    own = model.data_preprocessor
    if not getattr(own, "_enable_normalize", False):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = (
        # Six digits are what float32 holds of the numbers in the config.
        tuple(float(f"{v:.6g}") for v in part.flatten().tolist() for _ in range(3 // part.numel()))
        for part in (own.mean, own.std)
    )
    return mean, std


def _required(model: nn.Module) -> set[str]:
    """Return the names of the weights that running needs.

    Constants that the network computes itself and what only losses read are not among them.
    """
    parameters = {name for name, _ in model.named_parameters()}
    return {
        name
        for name in model.state_dict()
        if (name in parameters or name.endswith(_STATISTICS)) and not name.startswith(_OWN_LOSSES)
    }


# --- as a graph --------------------------------------------------------------------


def make_graph(pose: TrainedPose, metadata: PoseModelMetadata) -> RtmoGraph | TopDownGraph:
    """Return the module that ``metadata`` describes; shorter types use the model up.

    Args:
        pose: the network.
        metadata: its own, with thresholds (RTMO), layout and precision as they shall be.

    """
    uint8, dtype = metadata.layout == "NHWC uint8", DTYPES[metadata.precision]
    if metadata.thresholds is None:
        return TopDownGraph(pose.model, uint8=uint8, dtype=dtype)
    inside = metadata.thresholds
    rule = Suppression(inside.score_threshold, inside.nms_threshold, inside.max_detections)
    return RtmoGraph(pose.model, rule, uint8=uint8, dtype=dtype)


def with_options(
    metadata: PoseModelMetadata,
    thresholds: Thresholds,
    *,
    precision: str = "fp32",
    uint8: bool = False,
) -> PoseModelMetadata:
    """Return the metadata of a network that is run or written with these options."""
    return replace(
        metadata,
        thresholds=thresholds if metadata.kind == "rtmo" else None,
        precision=precision,
        layout="NHWC uint8" if uint8 else "NCHW float32",
        normalised_inside=uint8 or metadata.kind == "rtmo",
    )


def check_input_size(
    metadata: PoseModelMetadata, size_wh: tuple[int, int] | None
) -> tuple[int, int]:
    """Return width and height of the input: those given, else the config's.

    Raises:
        ModelError: a size that the network cannot take.

    """
    if size_wh is None:
        size_wh = metadata.input_size
    if metadata.kind == "topdown" and size_wh != metadata.input_size:
        raise ModelError(
            f"models.pose_estimation.pth.input_size: {metadata.config} takes "
            f"{list(metadata.input_size)} (width, height) and nothing else, got {list(size_wh)}; "
            "set input_size: null"
        )
    if metadata.kind == "rtmo" and any(side % STRIDE for side in size_wh):
        raise ModelError(
            f"models.pose_estimation.pth.input_size: expected multiples of {STRIDE} (width, "
            f"height), got {list(size_wh)}"
        )
    return size_wh


def input_spec(metadata: PoseModelMetadata, batch: int | None, *, any_size: bool) -> TensorSpec:
    """Return the input of a network with this metadata."""
    width, height = (None, None) if any_size else metadata.input_size
    if metadata.layout == "NHWC uint8":
        return TensorSpec(INPUT, (batch, height, width, 3), "tensor(uint8)")
    return TensorSpec(INPUT, (batch, 3, height, width), FLOAT)


def open_graph(
    pose: TrainedPose,
    metadata: PoseModelMetadata,
    section: TorchPoseConfig | None = None,
    threads: int | None = None,
) -> TorchNetwork:
    """Return a network that runs; in a shorter type the model is used up.

    Args:
        pose: the network.
        metadata: as for ``make_graph``.
        section: device, memory format and batches; None: the CPU.
        threads: as for ``Execution``.

    Raises:
        ModelError: as ``TorchNetwork``.

    """
    graph = make_graph(pose, metadata)
    spec = input_spec(metadata, None, any_size=False)
    shapes: tuple[tuple[int | None, ...], ...] = ((None, None, 5), (None, None, 17, 3))
    if metadata.kind == "topdown":
        size = [size or 1 for size in spec.shape]
        element = torch.uint8 if spec.dtype == "tensor(uint8)" else torch.float32
        with torch.inference_mode():
            found = graph(torch.zeros(size, dtype=element))
        parts = (found,) if isinstance(found, torch.Tensor) else found
        shapes = tuple((None, *part.shape[1:]) for part in parts)
    return TorchNetwork(
        graph,
        (spec,),
        tuple(
            TensorSpec(name, shape, FLOAT)
            for name, shape in zip(graph.outputs, shapes, strict=True)
        ),
        _execution(section, metadata.kind, threads),
        metadata={METADATA_KEY: metadata.to_text()},
    )


def _execution(section: TorchPoseConfig | None, kind: PoseKind, threads: int | None) -> Execution:
    if section is None:
        return Execution(threads=threads)
    sizes = section.batch_sizes or (RECORDED[kind] if section.cuda_graph else ())
    return Execution(
        device=section.device,
        channels_last=section.channels_last,
        threads=threads,
        batch_sizes=sizes,
        cuda_graph=section.cuda_graph,
    )


def open_pose(
    config_file: Path, checkpoint: Path, section: TorchPoseConfig, threads: int | None = None
) -> TorchNetwork:
    """Open a trained pose network as the config says. Raises as ``load_pose``."""
    check_device(section.device)
    if section.device == "cpu" and section.precision == "fp16":
        raise ModelError(
            "models.pose_estimation.pth.precision: fp16 takes a GPU; torch computes it on a CPU up "
            "to 70 times slower than fp32. Set precision: fp32 or bf16"
        )
    if section.device == "cpu" and section.cuda_graph:
        raise ModelError(
            "models.pose_estimation.pth.cuda_graph: it takes a GPU, got device: cpu; set "
            "cuda_graph: false, or device: cuda:0"
        )
    pose = load_pose(config_file, checkpoint)
    size = check_input_size(pose.metadata, section.input_size)
    inside = Thresholds(section.score_threshold, section.nms_threshold, section.max_detections)
    metadata = with_options(
        pose.metadata, inside, precision=section.precision, uint8=section.uint8_input
    )
    return open_graph(pose, replace(metadata, input_size=size), section, threads)
