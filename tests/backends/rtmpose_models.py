"""An RTMPose with weights from a seed and YOLOX-nano with NMS inside, as mmdeploy writes them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper

from recognizer.openmmlab import shipped_config
from tests.backends.pose_models import random_model

RTMPOSE_S = "body_2d_keypoint/rtmpose/body8/rtmpose-s_8xb256-420e_body8-256x192.py"
RTMPOSE_M = "body_2d_keypoint/rtmpose/body8/rtmpose-m_8xb256-420e_body8-256x192.py"


@torch.no_grad()
def seeded_rtmpose(name: str = RTMPOSE_S) -> Any:
    """Return RTMPose by mmpose's own config, with weights from a seed."""
    model = random_model(shipped_config("mmpose", name))
    width, height = model.head.input_size
    crops = torch.randn(8, 3, height, width, generator=torch.Generator().manual_seed(0))
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.train()
            norm.momentum = None
            norm.reset_running_stats()
    model.backbone(crops)
    model.eval()
    # Born small: vectors of no height would all decode alike.
    for layer, value in model.head.named_parameters():
        if "cls_" in layer:
            value.mul_(100)
    return model


def save_rtmpose_checkpoint(folder: Path, name: str = RTMPOSE_S) -> tuple[Path, Path]:
    """Write the weights as training does; return mmpose's config and the checkpoint."""
    checkpoint = folder / "rtmpose.pth"
    torch.save({"state_dict": seeded_rtmpose(name).state_dict(), "meta": {}}, checkpoint)
    return shipped_config("mmpose", name), checkpoint


@torch.no_grad()
def save_rtmpose(path: Path, name: str = RTMPOSE_S) -> Path:
    """Write RTMPose as mmdeploy does: outputs ``simcc_x`` and ``simcc_y``, free batch."""
    model = seeded_rtmpose(name)
    width, height = model.head.input_size
    crops = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = model.backbone, model.head

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = self.head(self.backbone(image))
            return x, y

    axes = {key: {0: "batch"} for key in ("input", "simcc_x", "simcc_y")}
    torch.onnx.export(
        Exported().eval(),
        (crops,),
        str(path),
        input_names=["input"],
        output_names=["simcc_x", "simcc_y"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    return path


def save_end2end_yolox(path: Path, source: Path, *, most: int = 50) -> Path:
    """Write a raw YOLOX file with batch 1 as an end2end one: decoded, persons only, NMS inside.

    Args:
        path: where to.
        source: YOLOX without NMS, raw.
        most: people that it gives at most.

    """
    model = onnx.load(str(source))
    (image,), (raw,) = model.graph.input, model.graph.output
    height, width = (dim.dim_value for dim in image.type.tensor_type.shape.dim[2:])
    corners, strides = [], []
    for stride in (8, 16, 32):
        xs, ys = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        corners.append(np.stack([xs.ravel(), ys.ravel()], axis=1))
        strides.append(np.full((xs.size, 1), stride))
    constants = {
        "grid": np.concatenate(corners)[None].astype(np.float32),
        "stride": np.concatenate(strides)[None].astype(np.float32),
        "half": np.float32(0.5),
        "sizes": np.array([2, 2, 1, 1, 79]),
        "most": np.array([most]),
        "overlap": np.array([0.65], np.float32),
        "least": np.array([0.05], np.float32),
        "flat": np.array([-1]),
        "two": np.array([2]),
        "third": np.array([2]),
        "bbox_head.multi_level_conv_cls.0.weight": np.zeros(1, np.float32),
    }
    n = helper.make_node
    nodes = [
        n("Split", ["raw", "sizes"], ["offset", "log_size", "seen", "person", "rest"], axis=2),
        n("Add", ["offset", "grid"], ["cell"]),
        n("Mul", ["cell", "stride"], ["centre"]),
        n("Exp", ["log_size"], ["size_cells"]),
        n("Mul", ["size_cells", "stride"], ["size"]),
        n("Mul", ["size", "half"], ["half_size"]),
        n("Sub", ["centre", "half_size"], ["low"]),
        n("Add", ["centre", "half_size"], ["high"]),
        n("Concat", ["low", "high"], ["boxes"], axis=2),
        n("Mul", ["seen", "person"], ["score"]),  # (1, cells, 1)
        n("Transpose", ["score"], ["ranked"], perm=[0, 2, 1]),
        n("NonMaxSuppression", ["boxes", "ranked", "most", "overlap", "least"], ["kept"]),
        n("Concat", ["boxes", "score"], ["rows"], axis=2),
        n("Gather", ["kept", "third"], ["chosen"], axis=1),
        n("Reshape", ["chosen", "flat"], ["index"]),
        n("Gather", ["rows", "index"], ["plain"], axis=1),
        n("Add", ["plain", "bbox_head.multi_level_conv_cls.0.weight"], ["dets"]),
        n("ReduceSum", ["dets", "two"], ["sums"], keepdims=0),
        n("Cast", ["sums"], ["whole"], to=TensorProto.INT64),
        n("Sub", ["whole", "whole"], ["labels"]),
    ]
    outputs = [
        helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, "people", 5]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [1, "people"]),
    ]
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    cells = len(constants["grid"][0])
    given = helper.make_tensor_value_info("raw", TensorProto.FLOAT, [1, cells, 85])
    tail = helper.make_model(
        helper.make_graph(nodes, "nms", [given], outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model = onnx.version_converter.convert_version(model, 17)
    tail.ir_version = model.ir_version
    joined = compose.merge_models(model, tail, io_map=[(raw.name, "raw")])
    onnx.save(joined, str(path))
    return path
