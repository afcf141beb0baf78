"""What is here, what is missing, and which command mends it.

``examine`` looks and tells, and changes nothing: versions against the pinned ones, devices,
video codecs, model files, folders. Whoever shows the findings decides how.
"""

import importlib
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recognizer.config import Config
from recognizer.config_types import OnnxRuntimeOptions

_REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
_SETUP = "make setup"
_SETUP_TRAINING = (
    "make setup-dev, or: pip install -r requirements/training.txt && "
    "pip install --no-deps -r requirements/openmmlab.txt"
)
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s#;]+)")
_MIN_FREE_GB = 2.0
_MIN_MEMORY_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        ok: True: as it should be; False: must be mended; None: missing, and only some need it.
        found: what is there.
        remedy: what to do, a command where there is one; empty when ok.

    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def examine(config: Config | None) -> list[Finding]:
    """Look at this machine and return what was found, the basics first.

    Args:
        config: whose devices, model files and folders are looked at too; None: none.

    """
    findings = [_python(), *_runtime_packages(), _opencv(), *_codecs(), _machine()]
    findings += _backends(config)
    if config is not None:
        findings += [*_model_files(config), _input(config), _output(config)]
    findings += [_training_set(), *_misfits()]
    return findings


# --- Python and packages -----------------------------------------------------------


