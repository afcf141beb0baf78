"""CUDA's runtime as far as ``backends.cuda`` asks it, on the host's memory, late as a GPU is.

What is queued on a stream runs when the stream is waited for, not before: without the wait, old
bytes are read. Every call is kept by name.
"""

import ctypes
import enum
import sys


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

    def __init__(self):
        self.calls, self.blocks, self.pinned, self.graphs = [], {}, {}, {}
        self.queue, self.capturing, self.numbers = [], None, 1000
        self.refuse = set()  # names of calls that fail
        self.device, self.streams = 0, {}

    def names(self, *wanted):
        return [name for name in self.calls if not wanted or name in wanted]

    def _called(self):
        name = sys._getframe(1).f_code.co_name
        self.calls.append(name)
        return Code.cudaErrorMemoryAllocation if name in self.refuse else Code.cudaSuccess

    def put(self, work):
        """Queue work, as a kernel's launch does."""
        (self.queue if self.capturing is None else self.capturing).append(work)

    def _number(self):
        self.numbers += 1
        return self.numbers

    def cudaGetErrorString(self, code):  # noqa: N802
        return Code.cudaSuccess, code.name.encode()

    def cudaSetDevice(self, index):  # noqa: N802
        self.device = index
        return (self._called(),)

    def cudaStreamCreate(self):  # noqa: N802
        number = self._number()
        self.streams[number] = self.device
        return self._called(), number

    def cudaStreamDestroy(self, stream):  # noqa: N802
        return (self._called(),)

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        code = self._called()
        assert self.capturing is None, "no wait while a graph is recorded"
        for work in self.queue:
            work()
        self.queue.clear()
        return (code,)

    def cudaMalloc(self, size):  # noqa: N802
        return self._called(), self._allocate(self.blocks, size)

    def cudaHostAlloc(self, size, flags):  # noqa: N802
        return self._called(), self._allocate(self.pinned, size)

    def _allocate(self, kept, size):
        assert self.capturing is None, "no memory while a graph is recorded"
        block = (ctypes.c_ubyte * size)()
        address = ctypes.addressof(block)
        kept[address] = block
        return address

    def cudaFree(self, address):  # noqa: N802
        del self.blocks[address]
        return (self._called(),)

    def cudaFreeHost(self, address):  # noqa: N802
        del self.pinned[address]
        return (self._called(),)

    def cudaMemcpyAsync(self, target, source, count, kind, stream):  # noqa: N802
        self.put(lambda: ctypes.memmove(target, source, count))
        return (self._called(),)

    def cudaStreamBeginCapture(self, stream, mode):  # noqa: N802
        assert not self.queue, "what is queued before would be in no graph"
        self.capturing = []
        return (self._called(),)

    def cudaStreamEndCapture(self, stream):  # noqa: N802
        number = self._number()
        self.graphs[number], self.capturing = self.capturing, None
        return self._called(), number

    def cudaGraphInstantiate(self, graph, flags):  # noqa: N802
        number = self._number()
        self.graphs[number] = self.graphs[graph]
        return self._called(), number

    def cudaGraphDestroy(self, graph):  # noqa: N802
        del self.graphs[graph]
        return (self._called(),)

    def cudaGraphExecDestroy(self, graph):  # noqa: N802
        del self.graphs[graph]
        return (self._called(),)

    def cudaGraphLaunch(self, graph, stream):  # noqa: N802
        for work in self.graphs[graph]:
            self.put(work)
        return (self._called(),)
