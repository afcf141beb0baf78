"""Take a composed file apart again, to fine-tune its parts.

    python -m samples.small_pose.split samples/models/small_pose.onnx weights output/small_pose

writes ``detector.onnx`` and ``pose.onnx``, which both trainings take as ``--start``.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from samples.one_line_errors import one_line_errors
from samples.small_pose import starts
from samples.small_pose.compose import HALF
from samples.small_pose.crops import CROP
from samples.small_pose.files import read_network, write_network
from samples.small_pose.graph import TrainableGraph


def part(composed: onnx.ModelProto, name: str, start: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``detector`` or ``pose`` of a composed file, in the graph that it was trained in.

    Raises:
        ValueError: a file that ``compose`` did not write, or one of another graph.

    """
    values = {i.name.removesuffix(HALF): i for i in composed.graph.initializer}
    graph = TrainableGraph(start)
    for key, parameter in graph.weights.items():
        stored = values.get(f"{name}.weights.{key}")
        shape = None if stored is None else tuple(stored.dims)
        if stored is None or shape != tuple(parameter.shape):
            raise ValueError(
                f"{name}.weights.{key}: expected shape {tuple(parameter.shape)}, found "
                f"{shape or 'none'}; name a file of samples.small_pose.compose"
            )
        array = numpy_helper.to_array(stored).astype(np.float32)
        parameter.data.copy_(torch.from_numpy(array))
    return graph.trained()


@one_line_errors
def main() -> int:
    """Write both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("composed", type=Path)
    parser.add_argument("weights", type=Path, help="folder of the public files")
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    composed = read_network(given.composed)
    graphs = {
        "detector": starts.detector(given.weights / "yolox_nano.onnx"),
        "pose": starts.pose(given.weights / "pp_tinypose_256x192.onnx", CROP, CROP),
    }
    for name, start in graphs.items():
        write_network(part(composed, name, start), given.output / f"{name}.onnx")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
