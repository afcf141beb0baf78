"""Pickles: plain lists come back, hostile ones never run, damaged ones raise one error."""

import _codecs
import contextlib
import os
import pickle
import random
import runpy
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recognizer.storage.artifacts import (
    ArtifactError,
)
from recognizer.storage.pickles import read_pickle, write_pickle_list

ROOT = Path(__file__).resolve().parents[1]
META = {"schema": "test", "schema_version": 1}


def annotations() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "frame_dir": f"clip_{i}",
            "total_frames": 30,
            "img_shape": (360, 640),
            "original_shape": (360, 640),
            "label": i % 2,
            "keypoint": rng.random((2, 30, 17, 2)).astype(np.float32),
            "keypoint_score": rng.random((2, 30, 17)).astype(np.float16),
        }
        for i in range(5)
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b)


def test_a_streamed_pickle_is_a_plain_list(tmp_path):
    write_pickle_list(tmp_path / "a.pkl", tmp_path, iter(annotations()))
    for came in (read_pickle(tmp_path / "a.pkl"), pickle.loads((tmp_path / "a.pkl").read_bytes())):
        assert type(came) is list
        assert same(came, annotations())


def test_a_streamed_pickle_never_holds_all_items(tmp_path):
    items = ({"x": np.zeros(1000)} for _ in range(10_000))  # 80 MB together
    tracemalloc.start()
    write_pickle_list(tmp_path / "a.pkl", tmp_path, items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the pickler takes a thousand items at a time


@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_others_write(tmp_path, protocol):
    """Both layouts of mmaction2 and pyskl, in every pickle protocol."""
    shared = np.arange(6, dtype=np.float32)
    value = {
        "split": {"train": ["a"], "val": []},
        "annotations": annotations(),
        "odd": [
            np.str_("ab"),
            np.int64(3),
            np.bool_(True),
            np.float16(1.5),
            np.array(["x", "yy"]),
            np.array([], np.float32),
            np.array(3.0),
            np.asfortranarray(np.ones((2, 3))),
            np.arange(3, dtype=">f4"),
            b"bytes",
            b"",
            None,
            True,
            1.5,
            2**80,
            "한국어",
            shared,
            shared,
        ],
    }
    path = tmp_path / "a.pkl"
    if protocol >= 4:  # older ones call builtins.set, which is not allowed
        value["odd"].append({1, 2})
    path.write_bytes(pickle.dumps(value, protocol))
    assert same(read_pickle(path), pickle.loads(path.read_bytes()))


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> Any:
        return self.reduced


class Builds:
    """Pickles as an object whose state is set."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], state: Any) -> None:
        self.reduced = (function, args, state)

    def __reduce__(self) -> Any:
        return self.reduced


def hostile_pickles(marker: Path) -> dict[str, bytes]:
    touch, python = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    dump = pickle.dumps
    script = marker.with_suffix(".py")
    script.write_text(python)
    (marker.parent / "victim").mkdir()
    name = repr(str(marker)).encode()
    plain = np.dtype("f8", False, True)
    lying = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    return {
        "os.system": dump(Runs(os.system, (touch,))),
        "exec": dump(Runs(exec, (python,))),
        "eval": dump(Runs(eval, (python,))),
        "open": dump(Runs(open, (str(marker), "w"))),
        "subprocess": dump(Runs(subprocess.check_output, (["touch", str(marker)],))),
        "popen": dump(Runs(subprocess.Popen, (["touch", str(marker)],))),
        "runpy": dump(Runs(runpy.run_path, (str(script),))),
        "shutil": dump(Runs(shutil.rmtree, (str(marker.parent / "victim"),))),
        "pathlib": dump(Runs(Path.touch, (marker,))),
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR.",
        "getattr-chain": (
            b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S"
            + repr(touch).encode()
            + b"\ntR."
        ),
        "inst": b"(S" + repr(touch).encode() + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS" + repr(touch).encode() + b"\no.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x11os.system.__call__\x93.",
        "numpy-load": b"cnumpy\nload\n(S" + name + b"\nI00\nI01\ntR.",
        "numpy-testing": b"cnumpy.testing._private.utils\nrunstring\n(S"
        + repr(python).encode()
        + b"\n}tR.",
        "numpy-through-list": b"cnumpy\nndarray.__init__.__globals__\n.",
        "codecs-open": b"ccodecs\nopen\n(S" + name + b"\nS'w'\ntR.",
        "codecs-other": dump(Runs(_codecs.encode, ("x" * 99, "idna"))),
        "codecs-lookup": b"c_codecs\nlookup\n(S'os'\ntR.",
        "operator": b"coperator\nattrgetter\n(S'system'\ntR(cos\npath\ntR.",
        "functools": b"cfunctools\nreduce\n(cos\nsystem\n(lS" + repr(touch).encode() + b"\natR.",
        "torch": b"ctorch.serialization\nload\n(S" + name + b"\ntR.",
        "pickle-in-pickle": b"c_pickle\nloads\n(S" + repr(dump(1)).encode() + b"\ntR.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"Pwhatever\n.",
        "next-buffer": b"\x80\x05\x97.",
        "newobj": b"\x80\x02cnumpy\nndarray\n(K\x01tq\x00\x81.",
        "ndarray-called": dump(Runs(np.ndarray, ((1,), "f8"))),
        "wild-pointer": dump([Runs(np.ndarray, ((1,), "O", b"AAAAAAAA"))]),
        "object-dtype": dump(np.array([{}], object)),
        "lying-dtype": dump(Builds(np.dtype, ("f8", False, True), lying)),
        "record-dtype": dump(np.zeros(1, [("a", "f4")])),
        "function-changed": dump(Builds(np.dtype, ("f8",), {"a": 1})) + b"",
        "list-consumes": dump(Runs(list, ("abc",))),
        "huge-array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
        b"J\x00\x00\x00\x7f\x85C\x01bt R.".replace(b"t R", b"tR"),
        "scalar-object": dump(Runs(np.core.multiarray.scalar, (np.dtype("O"), b"A" * 8))),
        "own-class": dump(plain)[:-1] + b"crecognizer.artifacts\nArtifactError\n)R.",
    }


def test_hostile_pickles_never_execute(tmp_path):
    marker = tmp_path / "ran"
    hostile = hostile_pickles(marker)
    assert len(hostile) >= 30
    watched: list[str] = []
    watching = True

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching and event in {
            "os.system",
            "subprocess.Popen",
            "exec",
            "compile",
            "import",
            "shutil.rmtree",
            "os.mkdir",
            "os.remove",
            "os.rename",
            "pickle.find_class",
        }:
            watched.append(f"{event} {args}")
        if watching and event == "open" and "w" in str(args[1]):
            watched.append(f"open {args}")

    for name, data in hostile.items():
        (tmp_path / f"{name}.pkl").write_bytes(data)
    read_pickle_once(tmp_path)
    sys.addaudithook(watch)
    try:
        verdicts = {name: verdict(tmp_path / f"{name}.pkl") for name in hostile}
    finally:
        watching = False
    assert not marker.exists()
    assert (tmp_path / "victim").is_dir()
    assert watched == []
    assert {name: v for name, v in verdicts.items() if v != "refused"} == {}


def read_pickle_once(folder: Path) -> None:
    """Load a plain pickle, so that nothing is imported for the first time while watched."""
    (folder / "plain.pkl").write_bytes(pickle.dumps(annotations(), 2))
    assert same(read_pickle(folder / "plain.pkl"), annotations())


def verdict(path: Path) -> str:
    try:
        return f"loaded {read_pickle(path)!r}"
    except ArtifactError as error:
        return "refused" if str(path) in str(error) else f"unnamed: {error}"


def test_the_hostile_pickles_are_hostile(tmp_path):
    """The same payloads do run in the ordinary unpickler, or the test above shows nothing."""
    ran = []
    for name in ("os.system", "exec", "open", "subprocess", "runpy", "getattr-chain", "inst"):
        folder = tmp_path / name
        folder.mkdir()
        data = hostile_pickles(folder / "ran")[name]
        pickle.loads(data)
        ran.append((folder / "ran").exists())
    assert all(ran)


def test_damaged_pickles_raise_nothing_else(tmp_path):
    data = pickle.dumps(annotations(), 4)
    chance = random.Random(3)
    path = tmp_path / "a.pkl"
    for i in range(200):
        copy = bytearray(data)
        if i % 4 == 0:
            copy = copy[: chance.randrange(len(copy))]
        for _ in range(chance.randint(1, 50)):
            if copy:
                copy[chance.randrange(len(copy))] ^= 1 << chance.randrange(8)
        path.write_bytes(copy)
        start = time.process_time()
        # A pickle has no checksum: it may load; metadata.json has its sha256.
        with contextlib.suppress(ArtifactError):
            read_pickle(path)
        assert time.process_time() - start < 1
