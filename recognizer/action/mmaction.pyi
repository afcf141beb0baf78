from collections.abc import Callable
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
    def __init__(self, scale_range: Any, interpolation: str = ...) -> None: ...

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
    gcn: Any
    data_bn: Any
    data_bn_type: str
    def __init__(self, *args: Any, **options: Any) -> None: ...

class _Parts(nn.Module):
    bn: nn.BatchNorm2d
    def __getattr__(self, name: str) -> Any: ...

class STGCNBlock(_Parts): ...

class GCNHead(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...

class mstcn(_Parts): ...
class unit_gcn(_Parts): ...
class unit_tcn(_Parts): ...

def force_full_init(method: F) -> F: ...
