"""Write a pose network as ONNX, with its metadata, and in 8 bits.

Written with torch's TorchScript exporter, as the classifiers are; the other one needs onnxscript.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from deploy.quantize import CalibrationInputs, NetworkInput, quantize
from recognizer.backends.metadata import PoseModelMetadata
from recognizer.backends.network import ModelError
from recognizer.backends.torch import INPUT, TrainedPose, make_graph
from recognizer.storage.artifacts import METADATA_KEY

OPSET = 17
_EXAMPLE_BATCH = 2  # some operators would take a batch of 1 for a constant
_LAYERS = ("/backbone/", "/neck/", "/layers/", "/head/")
_LAST_LAYERS = "/out_"  # RTMO's predictions: boxes and scores are their values


def write_graph(
    path: Path, pose: TrainedPose, metadata: PoseModelMetadata, *, batch: int | None, any_size: bool
) -> None:
    """Write a network as an ONNX file, checked by onnx.

    Args:
        path: the file.
        pose: the network; in half precision it is converted in place.
        metadata: of the file.
        batch: images or crops of each call; None: any number.
        any_size: leave height and width free (RTMO only).

    Raises:
        ModelError: a file that onnx refuses.
        OSError: it cannot be written.

    """
    uint8 = metadata.layout == "NHWC uint8"
    width, height = metadata.input_size
    size = (
        (batch or _EXAMPLE_BATCH, height, width, 3)
        if uint8
        else (batch or _EXAMPLE_BATCH, 3, height, width)
    )
    example = torch.zeros(size, dtype=torch.uint8 if uint8 else torch.float32)
    graph = make_graph(pose, metadata)
    names = graph.outputs
    first = 1 if uint8 else 2
    axes: dict[str, dict[int, str]] = {INPUT: {}, **{name: {} for name in names}}
    if batch is None:
        axes = {name: {0: "batch"} for name in axes}
    if metadata.kind == "rtmo":
        for name in names:
            axes[name][1] = "people"
        if any_size:
            axes[INPUT] |= {first: "height", first + 1: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # its deprecation; shapes that are constants here
        torch.onnx.export(
            graph,
            (example,),
            str(path),
            input_names=[INPUT],
            output_names=list(names),
            dynamic_axes={name: free for name, free in axes.items() if free},
            opset_version=OPSET,
            dynamo=False,
        )
    describe(path, metadata)


def describe(path: Path, metadata: PoseModelMetadata) -> None:
    """Set a file's metadata and check the whole file by onnx."""
    model = onnx.load(str(path))
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=replace(metadata, opset=OPSET).to_text())
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path.name}: onnx refuses what was written: {error}") from error
    onnx.save(model, str(path))


def write_int8(
    path: Path, single: Path, metadata: PoseModelMetadata, inputs: Iterator[NetworkInput]
) -> int:
    """Write a network with convolutions in 8 bits, per channel; return their number.

    Args:
        path: the file to write.
        single: the network in single precision.
        metadata: of the file.
        inputs: real inputs of the network, to calibrate on.

    Raises:
        ModelError: no convolutions.

    """
    count = quantize(single, path, CalibrationInputs(inputs), _LAYERS, _LAST_LAYERS)
    describe(path, replace(metadata, precision="int8"))
    return count
