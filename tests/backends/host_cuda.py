"""CUDA's runtime as far as ``backends.cuda`` asks it, on the host's memory, late as a GPU is.

What is queued on a stream runs when the stream is waited for, not before: without the wait, old
bytes are read. Every call is kept by name.
"""

import ctypes
import enum
import sys
from collections.abc import Callable
from typing import Any

Work = Callable[[], object]


class Code(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorStreamCaptureInvalidated = 901  # noqa: N815


class Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class Mode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


class HostCuda:
    """Answers as the module ``cuda.bindings.runtime`` does."""

    cudaHostAllocPortable = 1  # noqa: N815
    cudaMemcpyKind = Kind  # noqa: N815
    cudaStreamCaptureMode = Mode  # noqa: N815

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.blocks: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.queue: list[Work] = []
        self.capturing: list[Work] | None = None
        self.numbers = 1000
        self.refuse: set[str] = set()  # names of calls that fail
        self.device = 0
        self.streams: dict[int, int] = {}

    def names(self, *chosen: str) -> list[str]:
        return [name for name in self.calls if not chosen or name in chosen]

    def _called(self) -> Code:
        name = sys._getframe(1).f_code.co_name
        self.calls.append(name)
        return Code.cudaErrorMemoryAllocation if name in self.refuse else Code.cudaSuccess

    def put(self, work: Work) -> None:
        """Queue work, as a kernel's launch does."""
        (self.queue if self.capturing is None else self.capturing).append(work)

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def cudaGetErrorString(self, code: Code) -> tuple[Code, bytes]:  # noqa: N802
        return Code.cudaSuccess, code.name.encode()

    def cudaSetDevice(self, index: int) -> tuple[Code]:  # noqa: N802
        self.device = index
        return (self._called(),)

    def cudaStreamCreate(self) -> tuple[Code, int]:  # noqa: N802
        number = self._number()
        self.streams[number] = self.device
        return self._called(), number

    def cudaStreamDestroy(self, stream: int) -> tuple[Code]:  # noqa: N802
        return (self._called(),)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Code]:  # noqa: N802
        code = self._called()
        assert self.capturing is None, "no wait while a graph is recorded"
        for work in self.queue:
            work()
        self.queue.clear()
        return (code,)

    def cudaMalloc(self, size: int) -> tuple[Code, int]:  # noqa: N802
        return self._called(), self._allocate(self.blocks, size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Code, int]:  # noqa: N802
        return self._called(), self._allocate(self.pinned, size)

    def _allocate(self, kept: dict[int, Any], size: int) -> int:
        assert self.capturing is None, "no memory while a graph is recorded"
        block = (ctypes.c_ubyte * size)()
        address = ctypes.addressof(block)
        kept[address] = block
        return address

    def cudaFree(self, address: int) -> tuple[Code]:  # noqa: N802
        del self.blocks[address]
        return (self._called(),)

    def cudaFreeHost(self, address: int) -> tuple[Code]:  # noqa: N802
        del self.pinned[address]
        return (self._called(),)

    def cudaMemcpyAsync(  # noqa: N802
        self, target: int, source: int, count: int, kind: Kind, stream: int
    ) -> tuple[Code]:
        self.put(lambda: ctypes.memmove(target, source, count))
        return (self._called(),)

    def cudaStreamBeginCapture(self, stream: int, mode: Mode) -> tuple[Code]:  # noqa: N802
        assert not self.queue, "what is queued before would be in no graph"
        self.capturing = []
        return (self._called(),)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Code, int]:  # noqa: N802
        number = self._number()
        assert self.capturing is not None, "no graph is recorded"
        self.graphs[number], self.capturing = self.capturing, None
        return self._called(), number

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Code, int]:  # noqa: N802
        number = self._number()
        self.graphs[number] = self.graphs[graph]
        return self._called(), number

    def cudaGraphDestroy(self, graph: int) -> tuple[Code]:  # noqa: N802
        del self.graphs[graph]
        return (self._called(),)

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Code]:  # noqa: N802
        del self.graphs[graph]
        return (self._called(),)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Code]:  # noqa: N802
        for work in self.graphs[graph]:
            self.put(work)
        return (self._called(),)
