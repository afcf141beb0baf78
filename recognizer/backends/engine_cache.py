"""Engines on disk: when one may be reused, its name, and the JSON file beside it.

A TensorRT engine is program code for one kind of GPU and one version of TensorRT. Beside each
engine that ``deploy.tensorrt`` builds stands a JSON file (``<engine>.json``) with the digest of
the engine and the key that it was built for. Both are compared before TensorRT sees a byte: a
truncated, exchanged or outdated engine is refused with the difference by name. The JSON says
that the file is whole and fits, not that its author is honest: whoever can write the engine can
write the JSON, so keep both where only you can write.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from recognizer.backends.metadata import reason_of
from recognizer.backends.network import ModelError
from recognizer.config.models import TensorRTPoseConfig
from recognizer.config.problems import json_kind
from recognizer.installation import COMMAND
from recognizer.storage.artifacts import sha256_file, write_json

SCHEMA, SCHEMA_VERSION = "recognizer.engine", 1
SUFFIXES = (".engine", ".trt", ".plan")
BUILD = f"{COMMAND} --mode deploy.tensorrt --set deploy.model=pose"
EXPORT = f"{COMMAND} --mode deploy.export --set deploy.model=pose"
_FP16 = "_fp16"
_GIB = 2**30
_MAX_SIDECAR_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Machine:
    """What an engine is bound to: the runtime's version and the GPU."""

    tensorrt: str
    gpu: str
    compute_capability: str


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that makes another engine: a change of any of it means building again.

    ``shapes`` and ``options`` are what the config asks for; with the file's digest they decide
    the optimisation profile.
    """

    model_sha256: str
    machine: Machine
    precision: str
    shapes: Mapping[str, Sequence[int]]
    options: Mapping[str, int | bool | None]

    def flat(self) -> dict[str, Any]:
        """Return the ingredients by name, in a form that JSON gives back unchanged."""
        return {
            "model_sha256": self.model_sha256,
            **asdict(self.machine),
            "precision": self.precision,
            **{name: list(values) for name, values in self.shapes.items()},
            **self.options,
        }

    def digest(self) -> str:
        """Return 16 hex digits that change with any ingredient."""
        text = json.dumps({**self.flat(), "schema_version": SCHEMA_VERSION}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The JSON beside an engine."""

    engine_sha256: str
    engine_bytes: int
    key: Mapping[str, object]
    weights: Mapping[str, str]
    metadata: Mapping[str, str]
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")


_SIDECARS = TypeAdapter(Sidecar)


def engine_key(onnx: Path, section: TensorRTPoseConfig, machine: Machine) -> EngineKey:
    """Return the key of the engine that this ONNX file, config and machine want."""
    tuned = section.model_input_size
    workspace = section.workspace_gb
    return EngineKey(
        model_sha256=sha256_file(onnx),
        machine=machine,
        precision=precision(onnx),
        shapes={
            "batch": (section.min_batch, section.opt_batch, section.max_batch),
            "min_input_size": section.min_input_size or tuned,
            "model_input_size": tuned,
            "max_input_size": section.max_input_size or tuned,
        },
        options={
            "workspace_bytes": None if workspace is None else int(workspace * _GIB),
            "optimization_level": section.optimization_level,
            "allow_tf32": section.allow_tf32,
        },
    )


def precision(onnx: Path) -> str:
    """Return ``fp16`` or ``fp32``: what the name of an ONNX file promises."""
    return "fp16" if onnx.stem.endswith(_FP16) else "fp32"


def source_file(onnx: Path, *, fp16: bool) -> Path:
    """Return the ONNX file to build from: with ``fp16`` its half-precision twin.

    Networks are built strongly typed: precision is a property of the ONNX file.

    Raises:
        ModelError: not an ONNX file, or a twin that is not there.

    """
    if onnx.suffix != ".onnx":
        raise ModelError(f"{onnx}: expected an .onnx file to build an engine from")
    if fp16 and precision(onnx) != "fp16":
        twin = onnx.with_name(f"{onnx.stem}{_FP16}.onnx")
        if not twin.is_file():
            raise ModelError(
                f"fp16_mode: true: expected the half-precision network at {twin}, found none; "
                f"write it with `{EXPORT}`, or set fp16_mode: false"
            )
        onnx = twin
    if not onnx.is_file():
        raise ModelError(f"expected a network at {onnx}, found none; write it with `{EXPORT}`")
    return onnx


