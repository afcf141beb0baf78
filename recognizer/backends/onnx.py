"""ONNX Runtime: every option of the config reaches the session, nothing falls back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recognizer.backends.network import ModelError, TensorSpec
from recognizer.config_types import OnnxRuntimeOptions

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxNetwork:
    """A network file in an ONNX Runtime session.

    Args:
        path: the ``.onnx`` file.
        options: what the session is told.
        threads: threads inside one operator, used where ``options.threads`` is ``auto``.

    Raises:
        ModelError: not an ONNX file that this runtime can load, or the wanted device is
            not there; the message names the remedy.

    """

    def __init__(self, path: Path, options: OnnxRuntimeOptions, threads: int = 1) -> None:
        import onnxruntime as ort

        provider, provider_options = _provider(options, ort.get_available_providers())
        try:
            self._session = ort.InferenceSession(
                str(path), _session_options(options, threads), [(provider, provider_options)]
            )
        except Exception as error:  # its exception classes share no public base
            reason = str(error).strip().splitlines()[0][:300]
            raise ModelError(f"{path}: ONNX Runtime cannot load this file: {reason}") from error
        if self._session.get_providers()[0] != provider:
            raise ModelError(
                f"{options.device}: expected {provider}, ONNX Runtime gave "
                f"{self._session.get_providers()[0]}; check the driver and CUDA libraries, or set "
                "device: cpu"
            )
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output for the given inputs."""
        values = self._session.run(self._output_names, dict(feeds))
        return dict(zip(self._output_names, values, strict=True))


def _spec(node: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    return TensorSpec(node.name, shape, node.type)


def _provider(
    options: OnnxRuntimeOptions, available: list[str]
) -> tuple[str, dict[str, str | int | bool]]:
    kind, _, index = options.device.partition(":")
    provider = _PROVIDERS[kind]
    if provider not in available:
        raise ModelError(
            f"device {options.device}: {provider} is not in this ONNX Runtime (it has "
            f"{', '.join(available)}); install requirements/gpu.txt, or set device: cpu"
        )
    if kind == "cpu":
        return provider, {"arena_extend_strategy": options.arena_extend_strategy}
    settings: dict[str, str | int | bool] = {
        "device_id": int(index),
        "arena_extend_strategy": options.arena_extend_strategy,
        "cudnn_conv_algo_search": options.cudnn_conv_algo_search,
        "tunable_op_enable": options.tunable_op_enable,
        "tunable_op_tuning_enable": options.tunable_op_tuning_enable,
    }
    if options.gpu_mem_limit_gb is not None:
        settings["gpu_mem_limit"] = int(options.gpu_mem_limit_gb * 2**30)
    return provider, settings


def _session_options(options: OnnxRuntimeOptions, threads: int) -> Any:
    import onnxruntime as ort

    session = ort.SessionOptions()
    session.log_severity_level = 3
    session.intra_op_num_threads = threads if options.threads == "auto" else options.threads
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
