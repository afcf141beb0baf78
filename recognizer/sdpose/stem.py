"""The stems of SDPose: an image to the feature map that is cut into tokens.

``SDPoseStem`` is the stem of the published T, S-V1 and S-V2: two strided convolutions and four
ResNet bottlenecks. ``HRNetStem``, for B, is HRNet-W32 up to its third stage, its first stage half
as wide, as published; only the branch of the highest resolution is computed to the end. Both give
1/4 of the image's size.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from recognizer.runner.engine import Section
from recognizer.sdpose.mmpose import MODELS, BaseBackbone, Bottleneck, HRNet, ResLayer

STRIDE = 4
InitConfig = Section | Sequence[Section] | None

_INIT = (
    {"type": "Normal", "std": 0.001, "layer": ["Conv2d"]},
    {"type": "Constant", "val": 1, "layer": ["_BatchNorm"]},
)
_FIRST_WIDTH = 32  # 64 in HRNet-W32; with 32, as published, B comes to its 13.15 M parameters
_WIDTHS = (32, 64, 128)
_NO_STAGE = {
    "num_modules": 0,
    "num_branches": 0,
    "block": "BASIC",
    "num_blocks": (),
    "num_channels": (),
}


@MODELS.register_module()
class SDPoseStem(BaseBackbone):
    """Images (B, 3, H, W) -> a tuple of one feature map (B, 256, H/4, W/4)."""

    def __init__(self, in_channels: int = 3, init_cfg: InitConfig = _INIT) -> None:
        super().__init__(init_cfg=list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        self.conv1 = nn.Conv2d(in_channels, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = ResLayer(Bottleneck, 4, 64, 256)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return one feature map of images, sides divisible by 4.

        Raises:
            ValueError: a side that 4 does not divide.

        """
        _check_sides(x)
        x = self.relu(self.bn1(self.conv1(x)))  # (B, 64, H/2, W/2)
        x = self.relu(self.bn2(self.conv2(x)))  # (B, 64, H/4, W/4)
        return (self.layer1(x),)  # (B, 256, H/4, W/4)


@MODELS.register_module()
class HRNetStem(HRNet):
    """Images (B, 3, H, W) -> a tuple of one feature map (B, 32, H/4, W/4).

    mmpose's HRNet-W32 without stage 4, and without what its third stage would hand to lower
    resolutions at its end: so no parameter is left without a gradient. Names are HRNet's own: a
    pre-trained HRNet-W32 loads with ``init_cfg=dict(type='Pretrained', ...)``, except ``layer1``
    and ``transition1``, whose shapes differ because the first stage is half as wide.
    """

    def __init__(self, in_channels: int = 3, init_cfg: InitConfig = _INIT) -> None:
        extra = {
            "stage1": {
                "num_modules": 1,
                "num_branches": 1,
                "block": "BOTTLENECK",
                "num_blocks": (4,),
                "num_channels": (_FIRST_WIDTH,),
            },
            "stage2": {
                "num_modules": 1,
                "num_branches": 2,
                "block": "BASIC",
                "num_blocks": (4,) * 2,
                "num_channels": _WIDTHS[:2],
            },
            "stage3": {
                "num_modules": 4,
                "num_branches": 3,
                "block": "BASIC",
                "num_blocks": (4,) * 3,
                "num_channels": _WIDTHS,
                "multiscale_output": False,
            },
            "stage4": _NO_STAGE,
        }
        init_cfg = list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg
        super().__init__(extra, in_channels=in_channels, init_cfg=init_cfg)

    def _make_stage(
        self,
        layer_config: Section,
        in_channels: Sequence[int],
        multiscale_output: bool = True,
    ) -> tuple[nn.Module, list[int]]:
        multiscale = layer_config.get("multiscale_output", multiscale_output)
        return super()._make_stage(layer_config, in_channels, multiscale_output=multiscale)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return one feature map of images, sides divisible by 16.

        Raises:
            ValueError: a side that 16 does not divide: the branches would not fit together.

        """
        _check_sides(x, 16)
        x = self.relu(self.norm1(self.conv1(x)))  # (B, 64, H/2, W/2)
        x = self.relu(self.norm2(self.conv2(x)))  # (B, 64, H/4, W/4)
        x = self.layer1(x)  # (B, 128, H/4, W/4)
        branches = [transition(x) for transition in self.transition1]
        branches = self.stage2(branches)  # 32, 64 channels at 1/4, 1/8
        # Stage 3 keeps the branches it gets and opens a third below the lowest of them.
        branches = [*branches, self.transition2[-1](branches[-1])]
        return (self.stage3(branches)[0],)  # (B, 32, H/4, W/4)


def _check_sides(x: Tensor, divisor: int = STRIDE) -> None:
    if x.ndim != 4 or x.shape[-2] % divisor or x.shape[-1] % divisor:
        raise ValueError(
            f"stem: expected images (B, 3, height, width), sides divisible by {divisor}, "
            f"got {tuple(x.shape)}"
        )
