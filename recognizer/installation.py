"""Where the program's own files are, in a checkout of the repository or in an installed wheel.

A wheel carries main.py, its modes, ``configs/``, ``requirements/`` and ``samples/models/`` in the
folder ``recognizer/program``, laid out as in the repository, so that site-packages gets one name.
"""

import os
import shlex
from pathlib import Path
from typing import Literal

Runtime = Literal["cpu", "gpu", "tensorrt", "openvino"]
ONNX_RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "gpu",
    "onnxruntime-openvino": "openvino",
}
"""The packages that hold the module onnxruntime, each with the list that pins it."""

_PACKAGE = Path(__file__).resolve().parent
_PROGRAM = _PACKAGE / "program"
INSTALLED = (_PROGRAM / "main.py").is_file()
"""Whether this is an installed wheel; False: a checkout, or an editable install of one."""
FILES = _PROGRAM if INSTALLED else _PACKAGE.parent
"""The folder of what ships with the code: main.py, configs/, requirements/, samples/."""
PROJECT = Path.cwd() if INSTALLED else _PACKAGE.parent
"""The folder that the defaults of data, weights and results are in."""
SHIPPED_CONFIG = FILES / "configs" / "config.yaml"
SHIPPED_MODELS = FILES / "samples" / "models"
"""The folder of the classifiers that ship with the code."""
REQUIREMENTS = FILES / "requirements"
COMMAND = "recognizer" if INSTALLED else "python main.py"
"""How messages call the program."""
CALL = COMMAND.removeprefix("python ")
"""The same in usage lines."""


def cpu_cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pip_command(name: str, flags: str = "") -> str:
    """Return the command that installs a list of ``requirements/``."""
    path = str(REQUIREMENTS / name) if INSTALLED else f"requirements/{name}"
    return f"pip install {flags}-r {shlex.quote(path)}"


_TRAINING = {"torch", "mmengine", "mmcv", "mmpose", "mmaction", "onnx", "einops"}
PIP_TRAINING = f"{pip_command('training.txt')} && {pip_command('openmmlab.txt', '--no-deps ')}"
"""What training needs besides; the packages of OpenMMLab pin what does not build today."""


def install_command(runtime: Runtime = "cpu") -> str:
    """Return the command that installs what runs networks on a device.

    The three packages of ONNX Runtime hold one module, so that all of them go first.
    """
    if INSTALLED:
        return f"pip uninstall -y {' '.join(ONNX_RUNTIMES)} && {pip_command(f'{runtime}.txt')}"
    return "make setup" if runtime == "cpu" else f"make setup RUNTIME={runtime}"


def install_training_command() -> str:
    """Return the command that installs what training needs besides."""
    return PIP_TRAINING if INSTALLED else "make setup-train"


def package_advice(name: str) -> str:
    """Return what to do about a package that cannot be imported, by its import name."""
    if INSTALLED or name.partition(".")[0] in _TRAINING:
        return f"for training: {install_training_command()}"
    return f"run `make setup` in {FILES} and start with {FILES / '.venv/bin/python'}"
