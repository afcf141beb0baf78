"""Read an ONNX file's outputs, metadata and external data; the package ``onnx`` is not needed.

A network may keep weights in files beside it ("external data"). ONNX Runtime 1.31 refuses such a
file outside the model's folder itself; checked here all the same, because ``model_digest`` reads
it too, and because ONNX Runtime 1.24 (requirements/openvino.txt) accepts it for sparse weights and
TensorRT parses files with a reader of its own. Offsets and lengths within such a file are left to
ONNX Runtime, which refuses what lies beyond its end, and to TensorRT's parser. Only the fields
below are read, by the numbers of ``onnx.proto``.

The values of weights are skipped before protobuf parses the rest, which keeps what it does not
know: of a file of 189 MB protobuf alone takes 360 MB and 1.4 s, more than the 276 MB of ONNX
Runtime's own session; this reader takes 90 MB, mapped pages of the file, and 0.02 s.
"""

import hashlib
import mmap
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from recognizer.backends.network import ModelError, TensorSpec
from recognizer.storage.artifacts import sha256_file

_PACKAGE = "recognizer.onnx"
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # of Model, Graph and Tensor
# Wire types of protobuf, and the bytes of those of a fixed size.
_VARINT, _SIZED, _FIXED = 0, 2, {1: 8, 5: 4}
# Message -> {field: (its number in onnx.proto, its type)}; bytes stand for text as well.
_SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {
        "graph": (7, "Graph"),
        "opset": (8, "Opset"),
        "metadata": (14, "Entry"),
        "training": (20, "Training"),
        "function": (25, "Function"),
    },
    "Graph": {
        "node": (1, "Node"),
        "initializer": (5, "Tensor"),
        "input": (11, "Value"),
        "output": (12, "Value"),
        "sparse_initializer": (15, "Sparse"),
    },
    "Node": {"op_type": (4, "bytes"), "attribute": (5, "Attribute")},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse": (22, "Sparse"),
        "sparses": (23, "Sparse"),
    },
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Function": {"node": (7, "Node"), "attribute": (11, "Attribute")},
    "Training": {"initialization": (1, "Graph"), "algorithm": (2, "Graph")},
    "Tensor": {"name": (8, "bytes"), "external": (13, "Entry")},
    "Entry": {"key": (1, "bytes"), "value": (2, "bytes")},
    "Opset": {},
    "Value": {"name": (1, "bytes"), "type": (2, "Type")},
    "Type": {"tensor": (1, "TensorType")},
    "TensorType": {"shape": (2, "Shape")},
    "Shape": {"dim": (1, "Dim")},
    "Dim": {"value": (1, "int64")},
}


def check_file(path: Path) -> tuple[Path, ...]:
    """Return the files of external data that a network has; refuse what must not be opened.

    Raises:
        ModelError: no file, no ONNX network, one that is cut off, external data that is missing
            or outside of the network's folder, or a compiled network by reference.

    """
    return _external_files(path, _parse(path))


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
    """Return a network's metadata, as ONNX Runtime's ``custom_metadata_map`` does.

    Raises:
        ModelError: as ``check_file``.

    """
    model = _parse(path)
    _external_files(path, model)
    return {_text(path, entry.key): _text(path, entry.value) for entry in model.metadata}


class Signature(NamedTuple):
    """What a network takes and gives; element types are not read.

    Attributes:
        inputs: without those that are only weights.
        outputs: in the file's order.
        weights: names of the weights.

    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[str, ...]


def read_signature(path: Path) -> Signature:
    """Return a network's inputs, outputs and names of weights, by one reading of the file.

    Raises:
        ModelError: as ``check_file``.

    """
    model = _parse(path)
    _external_files(path, model)
    weights = tuple(_text(path, one.name) for graph in model.graph for one in graph.initializer)
    inputs, outputs = _specs(path, model, "input"), _specs(path, model, "output")
    known = set(weights)
    return Signature(tuple(spec for spec in inputs if spec.name not in known), outputs, weights)


def read_outputs(path: Path) -> tuple[TensorSpec, ...]:
    """Return names and shapes of a network's outputs. Raises as ``read_signature``."""
    return read_signature(path).outputs


def _specs(path: Path, model: Any, which: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(_text(path, value.name), _sizes(value.type), "")
        for graph in model.graph
        for value in getattr(graph, which)
    )


def _sizes(types: Any) -> tuple[int | None, ...]:
    dims = [d for kind in types for t in kind.tensor for shape in t.shape for d in shape.dim]
    return tuple(dim.value[-1] if dim.value else None for dim in dims)


def _text(path: Path, values: Any) -> str:
    try:
        return b"".join(values[-1:]).decode()
    except ValueError as error:
        raise ModelError(f"{path}: expected metadata and names as text: {error}") from error


