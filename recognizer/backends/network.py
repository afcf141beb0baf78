"""The interface of every backend: named arrays in, named arrays out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class ModelError(ValueError):
    """A network file that cannot be used here; the message says what would fit.

    Args:
        message: what was expected and what was found.
        remedy: what to do about it; it ends the message.

    Attributes:
        remedy: the same, for messages that show it apart.

    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.remedy = remedy


class NonFiniteOutputError(ModelError):
    """A network that runs and gives NaN or infinity."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and element type of a network's input or output; None: any size."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        """Return ``name (1,3,256,192)``."""
        sizes = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} ({sizes})"


FLOAT, UINT8, INT32 = "tensor(float)", "tensor(uint8)", "tensor(int32)"
HostArrays = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
Feeds = Mapping[str, NDArray[np.generic]]
"""Inputs of a run by name."""
Results = dict[str, NDArray[Any]]
"""Outputs of a run by name."""


class Network(Protocol):
    """A network that runs."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs the network takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs the network gives."""
        ...

    def run(self, feeds: Feeds) -> Results:
        """Return every output for the given inputs."""
        ...


def describe(network: Network) -> str:
    """Return inputs and outputs in one line, for error messages; types where not float32."""
    ins = ", ".join(
        str(spec) if spec.dtype == FLOAT else f"{spec} {spec.dtype}" for spec in network.inputs
    )
    outs = ", ".join(str(spec) for spec in network.outputs)
    return f"{ins} -> {outs}"


def has_pixels(spec: TensorSpec) -> bool:
    """Return whether an input is of images: (B,3,H,W) float or (B,H,W,3) uint8."""
    axis = {FLOAT: 1, UINT8: 3}.get(spec.dtype)
    return axis is not None and len(spec.shape) == 4 and spec.shape[axis] == 3


def check_finite(values: Sequence[NDArray[np.floating[Any]]], which: str) -> None:
    """Refuse NaN and infinity: later they would pass for an empty image, or for a position.

    Raises:
        NonFiniteOutputError: NaN or infinity; ``which`` network gave it.

    """
    if not all(np.isfinite(array).all() for array in values):
        raise NonFiniteOutputError(
            f"{which} gives numbers that are not finite (NaN)",
            remedy="use fp32 or bf16 where it runs or was built in fp16; otherwise its file is "
            "broken or was exported wrongly",
        )


def batches(total: int, network_batch: int | None, limit: int) -> list[tuple[int, int]]:
    """Return (start, stop) of the runs that cover ``total`` items.

    Args:
        total: how many items there are.
        network_batch: the batch size the network was exported with, None if it is free.
        limit: the most items a run may hold where the network leaves it free; a small
            limit keeps ONNX Runtime's arena, which never shrinks, small.

    """
    size = network_batch or limit
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def run_limit(network: Network, limit: int) -> int:
    """Return the most items of one run: what the network was built for, else ``limit``."""
    own: int | None = getattr(network, "max_batch", None)
    return limit if own is None else own


def image_limit(network: Network, limit: int) -> int:
    """Return the most whole images of one run: on a CPU one, as a batch outgrows its caches.

    ``python -m benchmarks.pose_precision`` measures what a batch costs there.
    """
    return 1 if getattr(network, "on_cpu", False) else run_limit(network, limit)


def host_arrays(network: Network) -> HostArrays:
    """Return what makes arrays, given shape and type, that the network reads fastest."""
    made: HostArrays = getattr(network, "host_array", np.empty)
    return made


def pad_batch(array: NDArray[Any], network_batch: int | None) -> NDArray[Any]:
    """Fill a last, short batch up to the size a fixed-batch network insists on."""
    if network_batch is None or len(array) == network_batch:
        return array
    missing = network_batch - len(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


def check_batch(feeds: Feeds, inputs: Sequence[TensorSpec], batch: int | None) -> None:
    """Refuse inputs of another batch than the one of every run.

    Raises:
        ModelError: another number of items.

    """
    for spec in inputs if batch is not None else ():
        came = feeds[spec.name].shape[:1] if spec.name in feeds else (batch,)
        if came != (batch,):
            raise ModelError(f"{spec}: expected {batch} items (static_batch), got {came}")


def check_fixed(path: Path, specs: Sequence[TensorSpec], remedy: str) -> None:
    """Refuse a CUDA graph of a network that has inputs or outputs of free sizes.

    Raises:
        ModelError: the message names them; ``remedy`` ends it.

    """
    free = [str(spec) for spec in specs if None in spec.shape]
    if free:
        raise ModelError(
            f"{path}: cuda_graph: expected a network whose sizes are all fixed, got "
            f"{', '.join(free)}",
            remedy=remedy,
        )
