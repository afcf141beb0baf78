"""Build the TensorRT engine of an ONNX file, on the machine that will run it.

The engine is kept under its key (``recognizer.backends.engine_cache``): an engine that is there
already and fits is not built again. Networks are strongly typed, so precision is that of the
ONNX file. Written against the Python API of TensorRT 10 and 11.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.action.classifier import find_classifier
from recognizer.backends import engine_cache
from recognizer.backends.engine_cache import EngineKey
from recognizer.backends.engine_shapes import ShapeRange, profile
from recognizer.backends.network import ModelError, TensorSpec, describe
from recognizer.backends.tensorrt import TensorRTNetwork, imported, machine
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.file import ConfigError
from recognizer.config.models import TensorRTPoseConfig
from recognizer.config.schema import Config
from recognizer.model_files import find_model_file
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import atomic_path, sha256_file

if TYPE_CHECKING:
    import onnx
    import tensorrt as trt

logger = logging.getLogger(__name__)

_KEY = "models.pose_estimation.tensorrt"
_MAX_ERRORS = 5
_DECIMAL_MB = 1e6
# onnx.TensorProto's numbers of the element types that networks take and give.
_ONNX_TYPES = {1: "float", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}


@dataclass(frozen=True, slots=True)
class OnnxMetadata:
    """What an ONNX file holds, read without TensorRT.

    Attributes:
        inputs: of the network.
        metadata: by key.
        weights: digests of its external data files by name.
        element_types: of its weights.

    """

    inputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    weights: Mapping[str, str]
    element_types: frozenset[str]


def build(config: Config, progress: ProgressFactory) -> int:
    """Build the engine of ``deploy.model`` (``--mode deploy.tensorrt``); return the exit code.

    Args:
        config: the whole config.
        progress: not used; TensorRT does not say how far a build is.

    Raises:
        ConfigError: no ONNX file in the config.
        ModelError: a file, package, driver or GPU that an engine cannot be built from or with.

    """
    section = config.models.pose_estimation.tensorrt
    source = engine_cache.source_file(onnx_file(config), fp16=section.fp16_mode)
    metadata = read_onnx(source)
    ranges = profile(metadata.inputs, section)
    check_precision(source, metadata)
    key = engine_cache.engine_key(source, section, machine(section.device))
    engine = engine_cache.engine_path(source, key, section.engine_dir)
    if engine_cache.is_current(engine, key, source.parent):
        logger.info("%s is there and fits; nothing to build", engine)
        return _done(config)
    logger.info("building %s (minutes) for %s", engine, "; ".join(str(span) for span in ranges))
    start = time.monotonic()
    with atomic_path(engine, engine.parent) as scratch:
        scratch.write_bytes(build_engine(source, section, ranges, key))
    engine_cache.write_sidecar(engine, key, metadata.weights, metadata.metadata)
    try:
        network = TensorRTNetwork(engine, section.device)
    except ModelError:  # an engine that does not open is no engine
        engine_cache.sidecar_path(engine).unlink()
        engine.unlink()
        raise
    logger.info(
        "%s: %.1f MB in %.0f s: %s",
        engine,
        engine.stat().st_size / _DECIMAL_MB,
        time.monotonic() - start,
        describe(network),
    )
    return _done(config)


def _done(config: Config) -> int:
    """Log the next command; no mode runs a classifier's engine."""
    if config.deploy.model == "pose":
        logger.info("next: %s", next_command(config, "deploy.verify"))
    return EXIT_DONE


def onnx_file(config: Config) -> Path:
    """Return the ONNX file of ``deploy.model``.

    Raises:
        ConfigError: none named, another kind of file, none there, or a model that no engine is
            built for.

    """
    service: str = config.deploy.model
    if service not in {"pose", "fight", "falldown"}:
        raise ConfigError(
            f"deploy.model: expected pose, fight or falldown to build an engine of, got {service}"
        )
    if service != "pose":
        section = getattr(config.inference, service)
        return find_classifier(section.model_path, config.models.folders())
    name = config.models.pose_estimation.tensorrt.model_path
    if not name.endswith(".onnx"):
        prefix, got = (":", f", got {name!r}") if name else (" is not set:", "")
        raise ConfigError(
            f"{_KEY}.model_path{prefix} expected the .onnx file to build from{got}; "
            f"--set {_KEY}.model_path=<file>.onnx, of a pose network that deploy.export wrote or "
            "models.fetch fetched"
        )
    advice = f"write it with `{engine_cache.EXPORT}`"
    return find_model_file(name, config.models.folders(), f"{_KEY}.model_path", advice)


# --- the ONNX file -----------------------------------------------------------------


