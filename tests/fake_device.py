"""A device that is not the CPU, without having one: tensors that hold no numbers.

Tensors know their shape, type and device, and torch's FakeTensorMode runs every operation's
checks and nothing else. So a tensor that was left on the CPU, or one that goes to NumPy, fails
here as it fails on a GPU. What a program does with a number goes on with a made one. Kernels,
and what is asked of "cuda" by name, only a GPU tests.

The device is called "xla", because torch's build for the CPU knows too little of "cuda".
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("xla:0")
_ATEN = torch.ops.aten
_BACKWARD = _ATEN.native_batch_norm_backward.default
_XLA, _META = 9, 14  # c10::DeviceType
_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"


class _Answers(TorchDispatchMode):
    """Answers where a program asks for numbers; asks what CUDA's kernels ask beyond the CPU's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _ATEN._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1
        if func is _ATEN.nonzero.default:  # half of the elements
            x = args[0]
            return torch.zeros(x.numel() // 2, x.ndim, dtype=torch.int64, device=x.device)
        if func is _BACKWARD and not all(isinstance(one, torch.Tensor) for one in args[:7]):
            raise RuntimeError("native_batch_norm_backward: CUDA's kernel reads every statistic")
        return func(*args, **(kwargs or {}))


class _NumPy(TorchFunctionMode):
    """What goes to NumPy: zeros, or torch's refusal of other devices and of bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in (torch.Tensor.numpy, torch.Tensor.__array__):
            return func(*args, **(kwargs or {}))
        if args[0].device.type != "cpu":
            raise TypeError(f"can't convert {args[0].device} device type tensor to numpy")
        if args[0].dtype == torch.bfloat16:  # NumPy knows it once ml_dtypes is imported
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.zeros(tuple(args[0].shape), str(args[0].dtype).removeprefix("torch."))


@contextmanager
def fake_device() -> Iterator[None]:
    """Let every tensor that is made inside be one without numbers, on any device."""
    one_thread = torch.autograd.set_multithreading_enabled(False)  # modes belong to a thread
    with _guard(), FakeTensorMode(allow_non_fake_inputs=True), _Answers(), _NumPy(), one_thread:
        yield


@contextmanager
def _guard() -> Iterator[None]:
    """Let torch enter the device, which does nothing, as entering the device meta does."""
    library = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libc10.so*"))))
    guards = (ctypes.c_void_p * (_META + 1)).in_dll(library, _GUARDS)
    before = guards[_XLA]
    guards[_XLA] = guards[_META]
    try:
        yield
    finally:
        guards[_XLA] = before


def moved(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor of this shape, type and memory format on the device."""
    found = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=DEVICE)
    if isinstance(value, nn.Parameter):
        return nn.Parameter(found, requires_grad=value.requires_grad)
    return found


def move(module: Any) -> Any:
    """Put a module's parameters and buffers on the device, inside ``fake_device``.

    Other tensors that it holds stay where they are, as with ``Module.to``.
    """
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: moved(one) for name, one in held.items() if one is not None})
    if isinstance(module, BaseModel):  # where its preprocessor is to put a batch
        module._set_device(DEVICE)
    return module


def train_step(model: Any, data: Any) -> dict[str, Any]:
    """Do a step as mmengine does: losses, backward, clipping, AdamW; return the logged losses.

    Raises:
        AssertionError: a parameter without gradient, or one that is elsewhere.

    """
    from mmengine.optim import OptimWrapper

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    wrapper = OptimWrapper(optimizer, clip_grad={"max_norm": 2.0})
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    loss, logged = model.parse_losses(losses)
    wrapper.update_params(loss)
    moments = {n: optimizer.state[p].get("exp_avg") for n, p in model.named_parameters()}
    elsewhere = [n for n, one in moments.items() if one is None or one.device != DEVICE]
    assert not elsewhere, elsewhere
    return dict(logged)
