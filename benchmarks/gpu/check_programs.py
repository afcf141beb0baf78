"""Steps of ``benchmarks.gpu.check`` that run other programs: the tests, the kit's parts."""

import re
import subprocess
import sys
from typing import Any

from benchmarks.gpu._part import PACK, ROOT
from benchmarks.gpu.check_needs import (
    INSTALL,
    Given,
    NotHereError,
    need_gpu,
    need_package,
    need_provider,
)
from recognizer.backends.network import ModelError

TESTS = {
    "torch": ("tests/backends/test_torch_network.py",),
    "onnx": (
        "tests/backends/test_cuda.py",
        "tests/backends/test_onnx.py",
        "tests/backends/test_onnx_runs.py",
    ),
    "tensorrt": (
        "tests/backends/test_tensorrt_api.py",
        "tests/backends/test_tensorrt.py",
        "tests/deploy/test_tensorrt.py",
    ),
}
_WAITS = re.compile(r"SKIPPED.*(needs a GPU|cannot build here|needs onnxruntime-gpu)")
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def tests(given: Given) -> dict[str, Any]:
    """Run the tests of a backend that need a GPU; none of those may be skipped here."""
    need_package("pytest", "make setup-dev RUNTIME=tensorrt (the same RUNTIME as before)")
    if not given.tiny:
        need_gpu()
        if given.argument == "torch":
            need_package("mmpose", INSTALL)
        else:
            need_provider("CUDAExecutionProvider")
        if given.argument == "tensorrt":
            need_package("tensorrt", INSTALL)
    selected = TESTS[given.argument][: 1 if given.tiny else None]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", *selected],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    log = given.out / f"tests_{given.argument}.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    counts = {name: int(number) for number, name in _COUNT.findall(done.stdout)}
    waiting = [line for line in done.stdout.splitlines() if _WAITS.search(line)]
    if done.returncode or (waiting and not given.tiny):
        last = (waiting or done.stdout.strip().splitlines() or ["no output"])[-1]
        raise ModelError(f"pytest: {last}", remedy=f"see {log}")
    return counts


ASSETS = ROOT.parent / "shared" / "assets"
DATA = ("coco", "videos")
"""Data of the parts ``runs`` and ``speed``, as ``benchmarks.gpu.pack`` cuts it to size."""


def kit(given: Given) -> dict[str, Any]:
    """Run the kit's parts runs and speed (tiny: runs); the argument says for how many minutes."""
    for package in ("torch", "mmpose"):
        need_package(package, INSTALL)
    if not given.tiny:
        need_gpu()
    data = PACK / "data"
    if not all((data / name).is_dir() for name in DATA):
        data = given.out / "kit_data" / "data"
        _pack(given, data)
    parts = ["runs"] if given.tiny else ["runs", "speed"]
    done = _program(
        "benchmarks.gpu.run",
        "--minutes",
        given.argument,
        "--parts",
        *parts,
        "--out",
        str(given.out / "kit"),
        "--data",
        str(data),
        *(["--dry-run"] if given.tiny else []),
    )
    if done.returncode:
        raise ModelError(f"exit code {done.returncode}: {_missing(given, done)}")
    return {"tables": "below"}


def _missing(given: Given, done: Any) -> str:
    """Return what the kit's summary lists as missing, else its last line of output."""
    summary = given.out / "kit" / "summary.md"
    text = summary.read_text(encoding="utf-8") if summary.is_file() else ""
    listed = [line[2:] for line in text.partition("## Missing")[2].splitlines() if line[:2] == "- "]
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    return "; ".join(listed[:3]) or lines[-1]


def _pack(given: Given, data: Any) -> None:
    if not all((ASSETS / name).is_dir() for name in DATA):
        raise NotHereError(
            f"the kit's pictures and scenes are neither in {PACK / 'data'} nor in {ASSETS}",
            "on the machine that has them: python -m benchmarks.gpu.pack --only shared; then copy "
            "its folder .gpu here",
        )
    done = _program("benchmarks.gpu.pack", "--only", "shared", "--target", str(data.parent))
    if not all((data / name).is_dir() for name in DATA):
        raise ModelError(f"benchmarks.gpu.pack: {done.stderr.strip() or done.stdout.strip()}")


def _program(*command: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    sys.stderr.write(done.stdout + done.stderr)  # into the step's log
    return done
