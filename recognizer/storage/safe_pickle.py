"""An unpickler for NumPy arrays and plain values that refuses everything else.

A list of allowed names is not enough: with ``numpy.ndarray`` and ``numpy.dtype`` alone a
pickle can make an array of objects out of plain bytes, which reads memory at addresses of
the author's choice. So the arguments are checked too: every call and every state must be
one that NumPy itself writes for an array of numbers or text. Nothing is imported.
"""

import _codecs
import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.core import multiarray, numeric

_PLAIN = re.compile(r"[biufcSU]\d{1,6}")  # bool, integers, floats, complex, bytes, text


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle that asks for anything but NumPy arrays and plain builtins."""


def _is_plain(dtype: object) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biufcSU" and dtype.fields is None


_reconstruct = getattr(multiarray, "_reconstruct")  # noqa: B009 - in no type stub
_scalar = getattr(multiarray, "scalar")  # noqa: B009
_frombuffer = getattr(numeric, "_frombuffer")  # noqa: B009

_NAMES: dict[tuple[str, str], object] = {
    ("builtins", "list"): list,
    ("__builtin__", "list"): list,  # protocol 2
    ("__builtin__", "bytes"): bytes,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("_codecs", "encode"): _codecs.encode,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and NumPy 2
    _NAMES[_core + ".multiarray", "_reconstruct"] = _reconstruct
    _NAMES[_core + ".multiarray", "scalar"] = _scalar
    _NAMES[_core + ".numeric", "_frombuffer"] = _frombuffer

# Which arguments each function may be called with.
_CALLS: tuple[tuple[object, Callable[[tuple[Any, ...]], bool]], ...] = (
    (list, lambda args: args == ()),
    (bytes, lambda args: args == ()),
    (
        np.dtype,
        lambda args: bool(args and isinstance(args[0], str) and _PLAIN.fullmatch(args[0])),
    ),
    (_reconstruct, lambda args: len(args) == 3 and args[0] is np.ndarray and args[1] == (0,)),
    (_scalar, lambda args: len(args) == 2 and _is_plain(args[0]) and isinstance(args[1], bytes)),
    (  # protocol 5
        _frombuffer,
        lambda args: (
            len(args) == 4 and isinstance(args[0], bytes | bytearray) and _is_plain(args[1])
        ),
    ),
    (  # how protocol 2 spells bytes
        _codecs.encode,
        lambda args: len(args) == 2 and isinstance(args[0], str) and args[1] == "latin1",
    ),
)


def _call_is_known(function: object, args: object) -> bool:
    return isinstance(args, tuple) and any(
        function is known and fits(args) for known, fits in _CALLS
    )


def _state_is_known(target: object, state: object) -> bool:
    if not isinstance(state, tuple):
        return False
    if isinstance(target, np.dtype):  # version, byte order, no parts, sizes, flags
        return len(state) == 8 and state[2:5] == (None, None, None) and state[7] in (0, 8)
    if type(target) is np.ndarray:  # version, shape, dtype, order, content
        return len(state) == 5 and _is_plain(state[2]) and isinstance(state[4], bytes | bytearray)
    return False


_load: dict[int, Any] = dict(pickle._Unpickler.dispatch)
_load_reduce: Any = _load[pickle.REDUCE[0]]
_load_build: Any = _load[pickle.BUILD[0]]


class _Unpickler(pickle._Unpickler):
    """The Python unpickler, because the C one has no place for these checks."""

    stack: list[object]

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _NAMES:
            raise UnsafePickleError(f"refused: it names {module}.{name}, which could run code")
        return _NAMES[module, name]

    def reduce(self) -> None:
        function, args = self.stack[-2:]
        if not _call_is_known(function, args):
            raise UnsafePickleError(f"refused: it calls {_name(function)} as no array does")
        _load_reduce(self)

    def build(self) -> None:
        target, state = self.stack[-2:]
        if not _state_is_known(target, state):
            name = _name(type(target))
            raise UnsafePickleError(f"refused: it changes a {name} as no array does")
        _load_build(self)

    def refuse(self) -> None:
        raise UnsafePickleError("refused: it makes objects as arrays and lists never do")


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


_NEVER = (
    pickle.NEWOBJ,
    pickle.NEWOBJ_EX,
    pickle.INST,
    pickle.OBJ,
    pickle.PERSID,
    pickle.BINPERSID,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
)
_checked: dict[int, Any] = {opcode[0]: _Unpickler.refuse for opcode in _NEVER}
_checked[pickle.REDUCE[0]] = _Unpickler.reduce
_checked[pickle.BUILD[0]] = _Unpickler.build
_Unpickler.dispatch = {**_load, **_checked}


def loads(data: bytes) -> Any:
    """Return what a pickle of NumPy arrays and plain builtins holds; nothing is executed.

    Raises:
        UnsafePickleError: it names or calls anything else.
        Exception: it is damaged; which one depends on the damage.

    """
    return _Unpickler(io.BytesIO(data)).load()
