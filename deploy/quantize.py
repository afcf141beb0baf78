"""Write the convolutions of an ONNX file in 8 bits, by ONNX Runtime's static quantization.

Needs onnx, not torch. Source of the scheme: Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference"; weights per channel, activations per
tensor.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from recognizer.backends.network import ModelError

INPUT = "input"
NetworkInput: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]
"""What a pose network takes: images or crops (B, 3, H, W) float32 or (B, H, W, 3) uint8."""


class CalibrationInputs:
    """Inputs for ONNX Runtime's calibration, one after another."""

    def __init__(self, inputs: Iterator[NetworkInput]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, NetworkInput] | None:
        """Return the next input, None at the end."""
        array = next(self._inputs, None)
        return None if array is None else {INPUT: array}


def quantize(
    single: Path,
    path: Path,
    feeds: CalibrationInputs,
    layers: tuple[str, ...],
    without: str | None = None,
) -> int:
    """Write a network with convolutions in 8 bits, per channel; return their number.

    Args:
        single: the network, its weights in float32.
        path: the file to write.
        feeds: inputs to calibrate on.
        layers: how the names of the convolutions start.
        without: what names of convolutions hold that stay as they are; None: none.

    Raises:
        ModelError: no convolutions.

    """
    from onnxruntime.quantization import QuantType, quantize_static

    nodes = onnx.load(str(single)).graph.node
    names = [node.name for node in nodes if node.op_type == "Conv"]
    chosen = [n for n in names if n.startswith(layers) and (without is None or without not in n)]
    if not chosen:
        raise ModelError(f"{single.name}: expected convolutions to write in 8 bits, found none")
    quantize_static(
        str(single),
        str(path),
        feeds,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        nodes_to_quantize=chosen,
    )
    return len(chosen)


def calibration_batch(array: NetworkInput, batch: int | None) -> NetworkInput:
    """Return an input (1, ...) repeated to a fixed batch size; None: as it is."""
    return np.concatenate([array] * batch) if batch else array
