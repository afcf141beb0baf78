"""Small real ONNX networks whose right answer is known: they find a bright dot.

They keep the contracts of RTMO, of heatmap models and of YOLOX, run in ONNX Runtime, and
so show whether letterbox, crop, batch and the way back to image pixels are right.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper


def _model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Iterable[tuple[str, NDArray[Any]]] = (),
) -> Path:
    graph = helper.make_graph(
        nodes, "test", inputs, outputs, [numpy_helper.from_array(v, n) for n, v in constants]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def _float(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def rtmo(
    path: Path, *, input_wh: tuple[int, int] = (64, 64), score: float = 0.9, batch: int | str = "B"
) -> Path:
    """Save an RTMO-contract network: one person, all keypoints on the brightest blue pixel."""
    width, height = input_wh
    constants: list[tuple[str, NDArray[Any]]] = [
        ("blue_start", np.array([0])),
        ("blue_stop", np.array([1])),
        ("axis1", np.array([1])),
        ("flat", np.array([0, -1])),
        ("w", np.array(width)),
        ("column", np.array([0, 1, 1])),
        ("half", np.array(4.0, np.float32)),
        ("score", np.array([[[score]]], np.float32)),
        ("times", np.array([1, 1, 17, 1])),
        ("axis2", np.array([2])),
        ("one", np.array(1.0, np.float32)),
    ]
    n = helper.make_node
    nodes = [
        n("Slice", ["input", "blue_start", "blue_stop", "axis1"], ["blue"]),
        n("Reshape", ["blue", "flat"], ["cells"]),
        n("ArgMax", ["cells"], ["best"], axis=1, keepdims=1),  # (B, 1)
        n("Mod", ["best", "w"], ["xi"]),
        n("Div", ["best", "w"], ["yi"]),
        n("Cast", ["xi"], ["x"], to=TensorProto.FLOAT),
        n("Cast", ["yi"], ["y"], to=TensorProto.FLOAT),
        n("Unsqueeze", ["x", "axis2"], ["x3"]),
        n("Unsqueeze", ["y", "axis2"], ["y3"]),  # (B, 1, 1)
        n("Sub", ["x3", "half"], ["x1"]),
        n("Sub", ["y3", "half"], ["y1"]),
        n("Add", ["x3", "half"], ["x2"]),
        n("Add", ["y3", "half"], ["y2"]),
        n("Mul", ["x3", "zero"], ["nothing"]),
        n("Add", ["nothing", "score"], ["s3"]),
        n("Concat", ["x1", "y1", "x2", "y2", "s3"], ["dets"], axis=2),
        n("Add", ["nothing", "one"], ["ones"]),
        n("Concat", ["x3", "y3", "ones"], ["point"], axis=2),
        n("Unsqueeze", ["point", "axis2"], ["point4"]),
        n("Tile", ["point4", "times"], ["keypoints"]),
    ]
    constants.append(("zero", np.array(0.0, np.float32)))
    outputs = [_float("dets", [batch, 1, 5]), _float("keypoints", [batch, 1, 17, 3])]
    return _model(path, nodes, [_float("input", [batch, 3, height, width])], outputs, constants)


def heatmap(
    path: Path, *, batch: int | str = "B", channels: int = 17, crop_wh: tuple[int, int] = (192, 256)
) -> Path:
    """Save a heatmap network: every heatmap is the picture's brightness at a quarter size."""
    width, height = crop_wh
    n = helper.make_node
    nodes = [
        n("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1),
        n("AveragePool", ["grey"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        n("Concat", ["small"] * channels, ["heatmaps"], axis=1),
    ]
    out = _float("heatmaps", [batch, channels, height // 4, width // 4])
    return _model(path, nodes, [_float("image", [batch, 3, height, width])], [out])


def constant_yolox(
    path: Path,
    rows: Mapping[int, ArrayLike],
    *,
    input_wh: tuple[int, int] = (64, 64),
    batch: int | str = "B",
) -> Path:
    """Save a YOLOX-contract network with the same raw rows {cell: (85,) values} always."""
    width, height = input_wh
    cells = sum((width // s) * (height // s) for s in (8, 16, 32))
    table = np.zeros((1, cells, 85), np.float32)
    for cell, values in rows.items():
        table[0, cell] = values
    n = helper.make_node
    nodes = [
        n("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        n("Mul", ["mean", "zero"], ["nothing"]),
        n("Reshape", ["nothing", "shape"], ["column"]),
        n("Add", ["column", "table"], ["output"]),
    ]
    constants: list[tuple[str, NDArray[Any]]] = [
        ("zero", np.array(0.0, np.float32)),
        ("shape", np.array([-1, 1, 1])),
        ("table", table),
    ]
    images = _float("images", [batch, 3, height, width])
    return _model(path, nodes, [images], [_float("output", [batch, cells, 85])], constants)
