"""Our small one-stage pose network: YOLOX-nano's trunk, and poses of the cells that it chooses.

The trunk (CSPDarknet, PAFPN, decoupled head; Ge et al. 2021) has the layers of the public
YOLOX-nano file with batch norm folded into the convolutions, so that its weights can be the start.
A pose is computed only at chosen cells, by two small perceptrons: the first places 17 keypoints
relative to the cell's box; the second looks again at the places, in a map of a quarter of the
picture's size, and moves each one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
POINTS = 17
_DETAIL = 48  # channels of the map that is looked at again
_LOOKS = ((0.0, 0.0), (0.06, 0.0), (-0.06, 0.0), (0.0, 0.06), (0.0, -0.06))
"""Places around a keypoint that are looked at, in sizes of the person."""


class Conv(nn.Sequential):
    """Convolution and SiLU."""

    def __init__(
        self, inside: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        padding = (kernel - 1) // 2
        super().__init__(
            nn.Conv2d(inside, out, kernel, stride, padding, groups=groups), nn.SiLU(inplace=True)
        )


def _separable(inside: int, out: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution of each channel and a 1x1 convolution over all."""
    return nn.Sequential(Conv(inside, inside, 3, stride, groups=inside), Conv(inside, out))


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels)
        self.conv2 = _separable(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class _Csp(nn.Module):
    def __init__(self, inside: int, out: int, blocks: int, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = Conv(inside, out // 2)
        self.conv2 = Conv(inside, out // 2)
        self.blocks = nn.Sequential(*(_Bottleneck(out // 2, shortcut) for _ in range(blocks)))
        self.conv3 = Conv(out, out)

    def forward(self, x: Tensor) -> Tensor:
        main, side = self.conv1(x), self.conv2(x)
        return cast(Tensor, self.conv3(torch.cat([self.blocks(main), side], 1)))


class _Pyramid(nn.Module):
    """Spatial pyramid pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 2)
        self.conv2 = Conv(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        pools = [functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)]
        return cast(Tensor, self.conv2(torch.cat([x, *pools], 1)))


class _Trunk(nn.Module):
    """Picture (B, 3, H, W) -> maps of strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(12, 16, 3)
        self.dark2 = nn.Sequential(_separable(16, 32, 2), _Csp(32, 32, 1))
        self.dark3 = nn.Sequential(_separable(32, 64, 2), _Csp(64, 64, 3))
        self.dark4 = nn.Sequential(_separable(64, 128, 2), _Csp(128, 128, 3))
        self.dark5 = nn.Sequential(
            _separable(128, 256, 2), _Pyramid(256), _Csp(256, 256, 1, shortcut=False)
        )
        self.lateral5 = Conv(256, 128)
        self.top4 = _Csp(256, 128, 1, shortcut=False)
        self.lateral4 = Conv(128, 64)
        self.top3 = _Csp(128, 64, 1, shortcut=False)
        self.down3 = _separable(64, 64, 2)
        self.out4 = _Csp(128, 128, 1, shortcut=False)
        self.down4 = _separable(128, 128, 2)
        self.out5 = _Csp(256, 256, 1, shortcut=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        corners = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        two = self.dark2(self.stem(torch.cat(corners, 1)))
        three = self.dark3(two)
        four = self.dark4(three)
        five = self.lateral5(self.dark5(four))
        middle = self.lateral4(self.top4(torch.cat([_twice(five), four], 1)))
        out3 = self.top3(torch.cat([_twice(middle), three], 1))
        out4 = self.out4(torch.cat([self.down3(out3), middle], 1))
        return two, out3, out4, self.out5(torch.cat([self.down4(out4), five], 1))


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _Level(nn.Module):
    """Head of one stride: what is there, its box, and features for its pose."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = Conv(channels, 64)
        self.classes = nn.Sequential(_separable(64, 64), _separable(64, 64))
        self.person = nn.Conv2d(64, 1, 1)
        self.boxes = nn.Sequential(_separable(64, 64), _separable(64, 64))
        self.box = nn.Conv2d(64, 4, 1)
        self.object = nn.Conv2d(64, 1, 1)

    def forward(self, x: Tensor, pose: nn.Module) -> tuple[Tensor, Tensor]:
        """Return box, object and person (B, cells, 6) and features (B, cells, 192)."""
        x = self.stem(x)
        what, where = self.classes(x), self.boxes(x)
        raw = torch.cat([self.box(where), self.object(where), self.person(what)], 1)
        features = torch.cat([pose(x), what, where], 1)
        return raw.flatten(2).transpose(1, 2), features.flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class Cells:
    """What the network says of every cell; A cells of three strides.

    Attributes:
        boxes: (B, A, 4) x1 y1 x2 y2, pixels of the input.
        logits: (B, A, 2) object and person; a cell's score is the product of their sigmoids.
        features: (B, A, 192) for the pose.
        detail: (B, 48, H/4, W/4), looked at again.

    """

    boxes: Tensor
    logits: Tensor
    features: Tensor
    detail: Tensor

    @property
    def scores(self) -> Tensor:
        """Return (B, A) scores."""
        return self.logits.float().sigmoid().prod(-1)


class SmallPose(nn.Module):
    """Picture (B, 3, H, W) BGR 0-255, H and W multiples of 32 -> ``Cells``; then ``poses``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _Trunk()
        self.levels = nn.ModuleList([_Level(c) for c in (64, 128, 256)])
        self.pose = nn.ModuleList(
            [nn.Sequential(_separable(64, 64), _separable(64, 64)) for _ in STRIDES]
        )
        self.detail_near = Conv(32, _DETAIL)
        self.detail_far = nn.Conv2d(64, _DETAIL, 1)
        self.detail_mix = _separable(_DETAIL, _DETAIL)
        self.first = nn.Sequential(
            nn.Linear(192 + 6, 256),
            nn.SiLU(),
            nn.Linear(256, 256),
            nn.SiLU(),
        )
        self.place = nn.Linear(256, POINTS * 3)
        self.second = Again()

    def forward(self, x: Tensor) -> Cells:
        """Return what every cell says."""
        two, *maps = self.trunk(x)
        pairs = [
            level(m, pose) for level, m, pose in zip(self.levels, maps, self.pose, strict=True)
        ]
        raw = torch.cat([p[0] for p in pairs], 1).float()
        features = torch.cat([p[1] for p in pairs], 1)
        near = self.detail_near(two) + _twice(self.detail_far(maps[0]))
        corners, strides = grid([(int(m.shape[2]), int(m.shape[3])) for m in maps], x.device)
        centres = (raw[..., :2] + corners) * strides
        half = raw[..., 2:4].clamp(max=5).exp() * strides / 2
        boxes = torch.cat([centres - half, centres + half], -1)
        return Cells(boxes, raw[..., 4:], features, self.detail_mix(near))

    def poses(
        self, boxes: Tensor, features: Tensor, detail: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the poses of N chosen cells.

        Args:
            boxes: (N, 4), pixels; not learnt from the poses.
            features: (N, 192).
            detail: (B, 48, H/4, W/4).
            images: (N,) which image each is of.

        Returns:
            First and second keypoints (2, N, 17, 3): x, y in pixels, logit of the score.

        """
        box = boxes.detach().float()
        centre, size = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]).clamp(min=4)
        cell = torch.cat(
            [
                size.log() - 4,
                (size[:, :1] / size[:, 1:]).log(),
                centre / 416,
                (size.prod(1, keepdim=True)).sqrt() / 200,
            ],
            1,
        )
        hidden = self.first(torch.cat([features, cell.to(features.dtype)], 1))
        raw = self.place(hidden).float().view(-1, POINTS, 3)
        first = torch.cat([centre[:, None] + raw[..., :2] * size[:, None], raw[..., 2:]], -1)
        scale = size.prod(1).sqrt()
        second = self.second(first, scale, centre, hidden, detail, images)
        return first, second


class Again(nn.Module):
    """Look again at the places of keypoints, and move them."""

    def __init__(self) -> None:
        super().__init__()
        seen = _DETAIL * len(_LOOKS)
        self.each = nn.Parameter(torch.randn(POINTS, seen, 32) / seen**0.5)
        self.bias = nn.Parameter(torch.zeros(POINTS, 1, 32))
        self.mix = nn.Sequential(nn.Linear(POINTS * 32 + 256 + POINTS * 3, 256), nn.SiLU())
        self.share = nn.Linear(256, POINTS * 32)
        self.move = nn.Parameter(torch.zeros(POINTS, 32, 3))

    def forward(
        self,
        first: Tensor,
        scale: Tensor,
        centre: Tensor,
        hidden: Tensor,
        detail: Tensor,
        images: Tensor,
    ) -> Tensor:
        """Return the moved keypoints (N, 17, 3); ``scale`` (N,) is a person's size in pixels."""
        n = first.shape[0]
        places = first[..., :2].detach()
        looks = torch.tensor(_LOOKS, device=first.device)
        at = places[:, :, None] + looks * scale[:, None, None, None]  # (N, 17, 5, 2)
        seen = _sample(detail, at.reshape(n, -1, 2), images)
        seen = seen.reshape(n, POINTS, -1).transpose(0, 1)  # (17, N, 240)
        kind = seen.dtype
        each = functional.silu(torch.baddbmm(self.bias.to(kind), seen, self.each.to(kind)))
        rest = (places - centre[:, None]) / scale[:, None, None]
        rest = torch.cat([rest, first[..., 2:].detach().clamp(-6, 6) / 4], -1).flatten(1)
        flat = each.transpose(0, 1).reshape(n, -1)
        mixed = self.share(self.mix(torch.cat([flat, hidden, rest.to(flat.dtype)], 1)))
        each = each + mixed.reshape(n, POINTS, -1).transpose(0, 1)
        move = torch.bmm(each, self.move.to(each.dtype)).transpose(0, 1).float()
        moved = places + move[..., :2] * 0.3 * scale[:, None, None]
        return torch.cat([moved, first[..., 2:].detach() + move[..., 2:]], -1)


def _sample(detail: Tensor, at: Tensor, images: Tensor) -> Tensor:
    """Return (N, P, C): the map of each row's image, between its four nearest cells.

    Gathered by index rather than by ``grid_sample``: one launch for rows of different images,
    and an ONNX graph that every runtime knows.
    """
    _, channels, height, width = detail.shape
    table = detail.permute(0, 2, 3, 1).reshape(-1, channels)
    place = at / 4 - 0.5
    x = place[..., 0].clamp(0, width - 1.001)
    y = place[..., 1].clamp(0, height - 1.001)
    left, top = x.floor(), y.floor()
    right, down = (x - left)[..., None].to(detail.dtype), (y - top)[..., None].to(detail.dtype)
    row = (images[:, None] * height + top.long()) * width + left.long()
    upper = table[row] * (1 - right) + table[row + 1] * right
    lower = table[row + width] * (1 - right) + table[row + width + 1] * right
    return upper * (1 - down) + lower * down


def grid(sizes: Iterable[tuple[int, int]], device: Any) -> tuple[Tensor, Tensor]:
    """Return cell corners (A, 2), in cells, and strides (A, 1), pixels."""
    corners, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        corners.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(corners).float(), torch.cat(strides)


def start_layers(network: SmallPose) -> list[nn.Conv2d]:
    """Return the layers that YOLOX-nano has as well, in the order of its graph."""
    parts = [network.trunk, *network.levels]
    return [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]


def read_start(path: Any) -> dict[str, NDArray[np.float32]]:
    """Return the convolutions of the public YOLOX-nano file as ``w0``, ``b0``, ``w1``, ..."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    start = {}
    for i, node in enumerate(nodes):
        # Of its 80 classes the first is the person.
        keep = slice(0, 1 if "cls_preds" in node.input[1] else None)
        start[f"w{i}"], start[f"b{i}"] = (values[name][keep] for name in node.input[1:3])
    return start


def load_start(network: SmallPose, start: Any) -> None:
    """Copy YOLOX-nano's weights; the poses' towers begin as copies of the boxes' towers.

    Raises:
        ValueError: weights of other shapes.

    """
    layers = start_layers(network)
    if f"w{len(layers) - 1}" not in start or f"w{len(layers)}" in start:
        raise ValueError(f"start: expected {len(layers)} convolutions as in YOLOX-nano")
    with torch.no_grad():
        for i, layer in enumerate(layers):
            weight = torch.tensor(start[f"w{i}"], dtype=torch.float32)
            if weight.shape != layer.weight.shape:
                raise ValueError(
                    f"start: convolution {i}: expected {tuple(layer.weight.shape)}, got "
                    f"{tuple(weight.shape)}"
                )
            layer.weight.copy_(weight)
            cast(Tensor, layer.bias).copy_(torch.tensor(start[f"b{i}"]))
    for level, tower in zip(network.levels, network.pose, strict=True):
        tower.load_state_dict(cast(nn.Module, level.boxes).state_dict())
