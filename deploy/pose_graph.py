"""A pose network as ONNX bytes: traced, described, and in 8 bits.

Written with torch's TorchScript exporter, as the classifiers are; the other one needs onnxscript.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from recognizer.backends.metadata import METADATA_KEY, PoseModelMetadata
from recognizer.backends.network import ModelError
from recognizer.backends.torch import INPUT, OUTPUTS, TrainedPose, make_graph

OPSET = 17
_EXAMPLE_BATCH = 2  # one alone would be taken for a constant by some operators
_LAYERS = ("/backbone/", "/neck/", "/layers/", "/head/")
_LAST_LAYERS = "/out_"  # RTMO's predictions: boxes and scores are their values


def write_graph(
    path: Path, pose: TrainedPose, facts: PoseModelMetadata, *, batch: int | None, any_size: bool
) -> None:
    """Write a network as an ONNX file that onnx itself finds right.

    Args:
        path: the file.
        pose: the network; in a shorter type it is used up.
        facts: what the file shall be and say of itself.
        batch: images (crops) of every run, None for any number.
        any_size: whether height and width stay free (RTMO only).

    Raises:
        ModelError: a file that onnx refuses.
        OSError: it cannot be written.

    """
    uint8 = facts.layout == "NHWC uint8"
    width, height = facts.input_size
    size = (
        (batch or _EXAMPLE_BATCH, height, width, 3)
        if uint8
        else (batch or _EXAMPLE_BATCH, 3, height, width)
    )
    example = torch.zeros(size, dtype=torch.uint8 if uint8 else torch.float32)
    names = OUTPUTS[facts.kind]
    first = 1 if uint8 else 2
    axes: dict[str, dict[int, str]] = {INPUT: {}, **{name: {} for name in names}}
    if batch is None:
        axes = {name: {0: "batch"} for name in axes}
    if facts.kind == "rtmo":
        for name in names:
            axes[name][1] = "people"
        if any_size:
            axes[INPUT] |= {first: "height", first + 1: "width"}
    graph = make_graph(pose, facts)
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
    describe(path, facts)


def describe(path: Path, facts: PoseModelMetadata) -> None:
    """Put facts into a file's metadata and let onnx check the whole of it."""
    model = onnx.load(str(path))
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=replace(facts, opset=OPSET).to_text())
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path.name}: onnx refuses what was written: {error}") from error
    onnx.save(model, str(path))


# --- 8 bits ------------------------------------------------------------------------


class _Feeds:
    """What onnxruntime's calibration asks for, one input after another."""

    def __init__(self, inputs: Iterator[NDArray[Any]]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next input, None at the end."""
        array = next(self._inputs, None)
        return None if array is None else {INPUT: array}


def write_int8(
    path: Path, single: Path, facts: PoseModelMetadata, inputs: Iterator[NDArray[Any]]
) -> int:
    """Write a file's convolutions in 8 bits, signed and per channel; return how many there are.

    Args:
        path: the file to write.
        single: the network in single precision.
        facts: of the file.
        inputs: real inputs of the network, from which the ranges of values are taken.

    Raises:
        ModelError: no convolutions.

    """
    from onnxruntime.quantization import QuantType, quantize_static

    nodes = onnx.load(str(single)).graph.node
    names = [node.name for node in nodes if node.op_type == "Conv"]
    convolutions = [n for n in names if n.startswith(_LAYERS) and _LAST_LAYERS not in n]
    if not convolutions:
        raise ModelError(f"{single.name}: expected convolutions to write in 8 bits, found none")
    quantize_static(
        str(single),
        str(path),
        _Feeds(inputs),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        nodes_to_quantize=convolutions,
    )
    describe(path, replace(facts, precision="int8"))
    return len(convolutions)


def calibration_batch(array: NDArray[Any], batch: int | None) -> NDArray[Any]:
    """Return one input as often as a file of fixed batch wants it."""
    return np.repeat(array, batch, axis=0) if batch else array
