"""Reading and writing of ONNX files."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from recognizer.storage.artifacts import atomic_path


def read_network(path: Path) -> onnx.ModelProto:
    """Return the network of an ONNX file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ONNX file.

    """
    damaged = f"{path}: expected an ONNX file, got one that is none or is damaged; write it again"
    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        raise ValueError(f"{damaged} ({error})") from error
    if not model.graph.node:
        raise ValueError(damaged)
    return model


def write_network(model: onnx.ModelProto, path: Path) -> None:
    """Write an ONNX file whole: what was there before stays until then; its folder is made."""
    with atomic_path(path, path.parent) as scratch:
        onnx.save(model, str(scratch))
