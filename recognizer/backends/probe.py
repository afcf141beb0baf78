"""Try a backend on one small network: ``python -m recognizer.backends.probe``.

A process of its own, so that whoever asks lives on where a library crashes. It reads one JSON
object from its input, ``{"kind": "onnx", "options": <OnnxRuntimeOptions>}`` or ``{"kind": "pth" or
"tensorrt", "options": {"device": ...}}``, and writes one: ``{"ok", "found", "remedy"}``.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.backends.gpu_libraries import CUDA_TORCH
from recognizer.backends.network import ModelError
from recognizer.installation import install_training_command

NETWORK = Path(__file__).with_name("probe.onnx")
"""One convolution, so that cuDNN is needed as well: 8 x 8 pixels, summed over 3 x 3."""
_SIDE, _SUM = 8, 9.0


def probe_onnx(options: Mapping[str, Any]) -> str:
    """Run the network in ONNX Runtime; return what ran it. Raises ModelError."""
    import onnxruntime

    from recognizer.backends.onnx import OnnxNetwork
    from recognizer.config.types import OnnxRuntimeOptions

    settings = OnnxRuntimeOptions.model_validate(options)
    network = OnnxNetwork(NETWORK, settings)
    image = np.ones((1, 1, _SIDE, _SIDE), np.float32)
    _check(network.run({"image": image})["sums"])
    return f"{network.provider} of ONNX Runtime {onnxruntime.__version__} ran a network"


def probe_torch(options: Mapping[str, Any]) -> str:
    """Run the same convolution in torch; return what ran it. Raises ModelError."""
    from recognizer.backends.cuda import driver_remedy

    device = options["device"]
    try:
        import torch
    except ImportError as error:
        raise ModelError(f"torch: {error}", remedy=f"run `{install_training_command()}`") from error
    try:
        image = torch.ones((1, 1, _SIDE, _SIDE), device=device)
        kernel = torch.ones((1, 1, 3, 3), device=device)
        _check(torch.nn.functional.conv2d(image, kernel).cpu().numpy())
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA raises the latter
        words = " ".join(str(error).split())
        build = torch.version.cuda
        raise ModelError(
            f"torch {torch.__version__} on {device}: {words}",
            remedy=driver_remedy() if build else f"run `{CUDA_TORCH}`, or set device: cpu",
        ) from error
    return f"torch {torch.__version__} ran a convolution"


def probe_tensorrt(options: Mapping[str, Any]) -> str:
    """Open TensorRT's runtime on a GPU; return its version and the GPU. Raises ModelError."""
    from recognizer.backends.tensorrt import machine

    device = options["device"]
    here = machine(device)
    import tensorrt as trt

    from recognizer.backends.tensorrt_session import Log

    log = Log()
    if not trt.Runtime(log) or not trt.Builder(log):
        raise ModelError(f"TensorRT {here.tensorrt} on {device}: {log.reason()}")
    return f"TensorRT {here.tensorrt} opened on {here.gpu}, capability {here.compute_capability}"


def _check(sums: NDArray[Any]) -> None:
    if not np.allclose(sums, _SUM):
        raise ModelError(f"expected sums of {_SUM:g}, got {sums.ravel()[:4].tolist()}")


PROBES = {"onnx": probe_onnx, "pth": probe_torch, "tensorrt": probe_tensorrt}


def main() -> int:
    """Read what to probe, probe it and write the answer."""
    asked = json.load(sys.stdin)
    try:
        answer = {"ok": True, "found": PROBES[asked["kind"]](asked["options"]), "remedy": ""}
    except ModelError as error:
        found = str(error).removesuffix(f"; {error.remedy}")
        answer = {"ok": False, "found": found, "remedy": error.remedy}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
