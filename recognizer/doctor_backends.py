"""Backends of this machine: each configured device is tried, the others are listed.

A trial opens a session on a small network in a process of its own (``recognizer.backends.probe``),
so the finding is what a run would meet, with the library's own message.
"""

import importlib
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recognizer.config.schema import Config
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.installation import FILES, install_command, install_training_command

_TRIAL_S = 120  # TensorRT builds an engine even of one convolution; CUDA loads gigabytes
_PROVIDERS = {  # ONNX Runtime's name -> (what the config calls it, the command that brings it)
    "CPUExecutionProvider": ("cpu", install_command()),
    "CUDAExecutionProvider": ("cuda", install_command("gpu")),
    "TensorrtExecutionProvider": ("cuda tensorrt", install_command("tensorrt")),
    "OpenVINOExecutionProvider": ("cpu openvino", install_command("openvino")),
}
_SETUP_TRAIN = install_training_command()
_CUDA_OF_ONNX = "13"  # onnxruntime-gpu's, see requirements/gpu.txt


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        name: of the check.
        ok: True: as it should be; False: must be mended; None: missing, and only some need it.
        found: the state.
        remedy: what to do, a command where there is one; empty when ok.

    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configured device, and the options of the probe."""

    kind: str
    where: str
    options: Mapping[str, object]


def installed(name: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine_backends(config: Config | None) -> list[Finding]:
    """Try every device that the config names; list what else could run networks."""
    trials = [] if config is None else configured(config)
    findings = [_tried(trial) for trial in trials]
    tried = {(trial.kind, trial.where) for trial in trials}
    kinds = {trial.kind for trial in trials}
    others = [*_onnx_providers(tried)]
    others += [*([] if "pth" in kinds else [_torch()])]
    others += [*([] if "tensorrt" in kinds else [_tensorrt()])]
    return [*findings, *others, *_misfits()]


# --- what the config wants ---------------------------------------------------------


def configured(config: Config) -> list[Trial]:
    """Return what to try, each once: the pose networks on every GPU, the classifiers."""
    pose = config.models.pose_estimation
    gpus: list[int | None] = [*config.annotation.gpus] or [None]
    services = [getattr(config.inference, name) for name in config.inference.services]
    trials = [_onnx_trial(section, None) for section in services]
    for gpu in gpus:
        if pose.inference_mode == "onnx":
            trials.append(_onnx_trial(pose.onnx, gpu))
        else:
            section = pose.pth if pose.inference_mode == "pth" else pose.tensorrt
            device = section.device if gpu is None else f"cuda:{gpu}"
            trials.append(Trial(str(pose.inference_mode), device, {"device": device}))
        if pose.kind in ("auto", "topdown"):  # auto is any, until the file is here
            trials.append(_onnx_trial(pose.topdown.detector, gpu))
    unique = {(trial.kind, trial.where): trial for trial in trials}
    return [unique[key] for key in sorted(unique)]


def _onnx_trial(section: OnnxRuntimeOptions, gpu: int | None) -> Trial:
    options = {name: getattr(section, name) for name in OnnxRuntimeOptions.model_fields}
    options["tensorrt_cache_dir"] = None  # looking leaves no engine behind
    if gpu is not None:
        options["device"] = f"cuda:{gpu}"
    provider = "" if section.provider == "native" else f" {section.provider}"
    return Trial("onnx", f"{options['device']}{provider}", options)


def _tried(trial: Trial) -> Finding:
    """Run the probe and return its finding, or how it ended."""
    name = f"backend {trial.kind}, {trial.where}"
    if trial.kind == "pth" and (missing := _missing_for_torch()):
        return Finding(name, False, f"{', '.join(missing)} missing", _SETUP_TRAIN)
    asked = json.dumps({"kind": trial.kind, "options": dict(trial.options)})
    command = f"echo {shlex.quote(asked)} | python -m recognizer.backends.probe"
    remedy = f"see all that it says: {command}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "recognizer.backends.probe"],
            cwd=FILES,
            input=asked,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TRIAL_S,
        )
    except subprocess.TimeoutExpired:
        return Finding(name, False, f"no answer in {_TRIAL_S} s", remedy)
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return Finding(name, answer["ok"], answer["found"], answer["remedy"])
    except (ValueError, LookupError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        return Finding(name, False, f"the trial ended with {how}: {last}", remedy)


# --- what else is here -------------------------------------------------------------


def _onnx_providers(tried: set[tuple[str, str]]) -> Iterable[Finding]:
    try:
        available = importlib.import_module("onnxruntime").get_available_providers()
    except ImportError as error:
        yield Finding("backend onnx", False, str(error), install_command())
        return
    names = {re.sub(r":\d+", "", where) for kind, where in tried if kind == "onnx"}
    for provider, (name, install) in _PROVIDERS.items():
        if name in names:
            continue
        device, _, kind = name.partition(" ")
        found, remedy = f"{provider} is not in this ONNX Runtime", install
        if provider in available:
            found = f"{provider} is in this ONNX Runtime; not configured, so not tried"
            device = "cuda:0" if device == "cuda" else device
            remedy = _try_it(f"onnx.device={device}", f"onnx.provider={kind or 'native'}")
        yield Finding(f"backend onnx, {name}", None, found, remedy)


def _missing_for_torch() -> list[str]:
    needed = ["torch", "mmengine", "mmpose", "mmcv" if installed("mmcv") else "mmcv-lite"]
    return [name for name in needed if not installed(name)]


def _torch() -> Finding:
    if missing := _missing_for_torch():
        return Finding("backend pth", None, f"{', '.join(missing)} missing", _SETUP_TRAIN)
    found = (
        f"torch {installed('torch')}, mmpose {installed('mmpose')}; not configured, so not tried"
    )
    return Finding("backend pth", None, found, _try_it("inference_mode=pth"))


def _tensorrt() -> Finding:
    names = ("tensorrt-cu13", "tensorrt", "tensorrt-cu12")
    here = next((f"{name} {installed(name)}" for name in names if installed(name)), None)
    missing = [
        *([] if here else ["tensorrt-cu13"]),
        *([] if installed("cuda-bindings") else ["cuda-bindings"]),
    ]
    if missing:
        remedy = install_command("tensorrt")
        return Finding("backend tensorrt", None, f"{', '.join(missing)} missing", remedy)
    found = f"{here}; not configured, so not tried"
    return Finding("backend tensorrt", None, found, _try_it("inference_mode=tensorrt"))


def _try_it(*settings: str) -> str:
    flags = " ".join(f"--set models.pose_estimation.{setting}" for setting in settings)
    return f"to try it: --mode doctor {flags}"


def _misfits() -> Iterable[Finding]:
    torch = installed("torch") or ""
    if installed("torchvision") and torch.endswith("+cpu"):
        found = f"torchvision {installed('torchvision')} beside torch {torch}"
        yield Finding("torchvision", None, found, "pip uninstall torchvision if it is a CUDA build")
    cuda = _cuda_of_torch() if torch else ""
    if installed("onnxruntime-gpu") and cuda not in ("", _CUDA_OF_ONNX):
        found = f"torch {torch} brings CUDA {cuda}, onnxruntime-gpu uses CUDA {_CUDA_OF_ONNX}"
        remedy = "pip uninstall -y torch && make setup-train RUNTIME=gpu"
        yield Finding("CUDA of torch", False, found, remedy)


def _cuda_of_torch() -> str:
    """Return the major version of CUDA that the installed torch asks for; empty: none."""
    for line in importlib.metadata.requires("torch") or []:
        if match := re.match(r"nvidia-cudnn-cu(\d+)", line):
            return match[1]
    return ""
