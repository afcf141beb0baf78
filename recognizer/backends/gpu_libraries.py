"""Load the libraries that ONNX Runtime's GPU providers link to, and name a missing one.

The providers name libraries of CUDA, cuDNN and TensorRT and no folder; pip puts these into
site-packages, where the system's loader does not look. A library that is loaded already serves
whoever asks for its name later, so each is loaded from its package before the first session.
"""

import contextlib
import ctypes
import io
import logging
import re
from pathlib import Path

from recognizer.backends.cuda import driver_remedy, use_device
from recognizer.backends.network import ModelError
from recognizer.installation import INSTALLED, Runtime, install_command, pip_command

logger = logging.getLogger(__name__)

CUDA_TORCH = "pip uninstall -y torch && make setup-train RUNTIME=gpu"
"""The command that replaces a torch for CPUs."""
_FILES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
_TENSORRT = re.compile(r"libnv(infer|onnxparser)")


def install(runtime: Runtime) -> str:
    """Return the command that brings a runtime set: gpu, tensorrt or openvino."""
    if INSTALLED:
        return f"run `{install_command(runtime)}`"
    pip = f"pip uninstall -y onnxruntime && {pip_command(f'{runtime}.txt')}"
    return f"run `{install_command(runtime)}` (or: {pip})"


def preload(provider: str, device: str) -> None:
    """Load what a provider links to; missing ones are left for ``check_provider`` to name.

    Raises:
        ModelError: TensorRT is here, and no GPU: it would crash the process.

    """
    if provider not in _FILES:
        return
    preload_cuda()
    if provider == "TensorrtExecutionProvider":
        with contextlib.suppress(ImportError):
            import tensorrt  # noqa: F401 - which loads its libraries

            use_device(device)


def preload_cuda() -> None:
    """Load CUDA's and cuDNN's libraries from their packages, where there are any."""
    try:
        import onnxruntime
    except ImportError:
        return
    output = io.StringIO()
    with contextlib.redirect_stdout(output):  # it prints what it does not find
        onnxruntime.preload_dlls()
    if output.getvalue():
        logger.debug("preloading CUDA: %s", " ".join(output.getvalue().split()))


def check_provider(provider: str, device: str) -> None:
    """Raise the reason why a provider gave no session: a library, the driver or the GPU.

    To be called after ONNX Runtime has tried: a provider that is loaded before the runtime has
    introduced itself cannot be used any more.

    Args:
        provider: ONNX Runtime's name.
        device: ``cuda:N``.

    Raises:
        ModelError: a library does not load (in the loader's own words), or CUDA gives no such
            device (in CUDA's). The remedy names the command.

    """
    if provider not in _FILES:
        return
    reason = _loader_error(provider)
    if reason:
        raise ModelError(
            f"device {device}: {provider} cannot be loaded: {reason}", remedy=_remedy(reason)
        )
    with contextlib.suppress(ImportError):  # without cuda-bindings the GPU cannot be asked
        use_device(device)


def _loader_error(provider: str) -> str:
    """Return the system loader's error for a provider's library; empty if it loads."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / _FILES[provider]))
    except OSError as error:
        return str(error)
    return ""


def _remedy(reason: str) -> str:
    if "libcuda.so" in reason:
        return driver_remedy()
    return install("tensorrt" if _TENSORRT.search(reason) else "gpu")