# --- names -------------------------------------------------------------------------


def engine_path(onnx: Path, key: EngineKey, folder: Path | None) -> Path:
    """Return where the engine of a key stands: ``<onnx>.<gpu>.<digest>.engine``."""
    gpu = re.sub(r"[^a-z0-9]+", "-", key.machine.gpu.lower()).strip("-")[:40] or "gpu"
    return (folder or onnx.parent) / f"{onnx.stem}.{gpu}.{key.digest()}.engine"


def sidecar_path(engine: Path) -> Path:
    """Return where the JSON of an engine stands."""
    return engine.with_name(f"{engine.name}.json")


def timing_cache_path(onnx: Path, section: TensorRTPoseConfig, machine: Machine) -> Path:
    """Return the file of build timings; they hold for one GPU and one TensorRT."""
    if section.timing_cache is not None:
        return section.timing_cache
    named = hashlib.sha256(json.dumps(asdict(machine), sort_keys=True).encode()).hexdigest()[:8]
    return (section.engine_dir or onnx.parent) / f"tensorrt-{named}.timing"


# --- the JSON beside an engine -----------------------------------------------------


def write_sidecar(
    engine: Path, key: EngineKey, weights: Mapping[str, str], metadata: Mapping[str, str]
) -> None:
    """Write what the engine is; last, so that an engine without it is one half written.

    Args:
        engine: the engine, which must be there.
        key: what it was built for.
        weights: file name -> SHA-256 of the ONNX file's external data, in the ONNX's folder.
        metadata: what the ONNX file says of itself, handed on to whoever runs the engine.

    """
    values = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "engine_sha256": sha256_file(engine),
        "engine_bytes": engine.stat().st_size,
        "key": key.flat(),
        "weights": dict(weights),
        "metadata": dict(metadata),
    }
    write_json(sidecar_path(engine), engine.parent, values)


def read_sidecar(engine: Path) -> Sidecar | None:
    """Return what stands beside an engine, None where nothing does.

    Raises:
        ModelError: a damaged JSON file, or one of another kind or version.

    """
    path = sidecar_path(engine)
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_SIDECAR_BYTES:
            raise ValueError("too large")
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, got {json_kind(values)}")
        kind = (values.pop("schema", None), values.pop("schema_version", None))
        if kind != (SCHEMA, SCHEMA_VERSION):
            raise ValueError(
                f"expected {SCHEMA} {SCHEMA_VERSION}, got {kind[0]!r:.80} {kind[1]!r:.80}"
            )
        return _SIDECARS.validate_python(values)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected what deploy.tensorrt writes beside an engine: {reason_of(error)}; "
            f"build again with `{BUILD}`"
        ) from error


def read_engine(path: Path, *, trusted: bool) -> tuple[bytes, Sidecar | None]:
    """Return an engine's bytes, checked against the JSON beside it.

    Args:
        path: the engine.
        trusted: whether an engine without that JSON is taken; one whose JSON does not fit is
            refused all the same.

    Raises:
        ModelError: no engine by its name, nothing beside it, or bytes that are not those.

    """
    if path.suffix not in SUFFIXES:
        raise ModelError(f"{path}: expected an engine ({', '.join(SUFFIXES)}) or an .onnx file")
    if not path.is_file():
        raise ModelError(f"expected an engine at {path}, found none; build it with `{BUILD}`")
    sidecar = read_sidecar(path)
    if sidecar is None and not trusted:
        raise ModelError(
            f"{path}: expected {sidecar_path(path).name} beside it, found none. An engine is "
            f"program code: build your own with `{BUILD}`, or, if you made this file yourself, set "
            "models.pose_estimation.tensorrt.trust_model_path: true"
        )
    content = path.read_bytes()
    if sidecar is not None:
        _check_content(path, content, sidecar)
    if not content:
        raise ModelError(f"{path}: expected an engine, got an empty file")
    return content, sidecar


