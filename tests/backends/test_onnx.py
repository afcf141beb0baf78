"""ONNX Runtime: every option of the guide reaches the session; nothing falls back."""

import numpy as np
import onnxruntime as ort
import pytest

from recognizer.backends.network import ModelError, batches, pad_batch
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config_models import OnnxPoseSection
from recognizer.config_types import OnnxRuntimeOptions
from tests import networks


@pytest.fixture
def recorded(monkeypatch):
    """Return what the real session was made with."""
    seen = {}
    real = ort.InferenceSession

    def record(path, options, providers):
        seen.update(options=options, providers=providers)
        return real(path, options, [("CPUExecutionProvider", {})])

    monkeypatch.setattr(ort, "InferenceSession", record)
    return seen


def test_every_option_of_the_guide_reaches_the_cpu_session(tmp_path, recorded):
    options = OnnxPoseSection(
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


def test_every_option_of_the_guide_reaches_the_cuda_provider(tmp_path, recorded, monkeypatch):
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: both)
    options = OnnxPoseSection(
        device="cuda:1", gpu_mem_limit_gb=8, tunable_op_enable=True, tunable_op_tuning_enable=True,
        cudnn_conv_algo_search="HEURISTIC",
    )  # fmt: skip
    # The session of this machine is a CPU one: exactly the silent fallback that must not pass.
    with pytest.raises(ModelError, match="expected CUDAExecutionProvider"):
        OnnxNetwork(networks.rtmo(tmp_path / "m.onnx"), options)
    name, provider = recorded["providers"][0]
    assert name == "CUDAExecutionProvider"
    assert provider == {
        "device_id": 1, "gpu_mem_limit": 8 * 2**30, "arena_extend_strategy": "kNextPowerOfTwo",
        "cudnn_conv_algo_search": "HEURISTIC", "tunable_op_enable": True,
        "tunable_op_tuning_enable": True,
    }  # fmt: skip


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


def test_batches_cover_every_item_once():
    assert batches(0, None, 8) == []
    assert batches(17, None, 8) == [(0, 8), (8, 16), (16, 17)]
    assert batches(3, 1, 8) == [(0, 1), (1, 2), (2, 3)]


def test_a_short_batch_is_filled_for_a_network_that_insists():
    part = np.ones((2, 3), np.float32)
    assert pad_batch(part, None) is part
    assert pad_batch(part, 4).shape == (4, 3)
    assert pad_batch(part, 4)[2:].sum() == 0
