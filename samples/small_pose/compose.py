"""Put detector and pose network into one ONNX file that keeps RTMO's contract.

    python -m samples.small_pose.compose detector.onnx pose.onnx samples/models/small_pose.onnx

``input`` (B, 3, H, W) float32 BGR 0-255, letterboxed at the top left with 114, sides multiples of
32, 640 at best -> ``dets`` (B, K, 5), ``keypoints`` (B, K, 17, 3), in network pixels. The detector
sees the picture at 0.65 of its size (416 of 640 pixels); each person it finds is cut from the whole
input as a square (RoiAlign, He et al. 2017) and posed at 192 pixels. Only people who survive
suppression are posed. Weights are stored as float16.
"""

import argparse
import hashlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

import recognizer
from deploy.pose_graph import OPSET, describe
from recognizer.backends.graphs import RtmoGraph, suppressed
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.suppression import Suppression
from recognizer.backends.torch import INPUT
from recognizer.geometry import LETTERBOX_GREY
from recognizer.imagenet import MEAN_RGB, STD_RGB
from samples.one_line_errors import one_line_errors
from samples.small_pose.crops import CROP, PADDING, STRIDE
from samples.small_pose.data import SIDE
from samples.small_pose.decode import decoded
from samples.small_pose.detector_loss import cells_of
from samples.small_pose.files import read_network
from samples.small_pose.graph import TrainableGraph
from samples.small_pose.starts import DETECTOR_SIDE

RULE = Suppression(score_threshold=0.3, nms_threshold=0.45, max_detections=100)
_MULTIPLE = 32  # sides of the detector's input
_LEAST_VALUES = 64  # smaller weights stay float32
HALF = "_half"
"""How the names of weights end that are stored as float16."""


def stretched(scores: Tensor) -> Tensor:
    """Return scores on RTMO's scale, so that its thresholds fit: 0.15 becomes 0.3, 0.3 becomes 0.6.

    Both networks say 0.3 where RTMO says 0.6: a heatmap's height is no probability, and most boxes
    that score 0.3 are people. The order stays.
    """
    return torch.minimum(2 * scores, 0.6 + (scores - 0.3) * (4 / 7))


def _crop(image: Tensor, box: Tensor) -> Tensor:
    """Return the crop (C, 192, 192) of a square box (4,), each pixel a mean over its part."""
    samples = max(1, math.ceil(float(box[2] - box[0]) / CROP))
    steps = (torch.arange(CROP * samples) + 0.5) / (CROP * samples)
    x, y = ((box[i] + (box[i + 2] - box[i]) * steps) / image.shape[2 - i] * 2 - 1 for i in (0, 1))
    grid = torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))], -1)
    fine = functional.grid_sample(image[None], grid[None], align_corners=False)
    return functional.avg_pool2d(fine, samples)[0]


