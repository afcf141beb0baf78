"""Look into an ONNX file before ONNX Runtime opens it; the package ``onnx`` is not needed.

A network may keep its weights in files beside it ("external data"), under names that it brings
itself. A name that leads out of its folder would have the runtime read any file of the machine, so
every such name is found and checked here first: in graphs, branches, loops, functions, sparse
weights and training graphs. Read as the wire format of protobuf (varints, fixed and
length-delimited fields) by the field numbers of ``onnx.proto``; pixels and weights are stepped
over, so that a large file costs what a small one does.
"""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from recognizer.artifacts import sha256_file
from recognizer.backends.network import ModelError, TensorSpec

# Message -> {number of a field: the message in it}, as in onnx.proto.
_T = TypeVar("_T")
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "Opset", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Training": {1: "Graph", 2: "Graph"},
    "Tensor": {13: "Entry"},
}  # fmt: skip
# Of the wire format of an output: Graph.output -> ValueInfo.type -> Type.tensor_type ->
# Tensor.shape -> Shape.dim; each dim is a number (its field 1) or a name.
_GRAPH, _OUTPUT, _VALUE_NAME, _TO_DIMS, _DIM_VALUE = 7, 12, 1, (2, 1, 2, 1), 0x08
_OP_TYPE, _METADATA, _ENTRY_KEY, _ENTRY_VALUE = 4, 14, 1, 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_MAX_TAG = 2**32
_MAX_DEPTH = 100  # what protobuf itself reads at most
# Its attribute names a file with a compiled network, which a provider would load and run.
_FOREIGN_CODE = b"EPContext"


class _Part(NamedTuple):
    """A stretch of the file that holds one message."""

    kind: str
    start: int
    stop: int
    depth: int


@dataclass(frozen=True, slots=True)
class ExternalData:
    """Where one weight stands: a name relative to the model's folder, and which bytes of it."""

    location: str
    offset: int = 0
    length: int = 0


def check_file(path: Path) -> tuple[Path, ...]:
    """Return the files of external data that a network has; refuse what must not be opened.

    Raises:
        ModelError: no file, no ONNX network, one that is cut off, external data that is missing,
            too short or outside of the network's folder, or a compiled network by reference.

    """
    if not path.is_file():
        raise ModelError(f"{path}: expected an ONNX file, there is none")
    try:
        external = _look(path)
    except ValueError as error:
        raise ModelError(
            f"{path}: expected an ONNX network, got a file that is none or is damaged ({error}); "
            "fetch or export it again"
        ) from error
    sizes: dict[Path, int] = {}
    for data in external:
        file = _inside(path, data.location)
        sizes[file] = max(sizes.get(file, 0), data.offset + data.length)
    for file, needed in sizes.items():
        if file.stat().st_size < needed:
            raise ModelError(
                f"{path}: its external data {file.name} has {file.stat().st_size} bytes, expected "
                f"{needed} or more: it was cut off; copy it again"
            )
    return tuple(sorted(sizes))


