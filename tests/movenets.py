"""Networks that keep MoveNet's contracts and find the pixel of the most red."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from tests.detectors import save_model

_N = helper.make_node
# Of every graph: the place of the reddest pixel, as shares of the input, (1, 1) each.
_PLACE: list[NodeProto] = [
    _N("Cast", ["input"], ["levels"], to=TensorProto.FLOAT),
    _N("Slice", ["levels", "zero", "one", "three"], ["red"]),  # (1, H, W, 1), RGB
    _N("Reshape", ["red", "flat"], ["cells"]),
    _N("ArgMax", ["cells"], ["best"], axis=1, keepdims=1),
    _N("Shape", ["input"], ["sizes"]),
    _N("Slice", ["sizes", "one", "two"], ["h"]),
    _N("Slice", ["sizes", "two", "three"], ["w"]),
    _N("Mod", ["best", "w"], ["column"]),
    _N("Div", ["best", "w"], ["row"]),
]
for name, cell, side in (("x", "column", "w"), ("y", "row", "h")):
    _PLACE += [
        _N("Cast", [cell], [f"{cell}_f"], to=TensorProto.FLOAT),
        _N("Cast", [side], [f"{side}_f"], to=TensorProto.FLOAT),
        _N("Add", [f"{cell}_f", "half"], [f"{cell}_centre"]),
        _N("Div", [f"{cell}_centre", f"{side}_f"], [name]),
    ]
_CONSTANTS: dict[str, Any] = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "three": np.array([3]),
    "flat": np.array([1, -1]),
    "half": np.array(0.5, np.float32),
}


def multipose(
    path: Path,
    *,
    score: float = 0.2,
    keypoint_score: float = 0.6,
    input_wh: Sequence[int | str] = ("W", "H"),
    dtype: int = TensorProto.INT32,
    people: int = 6,
) -> Path:
    """Save a MultiPose network: the last row has a person on the pixel, 0.1 wide, 0.2 high."""
    width, height = input_wh
    nodes = [
        *_PLACE,
        _N("Sub", ["x", "tenth"], ["x1"]),
        _N("Add", ["x", "tenth"], ["x2"]),
        _N("Sub", ["y", "fifth"], ["y1"]),
        _N("Add", ["y", "fifth"], ["y2"]),
        _N("Concat", [*["y", "x", "sure"] * 17, "y1", "x1", "y2", "x2", "score"], ["p"], axis=1),
        _N("Unsqueeze", ["p", "one"], ["person"]),
        _N("Concat", ["empty", "person"], ["output"], axis=1),
    ]
    constants = _CONSTANTS | {
        "tenth": np.array(0.05, np.float32),
        "fifth": np.array(0.1, np.float32),
        "sure": np.array([[keypoint_score]], np.float32),
        "score": np.array([[score]], np.float32),
        "empty": np.full((1, people - 1, 56), 0.02, np.float32),
    }
    taken = helper.make_tensor_value_info("input", dtype, [1, height, width, 3])
    given = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, people, 56])
    return save_model(path, nodes, [taken], [given], constants)


def single(path: Path, *, side: int = 256, dtype: int = TensorProto.INT32) -> Path:
    """Save a Thunder (256) or Lightning (192) network: all keypoints on the pixel.

    The score of keypoint k is 0.1 + 0.05 k.
    """
    nodes = [
        *_PLACE,
        _N("Concat", ["y", "x"], ["place"], axis=1),
        _N("Unsqueeze", ["place", "axes"], ["place4"]),  # (1, 1, 1, 2)
        _N("Expand", ["place4", "shape"], ["places"]),
        _N("Concat", ["places", "scores"], ["output"], axis=3),
    ]
    constants = _CONSTANTS | {
        "axes": np.array([1, 2]),
        "shape": np.array([1, 1, 17, 2]),
        "scores": (0.1 + 0.05 * np.arange(17, dtype=np.float32)).reshape(1, 1, 17, 1),
    }
    taken = helper.make_tensor_value_info("input", dtype, [1, side, side, 3])
    given = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 17, 3])
    return save_model(path, nodes, [taken], [given], constants)
