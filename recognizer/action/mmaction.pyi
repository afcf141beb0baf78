from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import nn

from recognizer.runner.engine import Registry

F = TypeVar("F", bound=Callable[..., object])

DATASETS: Registry
HOOKS: Registry
MODELS: Registry
OPTIM_WRAPPERS: Registry
TRANSFORMS: Registry

class BaseTransform:
    def __call__(self, results: dict[str, Any]) -> dict[str, Any]: ...
    def transform(self, results: dict[str, Any]) -> dict[str, Any]: ...

class ImageRescale(BaseTransform):
    def __init__(self, scale_range: Sequence[float], interpolation: str = ...) -> None: ...

class PoseDataset:
    ann_file: str
    data_list: list[dict[str, Any]]
    data_prefix: dict[str, str]
    serialize_data: bool
    modality: str
    start_index: int
    def __init__(self, ann_file: str, pipeline: list[Any], **options: Any) -> None: ...
    def __len__(self) -> int: ...
    def get_data_info(self, idx: int) -> dict[str, Any]: ...

class STGCN(nn.Module):
    gcn: nn.ModuleList
    data_bn: nn.Module
    data_bn_type: str
    def __init__(self, *args: Any, **options: Any) -> None: ...

class GCNHead(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...

class mstcn(nn.Module):
    bn: nn.Module
    transform: nn.Sequential
    branches: nn.ModuleList

class unit_gcn(nn.Module):
    bn: nn.Module
    down: nn.Sequential

class unit_tcn(nn.Module):
    bn: nn.Module

def force_full_init(method: F) -> F: ...
