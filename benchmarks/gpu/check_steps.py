"""The steps of ``benchmarks.gpu.check``: each looks at one thing, in a process of its own.

    python -m benchmarks.gpu.check_steps NAME --out DIR [--video FILE ...] [--tiny]

Writes ``DIR/<NAME>.step.json``: figures, or the cause and the command that mends it.
"""

import argparse
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu._part import ROOT
from benchmarks.gpu.check_needs import (
    INSTALL,
    NOT_HERE,
    POSE,
    Given,
    NotHereError,
    config_of,
    need_gpu,
    need_package,
    need_provider,
    present,
)
from recognizer.backends.cuda import driver_version
from recognizer.backends.network import ModelError
from recognizer.config import Config

MEDIAN_PX = 0.5
"""How far a backend's keypoints may lie from the CPU's, in the median; trained networks only."""


# --- the machine and the networks --------------------------------------------------


def machine(given: Given) -> dict[str, Any]:
    """Return the card, the versions and what the doctor says."""
    from recognizer.doctor import examine

    where = "cuda:0" if driver_version() else "cpu"
    keys = ("onnx", "topdown.detector")
    config = config_of(given, "pair", *(f"{POSE}.{key}.device={where}" for key in keys))
    lines = [
        f"{ {True: 'ok', False: 'mend', None: 'note'}[one.ok] }: {one.name}: {one.found}"
        + (f" -> {one.remedy}" if one.remedy else "")
        for one in examine(config)
    ]
    return {"facts": facts(), "doctor": lines}


def facts() -> dict[str, str]:
    """Return the card, its driver and the versions of what uses it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {
        "card": "no NVIDIA card",
        "driver": driver_version() or "none",
        "python": sys.version.split()[0],
    }
    asked = "name,driver_version,memory.total,compute_cap,power.limit"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        found["card"] = "; ".join(done.stdout.strip().splitlines())
    except (OSError, subprocess.SubprocessError):
        pass
    for name in ("onnxruntime-gpu", "onnxruntime", "tensorrt-cu13", "torch", "cuda-bindings", "av",
                 "numpy", "nvidia-cudnn-cu13"):  # fmt: skip
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["cpu"] = f"{len(os.sched_getaffinity(0))} cores"
    return found


def networks(given: Given) -> dict[str, Any]:
    """Export RTMO-s of seed weights, with float and with 8-bit input, through deploy's code."""
    for package in ("torch", "mmpose", "onnx"):
        need_package(package, INSTALL)
    from dataclasses import replace

    from deploy.pose_graph import write_graph
    from recognizer.backends.facts import Thresholds
    from recognizer.backends.torch import load_pose, with_options
    from tests.backends.pose_models import RTMO_S, save_rtmo

    side = 256 if given.tiny else 640
    given.models.mkdir(parents=True, exist_ok=True)
    saved = save_rtmo(given.models, RTMO_S, side, pictures(given, 4))
    sizes = {}
    for uint8, name in ((False, "rtmo-s.onnx"), (True, "rtmo-s_uint8.onnx")):
        pose = load_pose(*saved)
        chosen = with_options(pose.facts, Thresholds(0.3, 0.45, 100), uint8=uint8)
        facts_of_file = replace(chosen, input_size=(side, side))
        write_graph(given.models / name, pose, facts_of_file, batch=None, any_size=True)
        sizes[name] = f"{(given.models / name).stat().st_size / 1e6:.1f} MB"
    return sizes


def pictures(given: Given, count: int) -> list[Any]:
    """Return frames of the first videos, two per second, as arrays."""
    from recognizer.video.image import ArrayImage
    from recognizer.video.reader import VideoReader

    found: list[Any] = []
    for video in given.videos:
        with VideoReader(video, sample_fps=2.0) as reader:
            found += [ArrayImage(frame.image.bgr().copy()) for frame in islice(reader, count)]
    return found[:count]


# --- backends ----------------------------------------------------------------------

ON_CUDA = (f"{POSE}.onnx.device=cuda:0", f"{POSE}.topdown.detector.device=cuda:0")
PROVIDER = (f"{POSE}.onnx.provider=tensorrt", f"{POSE}.topdown.detector.provider=tensorrt")


def onnx_cpu(given: Given) -> dict[str, Any]:
    """Time every network on the CPU and keep what it saw: the reference of the others."""
    return {network: timed(given, config_of(given, network), network) for network in present(given)}


