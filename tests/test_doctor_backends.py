"""The doctor's trials: what is configured is opened, and what refuses is heard in its own words."""

import importlib.util
import json
import shutil
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch

from recognizer import doctor_backends
from recognizer.backends import cuda, gpu_libraries
from recognizer.backends.gpu_libraries import check_provider, preload
from recognizer.backends.network import ModelError
from recognizer.backends.probe import NETWORK, PROBES, probe_onnx
from recognizer.config.file import load_config
from recognizer.doctor_backends import Trial, configured, examine_backends

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "configs" / "config.yaml"
POSE = "models.pose_estimation"
CUDA_HERE = "CUDAExecutionProvider" in ort.get_available_providers()


def trial(kind, device, **options):
    return Trial(kind, device, {"device": device, **options})


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {"onnx, cpu"}),
        ([f"{POSE}.onnx.device=cuda:1"], {"onnx, cpu", "onnx, cuda:1"}),
        (["inference.fight.device=cuda:2"], {"onnx, cpu", "onnx, cuda:2"}),
        (["inference.fight.device=cuda:2", "inference.services=[falldown]"], {"onnx, cpu"}),
        (["annotation.gpus=[0, 1]"], {"onnx, cpu", "onnx, cuda:0", "onnx, cuda:1"}),
        (
            [f"{POSE}.topdown.detector.device=cuda:1", f"{POSE}.kind=rtmo"],
            {"onnx, cpu"},
        ),
        (
            [f"{POSE}.onnx.device=cuda:0", f"{POSE}.onnx.provider=tensorrt"],
            {"onnx, cpu", "onnx, cuda:0 tensorrt"},
        ),
        ([f"{POSE}.onnx.provider=openvino"], {"onnx, cpu", "onnx, cpu openvino"}),
        ([f"{POSE}.inference_mode=pth"], {"onnx, cpu", "pth, cuda:0"}),
        ([f"{POSE}.inference_mode=pth", f"{POSE}.pth.device=cpu"], {"onnx, cpu", "pth, cpu"}),
        (
            [f"{POSE}.inference_mode=tensorrt", f"{POSE}.kind=rtmo", "annotation.gpus=[3]"],
            {"onnx, cpu", "tensorrt, cuda:3"},
        ),
    ],
    ids=[
        "cpu",
        "pose-on-gpu",
        "classifier-on-gpu",
        "unused-classifier",
        "gpus",
        "unused-detector",
        "tensorrt-provider",
        "openvino",
        "pth",
        "pth-on-cpu",
        "tensorrt",
    ],
)
def test_every_configured_device_is_tried_once(overrides, expected):
    trials = configured(load_config(SHIPPED, overrides))
    assert [f"{t.kind}, {t.where}" for t in trials] == sorted(expected)
    for one in trials:
        json.dumps(dict(one.options))  # it goes to another process
        assert one.options.get("tensorrt_cache_dir") is None  # looking leaves nothing behind
        assert one.kind in PROBES


def test_the_cpu_runs_the_network():
    finding = doctor_backends._tried(trial("onnx", "cpu"))
    assert (finding.ok, finding.remedy) == (True, "")
    assert finding.found == f"CPUExecutionProvider of ONNX Runtime {ort.__version__} ran a network"


def test_the_network_of_the_trial_needs_cudnn():
    model = onnx.load(str(NETWORK))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv"]


@pytest.mark.skipif(CUDA_HERE, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize(
    ("options", "found", "remedy"),
    [
        ({"device": "cuda:0"}, "CUDAExecutionProvider is not in", "requirements/gpu.txt"),
        (
            {"device": "cuda:0", "provider": "tensorrt"},
            "TensorrtExecutionProvider is not in",
            "requirements/tensorrt.txt",
        ),
    ],
    ids=["cuda", "tensorrt"],
)
def test_an_onnx_runtime_for_cpus_has_no_gpu(options, found, remedy):
    finding = doctor_backends._tried(Trial("onnx", "cuda:0", options))
    assert finding.ok is False
    assert found in finding.found
    assert remedy in finding.remedy
    assert finding.remedy not in finding.found


@pytest.mark.skipif(not CUDA_HERE, reason="needs onnxruntime-gpu")
@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="there is a driver")
def test_without_a_driver_only_the_driver_is_missing():
    finding = doctor_backends._tried(trial("onnx", "cuda:0"))
    assert "CUDAExecutionProvider cannot be loaded: libcuda.so.1: cannot open" in finding.found
    assert "driver 580 or newer" in finding.remedy


