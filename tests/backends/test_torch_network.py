"""Batches that are filled up, bytes in place of floats, and CUDA graphs, where there is a GPU."""

import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from pydantic import ValidationError  # noqa: E402

from recognizer.backends import torch_network  # noqa: E402
from recognizer.backends.cuda_graph import CudaGraphs  # noqa: E402
from recognizer.backends.network import ModelError, TensorSpec, host_arrays, run_limit  # noqa: E402
from recognizer.backends.torch import open_pose  # noqa: E402
from recognizer.backends.torch_network import Execution, TorchNetwork  # noqa: E402
from recognizer.config.models import TopDownConfig, TorchPoseConfig  # noqa: E402
from recognizer.pose.detector import Boxes, LetterboxBatch  # noqa: E402
from recognizer.pose.rtmo import RtmoPose  # noqa: E402
from recognizer.pose.topdown import TopDownPose  # noqa: E402
from tests.backends import pose_models  # noqa: E402

CPU = {"device": "cpu", "keypoint_threshold": 0.0}
# Pixels of keypoints up to 1,000 pixels away: sums of other shapes are rounded in another way.
NEAR = 0.5
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def rtmo(tmp_path_factory):
    return pose_models.save_rtmo(tmp_path_factory.mktemp("rtmo"), side=192)


@pytest.fixture(scope="module")
def sdpose(tmp_path_factory):
    return pose_models.save_sdpose(tmp_path_factory.mktemp("sdpose"))


class Sums(torch.nn.Module):
    """The sum of each item, and the batch size that ran, once per item."""

    def forward(self, pixels):
        return pixels.flatten(1).sum(1), torch.full((len(pixels),), float(len(pixels)))


def sums(*sizes, cuda_graph=False):
    spec = TensorSpec("input", (None, 3, 4), "tensor(float)")
    outputs = tuple(TensorSpec(name, (None,), "tensor(float)") for name in ("sum", "ran"))
    return TorchNetwork(
        Sums(), (spec,), outputs, Execution(batch_sizes=sizes, cuda_graph=cuda_graph)
    )