def read_pins(path: Path) -> dict[str, str]:
    """Return the version of each ``name==version`` line of a requirements file, in order."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {match[1]: match[2] for line in lines if (match := _PIN.match(line))}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(name: str, pin: str) -> bool:
    version = _installed(name)
    return version is not None and version.partition("+")[0] == pin  # 2.13.0+cpu is 2.13.0


def _off(pins: dict[str, str]) -> list[str]:
    """Return how each package that is not as pinned is off."""
    return [
        f"{name} {_installed(name) or 'missing'} (wanted {pin})"
        for name, pin in pins.items()
        if not _fits(name, pin)
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", True, found)
    return Finding("Python", False, found, "make clean-venv && make PYTHON=python3.11 setup")


def _runtime_packages() -> list[Finding]:
    pins = read_pins(_REQUIREMENTS / "base.txt")
    if not pins:
        return [Finding("packages", None, f"no list of pinned versions at {_REQUIREMENTS}")]
    off = _off(pins)
    if off:
        return [Finding("packages", False, ", ".join(off), _SETUP), _onnxruntime()]
    return [Finding("packages", True, f"{len(pins)} as pinned"), _onnxruntime()]


def _onnxruntime() -> Finding:
    name = "ONNX Runtime"
    kinds = {
        "onnxruntime": "cpu.txt",
        "onnxruntime-gpu": "gpu.txt",
        "onnxruntime-openvino": "openvino.txt",
    }
    here = [kind for kind in kinds if _installed(kind)]
    if not here:
        return Finding(name, False, "missing", f"{_SETUP} (with a GPU: {_SETUP} RUNTIME=gpu)")
    if len(here) > 1:
        return Finding(
            name, False, " and ".join(here) + ", which overwrite each other",
            f"pip uninstall {' '.join(here)}, then {_SETUP} or {_SETUP} RUNTIME=gpu",
        )  # fmt: skip
    (kind,) = here
    pin = read_pins(_REQUIREMENTS / kinds[kind]).get(kind, "")
    found = f"{kind} {_installed(kind)}"
    if _fits(kind, pin):
        return Finding(name, True, found)
    runtime = kinds[kind].removesuffix(".txt")
    remedy = _SETUP if runtime == "cpu" else f"{_SETUP} RUNTIME={runtime}"
    return Finding(name, False, f"{found} (wanted {pin})", remedy)


def _training_set() -> Finding:
    pins = read_pins(_REQUIREMENTS / "training.txt") | read_pins(_REQUIREMENTS / "openmmlab.txt")
    off = _off(pins)
    if not off:
        return Finding("training set", True, f"{len(pins)} packages as pinned")
    missing = [name for name in pins if not _installed(name)]
    found = f"{len(missing)} of {len(pins)} packages missing" if missing else ", ".join(off)
    return Finding("training set", None, found, _SETUP_TRAINING)


def _misfits() -> Iterable[Finding]:
    torch = _installed("torch") or ""
    if _installed("torchvision") and torch.endswith("+cpu"):
        found = f"torchvision {_installed('torchvision')} beside torch {torch}"
        yield Finding("torchvision", None, found, "pip uninstall torchvision if it is a CUDA build")


# --- what the packages can do ------------------------------------------------------


def _opencv() -> Finding:
    try:
        version = importlib.import_module("cv2").__version__
    except ModuleNotFoundError as error:
        return Finding("OpenCV", False, str(error), _SETUP)
    except ImportError as error:  # libGL.so.1 on a machine that never had a screen
        return Finding("OpenCV", False, str(error), "apt-get install libgl1 libglib2.0-0")
    return Finding("OpenCV", True, f"{version} imports")


def _codecs() -> list[Finding]:
    try:
        codec = importlib.import_module("av.codec")
    except ImportError as error:
        return [Finding("video", False, str(error), _SETUP)]
    reads = {name: _has_codec(codec.Codec, name, "r") for name in ("h264", "hevc", "av1")}
    writes = _has_codec(codec.Codec, "libx264", "w")
    remedy = f"pip install --force-reinstall av=={_pin_of_av()}: its own wheel has all of them"
    lacking = [name for name, there in reads.items() if not there]
    found = ", ".join(name for name, there in reads.items() if there)
    if lacking:
        found += f"; no {', '.join(lacking)}"
    return [
        Finding("video reading", not lacking, found, remedy if lacking else ""),
        Finding("video writing", writes, *(("libx264",) if writes else ("no libx264", remedy))),
    ]


def _pin_of_av() -> str:
    return read_pins(_REQUIREMENTS / "base.txt").get("av", "18.1.0")


def _has_codec(codec: type, name: str, mode: str) -> bool:
    try:
        codec(name, mode)
    except ValueError:  # UnknownCodecError is one
        return False
    return True


# --- what can run a network --------------------------------------------------------

_DRIVER = Path("/proc/driver/nvidia/version")
_NO_DRIVER = "no NVIDIA driver on this machine"
_PROVIDERS = {  # ONNX Runtime's name -> (what the config calls it, the command that brings it)
    "CPUExecutionProvider": ("cpu", _SETUP),
    "CUDAExecutionProvider": ("cuda", f"{_SETUP} RUNTIME=gpu"),
    "TensorrtExecutionProvider": ("tensorrt provider", f"{_SETUP} RUNTIME=gpu"),
    "OpenVINOExecutionProvider": ("openvino", f"{_SETUP} RUNTIME=openvino"),
}
_INSTALL_TENSORRT = "pip install -r requirements/tensorrt.txt"
_INSTALL_DRIVER = "apt-get install nvidia-driver (then `nvidia-smi` must show the GPU)"


def _backends(config: Config | None) -> list[Finding]:
    """Return what is ready to run networks; what the config wants must be, the rest may.

    Looks at names and versions of packages; of them only onnxruntime is imported.
    """
    wanted: set[str] = set() if config is None else _wanted(config)
    return [_torch(config, wanted), *_onnx(wanted), _tensorrt(wanted)]


def _wanted(config: Config) -> set[str]:
    """Return the backends of the config's pose network: pth, tensorrt, providers' names."""
    pose = config.models.pose_estimation
    wanted = {str(pose.inference_mode)} - {"onnx"}
    sections: list[OnnxRuntimeOptions] = [pose.onnx] if pose.inference_mode == "onnx" else []
    if pose.kind != "rtmo":  # auto is either, until the file is here
        sections.append(pose.topdown.detector)
    for section in sections:
        gpu = bool(config.annotation.gpus) or section.device != "cpu"
        native = "CUDAExecutionProvider" if gpu else "CPUExecutionProvider"
        names = {"tensorrt": "TensorrtExecutionProvider", "openvino": "OpenVINOExecutionProvider"}
        wanted.add(names.get(section.provider, native))
    return wanted


def _backend(name: str, found: str, remedy: str, *, wanted: bool) -> Finding:
    """Return a finding; ``remedy`` is empty where the backend is ready."""
    ok = None if remedy and not wanted else not remedy
    return Finding(
        f"backend {name}", ok, found + ("" if wanted or remedy else ", not used"), remedy
    )


def _torch(config: Config | None, wanted: set[str]) -> Finding:
    needed = ["torch", "mmengine", "mmpose", "mmcv" if _installed("mmcv") else "mmcv-lite"]
    missing = [name for name in needed if not _installed(name)]
    used = "pth" in wanted
    if missing:
        return _backend("pth", f"{', '.join(missing)} missing", "make setup-train", wanted=used)
    version = _installed("torch") or ""
    if used and config is not None and config.models.pose_estimation.pth.device != "cpu":
        device = config.models.pose_estimation.pth.device
        remedy = "--set models.pose_estimation.pth.device=cpu"
        if version.endswith("+cpu"):
            return _backend(
                "pth", f"{device} wanted, torch {version} is for CPUs", remedy, wanted=True
            )
        if not _DRIVER.exists():
            return _backend("pth", f"{device} wanted, {_NO_DRIVER}", remedy, wanted=True)
    return _backend("pth", f"torch {version}, mmpose {_installed('mmpose')}", "", wanted=used)


def _onnx(wanted: set[str]) -> Iterable[Finding]:
    try:
        available = importlib.import_module("onnxruntime").get_available_providers()
    except ImportError as error:
        yield Finding("backend onnx", False, str(error), _SETUP)
        return
    for provider, (name, install) in _PROVIDERS.items():
        used = provider in wanted
        gpu = provider in {"CUDAExecutionProvider", "TensorrtExecutionProvider"}
        if provider not in available:
            found, remedy = f"{provider} is not in this ONNX Runtime", install
        elif gpu and not _DRIVER.exists():
            found, remedy = f"{provider}, but {_NO_DRIVER}", _INSTALL_DRIVER
        elif provider == "TensorrtExecutionProvider" and not _tensorrt_package():
            found, remedy = f"{provider}, but TensorRT is missing", _INSTALL_TENSORRT
        else:
            found, remedy = provider, ""
        yield _backend(f"onnx, {name}", found, remedy, wanted=used)


def _tensorrt_package() -> str | None:
    names = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")
    return next((f"{name} {_installed(name)}" for name in names if _installed(name)), None)


def _tensorrt(wanted: set[str]) -> Finding:
    used, here = "tensorrt" in wanted, _tensorrt_package()
    missing = [*([] if here else ["tensorrt"]),
               *(["cuda-bindings"] if not _installed("cuda-bindings") else [])]  # fmt: skip
    if missing:
        found = f"{', '.join(missing)} missing" + ("" if _DRIVER.exists() else f"; {_NO_DRIVER}")
        return _backend("tensorrt", found, _INSTALL_TENSORRT, wanted=used)
    if not _DRIVER.exists():
        return _backend("tensorrt", f"{here}, but {_NO_DRIVER}", _INSTALL_DRIVER, wanted=used)
    return _backend("tensorrt", str(here), "", wanted=used)


# --- the machine and its files -----------------------------------------------------


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    found = f"{cores} CPU cores, {total_gb:.0f} GB of memory"
    if total_gb >= _MIN_MEMORY_GB:
        return Finding("machine", True, found)
    return Finding("machine", False, found, "set annotation.workers: 1")


def _model_files(config: Config) -> list[Finding]:
    pose = config.models.pose_estimation
    names = {
        "onnx": ("onnx.model_path", pose.onnx.model_path),
        "pth": ("pth.checkpoint_path", pose.pth.checkpoint_path),
        "tensorrt": ("tensorrt.model_path", pose.tensorrt.model_path),
    }
    wanted = [names[pose.inference_mode]]
    if pose.kind != "rtmo":  # auto is either, until the file is here
        wanted.append(("topdown.detector.model_path", pose.topdown.detector.model_path))
    return [_model_file(config, f"models.pose_estimation.{key}", name) for key, name in wanted]


def _model_file(config: Config, key: str, name: str) -> Finding:
    # Beside the shell first, then the folders of the config: where stage 1 looks.
    places = [Path(name).expanduser()]
    places += [folder / name for folder in config.models.weights_dirs]
    for place in places:
        if name and place.is_file():
            return Finding(key, True, f"{place.resolve()} ({place.stat().st_size / 1e6:.1f} MB)")
    looked = ", ".join(str(folder) for folder in config.models.weights_dirs) or "no folder"
    remedy = f"put it into one of models.weights_dirs ({looked}), or set {key}"
    return Finding(key, None, f"'{name}' not found; the demo and stages 2 and 3 need none", remedy)


def _input(config: Config) -> Finding:
    folder = config.annotation.input
    if folder.is_dir():
        return Finding("annotation.input", True, str(folder.resolve()))
    remedy = "--set annotation.input=<folder of videos>"
    return Finding("annotation.input", None, f"no folder at {folder.resolve()}", remedy)


def _output(config: Config) -> Finding:
    folder = config.annotation.output_dir.resolve()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    name, remedy = "annotation.output_dir", "--set annotation.output_dir=<another folder>"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, False, f"{there} cannot be written to", remedy)
    free_gb = shutil.disk_usage(there).free / 2**30
    found = f"{folder}, {free_gb:.0f} GB free"
    return Finding(name, free_gb >= _MIN_FREE_GB, found, "" if free_gb >= _MIN_FREE_GB else remedy)
