"""Runs bound to a device's memory, in static batches, as CUDA graphs: with the CPU in its place.

The last test needs a GPU.
"""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from recognizer.backends import cuda
from recognizer.backends.cuda import Stream, driver_version
from recognizer.backends.network import ModelError, TensorSpec, check_fixed, pad_batch
from recognizer.backends.onnx import OnnxNetwork, _specs
from recognizer.backends.onnx_binding import BoundRuns, PinnedRuns
from recognizer.backends.onnx_options import choose_provider
from recognizer.config.models import OnnxPoseConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.rtmo import RtmoPose
from recognizer.video.array_image import ArrayImage
from tests import networks
from tests.backends.host_cuda import HostCuda
from tests.backends.pose_models import picture

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def test_bound_runs_give_what_plain_runs_give(tmp_path):
    """The way of a GPU, with the CPU as the device: this machine has no other."""
    session = ort.InferenceSession(str(networks.rtmo(tmp_path / "m.onnx")))
    bound = BoundRuns(session, "cpu")
    random = np.random.default_rng(0)
    kept = []
    for batch in (1, 1, 3, 3, 2, 1):  # the same shape again, and others
        image = random.uniform(0, 255, (batch, 3, 64, 64)).astype(np.float32)
        before = image.copy()
        results = bound({"input": image})
        assert np.array_equal(image, before)
        kept.append((results, session.run(None, {"input": image})))
    for results, plain in kept:  # what a run gave stays when others come after it
        assert list(results) == ["dets", "keypoints"]
        for values, expected in zip(results.values(), plain, strict=True):
            assert np.array_equal(values, expected)


def test_bound_runs_take_pixels_that_do_not_lie_side_by_side(tmp_path):
    session = ort.InferenceSession(str(networks.rtmo(tmp_path / "m.onnx")))
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    turned = image.transpose(0, 3, 1, 2)
    (dets, _), expected = (
        BoundRuns(session, "cpu")({"input": turned}).values(),
        session.run(None, {"input": np.ascontiguousarray(turned)}),
    )
    assert np.array_equal(dets, expected[0])


@pytest.fixture
def host(monkeypatch):
    """Return CUDA on the host's memory, so that ONNX Runtime's CPU code can work there."""
    stand_in = HostCuda()
    monkeypatch.setattr(cuda, "runtime", lambda: stand_in)
    return stand_in


def pinned_runs(path, *, fixed=False, batch=None):
    session = ort.InferenceSession(str(path))
    _, outputs = _specs(session, batch, path)
    runs = PinnedRuns(session, outputs, Stream("cuda:0"), "cpu", fixed=fixed)
    return session, runs


def test_runs_by_pinned_memory_give_what_plain_runs_give(tmp_path, host):
    session, runs = pinned_runs(networks.rtmo(tmp_path / "m.onnx"))
    random = np.random.default_rng(0)
    kept = []
    for batch in (1, 1, 3, 3, 2, 1):
        image = random.uniform(0, 255, (batch, 64, 64, 3)).astype(np.float32).transpose(0, 3, 1, 2)
        plain = session.run(None, {"input": np.ascontiguousarray(image)})
        kept.append((runs({"input": image}), plain))
    for results, plain in kept:
        assert list(results) == ["dets", "keypoints"]
        for values, expected in zip(results.values(), plain, strict=True):
            assert np.array_equal(values, expected)
            assert values.dtype == expected.dtype


def test_fixed_runs_keep_every_address(tmp_path, host):
    path = networks.heatmap(tmp_path / "m.onnx")
    session, runs = pinned_runs(path, fixed=True, batch=4)
    spec = _specs(session, 4, path)[0][0]
    mine = runs.host_array(spec.shape, np.float32)
    for seed in range(3):
        mine[...] = np.random.default_rng(seed).uniform(0, 255, spec.shape)
        (found,) = runs({spec.name: mine}).values()
        assert np.array_equal(found, session.run(None, {spec.name: mine})[0])
        if seed == 0:
            places = dict(host.blocks), len(host.calls)
    assert host.blocks.keys() == places[0].keys()
    allocated = {"cudaMalloc", "cudaHostAlloc"} & set(host.calls[places[1] :])
    assert not allocated


# --- static batches ----------------------------------------------------------------


def test_a_static_batch_is_what_callers_see_and_fill_up_to(tmp_path):
    path = networks.heatmap(tmp_path / "m.onnx")
    network = OnnxNetwork(path, OnnxPoseConfig(static_batch=4))
    (spec,), (out,) = network.inputs, network.outputs
    assert (spec.shape[0], out.shape[0]) == (4, 4)
    crops = np.random.default_rng(0).uniform(0, 1, (3, *spec.shape[1:])).astype(np.float32)
    (found,) = network.run({spec.name: pad_batch(crops, spec.shape[0])}).values()
    (free,) = OnnxNetwork(path, OnnxPoseConfig()).run({spec.name: crops}).values()
    assert np.array_equal(found[:3], free)
    with pytest.raises(ModelError, match=r"expected 4 items \(static_batch\), got \(3,\)"):
        network.run({spec.name: crops})


