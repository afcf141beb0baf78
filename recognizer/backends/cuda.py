"""The part of CUDA that TensorRT and ONNX Runtime networks need: device, stream, memory, copies.

Of the ways to get there NVIDIA's ``cuda-bindings`` is the smallest: one wheel of the ordinary
package index that holds the CUDA runtime itself. torch would bring gigabytes that inference
does not need, and ctypes on ``libcudart`` the layout of structures that changes between versions.
"""

import importlib
import math
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from recognizer.backends.engine_shapes import capacity
from recognizer.backends.network import ModelError

DRIVER_FLOOR = 580
"""The oldest NVIDIA driver that CUDA 13 runs on."""
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")


def runtime() -> Any:
    """Return the module ``cuda.bindings.runtime``; raise ImportError without the package."""
    return importlib.import_module("cuda.bindings.runtime")


def checked(answer: tuple[Any, ...], what: str) -> Any:
    """Return what a call of the CUDA runtime gave beside its error code.

    Raises:
        ModelError: the call failed; CUDA's reason is in the message.

    """
    code, *values = answer
    if int(code) != 0:
        raise ModelError(f"{what}: CUDA reports {code.name}: {_reason(code)}")
    return values[0] if len(values) == 1 else tuple(values)


def _reason(code: Any) -> str:
    _, text = runtime().cudaGetErrorString(code)
    return text.decode() if isinstance(text, bytes) else str(text)


def use_device(device: str) -> tuple[str, str]:
    """Make a GPU the calling thread's, and return its name and compute capability.

    Must come before anything of TensorRT: without a driver its ``Runtime`` prints an error, is
    made all the same, and crashes the process when it is given an engine (seen with 11.4).

    Args:
        device: ``cuda:N``.

    Raises:
        ModelError: no NVIDIA driver, one too old, or no such GPU.

    """
    cudart = runtime()
    index = int(device.partition(":")[2])
    code, count = cudart.cudaGetDeviceCount()
    if int(code) != 0 or count == 0:
        raise ModelError(
            f"device {device}: expected an NVIDIA GPU and its driver, CUDA reports {code.name}: "
            f"{_reason(code)}",
            remedy=driver_remedy(),
        )
    if index >= count:
        raise ModelError(
            f"device {device}: expected one of the {count} GPUs here, cuda:0 to cuda:{count - 1}"
        )
    checked(cudart.cudaSetDevice(index), f"choosing {device}")
    gpu = checked(cudart.cudaGetDeviceProperties(index), f"reading the properties of {device}")
    return gpu.name.split(b"\0")[0].decode(), f"{gpu.major}.{gpu.minor}"


def driver_remedy() -> str:
    """Return how to get a driver that is new enough, and the version that is here."""
    return (
        f"install NVIDIA's driver {DRIVER_FLOOR} or newer (here: {driver_version() or 'none'}; "
        "nvidia-smi shows it); a container gets the host's by the NVIDIA Container Toolkit and "
        "--gpus all or a Compose profile with a GPU; or run on the CPU (inference_mode: onnx, "
        "device: cpu)"
    )


def driver_version() -> str:
    """Return the version of the kernel's NVIDIA driver; empty where none is visible."""
    try:
        text = _DRIVER_VERSION.read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"\b\d{3,}(\.\d+)+\b", text)
    return found[0] if found else ""


