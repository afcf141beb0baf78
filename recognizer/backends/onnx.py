"""ONNX Runtime: every option of the config reaches the session, nothing falls back."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from recognizer.backends.cuda import Stream, runtime
from recognizer.backends.gpu_libraries import check_provider, install, preload
from recognizer.backends.network import (
    Feeds,
    ModelError,
    Results,
    TensorSpec,
    check_batch,
    check_fixed,
)
from recognizer.backends.onnx_binding import BoundRuns, PinnedRuns
from recognizer.backends.onnx_files import check_file
from recognizer.backends.onnx_options import ProviderChoice, choose_provider, session_options
from recognizer.config.models import OnnxImageOptions
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.installation import install_command

_FIX_SIZES = (
    "set static_batch where only the batch is free; a network with suppression inside (rtmo) gives "
    "as many people as there are: set cuda_graph: false for it"
)


class OnnxNetwork:
    """A network file in an ONNX Runtime session.

    On a GPU, inputs and outputs are bound to its memory (``onnx_binding``): one thread at a time.

    Args:
        path: the ``.onnx`` file; its external data must lie in its folder.
        options: of the session; with ``OnnxImageOptions`` also the batch of every run.
        threads: threads inside one operator, used where ``options.threads`` is ``auto``.

    Attributes:
        inputs: what goes in; of the batch ``static_batch`` where that is set: callers fill up.
        outputs: what comes out.
        metadata: what the file says of itself.
        provider: name of the provider that runs it.
        on_cpu: whether the CPU runs it.

    Raises:
        ModelError: not an ONNX file that this runtime can load, external data that leaves its
            folder, or a device or provider that is not there; the message names the
            remedy.

    """

    def __init__(self, path: Path, options: OnnxRuntimeOptions, threads: int = 1) -> None:
        ort = _runtime()
        check_file(path)
        choice = choose_provider(options, threads, ort.get_available_providers())
        preload(choice.required, options.device)
        try:
            self._session = ort.InferenceSession(
                str(path),
                session_options(options, threads),
                list(choice.providers),
                enable_fallback=0,
            )
        except Exception as error:  # its exception classes share no public base
            check_provider(choice.required, options.device)
            raise ModelError(f"{path}: ONNX Runtime cannot load this file: {_first(error)}") from (
                error
            )
        _check_given(self._session.get_providers(), choice, options.device)
        self._path = path
        self.provider = choice.required
        self.on_cpu = options.device == "cpu"
        self._options = options if isinstance(options, OnnxImageOptions) else OnnxImageOptions()
        self.inputs, self.outputs = _specs(self._session, self._options.static_batch, path)
        self._output_names = [spec.name for spec in self.outputs]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if self._options.cuda_graph:
            check_fixed(path, (*self.inputs, *self.outputs), _FIX_SIZES)
        self._bound = self._bind(options.device)
        self._turn = threading.Lock()  # bound memory serves one run after the other

    def _bind(self, device: str) -> BoundRuns | PinnedRuns | None:
        kind, _, index = device.partition(":")
        if kind != "cuda":
            return None
        if not self._options.pinned_memory:
            return BoundRuns(self._session, kind, int(index))
        if not _has_cuda_bindings():
            raise ModelError(
                "pinned_memory: expected the package cuda-bindings, it is not installed",
                remedy=f"{install('gpu')}, or set pinned_memory: false",
            )
        return PinnedRuns(
            self._session,
            self.outputs,
            Stream(device),
            kind,
            int(index),
            fixed=self._options.cuda_graph,
        )

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array to fill for a run, of the memory that gets to the device fastest."""
        return (
            np.empty(shape, dtype) if self._bound is None else self._bound.host_array(shape, dtype)
        )

    def run(self, feeds: Feeds) -> Results:
        """Return every output for the given inputs.

        Raises:
            ModelError: inputs that the network does not take, or a run that failed.

        """
        try:
            check_batch(feeds, self.inputs, self._options.static_batch)
            if self._bound is not None:
                with self._turn:
                    return self._bound(feeds)
            values = self._session.run(self._output_names, dict(feeds))
        except Exception as error:  # its exception classes share no public base
            given = ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in feeds.items())
            takes = ", ".join(f"{spec} {spec.dtype}" for spec in self.inputs)
            raise ModelError(
                f"{self._path}: the run failed: {_first(error)} (it takes {takes}; given {given})"
            ) from error
        return dict(zip(self._output_names, values, strict=True))


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"ONNX Runtime, which runs .onnx files, is not installed ({error}): {install_command()}"
        ) from error
    return onnxruntime


def _check_given(given: list[str], choice: ProviderChoice, device: str) -> None:
    """Refuse a session that lacks one of the required providers."""
    missing = [name for name, _ in choice.providers if name not in given]
    for name in missing:
        check_provider(name, device)
    if missing:
        raise ModelError(
            f"device {device}: expected {', '.join(missing)}, ONNX Runtime gave "
            f"{', '.join(given)} and no reason",
            remedy="look at --mode doctor, or set device: cpu",
        )


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _has_cuda_bindings() -> bool:
    try:
        runtime()
    except ImportError:
        return False
    return True


def _specs(
    session: Any, batch: int | None, path: Path
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs, with a free batch replaced by ``batch`` where that is set."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    free = {node.shape[0] for node in inputs if node.shape and isinstance(node.shape[0], str)}
    sizes = {} if batch is None else dict.fromkeys(free, batch)
    known = tuple(_with_batch(_spec(node, sizes), batch) for node in inputs)
    for spec in known:
        if batch is not None and spec.shape[:1] != (batch,):
            raise ModelError(
                f"{path}: static_batch: expected {spec.shape[0] if spec.shape else 'none'}, which "
                f"the file's {spec.name} was exported for, got {batch}",
                remedy="set static_batch: null, or export the file with a free batch",
            )
    return known, tuple(_spec(node, sizes) for node in outputs)


def _with_batch(spec: TensorSpec, batch: int | None) -> TensorSpec:
    """Return an input with a free first size, which a file may leave unnamed, as ``batch``."""
    if batch is None or spec.shape[:1] != (None,):
        return spec
    return replace(spec, shape=(batch, *spec.shape[1:]))


def _spec(node: Any, sizes: Mapping[str, int]) -> TensorSpec:
    named = [sizes.get(size, size) if isinstance(size, str) else size for size in node.shape]
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in named)
    return TensorSpec(node.name, shape, node.type)
