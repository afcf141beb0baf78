"""Runs of an ONNX Runtime session whose inputs and outputs stay in a device's memory.

``BoundRuns`` lets ONNX Runtime hold that memory. ``PinnedRuns`` holds it itself, goes there by
page-locked memory, and gives every run the same addresses, which is what a CUDA graph asks for.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from recognizer.backends.cuda import Stream
from recognizer.backends.engine_shapes import numpy_type
from recognizer.backends.network import Feeds, Results, TensorSpec


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
        self._values: dict[str, tuple[tuple[tuple[int, ...], np.dtype[Any]], Any]] = {}

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised array of ordinary memory, to fill for a run."""
        return np.empty(shape, dtype)

    def __call__(self, feeds: Feeds) -> Results:
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

    def _place(self, name: str, array: NDArray[np.generic]) -> None:
        from onnxruntime import OrtValue

        here = self._values.get(name)
        if here is not None and here[0] == (array.shape, array.dtype):
            here[1].update_inplace(array)
            return
        # On the CPU the value is the array itself, which is the caller's.
        own = array.copy() if self._device == "cpu" else array
        value = OrtValue.ortvalue_from_numpy(own, self._device, self._index)
        self._values[name] = (array.shape, array.dtype), value
        self._binding.bind_ortvalue_input(name, value)


class PinnedRuns:
    """Runs of a session with inputs in a stream's GPU memory, copied by way of page-locked memory.

    One thread at a time.

    Args:
        session: the InferenceSession.
        outputs: its outputs, in order.
        stream: whose memory is used.
        device: ``cuda``, or ``cpu`` where the stream's memory is the host's.
        index: which of them.
        fixed: whether every size of ``outputs`` is known and each gets one place for good, as a
            CUDA graph needs; else ONNX Runtime makes room for them in each run.

    """

    def __init__(
        self,
        session: Any,
        outputs: tuple[TensorSpec, ...],
        stream: Stream,
        device: str,
        index: int = 0,
        *,
        fixed: bool = False,
    ) -> None:
        self._session, self._stream = session, stream
        self._binding = session.io_binding()
        self._device, self._index = device, index
        self._outputs, self._fixed = outputs, fixed
        self._bound: dict[str, tuple[int, tuple[int, ...], Any]] = {}
        self.host_array = stream.host_array
        if fixed:
            stream.enter()
            for spec in outputs:
                self._fix(spec)

    def _fix(self, spec: TensorSpec) -> None:
        shape, kind = tuple(size or 0 for size in spec.shape), numpy_type(spec)
        address = self._stream.reserve(spec.name, int(np.prod(shape)) * kind.itemsize)
        self._binding.bind_output(
            spec.name, self._device, self._index, kind.type, list(shape), address
        )

    def __call__(self, feeds: Feeds) -> Results:
        """Return every output for the given inputs."""
        self._stream.enter()
        for name, array in feeds.items():
            self._bind(name, array, self._stream.upload(name, array))
        if not self._fixed:
            for spec in self._outputs:  # anew: their sizes may be others each time
                self._binding.bind_output(spec.name, self._device, self._index)
        self._stream.wait()  # the session works on a stream of its own
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        values = self._binding.get_outputs()
        results = {
            spec.name: self._stream.download(
                spec.name, value.data_ptr(), tuple(value.shape()), numpy_type(spec)
            )
            for spec, value in zip(self._outputs, values, strict=True)
        }
        self._stream.wait()
        return results

    def _bind(self, name: str, array: NDArray[np.generic], address: int) -> None:
        place = address, array.shape, array.dtype
        if self._bound.get(name) != place:
            self._binding.bind_input(
                name, self._device, self._index, array.dtype.type, list(array.shape), address
            )
            self._bound[name] = place