def onnx_cuda(given: Given) -> dict[str, Any]:
    """Time every network with the CUDA provider and compare it with the CPU."""
    need_provider("CUDAExecutionProvider")
    return {n: timed(given, config_of(given, n, *ON_CUDA), n) for n in present(given)}


def onnx_tensorrt(given: Given) -> dict[str, Any]:
    """Time every network with ONNX Runtime's TensorRT provider; its engines are kept."""
    need_provider("TensorrtExecutionProvider")
    need_package("tensorrt", INSTALL)
    cache = given.out / "ort_engines"
    kept = [f"{POSE}.{key}.tensorrt_cache_dir={cache}" for key in ("onnx", "topdown.detector")]
    settings = (*ON_CUDA, *PROVIDER, *kept)
    return {n: timed(given, config_of(given, n, *settings), n) for n in present(given)}


def engine(given: Given) -> dict[str, Any]:
    """Build an engine of every network (deploy.tensorrt), time it and compare it."""
    need_gpu()
    need_package("tensorrt", INSTALL)
    from annotation.progress import silent
    from annotation.workspace import pose_model_files
    from deploy.tensorrt import build

    found = {}
    for network in present(given):
        path = pose_model_files(config_of(given, network))["pose"]
        config = config_of(given, network, *ON_CUDA[1:], *engine_settings(given, network, path))
        start = time.perf_counter()
        build(config, silent)
        built_s = time.perf_counter() - start
        found[network] = {"build_s": built_s, **timed(given, config, network)}
    return found


def engine_settings(given: Given, network: str, path: Path) -> tuple[str, ...]:
    """Return the settings that build and run an engine of this file."""
    from recognizer.backends.onnx import OnnxNetwork
    from recognizer.config_types import OnnxRuntimeOptions

    own = [f"{POSE}.inference_mode=tensorrt", f"{POSE}.tensorrt.model_path={path}",
           f"{POSE}.tensorrt.engine_dir={given.out / 'engines'}"]  # fmt: skip
    batch, _, height, width = OnnxNetwork(path, OnnxRuntimeOptions()).inputs[0].shape
    if network == "pair":
        own.append(f"{POSE}.tensorrt.model_input_size=[{width}, {height}]")
    if batch is not None:
        own += [f"{POSE}.tensorrt.{key}_batch={batch}" for key in ("min", "opt", "max")]
    return tuple(own)


def timed(given: Given, config: Config, network: str) -> dict[str, Any]:
    """Open the model that a config names, compare it with the CPU's, and time it.

    Returns:
        ``open_s``; per batch ``p50_ms``, ``p99_ms`` and ``frames_per_s`` of calls from decoded
        frames to Poses; ``against_cpu``, where the reference is here.

    Raises:
        ModelError: it cannot run, or a trained network sees something else than on the CPU.

    """
    from annotation.workspace import pose_model_files
    from recognizer.pose.estimator import open_pose_model

    start = time.perf_counter()
    files = pose_model_files(config)
    model = open_pose_model(config.models.pose_estimation, files, threads=cores())
    images = pictures(given, 2 if given.tiny else 16)
    seen = model(images)
    found: dict[str, Any] = {"open_s": time.perf_counter() - start}
    found |= compared(given, network, seen)
    for batch in (1, 2) if given.tiny else (1, 8, 32):
        found[f"batch {batch}"] = call_times(model, images, batch, given)
    return found


def call_times(model: Any, images: Sequence[Any], batch: int, given: Given) -> dict[str, float]:
    """Return the times of calls of so many frames."""
    calls, warm = (2, 1) if given.tiny else (40, 5)
    times = []
    for call in range(warm + calls):
        group = [images[(call * batch + i) % len(images)] for i in range(batch)]
        start = time.perf_counter()
        model(group)
        times.append(time.perf_counter() - start)
    kept = times[warm:]
    p50, p99 = np.quantile(kept, (0.5, 0.99)) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99), "frames_per_s": batch * calls / sum(kept)}


