"""A module of torch on one device as a network: pixels up, run, results down."""

import threading
import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor, nn

from recognizer.backends.cuda import driver_remedy
from recognizer.backends.cuda_graph import CudaGraphs, Outputs
from recognizer.backends.gpu_libraries import CUDA_TORCH
from recognizer.backends.network import FLOAT, UINT8, Feeds, ModelError, Results, TensorSpec

_ELEMENTS = {FLOAT: np.float32, UINT8: np.uint8}


@dataclass(frozen=True)
class Execution:
    """How a module runs.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        channels_last: keep the pixels' channels side by side in memory.
        threads: CPU threads; torch has one pool per process, so the network opened last decides.
        batch_sizes: the only batch sizes that run, ascending: fewer items are filled up with
            zeros, more are the caller's to split; empty: any size.
        cuda_graph: record the module for each of ``batch_sizes`` and replay it. A module whose
            outputs have no fixed shape has a method ``static``, see ``RtmoGraph``.

    """

    device: str = "cpu"
    channels_last: bool = False
    threads: int | None = None
    batch_sizes: tuple[int, ...] = ()
    cuda_graph: bool = False


class TorchNetwork:
    """A module of torch on one device; threads take turns.

    Args:
        graph: takes one tensor, gives one or a tuple of them.
        inputs: the one input.
        outputs: as many as the module gives.
        execution: how it runs.
        metadata: texts about the network, by key, as an ONNX file has them.

    Attributes:
        max_batch: the most items of one run; None: any number.
        on_cpu: whether the CPU runs it.

    Raises:
        ModelError: no such device, or a module that cannot be recorded.

    """

    def __init__(
        self,
        graph: nn.Module,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        execution: Execution | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        execution = execution or Execution()
        check_device(execution.device)
        if execution.threads is not None:
            torch.set_num_threads(execution.threads)
        last = execution.channels_last
        self._format = torch.channels_last if last else torch.contiguous_format
        self._device = torch.device(execution.device)
        self.on_cpu = self._device.type == "cpu"
        self._graph = graph.eval().to(self._device)
        if last:
            # torch's annotations lack this overload.
            self._graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.inputs, self.outputs = inputs, outputs
        self.metadata: dict[str, str] = dict(metadata or {})
        self._sizes = execution.batch_sizes
        self.max_batch = self._sizes[-1] if self._sizes else None
        # A recording's outputs hold until its next run: threads take turns.
        self._turn: Any = threading.Lock() if execution.cuda_graph else nullcontext()
        self._recorded = self._record() if execution.cuda_graph else None

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised array, which ``run`` copies to the device fastest.

        For a GPU its memory is page-locked. It may be written again as soon as ``run`` has
        returned.
        """
        if self._device.type != "cuda":
            return np.empty(shape, dtype)
        element = torch.from_numpy(np.empty(0, dtype)).dtype
        pinned: NDArray[Any] = torch.empty(shape, dtype=element, pin_memory=True).numpy()
        return pinned

    def run(self, feeds: Feeds) -> Results:
        """Return every output for the given input.

        Raises:
            ModelError: an input of another name, shape or element type, more items than
                ``max_batch``, or a run that failed.

        """
        (spec,) = self.inputs
        array = feeds.get(spec.name)
        if array is None or len(feeds) != 1 or not _fits(array, spec):
            given = ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in feeds.items())
            raise ModelError(f"expected {spec} {spec.dtype}, got {given or 'nothing'}")
        if self.max_batch is not None and len(array) > self.max_batch:
            raise ModelError(
                f"expected at most {self.max_batch} items at once, got {len(array)}; add a larger "
                "size to models.pose_estimation.pth.static_batch"
            )
        try:
            with self._turn, torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecations inside mmpose
                values = self._values(torch.from_numpy(np.ascontiguousarray(array)))
                arrays = to_host([value[: len(array)] for value in values])
        except RuntimeError as error:
            first = (str(error).splitlines() or [""])[0][:300]
            raise ModelError(f"torch on {self._device}: the run failed: {first}") from error
        return {one.name: value for one, value in zip(self.outputs, arrays, strict=True)}

    def _values(self, pixels: Tensor) -> Outputs:
        """Return the outputs on the device, of the batch as it runs."""
        size = self._size(len(pixels))
        if self._recorded is not None:
            values, fits = self._recorded.run(pixels, size)
            if fits is None or bool(fits):
                return values
        there = pixels.to(self._device, non_blocking=True)
        if size > len(pixels):
            filling = there.new_zeros((size - len(pixels), *there.shape[1:]))
            there = torch.cat([there, filling])
        return _tuple(self._graph(self._laid_out(there)))

    def _size(self, count: int) -> int:
        """Return the size of the batch that ``count`` items run in."""
        return self._sizes[bisect_left(self._sizes, count)] if self._sizes else count

    def _laid_out(self, pixels: Tensor) -> Tensor:
        if self.inputs[0].dtype == UINT8:  # NHWC as it comes is channels_last already
            return pixels
        return pixels.contiguous(memory_format=self._format)

    def _record(self) -> CudaGraphs:
        (spec,) = self.inputs
        if not self._sizes or None in spec.shape[1:]:
            raise ModelError(f"a CUDA graph: expected batch sizes and a fixed input, got {spec}")
        element = torch.uint8 if spec.dtype == UINT8 else torch.float32
        shape = [size or 1 for size in spec.shape]
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = torch.zeros(shape, dtype=element, device=self._device)
            return CudaGraphs(self._static, given, self._sizes)

    def _static(self, pixels: Tensor) -> tuple[Outputs, Tensor | None]:
        """Return the outputs in fixed shapes, and whether they are those of the module."""
        pixels = self._laid_out(pixels)
        static: Any = getattr(self._graph, "static", None)
        if static is not None:
            *values, fits = static(pixels)
            return tuple(values), fits
        return _tuple(self._graph(pixels)), None


def _tuple(values: Tensor | Outputs) -> Outputs:
    return values if isinstance(values, tuple) else (values,)


def to_host(values: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Return arrays of the caller's own with the values; waits for a GPU once."""
    if values[0].device.type != "cuda":
        return [value.cpu().numpy() for value in values]
    # torch keeps pinned memory that is no longer used and hands it out again.
    hosts = [torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for value in values]
    for host, value in zip(hosts, values, strict=True):
        host.copy_(value, non_blocking=True)
    torch.cuda.current_stream(values[0].device).synchronize()
    return [host.numpy() for host in hosts]


def _fits(array: NDArray[Any], spec: TensorSpec) -> bool:
    return (
        array.dtype == _ELEMENTS[spec.dtype]
        and array.ndim == len(spec.shape)
        and all(own in (None, size) for own, size in zip(spec.shape, array.shape, strict=True))
    )


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ModelError: no such GPU, with what this torch was built for.

    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        build = "for CPUs only" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
        raise ModelError(
            f"device {device}: torch {torch.__version__} (built {build}) sees {count} GPUs here",
            remedy=_device_remedy(count),
        )


def _device_remedy(count: int) -> str:
    """Return how to get a GPU, of which torch sees ``count``."""
    if torch.version.cuda is None:
        return f"run `{CUDA_TORCH}`, or set models.pose_estimation.pth.device: cpu"
    if count == 0:
        return driver_remedy()
    return f"set models.pose_estimation.pth.device to one of cuda:0 to cuda:{count - 1}"