@pytest.mark.skipif(torch.version.cuda is not None, reason="a torch of CUDA")
def test_torch_says_why_in_its_own_words():
    finding = doctor_backends._tried(trial("pth", "cuda:0"))
    assert finding.ok is False
    assert finding.found.endswith("Torch not compiled with CUDA enabled")
    assert "make setup-train RUNTIME=gpu" in finding.remedy


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="has TensorRT")
def test_tensorrt_that_is_not_installed():
    finding = doctor_backends._tried(trial("tensorrt", "cuda:0"))
    assert (finding.ok, "No module named 'tensorrt'" in finding.found) == (False, True)
    assert "requirements/tensorrt.txt" in finding.remedy


# --- a library that does not load --------------------------------------------------


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("libcuda.so.1: cannot open shared object file", "driver 580 or newer (here: none;"),
        ("libcublasLt.so.13: cannot open shared object file", "requirements/gpu.txt"),
        ("libnvinfer.so.10: cannot open shared object file", "requirements/tensorrt.txt"),
        ("libnvonnxparser.so.10: cannot open shared object", "requirements/tensorrt.txt"),
    ],
)
def test_each_library_has_its_command(monkeypatch, tmp_path, message, command):
    monkeypatch.setattr(cuda, "_DRIVER_VERSION", tmp_path / "none")
    assert command in gpu_libraries._remedy(message)


def test_the_driver_that_is_too_old_is_named(monkeypatch, tmp_path):
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC\n"
    (tmp_path / "version").write_text(text, encoding="utf-8")
    monkeypatch.setattr(cuda, "_DRIVER_VERSION", tmp_path / "version")
    assert "driver 580 or newer (here: 535.104.05;" in cuda.driver_remedy()


def test_the_loader_is_reported(monkeypatch, tmp_path):
    broken = tmp_path / "provider.so"
    broken.write_text("not a library, only longer than the header of one would be " * 4)
    monkeypatch.setitem(gpu_libraries._FILES, "CUDAExecutionProvider", str(broken))
    with pytest.raises(ModelError, match=r"cuda:0: .* cannot be loaded: .*invalid ELF header"):
        check_provider("CUDAExecutionProvider", "cuda:0")


def test_providers_without_a_gpu_need_no_library():
    preload("CPUExecutionProvider", "cpu")
    check_provider("OpenVINOExecutionProvider", "cpu")
    assert probe_onnx({"device": "cpu"})


def test_a_remedy_ends_the_message_and_stands_apart():
    error = ModelError("found", remedy="do this")
    assert (str(error), error.remedy, ModelError("x").remedy) == ("found; do this", "do this", "")


# --- a trial that does not end as it should ----------------------------------------


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("kill -SEGV $$", "ended with signal 11: it gave no reason"),
        ("echo first >&2; echo CUDA is out of order >&2; exit 7", "code 7: CUDA is out of order"),
        ("echo '{}'", "ended with code 0"),
        ("exec sleep 60", "no answer in 1 s"),
    ],
    ids=["crash", "error", "nonsense", "hang"],
)
def test_a_crash_is_a_finding(monkeypatch, tmp_path, script, found):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(doctor_backends.sys, "executable", str(python))
    monkeypatch.setattr(doctor_backends, "_TRIAL_S", 1)
    finding = doctor_backends._tried(trial("onnx", "cpu"))
    assert finding.ok is False
    assert found in finding.found
    assert finding.remedy.endswith("| python -m recognizer.backends.probe")


def test_what_is_not_configured_is_listed_and_not_opened():
    findings = {finding.name: finding for finding in examine_backends(load_config(SHIPPED))}
    assert findings["backend onnx, cpu"].ok is True
    openvino = findings["backend onnx, cpu openvino"]
    assert (openvino.ok, openvino.remedy) == (None, "make setup RUNTIME=openvino")
    torch_here = findings["backend pth"]
    assert (torch_here.ok, "not configured, so not tried" in torch_here.found) == (None, True)
    assert torch_here.remedy == f"to try it: --mode doctor --set {POSE}.inference_mode=pth"
    assert [finding.name for finding in examine_backends(None)].count("backend onnx, cpu") == 1
