"""The published networks, their golden vectors, and small batches to train on.

The golden weights need no file: every tensor is a function of its published key and shape.
"""

import json
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from recognizer.openmmlab import load_mmpose

load_mmpose()
from mmengine.structures import InstanceData, PixelData  # noqa: E402
from mmpose.registry import MODELS  # noqa: E402
from mmpose.structures import PoseDataSample  # noqa: E402

import recognizer.sdpose.head  # noqa: E402
import recognizer.sdpose.stem  # noqa: E402, F401  (registers what build names)
from recognizer.openmmlab import scope  # noqa: E402
from recognizer.sdpose.transformer import sine_table  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs ../shared/golden")

VARIANTS: dict[str, dict[str, Any]] = {
    "t": {"patch_size": (4, 3), "depth": 6, "cycles": 3},
    "s_v1": {"patch_size": (4, 3), "depth": 12, "cycles": 2},
    "s_v2": {"patch_size": (2, 2), "depth": 12, "cycles": 2},
}
B = {"stem": "HRNetStem", "in_channels": 32}
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


@contextmanager
def silence() -> Iterator[None]:
    """Keep init_weights from logging every parameter."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def build(
    stem: str = "SDPoseStem", seed: int = 0, test_cfg: dict[str, Any] | None = None, **head: Any
) -> Any:
    """Return an initialised TopdownPoseEstimator, in training mode."""
    torch.manual_seed(seed)
    with scope("mmpose"), silence():
        model = MODELS.build(
            {
                "type": "TopdownPoseEstimator",
                "backbone": {"type": stem},
                "head": {"type": "SDPoseHead", **head},
                "test_cfg": test_cfg,
            }
        )
        model.init_weights()
    return model


def variant(name: str, **settings: Any) -> Any:
    return build(**{**VARIANTS[name], **settings})


def published_weights(name: str) -> dict[str, Tensor]:
    """Return the golden state dict of a variant in its published keys."""
    keys = json.loads((GOLDEN / f"sdpose_{name}_keys.json").read_text(encoding="utf-8"))
    rows, columns = VARIANTS[name]["patch_size"]
    grid = (64 // rows, 48 // columns)
    return {key: golden_tensor(key, tuple(shape), grid) for key, shape in keys}


def golden_tensor(key: str, shape: tuple[int, ...], grid: tuple[int, int]) -> Tensor:
    """Return the tensor that belongs to a published key."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("pos_embedding"):
        return sine_table(*grid, shape[-1])
    random = np.random.RandomState(zlib.crc32(key.encode()))
    z: NDArray[Any] = random.standard_normal(shape).astype(np.float32)
    match key.rpartition(".")[2]:
        case "running_var":
            z = 1 + 0.25 * np.tanh(z)
        case "running_mean":
            z = 0.1 * z
        case "keypoint_token":
            z = 0.5 * z
        case "bias":
            z = 0.05 * z
        case _ if len(shape) == 1:
            z = 1 + 0.1 * np.tanh(z)
        case _:
            z = z / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(z.astype(np.float32))


def golden_input() -> Tensor:
    random = np.random.RandomState(20240403)
    return torch.from_numpy(random.standard_normal((2, 3, 256, 192)).astype(np.float32))


def batch(
    number: int = 2, keypoints: int = 17, seed: int = 0
) -> tuple[Tensor, list[PoseDataSample]]:
    """Return images (N, 3, 256, 192) and samples with Gaussian targets; some joints unseen."""
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.standard_normal((number, 3, 256, 192), dtype=np.float32))
    return images, [_sample(random, keypoints) for _ in range(number)]


def _sample(random: np.random.Generator, keypoints: int) -> PoseDataSample:
    place = random.uniform((4, 4), (44, 60), (keypoints, 2))
    rows, columns = np.mgrid[:64, :48]
    squares = (columns - place[:, 0, None, None]) ** 2 + (rows - place[:, 1, None, None]) ** 2
    weights = np.ones((1, keypoints), np.float32)
    weights[0, random.integers(keypoints)] = 0
    sample = PoseDataSample(
        metainfo={
            "input_size": np.array([192, 256]),
            "input_center": np.array([96.0, 128.0]),
            "input_scale": np.array([192.0, 256.0]),
            "flip_indices": FLIP,
        }
    )
    sample.gt_fields = PixelData(heatmaps=torch.from_numpy(np.exp(-squares / 8)).float())
    sample.gt_instance_labels = InstanceData(keypoint_weights=torch.from_numpy(weights))
    sample.gt_instances = InstanceData(
        bboxes=np.array([[0.0, 0, 192, 256]]), bbox_scores=np.ones(1)
    )
    return sample
