"""The little of CUDA that is used: copies, page-locked memory, graphs; without a GPU on a stand-in.

The last test runs on a GPU where there is one.
"""

import ctypes
import gc
import importlib
import inspect

import numpy as np
import pytest

from recognizer.backends import cuda
from recognizer.backends.cuda import Stream, use_device
from recognizer.backends.network import ModelError
from tests.backends.gpu import has_gpu
from tests.backends.host_cuda import HostCuda


@pytest.fixture
def host(monkeypatch):
    stand_in = HostCuda()
    monkeypatch.setattr(cuda, "runtime", lambda: stand_in)
    return stand_in


def round_trip(stream, array):
    """Return what comes back of an array that was copied to the GPU and from it."""
    stream.enter()
    address = stream.upload("x", array)
    came = stream.download("x", address, array.shape, array.dtype)
    stream.wait()
    return came


ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(0, 2, 1),  # not side by side
    np.zeros((0, 5), np.float32),
    np.arange(1000, dtype=np.int64),
]


@pytest.mark.parametrize("pinned", [True, False])
def test_what_goes_up_comes_down(host, pinned):
    stream = Stream("cuda:0", pinned=pinned)
    kept = [(round_trip(stream, array), array) for array in (*ARRAYS, *ARRAYS)]
    for came, array in kept:  # also after later runs
        np.testing.assert_array_equal(came, array)
    assert bool(host.pinned) == pinned


def test_a_stream_is_made_on_its_own_gpu(host):
    assert [host.streams[Stream(f"cuda:{index}").handle] for index in (1, 0)] == [1, 0]


def test_memory_is_used_again_and_freed_at_the_end(host):
    stream = Stream("cuda:0")
    for _ in range(3):
        round_trip(stream, np.ones(1000, np.float32))
    assert len(host.names("cudaMalloc")) == 1
    assert len(host.names("cudaHostAlloc")) == 2  # one way and the other
    round_trip(stream, np.ones(10_000, np.float32))
    assert len(host.blocks) == 1
    assert len(host.pinned) == 2
    stream.capture(lambda: None)
    del stream
    gc.collect()
    assert not host.blocks
    assert not host.pinned
    assert not host.graphs
    assert host.calls[-1] == "cudaFreeHost"
    assert "cudaStreamDestroy" in host.calls


def test_an_array_of_the_stream_is_not_copied_once_more(host):
    stream = Stream("cuda:0")
    mine = stream.host_array((4, 6), np.float32)
    mine[...] = np.arange(24).reshape(4, 6)
    for part in (mine, mine[:2], mine[1:3]):
        before = len(host.names("cudaHostAlloc"))
        address = stream.upload("x", part)
        assert len(host.names("cudaHostAlloc")) == before
        came = stream.download("x", address, part.shape, part.dtype)
        stream.wait()
        np.testing.assert_array_equal(came, part)
    column = mine[:, :2]  # not side by side: by way of other memory
    np.testing.assert_array_equal(round_trip(stream, column), column)
    count = len(host.pinned)
    del mine, part, column
    gc.collect()
    assert len(host.pinned) == count - 1  # the array's own memory goes with it


def test_ordinary_memory_where_nothing_is_pinned(host):
    array = Stream("cuda:0", pinned=False).host_array((2, 2), np.uint8)
    assert array.shape == (2, 2)
    assert not host.pinned


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc"])
def test_full_memory_is_reported(host, call):
    stream = Stream("cuda:0")
    host.refuse.add(call)
    with pytest.raises(ModelError, match=r"4000 bytes|4096 bytes"):
        stream.upload("x", np.ones(1000, np.float32))


def add_one(host, address, count):
    numbers = (ctypes.c_float * count).from_address(address)
    for i in range(count):
        numbers[i] += 1


def test_a_graph_runs_what_was_recorded_and_nothing_before(host):
    stream = Stream("cuda:0")
    array = np.zeros(3, np.float32)
    address = stream.upload("x", array)
    stream.wait()
    graph = stream.capture(lambda: host.put(lambda: add_one(host, address, 3)))
    assert host.calls[-4:] == [
        "cudaStreamBeginCapture",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
    ]
    for expected in (1, 2):
        stream.launch(graph)
        came = stream.download("x", address, (3,), np.dtype(np.float32))
        stream.wait()
        assert came.tolist() == [expected] * 3


def test_what_cannot_be_recorded_leaves_no_recording_behind(host):
    stream = Stream("cuda:0")

    def work():
        raise ModelError("not this")

    with pytest.raises(ModelError, match="not this"):
        stream.capture(work)
    assert host.capturing is None
    assert not host.graphs
    host.refuse.add("cudaGraphInstantiate")
    with pytest.raises(ModelError, match=r"cuda_graph: false"):
        stream.capture(lambda: None)


def test_the_stand_in_takes_what_the_package_takes():
    """Every call of the stand-in is one of NVIDIA's, with as many arguments."""
    try:
        real = importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        pytest.skip("cuda-bindings is not installed")
    for name, function in vars(HostCuda).items():
        if not name.startswith("cuda"):
            continue
        there = getattr(real, name)
        if inspect.isfunction(function):
            signature = there.__doc__.strip().splitlines()[0]
            listed = signature[signature.index("(") + 1 : signature.rindex(")")]
            count = len([part for part in listed.split(",") if part.strip()])
            assert count == len(inspect.signature(function).parameters) - 1, signature
        elif inspect.isclass(function):
            assert all(hasattr(there, member) for member in function.__members__), name


@pytest.mark.skipif(not has_gpu(), reason="needs a GPU and cuda-bindings")
def test_copies_and_graphs_on_a_gpu():
    use_device("cuda:0")
    for pinned in (True, False):
        stream = Stream("cuda:0", pinned=pinned)
        for array in ARRAYS:
            np.testing.assert_array_equal(round_trip(stream, array), array)
    mine = stream.host_array((4, 6), np.float32)
    mine[...] = 3
    np.testing.assert_array_equal(round_trip(stream, mine), mine)
    source = stream.upload("x", np.arange(6, dtype=np.float32))
    target = stream.reserve("y", 24)
    stream.wait()
    kind = stream.cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    graph = stream.capture(lambda: stream.copy(target, source, 24, kind))
    stream.upload("x", np.arange(6, 12, dtype=np.float32))
    stream.launch(graph)
    came = stream.download("y", target, (6,), np.dtype(np.float32))
    stream.wait()
    assert came.tolist() == [6, 7, 8, 9, 10, 11]