def read_onnx(path: Path) -> OnnxMetadata:
    """Check an ONNX file and return what it holds; external data must be in its folder.

    Raises:
        ModelError: no ONNX network, a damaged one, or external data outside of its folder.

    """
    onnx = imported("onnx", "onnx")
    damaged = imported("google.protobuf.message", "protobuf").DecodeError
    try:
        model = onnx.load(str(path), load_external_data=False)
        # By path: it then checks external data, too, and refuses what is outside of the folder.
        onnx.checker.check_model(str(path))
        return _described(model, path.parent, onnx.TensorProto.DataType.Name)
    except (damaged, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
        raise ModelError(f"{path}: expected an ONNX network: {reason}") from error


def _described(
    model: "onnx.ModelProto", folder: Path, type_name: Callable[[int], str]
) -> OnnxMetadata:
    graph, tensors = model.graph, list(_tensors(model.graph))
    weights = {weight.name for weight in graph.initializer}
    return OnnxMetadata(
        inputs=tuple(_spec(value) for value in graph.input if value.name not in weights),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        weights={name: sha256_file(folder / name) for name in _external(tensors)},
        element_types=frozenset(type_name(tensor.data_type) for tensor in tensors),
    )


def _spec(value: "onnx.ValueInfoProto") -> TensorSpec:
    tensor = value.type.tensor_type
    sizes = tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
        for axis in tensor.shape.dim
    )
    kind = _ONNX_TYPES.get(tensor.elem_type, str(tensor.elem_type))
    return TensorSpec(value.name, sizes, f"tensor({kind})")


def _tensors(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    """Yield every tensor of a graph: weights, constants, those of branches and loops."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from _tensors(inner)


def _external(tensors: "Sequence[onnx.TensorProto]") -> list[str]:
    entries = (entry for tensor in tensors for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def check_precision(path: Path, metadata: OnnxMetadata) -> None:
    """Refuse a file that is named as half precision and has other weights.

    Raises:
        ModelError: ``<name>_fp16.onnx`` without a single float16 weight.

    """
    if engine_cache.precision(path) == "fp16" and "FLOAT16" not in metadata.element_types:
        types = ", ".join(sorted(metadata.element_types)) or "no weights"
        raise ModelError(
            f"{path}: expected float16 weights in a file of this name, got {types}; write it again "
            f"with `{engine_cache.EXPORT}`"
        )


# --- the engine --------------------------------------------------------------------


def build_engine(
    source: Path, section: TensorRTPoseConfig, ranges: Sequence[ShapeRange], key: EngineKey
) -> bytes:
    """Build the engine and return its bytes; read and write the timing cache.

    Raises:
        ModelError: TensorRT cannot read the network, or finds no way to run it.

    """
    import tensorrt as trt

    from recognizer.backends.tensorrt_session import BuildProgress, Log

    log, progress = Log(), BuildProgress()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        count = parser.num_errors
        errors = (parser.get_error(index) for index in range(min(count, _MAX_ERRORS)))
        text = "; ".join(f"{error.node_name()}: {error.desc()}" for error in errors)
        raise ModelError(
            f"{source}: TensorRT cannot read this network, {count} errors: {text or log.reason()}; "
            f"write it again with `{engine_cache.EXPORT}`, or run it with inference_mode: onnx"
        )
    settings = builder.create_builder_config()
    settings.progress_monitor = progress
    settings.builder_optimization_level = section.optimization_level
    if not section.allow_tf32:
        settings.clear_flag(trt.BuilderFlag.TF32)
    workspace = key.options["workspace_bytes"]
    if workspace is not None:
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    _add_profile(builder, settings, ranges, source)
    timings = engine_cache.timing_cache_path(source, section, key.machine)
    _use_timings(settings, timings)
    engine = builder.build_serialized_network(network, settings)
    if engine is None:
        raise ModelError(
            f"{source}: TensorRT found no way to run this network: {log.reason()}; a smaller "
            f"{_KEY}.max_batch or a larger workspace_gb may help"
        )
    _keep_timings(settings, timings)
    return bytes(engine)


def _add_profile(
    builder: "trt.Builder",
    settings: "trt.IBuilderConfig",
    ranges: Sequence[ShapeRange],
    source: Path,
) -> None:
    shapes = builder.create_optimization_profile()
    for span in ranges:
        shapes.set_shape(span.name, span.smallest, span.tuned, span.largest)
    if settings.add_optimization_profile(shapes) < 0:
        raise ModelError(
            f"{source}: TensorRT does not take the shapes {'; '.join(str(s) for s in ranges)}"
        )


def _use_timings(settings: "trt.IBuilderConfig", path: Path) -> None:
    """Give the builder the timings of earlier builds on this machine."""
    known = path.read_bytes() if path.is_file() else b""
    cache = settings.create_timing_cache(known)
    if cache is None or not settings.set_timing_cache(cache, ignore_mismatch=False):
        logger.warning("%s: not timings of this GPU and TensorRT; starting anew", path)
        settings.set_timing_cache(settings.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timings(settings: "trt.IBuilderConfig", path: Path) -> None:
    cache = settings.get_timing_cache()
    if cache is not None:
        with atomic_path(path, path.parent) as scratch:
            scratch.write_bytes(bytes(cache.serialize()))
