"""ONNX Runtime: every option of the config reaches the session, nothing falls back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.backends.gpu_libraries import check_provider, preload
from recognizer.backends.network import ModelError, TensorSpec
from recognizer.backends.onnx_files import check_file
from recognizer.backends.onnx_options import ProviderChoice, choose_provider, session_options
from recognizer.config_types import OnnxRuntimeOptions


class OnnxNetwork:
    """A network file in an ONNX Runtime session.

    On a GPU, inputs and outputs are bound to its memory (``BoundRuns``).

    Args:
        path: the ``.onnx`` file; its external data must lie in its folder.
        options: what the session is told.
        threads: threads inside one operator, used where ``options.threads`` is ``auto``.

    Attributes:
        inputs: what goes in.
        outputs: what comes out.
        metadata: what the file says of itself.
        provider: name of the provider that runs it.

    Raises:
        ModelError: not an ONNX file that this runtime can load, external data that leaves its
            folder, or a wanted device or provider that is not there; the message names the
            remedy.

    """

    def __init__(self, path: Path, options: OnnxRuntimeOptions, threads: int = 1) -> None:
        import onnxruntime as ort

        check_file(path)
        choice = choose_provider(options, threads, ort.get_available_providers())
        preload(choice.wanted, options.device)
        try:
            self._session = ort.InferenceSession(
                str(path), session_options(options, threads), list(choice.providers),
                enable_fallback=0,
            )  # fmt: skip
        except Exception as error:  # its exception classes share no public base
            check_provider(choice.wanted, options.device)
            raise ModelError(f"{path}: ONNX Runtime cannot load this file: {_first(error)}") from (
                error
            )
        _check_given(self._session.get_providers(), choice, options.device)
        self._path = path
        self.provider = choice.wanted
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        kind, _, index = options.device.partition(":")
        self._bound = BoundRuns(self._session, kind, int(index)) if kind == "cuda" else None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output for the given inputs.

        Raises:
            ModelError: inputs that the network does not take, or a run that failed.

        """
        try:
            if self._bound is not None:
                return self._bound(feeds)
            values = self._session.run(self._output_names, dict(feeds))
        except Exception as error:  # its exception classes share no public base
            given = ", ".join(f"{name} {a.shape} {a.dtype}" for name, a in feeds.items())
            wanted = ", ".join(f"{spec} {spec.dtype}" for spec in self.inputs)
            raise ModelError(
                f"{self._path}: the run failed: {_first(error)} (it takes {wanted}; given {given})"
            ) from error
        return dict(zip(self._output_names, values, strict=True))


class BoundRuns:
    """Runs of a session with inputs and outputs bound to a device's memory.

    An input of the shape of the run before goes into the memory that is there already. One
    thread at a time.

    Args:
        session: the InferenceSession.
        device: ``cuda`` or ``cpu``, where the memory is.
        index: which of them.

    """

    def __init__(self, session: Any, device: str, index: int = 0) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._device, self._index = device, index
        self._names = [node.name for node in session.get_outputs()]
        self._values: dict[str, Any] = {}

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output for the given inputs."""
        for name, array in feeds.items():
            self._place(name, np.ascontiguousarray(array))
        for name in self._names:  # anew: their sizes may be others each time
            self._binding.bind_output(name, self._device, self._index)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        results = self._binding.copy_outputs_to_cpu()
        return dict(zip(self._names, results, strict=True))

    def _place(self, name: str, array: NDArray[Any]) -> None:
        from onnxruntime import OrtValue

        here = self._values.get(name)
        if here is not None and here[0] == (array.shape, array.dtype):
            here[1].update_inplace(array)
            return
        value = OrtValue.ortvalue_from_numpy(array, self._device, self._index)
        if self._device == "cpu":  # such a value is the array itself, which is the caller's
            value = OrtValue.ortvalue_from_numpy(array.copy(), self._device, self._index)
        self._values[name] = (array.shape, array.dtype), value
        self._binding.bind_ortvalue_input(name, value)


def _check_given(given: list[str], choice: ProviderChoice, device: str) -> None:
    """Refuse a session whose providers are not all those that were asked for."""
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


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    return TensorSpec(node.name, shape, node.type)
