"""TensorRT: an engine that fits this machine runs; anything else is refused by name, unopened.

Order of the checks: the file and the JSON beside it, the packages, the driver and the GPU, the
key (see ``engine_cache``), and only then TensorRT itself.
"""

import importlib
import threading
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike, NDArray

from recognizer.backends import engine_cache
from recognizer.backends.cuda import use_device
from recognizer.backends.engine_cache import Machine, Sidecar
from recognizer.backends.engine_shapes import (
    check_feeds,
    check_size,
    most_items,
    static_inputs,
)
from recognizer.backends.gpu_libraries import install, preload_cuda
from recognizer.backends.network import (
    Feeds,
    ModelError,
    Results,
    TensorSpec,
    check_batch,
    check_fixed,
)
from recognizer.config.models import TensorRTPoseConfig

_OLDEST = 10
_FIX_SIZES = (
    "set static_batch where only the batch is free, leave min_input_size and max_input_size null, "
    "or set cuda_graph: false"
)


class TensorRTNetwork:
    """A TensorRT engine on one GPU.

    Args:
        path: an engine, or the ONNX file whose engine ``deploy.tensorrt`` has built.
        device: ``cuda:N``.
        max_batch: the most items that will be given at once; None: as many as the engine takes.
        section: what the engine was built with; None: the defaults.

    Attributes:
        inputs: what goes in; None in a shape: free within the engine's range. Of the batch
            ``static_batch`` where that is set: callers fill up.
        outputs: what comes out; None in a shape: decided by the input.
        metadata: of the ONNX file that the engine was built from.
        max_batch: the most items that one run takes.

    Raises:
        ModelError: a missing package, library, driver, GPU or engine; an engine of another
            version, GPU, size or precision; a damaged one. The message names the remedy.

    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self,
        path: Path,
        device: str,
        *,
        max_batch: int | None = None,
        section: TensorRTPoseConfig | None = None,
    ) -> None:
        settings = section or TensorRTPoseConfig()
        engine, content, sidecar = _open(path, device, settings)
        from recognizer.backends.tensorrt_session import Session

        self._session = Session(
            content, engine, device, pinned=settings.pinned_memory, cuda_graph=settings.cuda_graph
        )
        self._lock = threading.Lock()
        self._static = settings.static_batch
        self.inputs = static_inputs(self._session.inputs, self._session.ranges, self._static)
        self.outputs = self._session.outputs
        if settings.cuda_graph:
            check_fixed(engine, self.inputs, _FIX_SIZES)
        self.metadata: dict[str, str] = dict(sidecar.metadata) if sidecar else {}
        if section is not None:
            check_size(self.inputs, self._session.ranges, section.model_input_size)
        self.max_batch = most_items(self._session.ranges, max_batch)

    def host_array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array to fill for a run, of the memory that gets to the GPU fastest."""
        return self._session.host_array(shape, dtype)

    def run(self, feeds: Feeds) -> Results:
        """Return every output for the given inputs; threads take turns.

        Raises:
            ModelError: inputs that the engine was not built for, or a run that failed.

        """
        check_feeds(feeds, self.inputs, self._session.ranges)
        check_batch(feeds, self.inputs, self._static)
        with self._lock:
            return self._session.run(feeds)


def _open(
    path: Path, device: str, section: TensorRTPoseConfig
) -> tuple[Path, bytes, Sidecar | None]:
    if path.suffix == ".onnx":
        engine_cache.source_file(path, fp16=section.fp16_mode)  # the plain faults come first
        here = machine(device)
        engine = engine_cache.cached_engine(path, section, here)
        content, sidecar = engine_cache.read_engine(engine, trusted=False)
    else:
        engine = path
        content, sidecar = engine_cache.read_engine(path, trusted=section.trust_model_path)
        if sidecar is not None:
            engine_cache.check_asked(path, sidecar, section)
        here = machine(device)
    if sidecar is not None:
        engine_cache.check_machine(engine, sidecar, here)
    return engine, content, sidecar


def machine(device: str) -> Machine:
    """Return the version of TensorRT here and the GPU that ``device`` is; choose that GPU.

    Raises:
        ModelError: a package, a library, the driver or the GPU is missing.

    """
    version = _version()
    name, capability = use_device(device)
    return Machine(version, name, capability)


def _version() -> str:
    """Return TensorRT's version once both packages can be imported."""
    preload_cuda()  # TensorRT's libraries may link to CUDA's
    found = imported("tensorrt", "tensorrt")
    imported("cuda.bindings.runtime", "cuda-bindings")
    version = str(getattr(found, "__version__", "0"))
    if int(version.partition(".")[0]) < _OLDEST:
        raise ModelError(
            f"inference_mode: tensorrt: expected TensorRT {_OLDEST} or newer, got {version}",
            remedy=install("tensorrt"),
        )
    return version


def imported(module: str, package: str) -> Any:
    """Import a module that ``requirements/tensorrt.txt`` brings.

    Raises:
        ModelError: the package, or a library of it, is missing.

    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"inference_mode: tensorrt: expected the package {package}, it is not installed "
            f"({error})",
            remedy=f"{install('tensorrt')} on the machine with the GPU, or set inference_mode: "
            "onnx",
        ) from error
    except ImportError as error:
        raise ModelError(
            f"inference_mode: tensorrt: the package {package} is there, a library of it is not: "
            f"{error}",
            remedy=f"{install('tensorrt')} again, which brings NVIDIA's libraries, or set "
            "inference_mode: onnx",
        ) from error
