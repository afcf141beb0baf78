"""Check of the installation: versions, devices, files, and the command that mends each fault.

``examine`` changes nothing. It compares versions with the pinned ones and checks video codecs,
devices (``recognizer.doctor_backends``), model files, classifiers
(``recognizer.doctor_classifiers``) and folders.
"""

import contextlib
import importlib
import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path

from recognizer.config.schema import Config
from recognizer.doctor_backends import Finding, examine_backends, installed
from recognizer.installation import (
    INSTALLED,
    ONNX_RUNTIMES,
    PIP_TRAINING,
    REQUIREMENTS,
    cpu_cores,
    install_command,
    pip_command,
)
from recognizer.model_files import fetch_hint, find_file, unset

_SETUP, _SETUP_GPU = install_command(), install_command("gpu")
_SETUP_TRAINING = PIP_TRAINING if INSTALLED else f"make setup-dev, or: {PIP_TRAINING}"
_OWN_PROVIDER = {
    "onnxruntime-gpu": "CUDAExecutionProvider",
    "onnxruntime-openvino": "OpenVINOExecutionProvider",
}
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s#;]+)")
_MIN_FREE_GB = 2.0
_NEED_NONE = f"{'' if INSTALLED else 'the demo and '}stages 2 and 3 need none"
_MIN_MEMORY_GB = 2.0


def examine(config: Config | None) -> list[Finding]:
    """Check this machine and return the findings, the basics first.

    Args:
        config: its devices, model files and folders are checked, too; None: none.

    """
    findings = [_python(), *_runtime_packages(), _opencv(), *_codecs(), _machine()]
    findings += examine_backends(config)
    if config is not None:
        findings += [
            *_model_files(config),
            *_classifiers(config),
            _input(config),
            _output(config),
        ]
    findings += [_training_set(), _live_set(), _ray_set()]
    return findings


# --- Python and packages -----------------------------------------------------------


