"""Mix a trained network with the one it started from, weight by weight.

    python -m samples.small_pose.mix start.onnx trained.onnx 0.5 mixed.onnx

What is learnt from few recordings costs knowledge of all others; on the straight line between both
networks lie ones that have most of both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models").
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from samples.one_line_errors import one_line_errors
from samples.small_pose.files import read_network, write_network


def mixed(start: onnx.ModelProto, trained: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """Return the graph with ``share`` of the trained weights and the rest of the start's.

    Raises:
        ValueError: a share outside 0 to 1, or graphs whose initialisers differ in name or shape.

    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected 0 to 1, got {share:g}")
    result = onnx.ModelProto()
    result.CopyFrom(trained)
    before = {value.name: numpy_helper.to_array(value) for value in start.graph.initializer}
    for value in result.graph.initializer:
        now = numpy_helper.to_array(value)
        old = before.get(value.name)
        if old is None or old.shape != now.shape:
            raise ValueError(
                f"{value.name}: expected {now.shape} in both networks, got "
                f"{'nothing' if old is None else old.shape} in the start; mix a network with the "
                "one that it was trained from"
            )
        if now.dtype == np.float32:
            between = (old + share * (now - old)).astype(np.float32)
            value.CopyFrom(numpy_helper.from_array(between, value.name))
    return result


@one_line_errors
def main() -> int:
    """Mix two files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("start", type=Path)
    parser.add_argument("trained", type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    start, trained = (read_network(path) for path in (given.start, given.trained))
    write_network(mixed(start, trained, given.share), given.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
