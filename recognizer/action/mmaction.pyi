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

class _Block(nn.Module):
    """A part of ST-GCN, whose layers depend on its arguments."""

    bn: nn.BatchNorm1d | nn.BatchNorm2d
    def __getattr__(self, name: str) -> Any: ...

class STGCN(nn.Module):
    gcn: list[STGCNBlock]
    data_bn: nn.BatchNorm1d
    data_bn_type: str
    def __init__(self, *args: Any, **options: Any) -> None: ...

class GCNHead(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None: ...

class STGCNBlock(_Block):
    def __getattr__(self, name: str) -> Any: ...

class mstcn(_Block): ...
class unit_gcn(_Block): ...
class unit_tcn(_Block): ...

def force_full_init(old_func: F) -> F: ...