def model_digest(path: Path) -> str:
    """Return the SHA-256 of a network with all its weights.

    Of a file without external data it is the file's own. One that ``check_file`` refuses has the
    digest of its bytes: it is refused, with the reason, when it is opened.
    """
    own = sha256_file(path)
    if path.suffix != ".onnx":
        return own
    try:
        files = check_file(path)
    except ModelError:
        return own
    if not files:
        return own
    names = [os.path.relpath(file, path.parent.resolve()) for file in files]
    lines = [own, *(f"{name} {sha256_file(file)}" for name, file in zip(names, files, strict=True))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a network says of itself, as ONNX Runtime's ``custom_metadata_map`` does.

    Raises:
        ModelError: as ``check_file``.

    """

    def entries(data: mmap.mmap, whole: _Part) -> dict[str, str]:
        return dict(
            _entry(data, _Part("Entry", start, stop, 1))
            for number, start, stop in _fields(data, whole)
            if number == _METADATA
        )

    return _parsed(path, entries, "metadata as text")


def read_outputs(path: Path) -> tuple[TensorSpec, ...]:
    """Return names and shapes of a network's outputs; their element types are not read.

    Raises:
        ModelError: as ``check_file``.

    """

    def outputs(data: mmap.mmap, whole: _Part) -> tuple[TensorSpec, ...]:
        return tuple(
            _output(data, value)
            for graph in _inner(data, whole, _GRAPH)
            for value in _inner(data, graph, _OUTPUT)
        )

    return _parsed(path, outputs, "outputs with names")


def _parsed(path: Path, parse: Callable[[mmap.mmap, _Part], _T], expected: str) -> _T:
    check_file(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return parse(data, _Part("Model", 0, len(data), 0))
        except ValueError as error:
            raise ModelError(f"{path}: expected {expected}: {error}") from error


def _output(data: mmap.mmap, value: _Part) -> TensorSpec:
    names = [data[part.start : part.stop].decode() for part in _inner(data, value, _VALUE_NAME)]
    parts = [value]
    for number in _TO_DIMS:
        parts = [inner for part in parts for inner in _inner(data, part, number)]
    return TensorSpec("".join(names), tuple(_size(data, part) for part in parts), "")


def _size(data: mmap.mmap, dim: _Part) -> int | None:
    if dim.start == dim.stop or data[dim.start] != _DIM_VALUE:
        return None
    return _varint(data, dim.start + 1, dim.stop)[0]


def _inner(data: mmap.mmap, part: _Part, wanted: int) -> list[_Part]:
    return [
        _Part("", start, stop, 0) for number, start, stop in _fields(data, part) if number == wanted
    ]


def _inside(path: Path, location: str) -> Path:
    """Return the file that a location means; raise ModelError if it is not in the folder."""
    folder = path.parent.resolve()
    if not location or location.startswith(("/", "\\", "*")) or not location.isprintable():
        raise _leaves(path, location)
    if ".." in location.replace("\\", "/").split("/") or Path(location).drive:
        raise _leaves(path, location)
    file = Path(os.path.realpath(folder / location))  # links followed
    if not file.is_relative_to(folder):
        raise _leaves(path, location)
    if not file.is_file():
        raise ModelError(
            f"{path}: its external data '{location}' is not beside it; copy both files together"
        )
    return file


def _leaves(path: Path, location: str) -> ModelError:
    return ModelError(
        f"{path}: external data {location[:200]!r}: expected a file in the model's own folder, by "
        "a relative name without .. or links that lead out of it; not opened. If you trust the "
        "file, put its data beside it and write it again with onnx.save"
    )


# --- the wire format ---------------------------------------------------------------


def _look(path: Path) -> list[ExternalData]:
    """Return all external data of a file; raise ValueError if it is no ONNX network."""
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found: list[ExternalData] = []
        seen: set[str] = set()
        parts = [_Part("Model", 0, len(data), 0)]
        while parts:
            part = parts.pop()
            if part.depth > _MAX_DEPTH:
                raise ValueError("graphs inside graphs without end")
            seen.add(part.kind)
            entries, inner = _contents(data, part)
            parts += inner
            if entries:
                found.append(_external(entries))
    if not {"Graph", "Node", "Opset"} <= seen:
        raise ValueError("it holds no graph")
    return found


def _contents(data: mmap.mmap, part: _Part) -> tuple[dict[str, str], list[_Part]]:
    """Return the external data of a tensor, and the messages that a message holds."""
    kinds = _FIELDS.get(part.kind, {})
    entries: dict[str, str] = {}
    inner = []
    for number, start, stop in _fields(data, part):
        kind = kinds.get(number)
        if kind == "Entry":
            key, value = _entry(data, _Part(kind, start, stop, part.depth))
            if key in entries:  # readers differ in which of two they believe
                raise ValueError(f"external data with two of {key!r}")
            entries[key] = value
        elif kind is not None:
            inner.append(_Part(kind, start, stop, part.depth + 1))
        elif part.kind == "Node" and number == _OP_TYPE and data[start:stop] == _FOREIGN_CODE:
            raise ValueError("it refers to a compiled network (EPContext), which is not opened")
    return entries, inner


def _entry(data: mmap.mmap, part: _Part) -> tuple[str, str]:
    texts = {number: data[start:stop].decode() for number, start, stop in _fields(data, part)}
    return texts.get(_ENTRY_KEY, ""), texts.get(_ENTRY_VALUE, "")


def _external(entries: dict[str, str]) -> ExternalData:
    sizes = [entries.get(key, "0") for key in ("offset", "length")]
    if not all(size.isascii() and size.isdecimal() and len(size) < 20 for size in sizes):
        raise ValueError("external data without a plain offset and length")
    return ExternalData(entries.get("location", ""), *map(int, sizes))


def _fields(data: mmap.mmap, part: _Part) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, stop) of every length-delimited field of a message."""
    at = part.start
    while at < part.stop:
        tag, at = _varint(data, at, part.stop)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >= _MAX_TAG:  # a reader of 32 bits would see another number
            raise ValueError(f"at byte {at}: no field has the number {number}")
        if wire == _LENGTH:
            size, at = _varint(data, at, part.stop)
            if size > part.stop - at:
                raise ValueError(f"at byte {at}: {size} bytes promised, {part.stop - at} there")
            yield number, at, at + size
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at, part.stop)
        elif wire in _FIXED:
            at += _FIXED[wire]
            if at > part.stop:
                raise ValueError(f"at byte {part.stop}: cut off in a number")
        else:
            raise ValueError(f"at byte {at}: unknown kind of field {wire}")


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    """Return the number at a place and where the next thing stands."""
    value = 0
    for i in range(_MAX_VARINT_BYTES):
        if at + i >= stop:
            raise ValueError(f"at byte {stop}: cut off in a number")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError(f"at byte {at}: a number without end")
