"""A SimCC network and end2end detectors whose right answer is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def save_model(
    path: Path, nodes: Any, inputs: Any, outputs: Any, constants: dict[str, Any]
) -> Path:
    """Save a checked graph with these weights."""
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def _float(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def simcc(
    path: Path,
    *,
    batch: int | str = "B",
    crop_wh: tuple[int, int] = (192, 256),
    channels: int = 17,
    shift: float = 0.0,
) -> Path:
    """Save a SimCC network: the highest brightness of each column and row, at 2 cells per pixel.

    ``shift`` is added to every cell.
    """
    width, height = crop_wh
    n = helper.make_node
    nodes = [
        n("ReduceMean", ["input"], ["mean"], axes=[1], keepdims=1),
        n("Add", ["mean", "shift"], ["grey"]),  # (B, 1, H, W)
        n("ReduceMax", ["grey"], ["columns"], axes=[2], keepdims=0),
        n("ReduceMax", ["grey"], ["rows"], axes=[3], keepdims=0),  # (B, 1, H)
        n("Resize", ["columns", "", "scales"], ["x"], mode="linear"),
        n("Resize", ["rows", "", "scales"], ["y"], mode="linear"),
        n("Concat", ["x"] * channels, ["simcc_x"], axis=1),
        n("Concat", ["y"] * channels, ["simcc_y"], axis=1),
    ]
    outputs = [
        _float("simcc_x", [batch, channels, 2 * width]),
        _float("simcc_y", [batch, channels, 2 * height]),
    ]
    constants = {"shift": np.float32(shift), "scales": np.array([1, 1, 2], np.float32)}
    return save_model(path, nodes, [_float("input", [batch, 3, height, width])], outputs, constants)


def end2end(
    path: Path,
    dets: NDArray[np.float32],
    labels: Sequence[int],
    *,
    weight: str,
    size_wh: tuple[int | str, int | str] = (64, 64),
    batch: int | str = "B",
) -> Path:
    """Save a detector with fixed detections (N, 5), whose scores are times the mean input.

    Args:
        path: the file.
        dets: x1 y1 x2 y2 score, network pixels.
        labels: class of each.
        weight: name of its one weight, such as ``bbox_head.rtm_cls.0.weight``.
        size_wh, batch: of the input.

    """
    n = helper.make_node
    nodes = [
        n("ReduceMean", ["input"], ["level"], axes=[1, 2, 3], keepdims=0),  # (B,)
        n("Reshape", ["level", "column"], ["level3"]),  # (B, 1, 1)
        n("Mul", ["level3", weight], ["scale"]),  # (B, 1, 5): 0 0 0 0 level
        n("Add", ["scale", "still"], ["factors"]),
        n("Mul", ["table", "factors"], ["dets"]),
        n("Shape", ["level"], ["count"]),
        n("Concat", ["count", "people"], ["shape"], axis=0),
        n("Expand", ["numbers", "shape"], ["labels"]),
    ]
    constants = {
        weight: np.array([[[0, 0, 0, 0, 1]]], np.float32),
        "still": np.array([[[1, 1, 1, 1, 0]]], np.float32),
        "column": np.array([-1, 1, 1]),
        "table": dets[None],
        "people": np.array([len(labels)]),
        "numbers": np.array([labels]),
    }
    outputs = [
        _float("dets", [batch, len(labels), 5]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, len(labels)]),
    ]
    width, height = size_wh
    inputs = [_float("input", [batch, 3, height, width])]
    return save_model(path, nodes, inputs, outputs, constants)
