"""The steps of ``benchmarks.gpu.check``: each checks one thing, in a process of its own.

    python -m benchmarks.gpu.check_steps NAME --out DIR [--video FILE ...] [--tiny]

Writes ``DIR/<NAME>.step.json``: figures, or the cause and the command that mends it.
"""

import argparse
import json
import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import check_programs
from benchmarks.gpu.check_needs import (
    INSTALL,
    INSTALL_GPU,
    NOT_HERE,
    ON_CUDA,
    POSE,
    Given,
    NotHereError,
    config_of,
    need_gpu,
    need_package,
    need_provider,
    need_topdown,
    pictures,
    present,
)
from recognizer.backends.cuda import driver_version
from recognizer.backends.network import ModelError
from recognizer.config.schema import Config

MEDIAN_PX = 0.5
"""How far a backend's keypoints may lie from the CPU's, in the median; trained networks only."""


# --- the machine and the networks --------------------------------------------------


def machine(given: Given) -> dict[str, Any]:
    """Return the card, the versions and the doctor's lines."""
    from recognizer.doctor import examine

    where = "cuda:0" if driver_version() else "cpu"
    keys = ("onnx", "topdown.detector")
    config = config_of(given, "topdown", *(f"{POSE}.{key}.device={where}" for key in keys))
    lines = [
        f"{ {True: 'ok', False: 'mend', None: 'note'}[one.ok] }: {one.name}: {one.found}"
        + (f" -> {one.remedy}" if one.remedy else "")
        for one in examine(config)
    ]
    return {"facts": describe_machine(), "doctor": lines}


def describe_machine() -> dict[str, str]:
    """Return the card, its driver and the versions of what uses it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {
        "card": "no NVIDIA card",
        "driver": driver_version() or "none",
        "python": sys.version.split()[0],
    }
    query = "name,driver_version,memory.total,compute_cap,power.limit"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found["card"] = "; ".join(done.stdout.strip().splitlines())
    except (OSError, subprocess.SubprocessError):
        pass
    for name in (
        "onnxruntime-gpu",
        "onnxruntime",
        "tensorrt-cu13",
        "torch",
        "cuda-bindings",
        "av",
        "numpy",
        "nvidia-cudnn-cu13",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["cpu"] = f"{len(os.sched_getaffinity(0))} cores"
    return found


def copies(given: Given) -> dict[str, Any]:
    """Copy to the GPU and back by page-locked and by ordinary memory; record a CUDA graph."""
    need_gpu()
    need_package("cuda", INSTALL_GPU)
    from recognizer.backends.cuda import Stream, use_device

    use_device("cuda:0")
    array = np.random.default_rng(0).integers(0, 255, (32, 640, 640, 3)).astype(np.uint8)
    found = {}
    for pinned in (True, False):
        stream = Stream("cuda:0", pinned=pinned)
        source = stream.host_array(array.shape, array.dtype)
        source[...] = array
        times = []
        for _ in range(20):
            start = time.perf_counter()
            address = stream.upload("x", source)
            stream.wait()
            times.append(time.perf_counter() - start)
        came = stream.download("x", address, array.shape, array.dtype)
        stream.wait()
        if not np.array_equal(came, array):
            raise ModelError(f"copies, pinned={pinned}: other bytes came back")
        name = "pinned" if pinned else "pageable"
        found[f"{name} up GB/s"] = array.nbytes / float(np.median(times)) / 1e9
    target = stream.reserve("y", array.nbytes)
    kind = stream.cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    graph = stream.capture(lambda: stream.copy(target, address, array.nbytes, kind))
    stream.launch(graph)
    came = stream.download("y", target, array.shape, array.dtype)
    stream.wait()
    if not np.array_equal(came, array):
        raise ModelError("CUDA graph: other bytes came back")
    return {**found, "graph": "recorded and replayed"}


def networks(given: Given) -> dict[str, Any]:
    """Export RTMO-s of seed weights, with float and with 8-bit input, through deploy's code."""
    for package in ("torch", "mmpose", "onnx"):
        need_package(package, INSTALL)
    from dataclasses import replace

    from deploy.pose_graph import write_graph
    from recognizer.backends.metadata import Thresholds
    from recognizer.backends.torch import load_pose, with_options
    from tests.backends.pose_models import RTMO_S, save_rtmo

    side = 256 if given.tiny else 640
    given.models.mkdir(parents=True, exist_ok=True)
    saved = save_rtmo(given.models, RTMO_S, side, pictures(given, 4))
    sizes = {}
    for uint8, name in ((False, "rtmo-s.onnx"), (True, "rtmo-s_uint8.onnx")):
        pose = load_pose(*saved)
        chosen = with_options(pose.metadata, Thresholds(0.3, 0.45, 100), uint8=uint8)
        metadata = replace(chosen, input_size=(side, side))
        write_graph(given.models / name, pose, metadata, batch=None, any_size=True)
        sizes[name] = f"{(given.models / name).stat().st_size / 1e6:.1f} MB"
    return sizes


# --- backends ----------------------------------------------------------------------

PROVIDER = (f"{POSE}.onnx.provider=tensorrt", f"{POSE}.topdown.detector.provider=tensorrt")


def onnx_cpu(given: Given) -> dict[str, Any]:
    """Time every network on the CPU and keep its poses: the reference of the others."""
    return {network: timed(given, config_of(given, network), network) for network in present(given)}


