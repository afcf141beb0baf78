"""Read an ONNX file as a torch module that can be trained, and write what it learnt back.

The operators are those of YOLOX-nano's and PP-TinyPose's public files: convolutions with the
normalisation folded in, activations, and moves of memory. Only initialisers of convolutions
change, so that the file that comes out is the file that went in with other weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional


class TrainableGraph(nn.Module):
    """An ONNX graph of one input and one output, its convolutions' weights as parameters.

    Args:
        model: its batch is free.

    Raises:
        ValueError: an operator that is not known here.

    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.model = model
        self._values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        self._steps: list[tuple[Callable[..., Any], list[str], list[str]]] = []
        self.weights = nn.ParameterDict()
        self._names: dict[str, str] = {}
        for node in model.graph.node:
            self._add(node)
        self._input = model.graph.input[0].name
        self._output = model.graph.output[0].name

    def _add(self, node: onnx.NodeProto) -> None:
        if node.op_type not in _OPERATORS:
            raise ValueError(
                f"{node.name}: expected one of {sorted(_OPERATORS)}, got {node.op_type}; this "
                "module knows only the operators of YOLOX and PP-TinyPose"
            )
        inputs = list(node.input)
        if node.op_type == "Conv":
            for name in inputs[1:]:
                self._names[name] = f"w{len(self._names)}"
                array = self._values[name].astype(np.float32)
                self.weights[self._names[name]] = nn.Parameter(torch.from_numpy(array.copy()))
            constants = {}
        else:
            constants = {i: self._values[n] for i, n in enumerate(inputs) if n in self._values}
            inputs = [n for i, n in enumerate(inputs) if n not in self._values and n]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        run = _OPERATORS[node.op_type](attributes, constants, len(node.output))
        self._steps.append((run, inputs, list(node.output)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the graph's output."""
        values: dict[str, Tensor] = {self._input: images}
        for run, inputs, outputs in self._steps:
            arguments = [
                self.weights[self._names[name]] if name in self._names else values[name]
                for name in inputs
            ]
            result = run(*arguments)
            if len(outputs) == 1:
                values[outputs[0]] = result
            else:
                values.update(zip(outputs, result, strict=True))
        return values[self._output]

    def trained(self) -> onnx.ModelProto:
        """Return a copy of the graph with the weights as they are now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for value in model.graph.initializer:
            if value.name in self._names:
                array = self.weights[self._names[value.name]].detach().cpu().numpy()
                value.CopyFrom(numpy_helper.from_array(array, value.name))
        return model


def _conv(attributes: dict[str, Any], _: dict[int, Any], __: int) -> Callable[..., Tensor]:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise ValueError(f"Conv: expected equal padding on opposite sides, got {attributes}")
    options = {
        "stride": tuple(attributes.get("strides", [1, 1])),
        "padding": (top, left),
        "dilation": tuple(attributes.get("dilations", [1, 1])),
        "groups": attributes.get("group", 1),
    }
    return lambda x, weight, bias=None: functional.conv2d(x, weight, bias, **options)


def _slice(_: dict[str, Any], constants: dict[int, Any], __: int) -> Callable[..., Tensor]:
    starts, ends, axes = (constants[i].reshape(-1).tolist() for i in (1, 2, 3))
    steps = constants[4].reshape(-1).tolist() if 4 in constants else [1] * len(starts)
    index = [slice(None)] * 4
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, None if end > 2**31 - 2 else end, step)
    return lambda x: x[tuple(index)]


def _split(attributes: dict[str, Any], _: dict[int, Any], count: int) -> Callable[..., Any]:
    axis = attributes["axis"]
    return lambda x: x.chunk(count, axis)


def _pool(attributes: dict[str, Any], _: dict[int, Any], __: int) -> Callable[..., Tensor]:
    (side, _other), pad = attributes["kernel_shape"], attributes["pads"][0]
    return lambda x: functional.max_pool2d(x, side, 1, pad)


def _resize(attributes: dict[str, Any], constants: dict[int, Any], _: int) -> Callable[..., Tensor]:
    scale = float(constants[2][-1])
    if attributes["mode"] == b"nearest":
        return lambda x: functional.interpolate(x, scale_factor=scale, mode="nearest")
    return lambda x: functional.interpolate(
        x, scale_factor=scale, mode="bilinear", align_corners=True
    )


def _reshape(_: dict[str, Any], constants: dict[int, Any], __: int) -> Callable[..., Tensor]:
    shape = constants[1].tolist()

    def run(x: Tensor) -> Tensor:
        return x.reshape([x.shape[i] if side == 0 else side for i, side in enumerate(shape)])

    return run


def _concat(attributes: dict[str, Any], _: dict[int, Any], __: int) -> Callable[..., Tensor]:
    axis = attributes["axis"]
    return lambda *parts: torch.cat(parts, axis)


def _transpose(attributes: dict[str, Any], _: dict[int, Any], __: int) -> Callable[..., Tensor]:
    order = list(attributes["perm"])
    return lambda x: x.permute(order)


def _plain(run: Callable[..., Tensor]) -> Callable[..., Callable[..., Tensor]]:
    return lambda attributes, constants, count: run


_OPERATORS: dict[str, Callable[..., Callable[..., Any]]] = {
    "Conv": _conv,
    "Slice": _slice,
    "Split": _split,
    "MaxPool": _pool,
    "Resize": _resize,
    "Reshape": _reshape,
    "Concat": _concat,
    "Transpose": _transpose,
    "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Mul": _plain(torch.mul),
    "Add": _plain(torch.add),
    "Identity": _plain(lambda x: x),
}
