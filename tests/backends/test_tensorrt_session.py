"""A session's runs, recorded as a CUDA graph or not: the order of its calls, and what comes back.

TensorRT stands in as a network that doubles its input, on the CUDA of ``host_cuda``; what the real
one does is looked at in tests/deploy/test_tensorrt.py, on a GPU.
"""

import ctypes
import importlib
import sys
from enum import Enum, IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from recognizer.backends import cuda
from recognizer.backends.network import ModelError
from tests.backends.host_cuda import HostCuda


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class Logger:
    Severity = Severity


class Base:
    pass


Mode = Enum("Mode", ["INPUT", "OUTPUT"])


class Context:
    """Runs ``y = 2 x``; ``loose``: says that only the data decides how large y is."""

    def __init__(self, host, loose):
        self.host, self.loose, self.shape, self.places, self.calls = host, loose, None, {}, []

    def set_input_shape(self, name, shape):
        self.calls.append("set_input_shape")
        self.shape = tuple(shape)
        return True

    def set_tensor_address(self, name, address):
        self.calls.append("set_tensor_address")
        self.places[name] = address
        return True

    def set_output_allocator(self, name, memory):
        return True

    def infer_shapes(self):
        return []

    def get_tensor_shape(self, name):
        return (-1, 3) if self.loose else self.shape

    def execute_async_v3(self, stream):
        self.calls.append("execute_async_v3")
        count, source, target = int(np.prod(self.shape)), self.places["x"], self.places["y"]

        def kernel():
            floats = ctypes.c_float * count
            given, out = floats.from_address(source), floats.from_address(target)
            for i in range(count):
                out[i] = 2 * given[i]

        self.host.put(kernel)
        return True


class Engine:
    num_io_tensors = 2

    def __init__(self, context):
        self.context = context

    def create_execution_context(self):
        return self.context

    def get_tensor_name(self, index):
        return "xy"[index]

    def get_tensor_mode(self, name):
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_tensor_shape(self, name):
        return (-1, 3)

    def get_tensor_profile_shape(self, name, profile):
        return (1, 3), (4, 3), (8, 3)

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_location(self, name):
        return "device"

    def get_tensor_format(self, name):
        return "linear"


@pytest.fixture
def opened(monkeypatch):
    """Return a function that opens a session, and CUDA and the context that it runs on."""
    host = HostCuda()
    monkeypatch.setattr(cuda, "runtime", lambda: host)
    trt = ModuleType("tensorrt")
    trt.ILogger, trt.IProgressMonitor, trt.IOutputAllocator = Logger, Base, Base
    trt.TensorIOMode = Mode
    trt.TensorLocation = SimpleNamespace(DEVICE="device")
    trt.TensorFormat = SimpleNamespace(LINEAR="linear")
    Logger.__init__, Base.__init__ = (lambda self: None), (lambda self: None)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.delitem(sys.modules, "recognizer.backends.tensorrt_session", raising=False)

    def start(*, loose=False, **options):
        context = Context(host, loose)
        engine = Engine(context)
        trt.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda data: engine)
        module = importlib.import_module("recognizer.backends.tensorrt_session")
        return module.Session(b"", Path("m.engine"), "cuda:0", **options), host, context

    yield start
    sys.modules.pop("recognizer.backends.tensorrt_session", None)


def numbers(seed, batch=4):
    return np.random.default_rng(seed).random((batch, 3)).astype(np.float32)


@pytest.mark.parametrize("pinned", [True, False])
def test_runs_of_many_shapes(opened, pinned):
    session, host, _ = opened(pinned=pinned)
    kept = [(session.run({"x": x}), x) for x in (numbers(i, b) for i, b in enumerate((1, 8, 3, 8)))]
    for results, x in kept:  # nothing of a later run
        np.testing.assert_array_equal(results["y"], 2 * x)
    assert bool(host.pinned) == pinned
    assert not host.graphs


def test_the_second_run_replays_the_graph_of_the_first(opened):
    session, host, context = opened(cuda_graph=True)
    first = numbers(0)
    np.testing.assert_array_equal(session.run({"x": first})["y"], 2 * first)
    # It ran once by itself, which loads what no recording can, and was recorded then.
    assert context.calls.count("execute_async_v3") == 2
    order = host.names(
        "cudaStreamSynchronize",
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphLaunch",
    )
    assert order == [
        "cudaStreamSynchronize",
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
    ]
    context.calls.clear()
    blocks, pinned = set(host.blocks), set(host.pinned)
    for seed in (1, 2):
        x = numbers(seed)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
    assert not context.calls  # NVIDIA: a recorded context must be left as it was
    assert host.calls.count("cudaGraphLaunch") == 2
    assert (set(host.blocks), set(host.pinned)) == (blocks, pinned)


def test_outputs_that_only_the_data_sizes_are_refused_by_name(opened):
    session, _, context = opened(cuda_graph=True, loose=True)
    with pytest.raises(ModelError, match=r"cuda_graph: .*y \(\?,3\).*cuda_graph: false"):
        session.run({"x": numbers(0)})
    assert "execute_async_v3" not in context.calls


def test_a_recording_that_fails_is_reported_with_the_way_out(opened):
    session, host, _ = opened(cuda_graph=True)
    host.refuse.add("cudaStreamEndCapture")
    with pytest.raises(ModelError, match=r"recording a CUDA graph \(cuda_graph: false"):
        session.run({"x": numbers(0)})


def test_an_array_of_the_session_is_uploaded_as_it_is(opened):
    session, host, _ = opened()
    mine = session.host_array((4, 3), np.float32)
    mine[...] = 5
    before = len(host.pinned)
    assert (session.run({"x": mine})["y"] == 10).all()
    assert len(host.pinned) == before + 1  # the way back only
