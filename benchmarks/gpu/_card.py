"""What card this is, and how fast it multiplies and copies: the roofline of every other figure."""

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import _summary

REPEATS = 10
FLOPS = 1e12


def main(argv: list[str] | None = None) -> int:
    """Write ``<out>/card.json``; refuse a device that is not there and results of another kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(argv)
    refusal = _refusal(given.device)
    path, kind = given.out / "card.json", {"device": given.device, "tiny": given.tiny}
    before = _summary.read(path)
    if not refusal and before:
        kind["name"] = name(given.device)["name"]
        refusal = "".join(
            f"{path}: made with {key} {before.get(key)!r}, now {value!r}; choose another --out"
            for key, value in kind.items()
            if before.get(key) != value
        )
    elif not refusal:
        path.write_text(json.dumps(kind | measure(given.device), indent=1) + "\n")
    if refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    print(path.read_text(encoding="utf-8"), end="")
    return 0


def _refusal(device: str) -> str:
    """Return why a device cannot be used, or ''."""
    chosen = torch.device(device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.type != "cuda" or (chosen.index or 0) < count:
        return ""
    return (
        f"{device}: torch {torch.__version__} (CUDA {torch.version.cuda}) sees {count} GPUs here; "
        "run this on a machine with one (`python -m benchmarks.gpu.pack` gathers what travels), or "
        "see with --dry-run that everything runs on the CPU"
    )


def measure(device: str) -> dict[str, Any]:
    """Name a device and measure its matrix products and its copies; about 3 s on a large card.

    Returns:
        What ``name`` returns, and ``bf16_tflops``, ``fp16_tflops``, ``tf32_tflops``,
        ``fp32_tflops`` (medians of 8192 x 8192 x 8192 products of random data; 256 on a CPU, and
        no half precisions there: None) and ``copy_tbps`` (terabytes read and written per second
        by a copy within the device's memory).

    """
    found = name(device)
    cuda = torch.device(device).type == "cuda"
    size = 8192 if cuda else 256
    for key, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        found[f"{key}_tflops"] = _matmul(device, size, dtype) if cuda else None
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for key, allowed in (("tf32", True), ("fp32", False)):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            here = cuda or key == "fp32"
            found[f"{key}_tflops"] = _matmul(device, size, torch.float32) if here else None
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    found["copy_tbps"] = _copy(device, 2**31 if cuda else 2**24)
    if cuda:
        torch.cuda.empty_cache()
    return found


def name(device: str) -> dict[str, Any]:
    """Return the card's name and memory and the versions of what runs on it."""
    found: dict[str, Any] = {
        "name": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": None,
        "driver": None,
        "memory_gib": None,
        "python": platform.python_version(),
    }
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    return found


def median_seconds(
    work: Callable[[], Any], device: str, repeats: int = REPEATS, warm_up: int = 2
) -> float:
    """Return the median time of ``work`` in seconds, by CUDA events where there are any."""
    for _ in range(warm_up):
        work()
    if torch.device(device).type != "cuda":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize(device)
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize(device)
    spans = (float(a.elapsed_time(b)) for a, b in itertools.pairwise(marks))
    return statistics.median(spans) / 1000


def _matmul(device: str, size: int, dtype: torch.dtype) -> float:
    """Return tera floating-point operations per second; random data, as zeros run faster."""
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    out = torch.empty_like(left)
    seconds = median_seconds(lambda: torch.matmul(left, right, out=out), device)
    return round(2 * size**3 / seconds / FLOPS, 4)


def _copy(device: str, size: int) -> float:
    source = torch.randint(256, (size,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return round(2 * size / median_seconds(lambda: target.copy_(source), device) / FLOPS, 4)


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


if __name__ == "__main__":
    sys.exit(main())