# --- batches -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "given", "ran"),
    [((), 3, 3), ((1, 4), 1, 1), ((1, 4), 2, 4), ((1, 4), 4, 4), ((2,), 1, 2)],
)
def test_a_batch_is_filled_up_to_a_size_that_runs(sizes, given, ran):
    pixels = np.random.default_rng(0).normal(size=(given, 3, 4)).astype(np.float32)
    found = sums(*sizes).run({"input": pixels})
    np.testing.assert_allclose(found["sum"], pixels.sum((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(found["ran"], np.full(given, ran))


def test_more_than_the_largest_batch_is_refused():
    network = sums(1, 4)
    assert (network.max_batch, run_limit(network, 8)) == (4, 4)
    assert (sums().max_batch, run_limit(sums(), 8)) == (None, 8)
    assert run_limit(sums(1, 32), 8) == 32  # what is asked for counts, also where it is more
    with pytest.raises(ModelError, match=r"at most 4 items at once, got 5; .*static_batch"):
        network.run({"input": np.zeros((5, 3, 4), np.float32)})


@pytest.mark.parametrize("sizes", [[], [0], [2, 1], [1, 1], [257], 0, 257, "1"])
def test_batch_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(ValidationError, match="static_batch"):
        TorchPoseConfig(static_batch=sizes)


def test_one_batch_size_is_a_list_of_one():
    for given, sizes in ((None, ()), (8, (8,)), ([8], (8,)), ([1, 8, 32], (1, 8, 32))):
        assert TorchPoseConfig(static_batch=given).batch_sizes == sizes


def assert_same(found, expected, pixels):
    assert [len(one.boxes) for one in found] == [len(one.boxes) for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=pixels)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=pixels)


def seen(rtmo, images, **options):
    section = TorchPoseConfig(**{**CPU, "input_size": (192, 192), **options})
    return RtmoPose(open_pose(*rtmo, section), section)(images)


def test_frames_say_the_same_in_fixed_batches_and_as_bytes(rtmo):
    images = pose_models.pictures(5)
    expected = seen(rtmo, images)
    assert sum(len(one.boxes) for one in expected) > 5
    assert_same(seen(rtmo, images, static_batch=[2, 4]), expected, NEAR)
    assert_same(seen(rtmo, images, uint8_input=True), expected, NEAR)
    assert_same(seen(rtmo, images, uint8_input=True, static_batch=[1, 8]), expected, NEAR)


def test_people_say_the_same_in_fixed_batches_and_as_bytes(sdpose):
    images = pose_models.pictures(2)
    boxes = [
        Boxes(np.array([[20, 20, 120, 220], [5, 5, 60, 90]], np.float32), np.ones(2, "f4")),
        Boxes(np.array([[100, 30, 200, 200]], np.float32), np.ones(1, "f4")),
    ]

    def found(**options):
        network = open_pose(*sdpose, TorchPoseConfig(**CPU, **options))
        model = TopDownPose(lambda _: boxes, network, TopDownConfig())
        both = model(images)
        # The buffer of the crops is used again.
        assert_same(model.with_boxes(images[:1], boxes[:1]), both[:1], 0.01)
        return both

    expected = found()
    assert_same(found(static_batch=2), expected, 0.01)
    assert_same(found(uint8_input=True, static_batch=[1, 4]), expected, 0.1)


def test_arrays_come_from_the_network_where_it_makes_them(rtmo):
    network = sums()
    assert host_arrays(network)((2, 3), np.uint8).shape == (2, 3)
    made = []

    def make(shape, dtype):
        made.append((shape, np.dtype(dtype)))
        return np.empty(shape, dtype)

    batch = LetterboxBatch((64, 64), uint8=True, make=make)
    images = pose_models.pictures(2)
    filled, _ = batch.fill(images)
    plain, _ = LetterboxBatch((64, 64), uint8=True).fill(images)
    np.testing.assert_array_equal(filled, plain)
    batch.fill(images[:1])
    assert made == [((2, 64, 64, 3), np.dtype(np.uint8))]


def test_threads_take_turns_with_a_recording(monkeypatch):
    """One memory, as a recording has: whoever runs next overwrites it."""

    class Recorded:
        memory = torch.zeros(1)

        def run(self, pixels, size):
            self.memory[:] = pixels.sum()
            return (self.memory, self.memory), None

    def to_host(values):  # as from a GPU: copies, after a while
        time.sleep(0.002)
        return [value.clone().numpy() for value in values]

    monkeypatch.setattr(torch_network, "to_host", to_host)
    monkeypatch.setattr(TorchNetwork, "_record", lambda _: Recorded())
    network = sums(1, cuda_graph=True)
    found = {}

    def one(number):
        pixels = np.full((1, 3, 4), number, np.float32)
        found[number] = [float(network.run({"input": pixels})["sum"].item()) for _ in range(5)]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [12.0 * number] * 5 for number in range(4)}


# --- CUDA graphs -------------------------------------------------------------------


def test_a_cuda_graph_takes_a_gpu(tmp_path):
    nothing = tmp_path / "none.py", tmp_path / "none.pth"
    with pytest.raises(ModelError, match=r"pth\.cuda_graph: it takes a GPU"):
        open_pose(*nothing, TorchPoseConfig(**CPU, cuda_graph=True))
    with pytest.raises(ModelError, match=r"pth\.cuda_graph: it takes a GPU"):
        CudaGraphs(lambda x: ((x,), None), torch.zeros(1), (1,))


def test_a_cuda_graph_takes_batch_sizes_and_a_fixed_input():
    spec = TensorSpec("input", (None, 3, None), "tensor(float)")
    for shape, sizes in (((None, 3, None), (1,)), ((None, 3, 4), ())):
        spec = TensorSpec("input", shape, "tensor(float)")
        with pytest.raises(ModelError, match="batch sizes and a fixed input"):
            TorchNetwork(Sums(), (spec,), (spec,), Execution(batch_sizes=sizes, cuda_graph=True))


@GPU
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_recorded_rtmo_says_what_it_says_unrecorded(rtmo, precision):
    images = pose_models.pictures(5)
    options = {"device": "cuda:0", "precision": precision, "static_batch": [1, 4]}
    for more in ({}, {"uint8_input": True}, {"channels_last": True, "uint8_input": True}):
        found = seen(rtmo, images, cuda_graph=True, **options, **more)
        assert_same(found, seen(rtmo, images, **options, **more), NEAR)


@GPU
def test_a_recording_that_does_not_hold_everybody_is_left(rtmo, monkeypatch):
    from recognizer.backends import graphs

    images = pose_models.pictures(3)
    options = {"device": "cuda:0", "static_batch": [4]}
    expected = seen(rtmo, images, **options)
    assert max(len(one.boxes) for one in expected) > 1
    monkeypatch.setattr(graphs, "STATIC_PEOPLE", 1)
    assert_same(seen(rtmo, images, cuda_graph=True, **options), expected, NEAR)


@GPU
def test_recorded_heatmaps_are_the_same_and_ones_own(sdpose):
    crops = np.random.default_rng(0).normal(size=(3, 3, 256, 192)).astype(np.float32)
    options = {"device": "cuda:0", "static_batch": [1, 4]}
    plain, recorded = (
        open_pose(*sdpose, TorchPoseConfig(**options, cuda_graph=recorded))
        for recorded in (False, True)
    )
    first = recorded.run({"input": crops})["heatmaps"]
    kept = first.copy()
    recorded.run({"input": crops[:1] * 2})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, plain.run({"input": crops})["heatmaps"])


@GPU
def test_what_cannot_be_recorded_is_refused():
    class Asks(torch.nn.Module):
        def forward(self, pixels):
            return pixels * float(pixels.sum())  # waits for the GPU

    spec = TensorSpec("input", (None, 3), "tensor(float)")
    execution = Execution("cuda:0", batch_sizes=(2,), cuda_graph=True)
    before = torch.cuda.current_stream()
    with pytest.raises(ModelError, match=r"cannot be recorded for batches of 2: .*cuda_graph"):
        TorchNetwork(Asks(), (spec,), (spec,), execution)
    assert torch.cuda.current_stream() == before


@GPU
def test_pixels_for_a_gpu_are_pinned():
    network = TorchNetwork(torch.nn.Identity(), (), (), Execution("cuda:0"))
    assert torch.from_numpy(network.host_array((2, 3), np.uint8)).is_pinned()