def _external_files(path: Path, model: Message) -> tuple[Path, ...]:
    """Return the files of external data, each once; raise ModelError as ``check_file``."""
    folder, files = path.parent.resolve(), set()
    for message in _messages(model):
        if b"EPContext" in getattr(message, "op_type", ()):  # a provider would load and run it
            raise ModelError(
                f"{path}: expected an ONNX network: it refers to a compiled network (EPContext), "
                "which is not opened; export it again"
            )
        for entry in getattr(message, "external", ()):
            if b"location" in entry.key:
                files |= {_inside(path, folder, os.fsdecode(value)) for value in entry.value}
    return tuple(sorted(files))


def _inside(path: Path, folder: Path, location: str) -> Path:
    """Return the file of a location; raise ModelError if it is not in the folder."""
    file = Path(os.path.realpath(folder / location.replace("\0", "?")))  # links followed
    if not file.is_relative_to(folder):
        raise ModelError(
            f"{path}: external data {location[:200]!r}: expected a file in the model's own folder, "
            "by a relative name without .. or links that lead out of it; not opened. If you trust "
            "the file, put its data beside it and write it again with onnx.save"
        )
    if not file.is_file():
        raise ModelError(
            f"{path}: its external data {location!r} is not beside it; copy both files together"
        )
    return file


# --- protobuf ----------------------------------------------------------------------


_LIMIT = 2**31  # bytes of a protobuf message


def _parse(path: Path) -> Any:
    """Return a file as a message of ``_SCHEMA``; raise ModelError if it is no ONNX network."""
    if not path.is_file():
        raise ModelError(f"{path}: expected an ONNX file, there is none")
    model = _model_class()()
    try:
        model.ParseFromString(_read_light(path))
        if not (model.opset and any(graph.node for graph in model.graph)):
            raise DecodeError("it holds no graph")
    except DecodeError as error:
        raise ModelError(
            f"{path}: expected an ONNX network, got a file that is none or is damaged ({error}); "
            "fetch or export it again"
        ) from error
    return model


def _read_light(path: Path) -> bytes:
    """Return an ONNX file without the values of its graph's weights, which are not read."""
    size = path.stat().st_size
    if size >= _LIMIT:
        raise ModelError(
            f"{path}: expected an ONNX file below 2 GiB, which is all that the format allows, got "
            f"{size} bytes; larger weights belong into external data"
        )
    if not size:
        return b""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        return _without(view, (_GRAPH, _INITIALIZER, _RAW_DATA))


def _without(data: memoryview, field: tuple[int, ...]) -> bytes:
    """Return a message without a field of an inner message, given by its numbers on the way.

    From the first field on that is not well formed all is kept, for the parser to refuse.
    """
    kept, at = bytearray(), 0
    while at < len(data) and (span := _next_field(data, at)) is not None:
        number, start, stop = span
        if number != field[0]:
            kept += data[at:stop]
        elif len(field) > 1:
            with data[start:stop] as part:
                inner = _without(part, field[1:])
            kept += bytes([number << 3 | _SIZED]) + _varint_bytes(len(inner)) + inner
        at = stop
    kept += data[at:]
    return bytes(kept)


def _next_field(data: memoryview, at: int) -> tuple[int, int, int] | None:
    """Return number, start and stop of the content of the field at a place; number 0: no bytes.

    None: it is cut off, a group, or its tag is none of 32 bits.
    """
    tag, start = _varint(data, at)
    size, stop = 0, start
    if tag & 7 == _VARINT:
        _, stop = _varint(data, start)
    elif tag & 7 == _SIZED:
        size, stop = _varint(data, start)
        start = stop
    else:
        size = _FIXED.get(tag & 7, -1)
    if min(size, start - at, stop) < 0 or tag >> 32 or not tag >> 3 or stop + size > len(data):
        return None
    return (tag >> 3 if tag & 7 == _SIZED else 0), start, stop + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a place and where it ends; an end of -1: it is cut off or too long."""
    value = 0
    for i, byte in enumerate(data[at : at + 10] if at >= 0 else b""):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    return 0, -1


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _messages(message: Message) -> Iterator[Any]:
    yield message
    for field, values in message.ListFields():
        if field.message_type is not None:
            for value in values:
                yield from _messages(value)


@cache
def _model_class() -> Any:
    """Return the class of ``Model``, made of ``_SCHEMA``.

    Every field is repeated: a file that brings one twice hides none of them.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE)
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=kinds.LABEL_REPEATED)
            if kind in _SCHEMA:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kinds.TYPE_BYTES if kind == "bytes" else kinds.TYPE_INT64
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