class _RoiAlign(torch.autograd.Function):
    """Crops by the operator RoiAlign in a file, by ``grid_sample`` in torch."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, boxes: Tensor, rows: Tensor) -> Tensor:
        """Return crops (N, C, 192, 192) of square boxes (N, 4) in ``images[rows]``; 0 outside."""
        crops = [_crop(images[row], box) for row, box in zip(rows, boxes, strict=True)]
        return torch.stack(crops) if crops else images.new_zeros(0, images.shape[1], CROP, CROP)

    @staticmethod
    def symbolic(g: Any, images: Any, boxes: Any, rows: Any) -> Any:
        """Write the operator."""
        return g.op(
            "RoiAlign",
            images,
            boxes,
            rows,
            coordinate_transformation_mode_s="half_pixel",
            mode_s="avg",
            output_height_i=CROP,
            output_width_i=CROP,
            sampling_ratio_i=0,  # as many places a pixel and side as the box has image pixels
            spatial_scale_f=1.0,
        )


class SmallPose(nn.Module):
    """Images -> ``dets`` (B, K, 5), ``keypoints`` (B, K, 17, 3), as ``RtmoGraph`` gives them.

    Args:
        detector: as ``starts.detector``, trained.
        pose: as ``starts.pose`` for square crops, trained.
        rule: which boxes stay.

    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, detector: TrainableGraph, pose: TrainableGraph, rule: Suppression = RULE
    ) -> None:
        super().__init__()
        self.detector, self.pose, self.rule = detector, pose, rule
        for name, values in (
            ("mean", MEAN_RGB[::-1]),  # BGR, as the input
            ("std", STD_RGB[::-1]),
        ):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``dets`` and ``keypoints``."""
        boxes, ranked = self.people(images)
        there = ranked > 0
        # The pose network gets one crop at least: not every runtime takes a batch of none.
        first = torch.zeros_like(ranked)
        first[:, :1] = 1.0
        posed = there | ((first > 0) & ~there.any())
        image, place = posed.nonzero(as_tuple=True)
        keypoints = self.keypoints(images, boxes[image, place], image)
        out = torch.zeros_like(ranked)[..., None, None].expand(-1, -1, 17, 3).clone()
        out[image, place] = keypoints
        return torch.cat([boxes, ranked[..., None]], -1), out

    def people(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, K, 4) and scores (B, K), best first, 0 where there are fewer."""
        small = shrunk(images)
        cells = cells_of(self.detector(small), (small.shape[2], small.shape[3]))
        ranked, order = suppressed(cells.boxes, stretched(cells.scores), self.rule)
        boxes = cells.boxes.gather(1, order[..., None].expand(-1, -1, 4)) * (SIDE / DETECTOR_SIDE)
        return boxes, ranked

    def keypoints(self, images: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
        """Return keypoints (N, 17, 3) of boxes (N, 4) in ``images[image]``."""
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        side = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).clamp(min=4) * PADDING
        squares = torch.cat([middle - side / 2, middle + side / 2], 1)
        # Outside the picture RoiAlign gives 0: shifted, that is the letterbox's grey.
        lifted = _RoiAlign.apply(  # type: ignore[no-untyped-call]
            images - LETTERBOX_GREY, squares, image
        )
        normal = (lifted + LETTERBOX_GREY - self.mean) / self.std
        seen = decoded(self.pose(normal.flip(1)))
        places = seen[..., :2] * (STRIDE / CROP) * side[:, None] + squares[:, None, :2]
        return torch.cat([places, stretched(seen[..., 2:].clamp(0, 1))], -1)


def shrunk(images: Tensor) -> Tensor:
    """Return images at 416 of 640 pixels, each pixel a mean, sides filled to multiples of 32."""
    scale = 2 * DETECTOR_SIDE / SIDE
    fine = functional.interpolate(
        images, scale_factor=scale, mode="bilinear", recompute_scale_factor=False
    )
    small = functional.avg_pool2d(fine, 2) - LETTERBOX_GREY
    height, width = small.shape[2], small.shape[3]
    return functional.pad(small, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)) + LETTERBOX_GREY


def write(detector: Path, pose: Path, path: Path) -> None:
    """Write the file."""
    finder, poser = (TrainableGraph(read_network(file)) for file in (detector, pose))
    network = SmallPose(finder, poser).eval()
    axes: dict[str, dict[int, str]] = {INPUT: {0: "batch", 2: "height", 3: "width"}}
    axes |= {name: {0: "batch", 1: "people"} for name in RtmoGraph.outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, SIDE, SIDE),),
            str(path),
            input_names=[INPUT],
            output_names=list(RtmoGraph.outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    halve_weights(model)
    onnx.save(model, str(path))
    describe(path, _metadata([detector, pose]))


def halve_weights(model: onnx.ModelProto) -> None:
    """Store the large weights as float16, each cast back to float32 when the file is opened."""
    casts = []
    for value in model.graph.initializer:
        array = numpy_helper.to_array(value)
        if array.dtype != np.float32 or array.size < _LEAST_VALUES:
            continue
        name = value.name
        value.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + HALF))
        casts.append(
            onnx.helper.make_node("Cast", [name + HALF], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def _metadata(parts: list[Path]) -> PoseModelMetadata:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()
    return PoseModelMetadata(
        kind="rtmo",
        input_size=(SIDE, SIDE),
        layout="NCHW float32",
        normalised_inside=True,
        mean_rgb=(0.0, 0.0, 0.0),
        std_rgb=(1.0, 1.0, 1.0),
        thresholds=Thresholds(RULE.score_threshold, RULE.nms_threshold, RULE.max_detections),
        precision="fp32",
        opset=OPSET,
        config="small_pose",
        checkpoint="+".join(path.name for path in parts),
        checkpoint_sha256=digest,
        created_by=f"recognizer {recognizer.__version__}",
        follows_picture=True,
    )


@one_line_errors
def main() -> int:
    """Write the file that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector", type=Path)
    parser.add_argument("pose", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    write(given.detector, given.pose, given.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