def onnx_cuda(given: Given) -> dict[str, Any]:
    """Time every network with the CUDA provider and compare it with the CPU."""
    need_provider("CUDAExecutionProvider")
    return {n: timed(given, config_of(given, n, *ON_CUDA), n) for n in present(given)}


def onnx_graph(given: Given) -> dict[str, Any]:
    """Time the top-down networks as CUDA graphs; RTMO's suppression inside fits into none."""
    need_provider("CUDAExecutionProvider")
    need_topdown(given)
    graphs = [f"{POSE}.{key}.cuda_graph=true" for key in ("onnx", "topdown.detector")]
    return {"topdown": timed(given, config_of(given, "topdown", *ON_CUDA, *graphs), "topdown")}


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
    from deploy.tensorrt import build
    from recognizer.runs.progress import silent
    from recognizer.runs.stage_folders import pose_model_files

    found = {}
    for network in present(given):
        path = pose_model_files(config_of(given, network))["pose"]
        config = config_of(given, network, *ON_CUDA[1:], *engine_settings(given, network, path))
        start = time.perf_counter()
        build(config, silent)
        built_s = time.perf_counter() - start
        found[network] = {"build_s": built_s, **timed(given, config, network)}
    return found


def engine_graph(given: Given) -> dict[str, Any]:
    """Run the top-down engine, built by the step before, as a CUDA graph."""
    need_gpu()
    need_package("tensorrt", INSTALL)
    need_topdown(given)
    from recognizer.runs.stage_folders import pose_model_files

    path = pose_model_files(config_of(given, "topdown"))["pose"]
    own = (*engine_settings(given, "topdown", path), f"{POSE}.tensorrt.cuda_graph=true")
    return {"topdown": timed(given, config_of(given, "topdown", ON_CUDA[1], *own), "topdown")}


def engine_settings(given: Given, network: str, path: Path) -> tuple[str, ...]:
    """Return the settings that build and run an engine of this file."""
    from recognizer.backends.onnx import OnnxNetwork
    from recognizer.config.types import OnnxRuntimeOptions

    own = [
        f"{POSE}.inference_mode=tensorrt",
        f"{POSE}.tensorrt.model_path={path}",
        f"{POSE}.tensorrt.engine_dir={given.out / 'engines'}",
    ]
    batch, _, height, width = OnnxNetwork(path, OnnxRuntimeOptions()).inputs[0].shape
    if network == "topdown":
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
        ModelError: it cannot run, or a trained network's people are not those of the CPU.

    """
    from recognizer.pose.estimator import build_pose_model
    from recognizer.runs.stage_folders import pose_model_files

    start = time.perf_counter()
    files = pose_model_files(config)
    model = build_pose_model(config.models.pose_estimation, files, threads=cores())
    images = pictures(given, 2 if given.tiny else 16)
    poses = model(images)
    found: dict[str, Any] = {"open_s": time.perf_counter() - start}
    found |= compared(given, network, poses)
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


def compared(given: Given, network: str, found: Sequence[Any]) -> dict[str, str]:
    """Keep the CPU's poses, or compare with them; a trained network's must be near (ModelError)."""
    from deploy.pose_parity import compare

    path = given.out / f"reference_{network}.pkl"
    if given.argument == "reference":
        path.write_bytes(pickle.dumps(list(found)))
        return {"people": str(sum(len(poses) for poses in found))}
    if not path.is_file():
        return {}
    # Written by the step before, in the same folder: no foreign pickle.
    parity = compare(pickle.loads(path.read_bytes()), found, edge=0.05)
    if network == "topdown" and not parity.median_px <= MEDIAN_PX:
        raise ModelError(f"expected the people of the CPU within {MEDIAN_PX} px, got {parity}")
    return {"against_cpu": str(parity)}


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def _video(name: str) -> Callable[[Given], dict[str, Any]]:
    def step(given: Given) -> dict[str, Any]:
        from benchmarks.gpu import check_video  # PyAV: the other steps can do without

        values: dict[str, Any] = getattr(check_video, name)(given)
        return values

    return step


STEPS: dict[str, Callable[[Given], dict[str, Any]]] = {
    "machine": machine,
    "copies": copies,
    "networks": networks,
    "onnx_cpu": onnx_cpu,
    "onnx_cuda": onnx_cuda,
    "onnx_graph": onnx_graph,
    "onnx_tensorrt": onnx_tensorrt,
    "engine": engine,
    "engine_graph": engine_graph,
    "tests": check_programs.tests,
    "kit": check_programs.kit,
    "decode": _video("decode"),
    "nvdec": _video("nvdec"),
    "streams": _video("streams"),
    "streams_nvdec": _video("streams_nvdec"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("--argument", default="", help="streams; which tests; minutes; reference")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--video", type=Path, nargs="*", default=[])
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    given = Given(arguments.out, tuple(arguments.video), arguments.tiny, arguments.argument)
    code, answer = 0, {}
    try:
        answer = {"state": "ok", "figures": STEPS[arguments.name](given)}
    except NotHereError as lacking:
        code = NOT_HERE
        answer = {"state": "not here", "cause": str(lacking), "remedy": lacking.remedy}
    except (ValueError, OSError, ImportError, RuntimeError, subprocess.SubprocessError) as error:
        logging.exception("%s failed", arguments.name)
        remedy = getattr(error, "remedy", "")
        cause = str(error).removesuffix(f"; {remedy}") or type(error).__name__
        code, answer = 1, {"state": "failed", "cause": cause, "remedy": remedy}
    arguments.result.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
