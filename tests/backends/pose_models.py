"""Trained pose networks without training: mmpose's own, with weights made from a seed.

RTMO's prediction layers are scaled and shifted until it finds boxes of people's sizes in real
and made pictures; what it says of them is nonsense, but numbers of the right size everywhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recognizer.openmmlab import build_pose_model, read_pose_config, shipped_config
from recognizer.pose.detector import LetterboxBatch
from recognizer.types import Image, ImageArray
from recognizer.video.array_image import ArrayImage

ROOT = Path(__file__).resolve().parents[2]
RTMO_T = "body_2d_keypoint/rtmo/body7/rtmo-t_8xb32-600e_body7-416x416.py"
RTMO_S = "body_2d_keypoint/rtmo/body7/rtmo-s_8xb32-600e_body7-640x640.py"
SDPOSE_T = ROOT / "configs/body_2d_keypoint/sdpose/coco/sdpose_t_stemnet_coco_256x192.py"
SHARE = 0.01  # of the cells that see somebody before suppression


def picture(seed: int = 0, size_wh: tuple[int, int] = (320, 240)) -> ImageArray:
    """Return a picture of coloured blots on noise, (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    width, height = size_wh
    image = random.integers(60, 120, (height, width, 3)).astype(np.float32)
    ys, xs = np.mgrid[:height, :width]
    for _ in range(6):
        x, y = random.uniform(0, width), random.uniform(0, height)
        far = ((xs - x) / random.uniform(10, 40)) ** 2 + ((ys - y) / random.uniform(20, 80)) ** 2
        image += np.exp(-far)[..., None] * random.uniform(-120, 140, 3)
    return image.clip(0, 255).astype(np.uint8)


def pictures(count: int, size_wh: tuple[int, int] = (320, 240)) -> list[ArrayImage]:
    """Return pictures as the pose models take them."""
    return [ArrayImage(picture(seed, size_wh)) for seed in range(count)]


def random_model(config_file: Path, seed: int = 0) -> Any:
    """Return mmpose's network with weights from a seed."""
    torch.manual_seed(seed)
    return build_pose_model(read_pose_config(config_file))


def settle_norms(model: Any, given: torch.Tensor) -> None:
    """Set every batch norm as if it had seen these pictures in training."""
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.train()
            norm.momentum = None
            norm.reset_running_stats()
    model.head.head_module(model.neck(model.backbone(given)))
    model.eval()


@torch.no_grad()
def calibrate_rtmo(model: Any, side: int = 416, shown: Sequence[Image] | None = None) -> Any:
    """Change an RTMO's norms and last layers so that a few cells see people of plausible sizes."""
    letterboxes = LetterboxBatch((side, side))
    if shown is None:
        sizes = [(320, 240), (side, side), (240, 320), (640, 360)]
        shown = [ArrayImage(picture(seed, size)) for seed, size in enumerate(sizes)]
    given = torch.from_numpy(letterboxes.fill(shown)[0])
    settle_norms(model, given)
    layers = model.head.head_module
    features_of: dict[tuple[str, int], torch.Tensor] = {}
    for kind in ("cls", "bbox"):
        for i, layer in enumerate(getattr(layers, f"out_{kind}")):
            layer.register_forward_pre_hook(
                lambda _, x, at=(kind, i): features_of.update({at: x[0]})
            )
    layers(model.neck(model.backbone(given)))
    for (kind, i), features in features_of.items():
        layer = getattr(layers, f"out_{kind}")[i]
        layer._forward_pre_hooks.clear()
        rows = features.permute(0, 2, 3, 1).flatten(0, 2)  # (cells, C)
        # What is common to a whole picture must not decide whether it shows people.
        common = features.mean((2, 3))
        common = torch.linalg.qr(common.T)[0]
        weight = layer.weight.flatten(1)
        weight.sub_(weight @ common @ common.T)
        layer.weight.copy_((weight / (rows @ weight.T).std(0)[:, None])[..., None, None])
        values = rows @ layer.weight.flatten(1).T
        if kind == "cls":
            layer.bias.copy_(-values.quantile(1 - SHARE, dim=0))
        else:
            layer.weight[2:].mul_(0.1)
            layer.bias.copy_(torch.tensor([0, 0, 1.6, 1.8]))  # exp(1.6) cells wide
    # Keypoints are means over bins: between far bins of equal weight rounding would decide.
    for layer in (model.head.dcc.x_fc, model.head.dcc.y_fc):
        layer.weight.mul_(0.01)
        layer.bias.mul_(0.01)
    return model


def save_rtmo(
    folder: Path | str, name: str = RTMO_T, side: int = 416, shown: Sequence[Image] | None = None
) -> tuple[Path, Path]:
    """Write a checkpoint of weights that fit ``shown``; return the config's path and its path."""
    config = shipped_config("mmpose", name)
    path = Path(folder) / f"{config.stem}.pth"
    model = calibrate_rtmo(random_model(config), side, shown)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return config, path


def save_sdpose(folder: Path | str, config: Path = SDPOSE_T) -> tuple[Path, Path]:
    """Write a checkpoint of an SDPose; return the config's path and the checkpoint's."""
    path = Path(folder) / f"{config.stem}.pth"
    model = random_model(config)
    with torch.no_grad():  # born small: heatmaps of no height would all decode alike
        for name, value in model.named_parameters():
            if name.startswith("head.") and value.ndim > 1:
                value.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return config, path
