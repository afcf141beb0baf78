"""The little of CUDA that a TensorRT network needs: a device, a stream, memory, copies.

Of the ways to get there NVIDIA's ``cuda-bindings`` is the smallest: one wheel of the ordinary
package index that holds the CUDA runtime itself. torch would bring gigabytes that inference
does not need, and ctypes on ``libcudart`` the layout of structures that changes between versions.
"""

import importlib
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        raise ModelError(f"{what}: CUDA said {code.name}: {_reason(code)}")
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
            f"device {device}: expected an NVIDIA GPU and its driver, CUDA said {code.name}: "
            f"{_reason(code)}",
            remedy=driver_remedy(),
        )
    if index >= count:
        raise ModelError(
            f"device {device}: expected one of the {count} GPUs here, cuda:0 to cuda:{count - 1}"
        )
    checked(cudart.cudaSetDevice(index), f"choosing {device}")
    facts = checked(cudart.cudaGetDeviceProperties(index), f"asking {device} what it is")
    return facts.name.split(b"\0")[0].decode(), f"{facts.major}.{facts.minor}"


def driver_remedy() -> str:
    """Return how to get a driver that is new enough, and the version that is here."""
    return (
        f"install NVIDIA's driver {DRIVER_FLOOR} or newer (here: {driver_version() or 'none'}; "
        "nvidia-smi shows it); a container gets the host's by the NVIDIA Container Toolkit and "
        "--gpus all or a Compose profile with a GPU; or run on the CPU (inference_mode: onnx, "
        "device: cpu)"
    )


def driver_version() -> str:
    """Return the version of the kernel's NVIDIA driver; empty where there is none to be seen."""
    try:
        text = _DRIVER_VERSION.read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"\b\d{3,}(\.\d+)+\b", text)
    return found[0] if found else ""


class Stream:
    """A queue of work on one GPU, and memory on it that is reused from run to run."""

    def __init__(self, device: str) -> None:
        self._cudart = runtime()
        self._index = int(device.partition(":")[2])
        self._stream = checked(self._cudart.cudaStreamCreate(), "making a CUDA stream")
        self._memory: dict[str, tuple[int, int]] = {}  # name -> (address, bytes)
        weakref.finalize(self, _release, self._cudart, self._stream, self._memory)

    @property
    def handle(self) -> int:
        """The stream as the number that TensorRT takes."""
        return int(self._stream)

    def enter(self) -> None:
        """Make the GPU the calling thread's: CUDA keeps the choice per thread."""
        checked(self._cudart.cudaSetDevice(self._index), f"choosing cuda:{self._index}")

    def reserve(self, name: str, nbytes: int) -> int:
        """Return the address of ``nbytes`` of GPU memory; what was held grows where needed.

        Raises:
            ModelError: the GPU's memory is full.

        """
        address, held = self._memory.get(name, (0, 0))
        wanted = capacity(held, nbytes)
        if wanted != held:
            if held:
                del self._memory[name]
                checked(self._cudart.cudaFree(address), f"freeing {name}")
            address = int(checked(self._cudart.cudaMalloc(wanted), f"{wanted} bytes for {name}"))
            self._memory[name] = (address, wanted)
        return address

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Queue a copy to the GPU; the array must be contiguous and live until ``wait``."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array.nbytes, kind)

    def download(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Queue a copy from the GPU into a new array, which is filled after ``wait``."""
        array = np.empty(shape, dtype)
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)
        return array

    def _copy(self, target: int, source: int, nbytes: int, kind: Any) -> None:
        if nbytes:
            answer = self._cudart.cudaMemcpyAsync(target, source, nbytes, kind, self._stream)
            checked(answer, f"copying {nbytes} bytes")

    def wait(self) -> None:
        """Return when everything queued is done; raise ModelError if any of it failed."""
        checked(self._cudart.cudaStreamSynchronize(self._stream), "running the network")


def _release(cudart: Any, stream: Any, memory: dict[str, tuple[int, int]]) -> None:
    # Nobody is left to hear of an error here, and at the end of a process the driver may be gone.
    cudart.cudaStreamSynchronize(stream)
    for address, _ in memory.values():
        cudart.cudaFree(address)
    cudart.cudaStreamDestroy(stream)
