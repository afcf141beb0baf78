"""A module of torch recorded as CUDA graphs: its hundreds of kernels start by one call.

A recording has fixed shapes and fixed memory, so there is one for each batch size, whose input is
copied into place and whose outputs are overwritten by the next run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recognizer.backends.network import ModelError

_WARM_UPS = 3  # before recording, libraries choose their algorithms and allocate
Outputs = tuple[Tensor, ...]


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    given: Tensor  # the input, (B, ...)
    outputs: Outputs
    fits: Tensor | None


class CudaGraphs:
    """One recording per batch size, of a function of one tensor. One thread at a time.

    Args:
        work: what is recorded: a tensor to (outputs, whether these are right, () bool). Where the
            latter is False, the outputs are not to be used; None: always right.
        given: an input of the smallest size on its device, for shape and type; (B, ...).
        sizes: batch sizes, ascending.

    Raises:
        ModelError: the device is no GPU, or the work cannot be recorded.

    """

    def __init__(
        self,
        work: Callable[[Tensor], tuple[Outputs, Tensor | None]],
        given: Tensor,
        sizes: tuple[int, ...],
    ) -> None:
        if given.device.type != "cuda":
            raise ModelError(
                f"models.pose_estimation.pth.cuda_graph: it takes a GPU, got device {given.device};"
                " set cuda_graph: false, or device: cuda:0"
            )
        self._work, self._device = work, given.device
        self._pool: Any = None
        self._recordings: dict[int, _Recording] = {}
        # The largest first: the smaller ones then fit into its memory.
        for size in sorted(sizes, reverse=True):
            self._recordings[size] = self._record(given.new_zeros((size, *given.shape[1:])))

    def run(self, pixels: Tensor, size: int) -> tuple[Outputs, Tensor | None]:
        """Return what the work gives for (n, ...) pixels, n <= ``size``, in batches of ``size``.

        The outputs hold until the next run.
        """
        recording = self._recordings[size]
        recording.given[: len(pixels)].copy_(pixels, non_blocking=True)
        recording.given[len(pixels) :].zero_()
        recording.graph.replay()
        return recording.outputs, recording.fits

    def _record(self, given: Tensor) -> _Recording:
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer stream is the current one again after a failed recording, too: torch's own
            # context leaves the stream of the recording current.
            current = torch.cuda.current_stream(self._device)
            with torch.cuda.stream(current):
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(_WARM_UPS):
                        self._work(given)
                torch.cuda.current_stream().wait_stream(side)
                # Other threads may use the GPU meanwhile.
                with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
                    outputs, fits = self._work(given)
        except RuntimeError as error:
            first = (str(error).splitlines() or [""])[0][:300]
            raise ModelError(
                f"models.pose_estimation.pth.cuda_graph: the network cannot be recorded for "
                f"batches of {len(given)}: {first}; set cuda_graph: false"
            ) from error
        self._pool = graph.pool()
        return _Recording(graph, given, outputs, fits)
