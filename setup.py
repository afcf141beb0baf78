"""Build the wheel: the part of its metadata that comes from the lists in requirements/."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
EXTRAS = {
    "train": "training.txt",
    "live": "live.txt",
    "ray": "ray.txt",
    "object-store": "objectstore.txt",
    "cpu": "cpu.txt",  # one of these four: all but tensorrt, which adds to gpu, hold one module
    "gpu": "gpu.txt",
    "tensorrt": "tensorrt.txt",
    "openvino": "openvino.txt",
}
PROGRAM = "recognizer.program"  # the repository's layout inside the wheel: recognizer.installation
MODES = ("annotation*", "deploy*")


def requirements(name: str) -> list[str]:
    """Return the requirements of a list and of those that it includes by ``-r``."""
    found: list[str] = []
    for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found += requirements(text.removeprefix("-r ").strip())
        elif text:
            found.append(text)
    return found


def ranges(name: str) -> list[str]:
    """Return what a list names for itself, from the pinned version to the next major one.

    The lists pin what they bring as well, for an environment of this program alone; beside other
    packages that would hardly install.
    """
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").partition(_BROUGHT)[0]
    pins = (line.partition("#")[0].strip() for line in text.splitlines())
    found = []
    for package, _, version in (pin.partition("==") for pin in pins if pin):
        found.append(f"{package}>={version},<{int(version.partition('.')[0]) + 1}")
    return found


_BROUGHT = "# What those bring"
BASE = requirements("base.txt")
LISTS = ("base", "openmmlab", *(name.removesuffix(".txt") for name in EXTRAS.values()))
DATA = {
    "configs": ["*.yaml", "presets/*.yaml", "**/*.py"],
    "requirements": [f"{name}.txt" for name in LISTS],
    "samples.models": ["*"],
}
setup(
    packages=[
        *find_packages(str(ROOT), include=["recognizer", "recognizer.*"]),
        *(f"{PROGRAM}.{name}" for name in find_packages(str(ROOT), include=MODES)),
        *(f"{PROGRAM}.{name}" for name in DATA),
    ],
    py_modules=[f"{PROGRAM}.main"],
    package_dir={"recognizer": "recognizer", PROGRAM: "."},
    package_data={
        "": ["py.typed", "*.pyi", "*.onnx", "*.json"],
        "recognizer.live.page": ["templates/*.html", "static/*"],
        **{f"{PROGRAM}.{name}": patterns for name, patterns in DATA.items()},
    },
    install_requires=ranges("base.txt"),
    extras_require={
        extra: [line for line in requirements(name) if line not in BASE]
        for extra, name in EXTRAS.items()
    },
)