def compared(given: Given, network: str, seen: Sequence[Any]) -> dict[str, str]:
    """Keep what the CPU saw, or compare with it; raise ModelError for a trained network."""
    from deploy.pose_parity import compare

    path = given.out / f"reference_{network}.pkl"
    if given.argument == "reference":
        path.write_bytes(pickle.dumps(list(seen)))
        return {"people": str(sum(len(poses) for poses in seen))}
    if not path.is_file():
        return {}
    # Written by the step before, in the same folder: no foreign pickle.
    parity = compare(pickle.loads(path.read_bytes()), seen, edge=0.05)
    if network == "pair" and not parity.median_px <= MEDIAN_PX:
        raise ModelError(f"expected the people of the CPU within {MEDIAN_PX} px, got {parity}")
    return {"against_cpu": str(parity)}


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


# --- tests, video, streams, the kit's parts ----------------------------------------

TESTS = {
    "onnx": ("tests/backends/test_onnx.py",),
    "tensorrt": ("tests/backends/test_tensorrt.py", "tests/backends/test_tensorrt_api.py",
                 "tests/deploy/test_tensorrt.py"),
}  # fmt: skip
_WAITS = re.compile(r"SKIPPED.*(needs a GPU|cannot build here|needs onnxruntime-gpu)")
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def tests(given: Given) -> dict[str, Any]:
    """Run the tests that wait for a GPU and TensorRT; none of those may be skipped here."""
    need_package("pytest", "make setup-dev RUNTIME=tensorrt (the same RUNTIME as before)")
    if not given.tiny:
        need_provider("CUDAExecutionProvider")
    if not given.tiny and given.argument == "tensorrt":
        need_package("tensorrt", INSTALL)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", *TESTS[given.argument]], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = given.out / f"tests_{given.argument}.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    counts = {name: int(number) for number, name in _COUNT.findall(done.stdout)}
    waiting = [line for line in done.stdout.splitlines() if _WAITS.search(line)]
    if done.returncode or (waiting and not given.tiny):
        last = (waiting or done.stdout.strip().splitlines() or ["no output"])[-1]
        raise ModelError(f"pytest: {last}", remedy=f"see {log}")
    return counts


def decode(given: Given) -> dict[str, Any]:
    """Time decoding by the CPU and by NVDEC, from file to BGR pixels."""
    return {"cpu": _decoded(given)}


def _decoded(given: Given, **options: Any) -> dict[str, float]:
    from recognizer.video.reader import VideoReader

    most = 5 if given.tiny else 300
    frames, start = 0, time.perf_counter()
    for video in given.videos:
        with VideoReader(video, **options) as reader:
            for frame in islice(reader, most):
                frame.image.bgr()
                frames += 1
    return {"frames": frames, "frames_per_s": frames / (time.perf_counter() - start)}


def streams(given: Given) -> dict[str, Any]:
    """Serve so many streams at once with every network, on the GPU where there is one."""
    from benchmarks.gpu.streams import serve

    count = int(given.argument)
    where: tuple[str, ...] = ()
    if not given.tiny:
        need_provider("CUDAExecutionProvider")
        where = ON_CUDA
    seconds, warm_up = (0.5, 0.0) if given.tiny else (15.0, 5.0)
    return {
        network: serve(
            config_of(given, network, *where), given.videos, count, seconds=seconds,
            warm_up=warm_up,
        )
        for network in present(given)
    }  # fmt: skip


STEPS: dict[str, Callable[[Given], dict[str, Any]]] = {
    "machine": machine,
    "networks": networks,
    "onnx_cpu": onnx_cpu,
    "onnx_cuda": onnx_cuda,
    "onnx_tensorrt": onnx_tensorrt,
    "engine": engine,
    "tests": tests,
    "decode": decode,
    "streams": streams,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("--argument", default="", help="number of streams; which tests; reference")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--video", type=Path, nargs="*", default=[])
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    given = Given(asked.out, tuple(asked.video), asked.tiny, asked.argument)
    code, answer = 0, {}
    try:
        answer = {"state": "ok", "figures": STEPS[asked.name](given)}
    except NotHereError as lacking:
        code = NOT_HERE
        answer = {"state": "not here", "cause": str(lacking), "remedy": lacking.remedy}
    except (ValueError, OSError, ImportError, RuntimeError, subprocess.SubprocessError) as error:
        logging.exception("%s failed", asked.name)
        remedy = getattr(error, "remedy", "")
        cause = str(error).removesuffix(f"; {remedy}") or type(error).__name__
        code, answer = 1, {"state": "failed", "cause": cause, "remedy": remedy}
    asked.result.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