class PinnedMemory:
    """Page-locked memory of the host, which a GPU reads and writes by itself; freed at its end.

    NumPy makes an array of it by ``__array_interface__``, and keeps it as long as the array.

    Args:
        nbytes: size, at least 1.

    Raises:
        ModelError: the system gives no more of it.

    """

    def __init__(self, nbytes: int) -> None:
        cudart = runtime()
        self.nbytes = max(nbytes, 1)
        answer = cudart.cudaHostAlloc(self.nbytes, cudart.cudaHostAllocPortable)
        self.address = int(checked(answer, f"{nbytes} bytes of page-locked memory"))
        self.__array_interface__ = {
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
        }
        # Not at the end of the process: arrays of it may still be in use there.
        weakref.finalize(self, cudart.cudaFreeHost, self.address).atexit = False

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the beginning of it as an array; a later one shares the same bytes."""
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        return np.asarray(self)[:nbytes].view(kind).reshape(shape)

    def holds(self, array: NDArray[Any]) -> bool:
        """Return whether an array lies in it, side by side."""
        start = array.ctypes.data - self.address
        return array.flags.c_contiguous and 0 <= start <= self.nbytes - array.nbytes


class Stream:
    """A queue of work on one GPU, and memory on it that is reused from run to run.

    Args:
        device: ``cuda:N``.
        pinned: copy by way of page-locked memory, which is reused, too. A copy from or to other
            memory makes the driver do the same in small pieces, and the caller wait for each.

    """

    def __init__(self, device: str, *, pinned: bool = True) -> None:
        self.cudart = runtime()
        self._index = int(device.partition(":")[2])
        self._is_pinned = pinned
        self.enter()  # a stream belongs to the GPU that is chosen when it is made
        self._stream = checked(self.cudart.cudaStreamCreate(), "making a CUDA stream")
        self._memory: dict[str, tuple[int, int]] = {}  # name -> (address, bytes)
        self._graphs: list[Any] = []
        self._pinned: dict[str, PinnedMemory] = {}
        self._lent: weakref.WeakSet[PinnedMemory] = weakref.WeakSet()
        self._uploading: list[NDArray[Any]] = []
        self._downloading: list[tuple[NDArray[Any], NDArray[Any]]] = []
        weakref.finalize(self, _release, self.cudart, self._stream, self._memory, self._graphs)

    @property
    def handle(self) -> int:
        """The stream as the number that TensorRT takes."""
        return int(self._stream)

    def enter(self) -> None:
        """Make the GPU the calling thread's: CUDA keeps the choice per thread."""
        checked(self.cudart.cudaSetDevice(self._index), f"choosing cuda:{self._index}")

    def reserve(self, name: str, nbytes: int) -> int:
        """Return the address of ``nbytes`` of GPU memory; what was held grows where needed.

        Raises:
            ModelError: the GPU's memory is full.

        """
        address, held = self._memory.get(name, (0, 0))
        needed = capacity(held, nbytes)
        if needed != held:
            if held:
                del self._memory[name]
                checked(self.cudart.cudaFree(address), f"freeing {name}")
            address = int(checked(self.cudart.cudaMalloc(needed), f"{needed} bytes for {name}"))
            self._memory[name] = (address, needed)
        return address

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array that is uploaded as it is: of page-locked memory, where that is used."""
        if not self._is_pinned:
            return np.empty(shape, dtype)
        self.enter()
        memory = PinnedMemory(math.prod(shape) * np.dtype(dtype).itemsize)
        self._lent.add(memory)
        return memory.array(shape, dtype)

    def upload(self, name: str, array: NDArray[Any]) -> int:
        """Queue a copy into GPU memory of this name and return its address.

        The array may be changed again after ``wait``.
        """
        address = self.reserve(name, array.nbytes)
        source = self._source(name, array)
        self._uploading.append(source)
        kind = self.cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.copy(address, source.ctypes.data, source.nbytes, kind)
        return address

    def _source(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array, side by side, in the memory that it is copied from."""
        if not self._is_pinned or any(memory.holds(array) for memory in self._lent):
            return np.ascontiguousarray(array)
        staged = self._staged(f"to {name}", array.shape, array.dtype)
        np.copyto(staged, array)
        return staged

    def download(
        self, name: str, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Queue a copy from the GPU into a new array, which is filled after ``wait``."""
        array = np.empty(shape, dtype)
        target = array
        if self._is_pinned:
            target = self._staged(f"from {name}", shape, dtype)
            self._downloading.append((target, array))
        kind = self.cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.copy(target.ctypes.data, address, array.nbytes, kind)
        return array

    def _staged(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        here = self._pinned.get(name)
        if here is None or here.nbytes < nbytes:
            self._pinned.pop(name, None)  # freed before more is asked for
            self._pinned[name] = here = PinnedMemory(capacity(0, nbytes))
        return here.array(shape, dtype)

    def copy(self, target: int, source: int, nbytes: int, kind: Any) -> None:
        """Queue a copy between two addresses; ``kind`` is one of CUDA's cudaMemcpyKind."""
        if nbytes:
            answer = self.cudart.cudaMemcpyAsync(target, source, nbytes, kind, self._stream)
            checked(answer, f"copying {nbytes} bytes")

    def wait(self) -> None:
        """Return when everything queued is done; raise ModelError if any of it failed."""
        try:
            checked(self.cudart.cudaStreamSynchronize(self._stream), "running the network")
            for staged, array in self._downloading:
                np.copyto(array, staged)
        finally:
            self._uploading.clear()
            self._downloading.clear()

    def capture(self, work: Callable[[], None]) -> Any:
        """Return a CUDA graph of what ``work`` queues on this stream; nothing of it runs.

        ``work`` must have run before: what is loaded at the first run cannot be recorded.

        Raises:
            ModelError: it does what no graph can hold, such as waiting for the GPU.

        """
        cudart = self.cudart
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        what = "recording a CUDA graph (cuda_graph: false runs without one)"
        checked(cudart.cudaStreamBeginCapture(self._stream, mode), what)
        try:
            work()
        except BaseException:
            code, graph = cudart.cudaStreamEndCapture(self._stream)
            if int(code) == 0:
                cudart.cudaGraphDestroy(graph)
            raise
        graph = checked(cudart.cudaStreamEndCapture(self._stream), what)
        try:
            executable = checked(cudart.cudaGraphInstantiate(graph, 0), what)
        finally:
            cudart.cudaGraphDestroy(graph)
        self._graphs.append(executable)
        return executable

    def launch(self, graph: Any) -> None:
        """Queue the work of a graph; it reads and writes where it did when it was recorded."""
        checked(self.cudart.cudaGraphLaunch(graph, self._stream), "running a CUDA graph")


def _release(
    cudart: Any, stream: Any, memory: dict[str, tuple[int, int]], graphs: list[Any]
) -> None:
    # Errors are ignored: the owner is gone and, at the end of a process, the driver may be, too.
    cudart.cudaStreamSynchronize(stream)
    for graph in graphs:
        cudart.cudaGraphExecDestroy(graph)
    for address, _ in memory.values():
        cudart.cudaFree(address)
    cudart.cudaStreamDestroy(stream)
