"""Write the small network as ONNX in RTMO's contract, and compare the file with torch.

    python -m benchmarks.gpu.small_export output/gpu/small.pth samples/models/small_pose.onnx

``input`` (B, 3, H, W) float32 BGR 0-255, letterboxed at the top left with 114 -> ``dets``
(B, K, 5), ``keypoints`` (B, K, 17, 3), in network pixels, suppression inside.
"""

import argparse
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import recognizer
from benchmarks.gpu.small_data import SIDE
from benchmarks.gpu.small_network import SmallPose
from deploy.pose_graph import OPSET, describe
from recognizer.backends.graphs import suppressed
from recognizer.backends.metadata import PoseModelMetadata, Thresholds
from recognizer.backends.suppression import Suppression
from recognizer.backends.torch import INPUT, OUTPUTS
from recognizer.storage.artifacts import sha256_file

THRESHOLDS = Thresholds(score_threshold=0.1, nms_threshold=0.45, max_detections=100)


class SmallGraph(nn.Module):
    """Images -> ``dets`` (B, K, 5), ``keypoints`` (B, K, 17, 3), as ``RtmoGraph`` gives them.

    Args:
        network: with trained weights.
        rule: which boxes stay.

    """

    def __init__(self, network: SmallPose, rule: Suppression) -> None:
        super().__init__()
        self.network, self.rule = network.eval(), rule

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``dets`` and ``keypoints``."""
        cells = self.network(images)
        ranked, order = suppressed(cells.boxes, cells.scores, self.rule)
        boxes, features = (
            part.gather(1, order.unsqueeze(-1).expand(-1, -1, part.shape[-1])).flatten(0, 1)
            for part in (cells.boxes, cells.features)
        )
        images_of = torch.arange(order.shape[0], device=order.device)
        rows = images_of.unsqueeze(1).expand_as(order).flatten()
        _, keypoints = self.network.poses(boxes, features, cells.detail, rows)
        keypoints = torch.cat([keypoints[..., :2], keypoints[..., 2:].sigmoid()], -1)
        dets = torch.cat([boxes, ranked.reshape(-1, 1)], -1)
        size = (order.shape[0], order.shape[1])
        return dets.reshape(*size, 5), keypoints.reshape(*size, 17, 3)


def write(weights: Path, path: Path, *, any_size: bool = False) -> None:
    """Write a trained network; batch and, if asked for, height and width stay free."""
    network = SmallPose()
    network.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    inside = THRESHOLDS
    rule = Suppression(inside.score_threshold, inside.nms_threshold, inside.max_detections)
    axes: dict[str, dict[int, str]] = {INPUT: {0: "batch"}}
    axes |= {name: {0: "batch", 1: "people"} for name in OUTPUTS["rtmo"]}
    if any_size:
        axes[INPUT] |= {2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            SmallGraph(network, rule),
            (torch.zeros(2, 3, SIDE, SIDE),),
            str(path),
            input_names=[INPUT],
            output_names=list(OUTPUTS["rtmo"]),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    describe(path, _metadata(weights))


def _metadata(weights: Path) -> PoseModelMetadata:
    return PoseModelMetadata(
        kind="rtmo",
        input_size=(SIDE, SIDE),
        layout="NCHW float32",
        normalised_inside=True,
        mean_rgb=(0.0, 0.0, 0.0),
        std_rgb=(1.0, 1.0, 1.0),
        thresholds=THRESHOLDS,
        precision="fp32",
        opset=OPSET,
        config="small_pose",
        checkpoint=weights.name,
        checkpoint_sha256=sha256_file(weights),
        created_by=f"recognizer {recognizer.__version__}",
    )


def main() -> int:
    """Write the file that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--any-size", action="store_true", help="height and width stay free")
    given = parser.parse_args()
    write(given.weights, given.output, any_size=given.any_size)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
