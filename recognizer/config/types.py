"""The building blocks of config sections: base class, paths, and texts with rules."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationInfo,
    model_validator,
)

from recognizer.names import as_on_disk

_ADDRESS_LIKE = re.compile("://|^(s3|gs|az):", re.IGNORECASE)

PoseKind = Literal["rtmo", "topdown", "movenet"]
Unit = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ShellText(str):
    """Text that came with --set, whose relative paths are relative to the shell."""

    __slots__ = ()


def _to_path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a path as text")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise ValueError("expected a path of characters that a file name can have") from error
    folder = Path.cwd() if isinstance(value, ShellText) else (info.context or {}).get("folder")
    try:
        path = Path(str(value)).expanduser()
    except RuntimeError as error:
        raise ValueError(f"expected a path, got {value!r}; there is no such user") from error
    # Without "..", so that messages show a place a person would write.
    return as_on_disk(Path(os.path.normpath(path if folder is None else Path(folder) / path)))


def _to_place(value: object, info: ValidationInfo) -> Path | str:
    if not isinstance(value, str) or not _ADDRESS_LIKE.search(value):
        return _to_path(value, info)
    if re.fullmatch(r"(s3|gs|az)://[A-Za-z0-9._-]{1,255}(/[^?#]*)?", value) is None:
        raise ValueError(
            "expected a folder, or s3://, gs:// or az:// with a bucket and a prefix, such as "
            "s3://bucket/videos; credentials and endpoint come from the environment"
        )
    if not value.isprintable():
        raise ValueError("expected an address without control characters")
    prefix = value.partition("://")[2].partition("/")[2].strip("/")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        raise ValueError("expected a prefix without empty parts, . and .., which no client reads")
    return str(value).rstrip("/")


def _plain_name(value: str) -> str:
    if value in {"", ".", ".."} or "/" in value or "\\" in value or "\0" in value:
        raise ValueError("expected a plain name that can be a folder, without / or ..")
    if not value.isprintable():
        raise ValueError("expected a name of visible characters")
    if len(value.encode()) > 100:
        raise ValueError("expected a name of at most 100 bytes")
    return value


def _shard(value: str) -> str:
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", value, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_SHARDS:
        raise ValueError(
            f"expected a shard such as 3/16: its number, from 1, and how many there are, at most "
            f"{MAX_SHARDS}"
        )
    return value


def _any_device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda:\d{1,3}", value):
        raise ValueError("expected cpu or cuda:N, such as cuda:0")
    return value


def _gpu(value: str) -> str:
    if not re.fullmatch(r"cuda:\d{1,3}", value):
        raise ValueError("expected cuda:N, such as cuda:0")
    return value


def read_address(value: str, schemes: Sequence[str], example: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        ValueError: another scheme, no host, a wrong port or characters that no address has. The
            message never repeats the value, which may hold a password or token.

    """
    expected = f"expected an address such as {example}, scheme {' or '.join(schemes)}"
    try:
        parts = urlsplit(value)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in schemes or not parts.hostname or not port_is_right:
        raise ValueError(expected)
    if not value.isprintable() or " " in value:
        raise ValueError("expected an address without spaces and control characters")
    return parts


ConfigPath = Annotated[Path, BeforeValidator(_to_path)]
Place = Annotated[Path | str, BeforeValidator(_to_place)]
"""A local path, or as text the address of an object store."""
PlainName = Annotated[str, AfterValidator(_plain_name)]
Device = Annotated[str, AfterValidator(_any_device)]
GpuDevice = Annotated[str, AfterValidator(_gpu)]
MAX_SHARDS = 10000
ShardText = Annotated[str, AfterValidator(_shard)]
MAX_SIDE = 8192
"""Pixels of an input's side; a larger picture would not fit into memory."""
MAX_DETECTIONS = 2**16
"""People in one picture: far above any crowd."""
Detections = Annotated[int, Field(ge=1, le=MAX_DETECTIONS)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
SizeWH = Annotated[tuple[Side, Side], Field(strict=False)]
Triple = Annotated[tuple[float, float, float], Field(strict=False)]


class Section(BaseModel):
    """A part of the config: no unknown keys, no silent conversions, no changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class OnnxRuntimeOptions(Section):
    """Options of ONNX Runtime, shared by every network it runs."""

    device: Device = "cpu"
    provider: Literal["native", "tensorrt", "openvino"] = "native"
    openvino_precision: Literal["f32", "bf16", "f16"] = "f32"
    tensorrt_cache_dir: ConfigPath | None = None
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    allow_spinning: bool = False
    execution_mode: Literal["ORT_SEQUENTIAL", "ORT_PARALLEL"] = "ORT_SEQUENTIAL"
    graph_optimization_level: Literal[
        "ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"
    ] = "ORT_ENABLE_ALL"
    enable_mem_pattern: bool = True
    enable_cpu_mem_arena: bool = True
    gpu_mem_limit_gb: PositiveFloat | None = None
    arena_extend_strategy: Literal["kNextPowerOfTwo", "kSameAsRequested"] = "kNextPowerOfTwo"
    tunable_op_enable: bool = False
    tunable_op_tuning_enable: bool = False
    cudnn_conv_algo_search: Literal["EXHAUSTIVE", "HEURISTIC", "DEFAULT"] = "EXHAUSTIVE"

    @model_validator(mode="after")
    def _check_provider(self) -> Self:
        fits = {"tensorrt": "cuda:N", "openvino": "cpu"}.get(self.provider)
        if fits is not None and not self.device.startswith(fits.removesuffix("N")):
            raise ValueError(
                f"provider: expected one for device: {self.device}, got {self.provider}, which "
                f"takes device: {fits}"
            )
        if self.openvino_precision != "f32" and self.provider != "openvino":
            raise ValueError(
                f"openvino_precision: expected f32 with provider: {self.provider}, got "
                f"{self.openvino_precision}, which takes provider: openvino"
            )
        return self
