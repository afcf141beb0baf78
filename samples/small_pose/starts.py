"""The two public networks that ours starts from, with free batch, one class and other sizes.

YOLOX-nano (Megvii, Apache-2.0, trained on COCO) keeps its class ``person`` alone; PP-TinyPose
(PaddleDetection, Apache-2.0, trained on COCO and AI Challenger) takes square crops of any side
that 32 divides.

    python -m samples.small_pose.starts ../shared/assets/weights output/small_pose

writes both as files.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from samples.one_line_errors import one_line_errors
from samples.small_pose.files import read_network, write_network

DETECTOR_SIDE = 416
"""Sides of the detector's input, pixels."""
_CLASSES = 80


def detector(path: Path) -> onnx.ModelProto:
    """Return YOLOX-nano for one class: (B, 3, 416, 416) BGR 0-255 -> (B, 3549, 6) raw.

    Rows are x, y offsets in cells, log width and height in cells, object and person scores.
    """
    model = read_network(path)
    for value in model.graph.initializer:
        array = numpy_helper.to_array(value)
        if "cls_preds" in value.name and len(array) == _CLASSES:
            value.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array[:1]), value.name))
        elif array.dtype == np.int64 and array.tolist() == [1, 5 + _CLASSES, -1]:
            value.CopyFrom(numpy_helper.from_array(np.array([0, 6, -1], np.int64), value.name))
    return _free_batch(model, [3, DETECTOR_SIDE, DETECTOR_SIDE], [3549, 6])


def pose(path: Path, height: int, width: int) -> onnx.ModelProto:
    """Return PP-TinyPose for another size: (B, 3, H, W) -> heatmaps (B, 17, H/4, W/4).

    The input is RGB, normalised by ``recognizer.imagenet``.
    """
    model = read_network(path)
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    tall, wide = dims[2], dims[3]
    values = {value.name: value for value in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Reshape":
            shape = numpy_helper.to_array(values[node.input[1]]).copy()
            shape[0] = 0
            if node.input[0].startswith("concat"):  # channels in groups; the rest in one
                shape[3] = -1
            else:
                shape[2], shape[3] = shape[2] * height // tall, shape[3] * width // wide
            values[node.input[1]].CopyFrom(numpy_helper.from_array(shape, node.input[1]))
        elif node.op_type == "Resize" and len(node.input) == 4:  # to a size: always to twice
            name = node.input[3]
            scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), name)
            values[name].CopyFrom(scales)
            node.input[2] = name
            del node.input[3]
    return _free_batch(model, [3, height, width], [17, height // 4, width // 4])


def _free_batch(model: onnx.ModelProto, inner: list[int], outer: list[int]) -> onnx.ModelProto:
    """Give input and output a free batch and their new sizes; forget the shapes between."""
    del model.graph.value_info[:]
    for value, shape in ((model.graph.input[0], inner), (model.graph.output[0], outer)):
        fresh = onnx.helper.make_tensor_value_info(
            value.name, onnx.TensorProto.FLOAT, ["batch", *shape]
        )
        value.CopyFrom(fresh)
    return model


@one_line_errors
def main() -> int:
    """Write ``start_detector.onnx`` and ``start_pose.onnx``."""
    from samples.small_pose.crops import CROP

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path, help="folder of the public files")
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    found = detector(given.weights / "yolox_nano.onnx")
    posed = pose(given.weights / "pp_tinypose_256x192.onnx", CROP, CROP)
    write_network(found, given.output / "start_detector.onnx")
    write_network(posed, given.output / "start_pose.onnx")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
