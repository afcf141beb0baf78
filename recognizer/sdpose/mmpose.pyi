from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from recognizer.runner.engine import Registry

HOOKS: Registry
KEYPOINT_CODECS: Registry
MODELS: Registry
OPTIM_WRAPPERS: Registry

InitConfig = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

class BaseBackbone(nn.Module):
    def __init__(self, init_cfg: InitConfig = ...) -> None: ...

class BaseHead(nn.Module):
    def __init__(self, init_cfg: InitConfig = ...) -> None: ...
    def decode(self, batch_outputs: Tensor) -> list[Any]: ...

class HRNet(BaseBackbone):
    conv1: nn.Conv2d
    conv2: nn.Conv2d
    relu: nn.ReLU
    layer1: nn.Module
    transition1: nn.ModuleList
    transition2: nn.ModuleList
    stage2: nn.Module
    stage3: nn.Module
    def __init__(
        self, extra: Mapping[str, Any], in_channels: int = ..., *, init_cfg: InitConfig = ...
    ) -> None: ...
    @property
    def norm1(self) -> nn.Module: ...
    @property
    def norm2(self) -> nn.Module: ...
    def _make_stage(
        self,
        layer_config: Mapping[str, Any],
        in_channels: Sequence[int],
        multiscale_output: bool = ...,
    ) -> tuple[nn.Module, list[int]]: ...

class Bottleneck(nn.Module): ...

class ResLayer(nn.Sequential):
    def __init__(
        self, block: type[nn.Module], num_blocks: int, in_channels: int, out_channels: int
    ) -> None: ...

class RTMOHead(nn.Module):
    dcc: Any
    use_aux_loss: bool
    def __init__(self, **options: Any) -> None: ...
    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[Any],
        train_cfg: Mapping[str, Any] = ...,
    ) -> dict[str, Any]: ...
    def _get_targets(self, *predictions: Any) -> tuple[Any, ...]: ...

class PixelData:
    def __init__(self, *, heatmaps: Tensor) -> None: ...

def flip_heatmaps(
    heatmaps: Tensor, flip_indices: Sequence[int] | None, flip_mode: str, shift_heatmap: bool
) -> Tensor: ...
def rgetattr(obj: object, attr: str) -> Any: ...
def rsetattr(obj: object, attr: str, val: object) -> None: ...
