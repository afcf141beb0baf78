"""The code on TensorRT itself: its log, an open engine, one run. Needs ``tensorrt``.

Written against the Python API of TensorRT 10 and 11 (``execute_async_v3``, tensors by name);
imported only when an engine is opened or built, after the GPU was found.
"""

import logging
import time
from collections import deque
from pathlib import Path
from typing import Any

import tensorrt as trt
from numpy.typing import DTypeLike, NDArray

from recognizer.backends.cuda import Stream
from recognizer.backends.engine_shapes import (
    ELEMENT_TYPES,
    ShapeRange,
    numpy_type,
    plan,
)
from recognizer.backends.network import Feeds, ModelError, Results, TensorSpec

logger = logging.getLogger(__name__)

_Places = dict[str, tuple[int, tuple[int, ...]]]  # output -> (address, shape)
_KEPT_PROBLEMS = 4


class Log(trt.ILogger):  # type: ignore[misc]
    """TensorRT's messages, in our log; the last errors are kept for the message of a refusal."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._problems: deque[str] = deque(maxlen=_KEPT_PROBLEMS)
        severity = trt.ILogger.Severity
        self._levels = {
            int(severity.INTERNAL_ERROR): logging.ERROR,
            int(severity.ERROR): logging.ERROR,
            int(severity.WARNING): logging.WARNING,
        }

    def log(self, severity: Any, msg: str) -> None:
        """Take a message; called by TensorRT, from any of its threads."""
        level = self._levels.get(int(severity), logging.DEBUG)
        if level == logging.ERROR:  # it is raised as the reason of what failed
            self._problems.append(msg.strip())
            level = logging.DEBUG
        logger.log(level, "TensorRT: %s", msg.strip())

    def reason(self) -> str:
        """Return the last errors in one line, and forget them."""
        reason = "; ".join(self._problems) or "it gave no reason"
        self._problems.clear()
        return reason


class BuildProgress(trt.IProgressMonitor):  # type: ignore[misc]
    """Logs the progress of a build now and then; a build has phases inside phases."""

    def __init__(self, every_s: float = 15.0) -> None:
        trt.IProgressMonitor.__init__(self)
        self._every_s = every_s
        self._logged = time.monotonic()
        self._steps: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Note a phase; called by TensorRT, from any of its threads."""
        self._steps[phase_name] = num_steps

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Log a step; True: go on."""
        if time.monotonic() - self._logged >= self._every_s:
            self._logged = time.monotonic()
            total = self._steps.get(phase_name, step + 1)
            logger.info("TensorRT: %s: step %d of %d", phase_name, step + 1, total)
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Forget a phase that is over."""
        self._steps.pop(phase_name, None)


class _OutputMemory(trt.IOutputAllocator):  # type: ignore[misc]
    """Memory for one output whose size only the data decides."""

    def __init__(self, stream: Stream) -> None:
        trt.IOutputAllocator.__init__(self)
        self._stream = stream
        self.address = 0
        self.shape: tuple[int, ...] | None = None
        self.problem: ModelError | None = None

    def reallocate_output_async(
        self, tensor_name: str, memory: int | None, size: int, alignment: int, stream: int
    ) -> int:
        """Give memory; called by TensorRT in the middle of a run. 0: there is none."""
        try:
            self.address = self._stream.reserve(tensor_name, int(size))
        except ModelError as error:  # an exception cannot pass through TensorRT's own code
            self.problem, self.address = error, 0
        return self.address

    def reallocate_output(
        self, tensor_name: str, memory: int | None, size: int, alignment: int
    ) -> int:
        """Give memory; the name of the call in early versions of TensorRT 10."""
        return self.reallocate_output_async(tensor_name, memory, size, alignment, 0)

    def notify_shape(self, tensor_name: str, shape: Any) -> None:
        """Keep the shape of the output."""
        self.shape = tuple(shape)