@pytest.mark.parametrize("size", [3, 5, 9])
def test_rtmo_sees_the_same_in_static_batches(tmp_path, size):
    path = networks.rtmo(tmp_path / "m.onnx")
    images = [ArrayImage(picture(seed)) for seed in range(size)]
    found = []
    for batch in (None, 4):
        section = OnnxPoseConfig(static_batch=batch, score_threshold=0.0)
        found.append(RtmoPose(OnnxNetwork(path, section), section)(images))
    for free, static in zip(*found, strict=True):
        assert len(free) == len(static)
        np.testing.assert_array_equal(free.keypoints, static.keypoints)


def test_a_static_batch_that_the_file_does_not_take_is_refused(tmp_path):
    path = networks.rtmo(tmp_path / "m.onnx", batch=2)
    OnnxNetwork(path, OnnxPoseConfig(static_batch=2))
    with pytest.raises(ModelError, match=r"static_batch: expected 2, .* got 4; set st"):
        OnnxNetwork(path, OnnxPoseConfig(static_batch=4))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_file_may_leave_its_free_batch_without_a_name(tmp_path, batch):
    path = networks.rtmo(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    onnx.save(model, str(path))
    section = OnnxPoseConfig(static_batch=batch)
    network = OnnxNetwork(path, section)
    assert network.inputs[0].shape == (batch, 3, 64, 64)
    assert len(RtmoPose(network, section)([ArrayImage(picture(seed)) for seed in range(5)])) == 5


# --- CUDA graphs -------------------------------------------------------------------


def test_a_graph_is_asked_of_the_provider_that_runs_the_network():
    plain = OnnxPoseConfig(device="cuda:0", cuda_graph=True)
    assert choose_provider(plain, 1, ALL).providers[0][1]["enable_cuda_graph"] is True
    by_trt = OnnxPoseConfig(device="cuda:0", provider="tensorrt", cuda_graph=True)
    (_, first), (_, second) = choose_provider(by_trt, 1, ALL).providers
    assert first["trt_cuda_graph_enable"] is True
    assert "enable_cuda_graph" not in second
    without = OnnxPoseConfig(device="cuda:0")
    assert "enable_cuda_graph" not in choose_provider(without, 1, ALL).providers[0][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuda_graph": True}, "expected false with device: cpu, got true; set device: cuda"),
        (
            {"cuda_graph": True, "device": "cuda:0", "pinned_memory": False},
            "with pinned_memory: false",
        ),
        ({"static_batch": 0}, "static_batch"),
    ],
)
def test_options_of_runs_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        OnnxPoseConfig(**change)


def test_a_graph_on_a_cpu_by_another_way_is_refused():
    options = OnnxPoseConfig(device="cuda:0", cuda_graph=True).model_copy(update={"device": "cpu"})
    with pytest.raises(ModelError, match="cuda_graph: true does not run on device: cpu"):
        choose_provider(options, 1, ALL)


@pytest.mark.parametrize(
    ("batch", "people", "free"),
    [(4, 17, ""), (None, 17, r"image \(\?,3,256,192\)"), (4, None, r"dets \(4,\?,5\)")],
)
def test_a_graph_needs_every_size_fixed(tmp_path, batch, people, free):
    path = networks.heatmap(tmp_path / "m.onnx")
    inputs, outputs = _specs(ort.InferenceSession(str(path)), batch, path)
    outputs = (*outputs, TensorSpec("dets", (4, people, 5), "tensor(float)"))
    if not free:
        check_fixed(path, (*inputs, *outputs), "set it")
        return
    with pytest.raises(ModelError, match=rf"sizes are all fixed, got .*{free}.*; set it"):
        check_fixed(path, (*inputs, *outputs), "set it")


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers() or not driver_version(),
    reason="needs onnxruntime-gpu and a GPU",
)
def test_a_cuda_graph_gives_what_the_cpu_gives(tmp_path):
    path = networks.heatmap(tmp_path / "m.onnx")
    plain = OnnxNetwork(path, OnnxRuntimeOptions())
    network = OnnxNetwork(path, OnnxPoseConfig(device="cuda:0", cuda_graph=True, static_batch=2))
    (spec,) = network.inputs
    for seed in range(4):
        crops = np.random.default_rng(seed).uniform(0, 1, spec.shape).astype(np.float32)
        (found,) = network.run({spec.name: crops}).values()
        (expected,) = plain.run({spec.name: crops}).values()
        np.testing.assert_allclose(found, expected, atol=1e-4)