def read_pins(path: Path) -> dict[str, str]:
    """Return the version of each ``name==version`` line of a requirements file, in order."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {match[1]: match[2] for line in lines if (match := _PIN.match(line))}


def _fits(name: str, pin: str) -> bool:
    version = (installed(name) or "").partition("+")[0]  # 2.13.0+cpu is 2.13.0
    if not INSTALLED:
        return version == pin
    # A wheel asks for versions from the pinned one to the next major one.
    found, least = ([int(digits) for digits in re.findall(r"\d+", v)] for v in (version, pin))
    return found[:1] == least[:1] and found >= least


def _off(pins: dict[str, str]) -> list[str]:
    """Return the packages that differ from their pins."""
    return [
        f"{name} {installed(name) or 'missing'} (expected {pin})"
        for name, pin in pins.items()
        if not _fits(name, pin)
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", True, found)
    return Finding("Python", False, found, "make clean-venv && make PYTHON=python3.11 setup")


def _runtime_packages() -> list[Finding]:
    pins = read_pins(REQUIREMENTS / "base.txt")
    if not pins:
        return [Finding("packages", None, f"no list of pinned versions at {REQUIREMENTS}")]
    off = _off(pins)
    if off:
        return [Finding("packages", False, ", ".join(off), _SETUP), _onnxruntime()]
    return [Finding("packages", True, f"{len(pins)} as pinned"), _onnxruntime()]


def _onnxruntime() -> Finding:
    name = "ONNX Runtime"
    here = [kind for kind in ONNX_RUNTIMES if installed(kind)]
    if not here:
        return Finding(name, False, "missing", f"{_SETUP} (with a GPU: {_SETUP_GPU})")
    if len(here) > 1:
        return _onnxruntimes(name, here)
    (kind,) = here
    runtime = ONNX_RUNTIMES[kind]
    pins = read_pins(REQUIREMENTS / f"{runtime}.txt")
    if runtime == "gpu" and installed("tensorrt-cu13"):
        runtime = "tensorrt"
        pins |= read_pins(REQUIREMENTS / "tensorrt.txt")
    found = f"{kind} {installed(kind)}"
    remedy = install_command(runtime)
    pin = pins.pop(kind, "")
    if not _fits(kind, pin):
        return Finding(name, False, f"{found} (expected {pin})", remedy)
    if off := _off(pins):  # libraries of the system may do: the trial of a device shows it
        return Finding(name, None, f"{found}; {', '.join(off)}", remedy)
    return Finding(name, True, found)


def _onnxruntimes(name: str, here: list[str]) -> Finding:
    """Return the finding for several packages that hold one module.

    A second runtime that is installed over the first leaves the files of both.
    """
    both, kind = " and ".join(here), here[-1]
    if len(here) == 2 and _OWN_PROVIDER[kind] in _providers():
        return Finding(name, None, f"{both}; the module is that of {kind}")
    remedy = f"pip uninstall {' '.join(here)}, then {_SETUP} or {_SETUP_GPU}"
    if INSTALLED:
        pin = read_pins(REQUIREMENTS / f"{ONNX_RUNTIMES[kind]}.txt")[kind]
        remedy = f"pip install --force-reinstall --no-deps {kind}=={pin}"
    return Finding(name, False, f"{both}, which overwrite each other", remedy)


def _providers() -> list[str]:
    try:
        return list(importlib.import_module("onnxruntime").get_available_providers())
    except (ImportError, AttributeError):  # half of one, half of the other
        return []


def _training_set() -> Finding:
    pins = read_pins(REQUIREMENTS / "training.txt") | read_pins(REQUIREMENTS / "openmmlab.txt")
    off = _off(pins)
    if not off:
        return Finding("training set", True, f"{len(pins)} packages as pinned")
    missing = [name for name in pins if not installed(name)]
    found = f"{len(missing)} of {len(pins)} packages missing" if missing else ", ".join(off)
    return Finding("training set", None, found, _SETUP_TRAINING)


def _live_set() -> Finding:
    return _optional_set("live page and MQTT", "live.txt")


def _ray_set() -> Finding:
    return _optional_set("Ray executor", "ray.txt")


def _optional_set(name: str, requirements: str) -> Finding:
    pins = read_pins(REQUIREMENTS / requirements)
    off = _off(pins)
    if not off:
        return Finding(name, True, f"{len(pins)} packages as pinned")
    missing = [package for package in pins if not installed(package)]
    found = f"{len(missing)} of {len(pins)} packages missing" if missing else ", ".join(off)
    return Finding(name, None, found, pip_command(requirements))


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
    return read_pins(REQUIREMENTS / "base.txt").get("av", "18.1.0")


def _has_codec(codec: type, name: str, mode: str) -> bool:
    try:
        codec(name, mode)
    except ValueError:  # UnknownCodecError is one
        return False
    return True


# --- the machine and its files -----------------------------------------------------


def _machine() -> Finding:
    total_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    found = f"{cpu_cores()} CPU cores, {total_gb:.0f} GB of memory"
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
    files = [names[pose.inference_mode]]
    if pose.kind in ("auto", "topdown"):  # auto is any, until the file is here
        files.append(("topdown.detector.model_path", pose.topdown.detector.model_path))
    return [_model_file(config, f"models.pose_estimation.{key}", name) for key, name in files]


def _model_file(config: Config, key: str, name: str) -> Finding:
    if not name:
        found, _, remedy = unset(key).partition(": ")
        return Finding(
            key,
            None,
            f"{found.removeprefix(f'{key} ')}; {_NEED_NONE}",
            remedy,
        )
    with contextlib.suppress(FileNotFoundError):
        file = find_file(name, config.models.folders())
        return Finding(key, True, f"{file.resolve()} ({file.stat().st_size / 1e6:.1f} MB)")
    looked = ", ".join(str(folder) for folder in config.models.weights_dirs) or "no folder"
    remedy = f"put it into one of models.weights_dirs ({looked}), or set {key}"
    remedy += fetch_hint(name, key)
    return Finding(key, None, f"'{name}' not found; {_NEED_NONE}", remedy)


def _classifiers(config: Config) -> list[Finding]:
    try:
        from recognizer.doctor_classifiers import examine_classifiers
    except ImportError as error:  # no ONNX Runtime, or a broken one
        return [Finding("classifiers", None, f"not opened: {error}", _SETUP)]
    return examine_classifiers(config)


def _stored(key: str, address: str) -> Finding:
    if installed("obstore"):
        return Finding(key, True, f"{address}, asked when a mode runs")
    return Finding(key, None, f"{address} needs obstore", pip_command("objectstore.txt"))


def _input(config: Config) -> Finding:
    folder = config.annotation.input
    if isinstance(folder, str):
        return _stored("annotation.input", folder)
    if folder.is_dir():
        return Finding("annotation.input", True, str(folder.resolve()))
    remedy = "--set annotation.input=<folder of videos>"
    return Finding("annotation.input", None, f"no folder at {folder.resolve()}", remedy)


def _output(config: Config) -> Finding:
    name, remedy = "annotation.output_dir", "--set annotation.output_dir=<another folder>"
    if isinstance(config.annotation.output_dir, str):
        return _stored(name, config.annotation.output_dir)
    folder = config.annotation.output_dir.resolve()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, False, f"{there} cannot be written to", remedy)
    free_gb = shutil.disk_usage(there).free / 2**30
    found = f"{folder}, {free_gb:.0f} GB free"
    return Finding(name, free_gb >= _MIN_FREE_GB, found, "" if free_gb >= _MIN_FREE_GB else remedy)
