"""ONNX Runtime: every option of the guide reaches the session; nothing falls back."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from recognizer.backends.cuda import driver_version
from recognizer.backends.network import ModelError, batches, pad_batch
from recognizer.backends.onnx import OnnxNetwork
from recognizer.backends.onnx_options import choose_provider
from recognizer.config.models import OnnxPoseConfig
from recognizer.config.types import OnnxRuntimeOptions
from tests import networks


@pytest.fixture
def recorded(monkeypatch):
    """Return what the real session was made with."""
    seen = {}
    real = ort.InferenceSession

    def record(path, options, providers, enable_fallback):
        seen.update(options=options, providers=providers, fallback=enable_fallback)
        return real(path, options, [("CPUExecutionProvider", {})])

    monkeypatch.setattr(ort, "InferenceSession", record)
    return seen


def test_every_option_of_the_guide_reaches_the_cpu_session(tmp_path, recorded):
    options = OnnxPoseConfig(
        execution_mode="ORT_PARALLEL",
        graph_optimization_level="ORT_ENABLE_BASIC",
        enable_mem_pattern=False,
        enable_cpu_mem_arena=False,
        arena_extend_strategy="kSameAsRequested",
        threads=3,
    )
    OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), options)
    session = recorded["options"]
    assert session.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert session.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert not session.enable_mem_pattern
    assert not session.enable_cpu_mem_arena
    assert session.intra_op_num_threads == 3
    assert session.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert recorded["providers"][0][1]["arena_extend_strategy"] == "kSameAsRequested"


# Without CUDA's libraries; on a machine with one GPU; with more.
_NO_CUDA = r"cannot be loaded: .*cannot open|expected one of the \d+ GPUs|ONNX Runtime gave"


def test_every_option_of_the_guide_reaches_the_cuda_provider(tmp_path, recorded, monkeypatch):
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: both)
    options = OnnxPoseConfig(
        device="cuda:1",
        gpu_mem_limit_gb=8,
        tunable_op_enable=True,
        tunable_op_tuning_enable=True,
        cudnn_conv_algo_search="HEURISTIC",
    )
    # The session of this machine is a CPU one: exactly the silent fallback that must not pass.
    with pytest.raises(ModelError, match=_NO_CUDA):
        OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), options)
    name, provider = recorded["providers"][0]
    assert name == "CUDAExecutionProvider"
    assert provider == {
        "device_id": 1,
        "gpu_mem_limit": 8 * 2**30,
        "arena_extend_strategy": "kNextPowerOfTwo",
        "cudnn_conv_algo_search": "HEURISTIC",
        "tunable_op_enable": True,
        "tunable_op_tuning_enable": True,
    }


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="has CUDA")
def test_cuda_without_cuda_stops_with_the_remedy(tmp_path):
    with pytest.raises(ModelError, match=r"requirements/gpu\.txt"):
        OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), OnnxRuntimeOptions(device="cuda:0"))


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08" + bytes(100)])
def test_a_file_that_is_no_network_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        OnnxNetwork(path, OnnxRuntimeOptions())


def test_what_the_session_says_of_itself_is_what_was_asked(tmp_path):
    options = OnnxRuntimeOptions(
        execution_mode="ORT_PARALLEL",
        graph_optimization_level="ORT_DISABLE_ALL",
        enable_mem_pattern=False,
        enable_cpu_mem_arena=False,
        threads=2,
        allow_spinning=True,
    )
    network = OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), options)
    session = network._session.get_session_options()
    assert session.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert session.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (session.enable_mem_pattern, session.enable_cpu_mem_arena) == (False, False)
    assert (session.intra_op_num_threads, session.inter_op_num_threads) == (2, 2)
    assert session.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert network.provider == "CPUExecutionProvider"
    assert network._session.get_providers() == [network.provider]


def test_no_provider_is_tried_after_the_requested_one(tmp_path, recorded):
    OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), OnnxRuntimeOptions())
    assert recorded["fallback"] == 0


ALL = [
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "CPUExecutionProvider",
]


def test_the_tensorrt_provider_gets_its_options_and_cuda_the_rest(tmp_path):
    options = OnnxRuntimeOptions(
        device="cuda:2",
        provider="tensorrt",
        tensorrt_cache_dir=tmp_path / "engines",
        gpu_mem_limit_gb=2,
    )
    choice = choose_provider(options, 1, ALL)
    (first, settings), (second, cuda) = choice.providers
    assert (choice.required, first, second) == (ALL[0], ALL[0], ALL[1])
    folder = str(tmp_path / "engines")
    assert settings == {
        "device_id": 2,
        "trt_max_workspace_size": 2 * 2**30,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": folder,
    }
    assert cuda["device_id"] == 2
    assert (tmp_path / "engines").is_dir()
    plain = choose_provider(OnnxRuntimeOptions(device="cuda:0", provider="tensorrt"), 1, ALL)
    assert plain.providers[0][1] == {"device_id": 0}


def test_openvino_is_given_threads_and_precision():
    options = OnnxRuntimeOptions(provider="openvino", openvino_precision="bf16")
    ((name, settings),) = choose_provider(options, 3, ALL).providers
    assert name == "OpenVINOExecutionProvider"
    assert (settings["device_type"], settings["num_of_threads"]) == ("CPU", 3)
    assert json.loads(settings["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"device": "cuda:0"}, "requirements/gpu.txt"),
        ({"device": "cuda:0", "provider": "tensorrt"}, "requirements/tensorrt.txt"),
        ({"provider": "openvino"}, "requirements/openvino.txt"),
    ],
)
def test_a_provider_that_is_not_there_is_refused_with_the_command(change, remedy):
    with pytest.raises(ModelError, match="is not in this ONNX Runtime") as caught:
        choose_provider(OnnxRuntimeOptions(**change), 1, ["CPUExecutionProvider"])
    assert remedy in str(caught.value)
    named = remedy.partition("/")[2]
    assert (Path(__file__).resolve().parents[2] / "requirements" / named).is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "tensorrt"},
        {"provider": "openvino", "device": "cuda:0"},
        {"openvino_precision": "bf16"},
        {"device": "tensorrt:0"},
    ],
)
def test_a_provider_and_a_device_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match=r"provider: |device"):
        OnnxRuntimeOptions(**change)


def test_gpus_do_not_move_openvino_silently():
    options = OnnxRuntimeOptions(provider="openvino").model_copy(update={"device": "cuda:0"})
    with pytest.raises(ModelError, match=r"openvino does not run on device: cuda:0.*gpus"):
        choose_provider(options, 1, ALL)


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers() or not driver_version(),
    reason="needs onnxruntime-gpu and a GPU",
)
def test_cuda_gives_what_the_cpu_gives(tmp_path):
    path = networks.rtmo(tmp_path / "m.onnx")
    plain = OnnxNetwork(path, OnnxRuntimeOptions())
    for pinned in (True, False):
        network = OnnxNetwork(path, OnnxPoseConfig(device="cuda:0", pinned_memory=pinned))
        for batch in (2, 2, 1):
            image = np.random.default_rng(batch).uniform(0, 255, (batch, 3, 64, 64))
            feeds = {"input": image.astype(np.float32)}
            for name, values in network.run(feeds).items():
                np.testing.assert_allclose(values, plain.run(feeds)[name], atol=1e-4)


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in ort.get_available_providers(),
    reason="needs onnxruntime-openvino (requirements/openvino.txt)",
)
def test_openvino_gives_what_the_cpu_provider_gives(tmp_path):
    path = networks.rtmo(tmp_path / "m.onnx")
    image = np.random.default_rng(0).uniform(0, 255, (2, 3, 64, 64)).astype(np.float32)
    plain = OnnxNetwork(path, OnnxRuntimeOptions()).run({"input": image})
    network = OnnxNetwork(path, OnnxRuntimeOptions(provider="openvino"))
    assert network.provider == "OpenVINOExecutionProvider"
    for name, values in network.run({"input": image}).items():
        np.testing.assert_allclose(values, plain[name], atol=1e-5)


@pytest.mark.parametrize(
    "feeds",
    [
        {"input": np.zeros((1, 3, 32, 64), np.float32)},
        {"input": np.zeros((1, 3, 64, 64), np.uint8)},
        {"image": np.zeros((1, 3, 64, 64), np.float32)},
    ],
    ids=["size", "type", "name"],
)
def test_an_input_that_does_not_fit_is_named(tmp_path, feeds):
    network = OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), OnnxRuntimeOptions())
    with pytest.raises(
        ModelError, match=r"m\.onnx: the run failed: .*it takes input \(\?,3,64,64\)"
    ):
        network.run(feeds)


def test_batches_cover_every_item_once():
    assert batches(0, None, 8) == []
    assert batches(17, None, 8) == [(0, 8), (8, 16), (16, 17)]
    assert batches(3, 1, 8) == [(0, 1), (1, 2), (2, 3)]


def test_a_short_batch_is_filled_for_a_network_that_insists():
    part = np.ones((2, 3), np.float32)
    assert pad_batch(part, None) is part
    assert pad_batch(part, 4).shape == (4, 3)
    assert pad_batch(part, 4)[2:].sum() == 0


def test_without_a_runtime_the_command_that_installs_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"not installed \(.*\): make setup"):
        OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), OnnxRuntimeOptions())
