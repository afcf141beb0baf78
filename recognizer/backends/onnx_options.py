"""Options of ONNX Runtime from the config: the provider, its options, the session's.

``device`` says where a network runs and ``provider`` what runs it there: ONNX Runtime's own CPU
or CUDA code (``native``), its TensorRT provider (``cuda:N``) or OpenVINO (``cpu``). The option
names are those of ONNX Runtime 1.31.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recognizer.backends.gpu_libraries import install
from recognizer.backends.network import ModelError
from recognizer.config.models import OnnxImageOptions
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.installation import Runtime, install_command

Setting = str | int | bool
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, OPENVINO = "TensorrtExecutionProvider", "OpenVINOExecutionProvider"
RUNTIMES: dict[str, Runtime] = {CUDA: "gpu", TENSORRT: "tensorrt", OPENVINO: "openvino"}
"""The runtime set that brings a provider."""


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """Which providers a session gets, the required one first.

    TensorRT takes what it can of a network and CUDA the rest: that is how ONNX Runtime splits a
    network, not a fallback; a required provider that is not there is refused.
    """

    providers: tuple[tuple[str, dict[str, Setting]], ...]

    @property
    def required(self) -> str:
        """Name of the provider that must be there."""
        return self.providers[0][0]


def choose_provider(
    options: OnnxRuntimeOptions, threads: int, available: Sequence[str]
) -> ProviderChoice:
    """Return the providers of a session.

    Args:
        options: the config's.
        threads: CPU threads where the config says ``auto``.
        available: what this ONNX Runtime has.

    Raises:
        ModelError: the required one is not there, or not one of the device; the message names the
            command that brings it.

    """
    kind, _, index = options.device.partition(":")
    if _records(options) and kind == "cpu":
        raise ModelError("cuda_graph: true does not run on device: cpu; set cuda_graph: false")
    if (options.provider, kind) in {("openvino", "cuda"), ("tensorrt", "cpu")}:
        raise ModelError(  # annotation.gpus puts another device in place of the config's
            f"provider: {options.provider} does not run on device: {options.device}; set provider: "
            "native, or leave annotation.gpus empty"
        )
    providers: tuple[tuple[str, dict[str, Setting]], ...]
    if options.provider == "openvino":
        providers = ((OPENVINO, _openvino(options, threads)),)
    elif options.provider == "tensorrt":
        providers = ((TENSORRT, _tensorrt(options, int(index))), (CUDA, _cuda(options, int(index))))
    elif kind == "cuda":
        providers = ((CUDA, _cuda(options, int(index))),)
    else:
        providers = ((CPU, {"arena_extend_strategy": options.arena_extend_strategy}),)
    first = providers[0][0]
    if first not in available:
        missing = install(RUNTIMES[first]) if first in RUNTIMES else f"run `{install_command()}`"
        raise ModelError(
            f"device: {options.device}, provider: {options.provider}: {first} is not in this ONNX "
            f"Runtime (it has {', '.join(available)})",
            remedy=f"{missing}, or set device: cpu and provider: native",
        )
    return ProviderChoice(providers)


def thread_count(options: OnnxRuntimeOptions, threads: int) -> int:
    """Return the threads of one operator: the config's, or ``threads`` for auto."""
    return threads if options.threads == "auto" else options.threads


def _cuda(options: OnnxRuntimeOptions, index: int) -> dict[str, Setting]:
    settings: dict[str, Setting] = {
        "device_id": index,
        "arena_extend_strategy": options.arena_extend_strategy,
        "cudnn_conv_algo_search": options.cudnn_conv_algo_search,
        "tunable_op_enable": options.tunable_op_enable,
        "tunable_op_tuning_enable": options.tunable_op_tuning_enable,
    }
    if options.gpu_mem_limit_gb is not None:
        settings["gpu_mem_limit"] = int(options.gpu_mem_limit_gb * 2**30)
    if options.provider == "native" and _records(options):
        settings["enable_cuda_graph"] = True
    return settings


def _tensorrt(options: OnnxRuntimeOptions, index: int) -> dict[str, Setting]:
    settings: dict[str, Setting] = {"device_id": index}
    if options.gpu_mem_limit_gb is not None:
        settings["trt_max_workspace_size"] = int(options.gpu_mem_limit_gb * 2**30)
    if options.tensorrt_cache_dir is not None:
        folder = _folder(options.tensorrt_cache_dir)
        settings["trt_engine_cache_enable"] = settings["trt_timing_cache_enable"] = True
        settings["trt_engine_cache_path"] = settings["trt_timing_cache_path"] = str(folder)
    if _records(options):
        settings["trt_cuda_graph_enable"] = True
    return settings


def _records(options: OnnxRuntimeOptions) -> bool:
    return isinstance(options, OnnxImageOptions) and options.cuda_graph


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"tensorrt_cache_dir: expected a folder that can be made, got {path}: {error.strerror}"
        ) from error
    return path


def _openvino(options: OnnxRuntimeOptions, threads: int) -> dict[str, Setting]:
    # An option of OpenVINO itself: the provider's own key `precision` knows no bf16 on a CPU.
    hints = {"CPU": {"INFERENCE_PRECISION_HINT": options.openvino_precision}}
    return {
        "device_type": "CPU",
        "num_of_threads": thread_count(options, threads),
        "num_streams": 1,
        "load_config": json.dumps(hints),
    }


def session_options(options: OnnxRuntimeOptions, threads: int) -> Any:
    """Return ONNX Runtime's SessionOptions."""
    import onnxruntime as ort

    session = ort.SessionOptions()
    session.log_severity_level = 3
    session.intra_op_num_threads = thread_count(options, threads)
    session.inter_op_num_threads = 1 if options.execution_mode == "ORT_SEQUENTIAL" else 2
    session.execution_mode = getattr(ort.ExecutionMode, options.execution_mode)
    session.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, options.graph_optimization_level
    )
    session.enable_mem_pattern = options.enable_mem_pattern
    session.enable_cpu_mem_arena = options.enable_cpu_mem_arena
    # Spinning pools of several sessions on the same cores fight each other.
    spin = "1" if options.allow_spinning else "0"
    session.add_session_config_entry("session.intra_op.allow_spinning", spin)
    session.add_session_config_entry("session.inter_op.allow_spinning", spin)
    return session