class Session:
    """An open engine on one GPU; one thread at a time may run it.

    ``Runtime.engine_host_code_allowed`` stays off: an engine may bring code for the GPU only.

    Args:
        engine: the engine's bytes, checked by the caller.
        path: where they came from, for messages.
        device: ``cuda:N``, already chosen for the calling thread.
        pinned: copy by way of page-locked memory.
        cuda_graph: record the first run as a CUDA graph; all later ones are of the same shapes.

    Raises:
        ModelError: TensorRT does not take the bytes, or the engine has inputs or outputs that
            arrays cannot be.

    """

    def __init__(
        self,
        engine: bytes,
        path: Path,
        device: str,
        *,
        pinned: bool = True,
        cuda_graph: bool = False,
    ) -> None:
        self._path = path
        self._log = Log()
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise ModelError(
                f"{path}: expected an engine that TensorRT {trt.__version__} can open, got: "
                f"{self._log.reason()}; build it here with --mode deploy.tensorrt. (Engines with "
                "plugins, such as mmdeploy's, need none when built from our ONNX files)"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ModelError(
                f"{path}: expected memory for the engine on {device}, TensorRT reports: "
                f"{self._log.reason()}; free GPU memory or build with a smaller max_batch"
            )
        self._stream = Stream(device, pinned=pinned)
        self._wants_graph = cuda_graph
        self._recorded: tuple[Any, _Places] | None = None
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.ranges = tuple(self._range(name) for name in inputs)
        self.inputs = tuple(self._spec(span.name, span.free()) for span in self.ranges)
        self.outputs = tuple(self._spec(name) for name in names if name not in inputs)
        self._allocators: dict[str, _OutputMemory] = {}

    def _range(self, name: str) -> ShapeRange:
        # The shape of a fixed input is its range; the profile need not have one.
        shape = tuple(self._engine.get_tensor_shape(name))
        if min(shape, default=0) >= 0:
            return ShapeRange(name, shape, shape, shape)
        low, tuned, high = (tuple(d) for d in self._engine.get_tensor_profile_shape(name, 0))
        return ShapeRange(name, low, tuned, high)

    def _spec(self, name: str, shape: tuple[int | None, ...] | None = None) -> TensorSpec:
        kind = self._engine.get_tensor_dtype(name).name
        placed = self._engine.get_tensor_location(name)
        layout = self._engine.get_tensor_format(name)
        if (
            kind not in ELEMENT_TYPES
            or placed != trt.TensorLocation.DEVICE
            or layout != trt.TensorFormat.LINEAR
        ):
            raise ModelError(
                f"{self._path}: {name}: expected a plain array of {', '.join(ELEMENT_TYPES)} on "
                f"the GPU, got {kind}, {layout}, {placed}; export the network with float32 inputs "
                "and outputs, and build it with --mode deploy.tensorrt"
            )
        if shape is None:
            sizes = tuple(self._engine.get_tensor_shape(name))
            shape = tuple(size if size >= 0 else None for size in sizes)
        return TensorSpec(name, shape, ELEMENT_TYPES[kind][0])

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array whose content gets to the GPU fastest."""
        return self._stream.host_array(shape, dtype)

    def run(self, feeds: Feeds) -> Results:
        """Return every output for inputs that the caller has checked.

        Raises:
            ModelError: TensorRT or CUDA failed; the reason is in the message.

        """
        self._stream.enter()
        if self._recorded is not None:
            return self._replay(feeds, *self._recorded)
        self._queue_inputs(feeds)
        known = self._place_outputs()
        self._check_recordable(known)
        self._execute()
        results = self._queue_results(known)
        self._stream.wait()
        if self._wants_graph:  # after a run, which has loaded all that it needs
            self._recorded = self._stream.capture(self._execute), known
        return results

    def _replay(self, feeds: Feeds, graph: Any, known: _Places) -> Results:
        # The context stays as it was when the graph was recorded: NVIDIA allows nothing else.
        for spec in self.inputs:
            self._stream.upload(spec.name, feeds[spec.name])
        self._stream.launch(graph)
        results = self._queue_results(known)
        self._stream.wait()
        return results

    def _execute(self) -> None:
        done = self._context.execute_async_v3(self._stream.handle)
        for memory in self._allocators.values():
            if memory.problem is not None:
                raise memory.problem
        if not done:
            raise ModelError(f"{self._path}: the run failed: {self._log.reason()}")

    def _queue_results(self, known: _Places) -> Results:
        results = {}
        for spec in self.outputs:
            address, shape = known.get(spec.name) or self._found(spec.name)
            kind = numpy_type(spec)
            results[spec.name] = self._stream.download(spec.name, address, shape, kind)
        return results

    def _check_recordable(self, known: _Places) -> None:
        sized = [str(spec) for spec in self.outputs if spec.name not in known]
        if self._wants_graph and sized:
            raise ModelError(
                f"{self._path}: cuda_graph: expected outputs whose sizes the inputs decide, got "
                f"{', '.join(sized)}, sized by the data (suppression is inside)",
                remedy="set cuda_graph: false for this network",
            )

    def _place_outputs(self) -> _Places:
        """Return address and shape of every output whose size is known before the run."""
        shapes = {s.name: tuple(self._context.get_tensor_shape(s.name)) for s in self.outputs}
        known = {}
        for buffer in plan(self.outputs, shapes):
            address = self._stream.reserve(buffer.name, buffer.nbytes)
            self._bind(buffer.name, address)
            known[buffer.name] = address, buffer.shape
        for spec in self.outputs:
            if spec.name not in known:
                self._ask_later(spec.name)
        return known

    def _queue_inputs(self, feeds: Feeds) -> None:
        for spec in self.inputs:
            array = feeds[spec.name]
            if not self._context.set_input_shape(spec.name, array.shape):
                raise ModelError(f"{self._path}: {spec}: {self._log.reason()}")
            self._bind(spec.name, self._stream.upload(spec.name, array))
        missing = self._context.infer_shapes()
        if missing:
            raise ModelError(f"{self._path}: TensorRT wants shapes of {', '.join(missing)}, too")

    def _bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise ModelError(f"{self._path}: {name}: {self._log.reason()}")

    def _ask_later(self, name: str) -> None:
        if name not in self._allocators:
            self._allocators[name] = _OutputMemory(self._stream)
            if not self._context.set_output_allocator(name, self._allocators[name]):
                raise ModelError(f"{self._path}: {name}: {self._log.reason()}")
        memory = self._allocators[name]
        memory.shape, memory.problem = None, None

    def _found(self, name: str) -> tuple[int, tuple[int, ...]]:
        memory = self._allocators[name]
        if memory.shape is None:  # promised before the run's call returns; by its end at the latest
            self._stream.wait()
        if memory.shape is None:
            raise ModelError(f"{self._path}: {name}: TensorRT did not say how large it became")
        return memory.address, memory.shape