def _check_content(path: Path, content: bytes, sidecar: Sidecar) -> None:
    if len(content) != sidecar.engine_bytes:
        raise ModelError(
            f"{path}: expected {sidecar.engine_bytes} bytes, got {len(content)}; the file was cut "
            f"off or exchanged, copy it again or build it with `{BUILD}`"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != sidecar.engine_sha256:
        raise ModelError(
            f"{path}: expected SHA-256 {sidecar.engine_sha256}, got {digest}; the file was damaged "
            f"or exchanged, copy it again or build it with `{BUILD}`"
        )


# --- does it fit? ------------------------------------------------------------------


def differences(expected: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    """Return ``name: expected ..., got ...`` for every ingredient that is not the same."""
    names = [*expected, *(name for name in found if name not in expected)]
    return [
        f"{name}: expected {expected.get(name)}, got {found.get(name)}"
        for name in names
        if expected.get(name) != found.get(name) or (name in expected) != (name in found)
    ]


def check_machine(path: Path, sidecar: Sidecar, machine: Machine) -> None:
    """Refuse an engine of another TensorRT or GPU, before TensorRT opens it.

    Raises:
        ModelError: each difference by name.

    """
    here = asdict(machine)
    wrong = differences(here, {name: sidecar.key.get(name) for name in here})
    if wrong:
        raise ModelError(
            f"{path}: built for another machine: {'; '.join(wrong)}. Build it here with `{BUILD}`"
        )


def check_asked(path: Path, sidecar: Sidecar, section: TensorRTPoseConfig) -> None:
    """Refuse an engine, named in the config, of single precision where ``fp16_mode`` is on."""
    if section.fp16_mode and sidecar.key.get("precision") != "fp16":
        raise ModelError(
            f"{path}: fp16_mode: true: expected an engine of an fp16 network, got "
            f"{sidecar.key.get('precision')}; build it with `{BUILD}`, or set fp16_mode: false"
        )


def cached_engine(onnx: Path, section: TensorRTPoseConfig, machine: Machine) -> Path:
    """Return the engine that ``deploy.tensorrt`` built for this file, config and machine.

    Raises:
        ModelError: there is none; where there is one for something else, the message says what
            has changed. Building takes minutes, so it is never done in passing.

    """
    source = source_file(onnx, fp16=section.fp16_mode)
    key = engine_key(source, section, machine)
    path = engine_path(source, key, section.engine_dir)
    if is_current(path, key, source.parent):
        return path
    raise ModelError(
        f"{source}: expected its engine at {path}, found none{_nearest(path, source, key)}; build "
        f"it with `{BUILD}` and the same config"
    )


def is_current(engine: Path, key: EngineKey, weights_dir: Path) -> bool:
    """Return whether the engine of a key is there, and its external weights are the same still.

    Raises:
        ModelError: the JSON beside it is damaged.

    """
    sidecar = read_sidecar(engine) if engine.is_file() else None
    if sidecar is None or differences(key.flat(), sidecar.key):
        return False
    return all(
        (weights_dir / name).is_file() and sha256_file(weights_dir / name) == digest
        for name, digest in sidecar.weights.items()
    )


def _nearest(path: Path, source: Path, key: EngineKey) -> str:
    """Return what the engine of this file that differs least differs in."""
    wrong: list[list[str]] = []
    for engine in sorted(path.parent.glob("*.engine")):
        sidecar = read_sidecar(engine) if engine.name.startswith(f"{source.stem}.") else None
        if sidecar is not None:
            wrong.append(differences(key.flat(), sidecar.key) or ["its external weights"])
    shortest = min(wrong, key=lambda reasons: len(reasons), default=None)
    if shortest is None:
        return ""
    return f" (the nearest there differs in: {'; '.join(shortest)})"
