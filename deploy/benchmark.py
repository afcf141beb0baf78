"""Time every backend that is here, from decoded frame to Poses, each in its own process.

So each peak of memory is that of one backend. Frames are decoded before the clock starts; batches
are run one after the other. Wall time depends on what else the machine does, CPU time much less.
"""

import importlib.metadata
import logging
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deploy.backends import CANNOT_OPEN, Candidate, Skipped, candidates, frames, report_dir
from deploy.outputs import write_report
from recognizer.backends.onnx_options import choose_provider
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import cpu_cores
from recognizer.runs.progress import ProgressFactory

logger = logging.getLogger(__name__)

_MIN_CALLS = 20
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Timing:
    """One backend at one batch size.

    Attributes:
        name: the backend.
        provider: what runs it, with its version.
        batch: frames of one call.
        calls: how many were timed.
        p50_ms, p90_ms, p99_ms: percentiles of a call's wall time.
        frames_per_s: frames over wall time.
        cpu_ms: CPU time of all threads per frame.
        memory_mb: what the network added to the process at its peak.
        gpu_mb: the same on the GPU, where torch runs it; None: not known.
        people: detected in all frames; two backends that did the same work have as many.

    """

    name: str
    provider: str
    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    frames_per_s: float
    cpu_ms: float
    memory_mb: float
    gpu_mb: float | None
    people: int


def benchmark(config: Config, progress: ProgressFactory) -> int:
    """Time every backend that is here (``--mode deploy.benchmark``); return the exit code.

    Args:
        config: the whole config.
        progress: not used; this mode logs.

    Raises:
        ConfigError: no backend can run here.
        FileNotFoundError, ModelError: a file that is not there or cannot be used.

    """
    available, skipped = candidates(config)
    timings: list[Timing] = []
    for candidate in available:
        for batch in config.deploy.batch_sizes:
            try:
                timings.append(_measure_in_process(config, candidate, batch))
            except CANNOT_OPEN as error:
                skipped.append(Skipped(candidate.name, str(error)))
                logger.warning("%s: left out: %s", candidate.name, error)
                break
            logger.info("%s", line(timings[-1]))
    if not timings:
        raise ConfigError(
            "deploy.benchmark: expected a backend that can run here, got none; "
            + "; ".join(f"{one.name}: {one.reason}" for one in skipped)
        )
    fastest = _report(config, timings, skipped)
    (candidate,) = [one for one in available if one.name == fastest.name]
    changes = {**candidate.changes(config), "annotation.batch_size": fastest.batch}
    logger.info("next: %s", next_command(config, "annotation.stage1", changes))
    return EXIT_DONE


def _measure_in_process(config: Config, candidate: Candidate, batch: int) -> Timing:
    """Measure in a fresh process; its errors are raised here."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
        try:
            return pool.submit(measure, config, candidate, batch).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f"batch {batch}: its process was killed; there may be too little memory"
            ) from error


def measure(config: Config, candidate: Candidate, batch: int) -> Timing:
    """Open a backend and time it in this process.

    Raises:
        ValueError, OSError, ImportError, RuntimeError: it cannot run here.

    """
    pictures, _ = frames(config)
    before_mb = _memory_mb("VmRSS")
    model = candidate.open(cpu_cores())
    groups = [
        [pictures[(start + i) % len(pictures)] for i in range(batch)]
        for start in range(0, len(pictures), batch)
    ]
    for call in range(config.deploy.warm_up):
        model(groups[call % len(groups)])
    calls = max(_MIN_CALLS, len(groups))
    wall_s, people = [], 0
    cpu, begin = time.process_time(), time.perf_counter()
    for call in range(calls):
        start = time.perf_counter()
        detected = model(groups[call % len(groups)])
        wall_s.append(time.perf_counter() - start)
        people += sum(map(len, detected)) if call < len(groups) else 0
    wall_total_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    p50, p90, p99 = (float(q) * 1e3 for q in np.quantile(wall_s, (0.5, 0.9, 0.99)))
    return Timing(
        candidate.name,
        provider_of(candidate),
        batch,
        calls,
        p50,
        p90,
        p99,
        calls * batch / wall_total_s,
        cpu_s / (calls * batch) * 1e3,
        _memory_mb("VmHWM") - before_mb,
        _gpu_mb(),
        people,
    )


def provider_of(candidate: Candidate) -> str:
    """Return what runs a backend, with its version."""
    match candidate.settings.inference_mode:
        case "onnx":
            import onnxruntime

            available = onnxruntime.get_available_providers()
            provider = choose_provider(candidate.settings.onnx, 1, available).required
            return f"{provider} (ONNX Runtime {onnxruntime.__version__})"
        case "pth":
            return f"torch {importlib.metadata.version('torch')}"
        case "tensorrt":
            return f"TensorRT {sys.modules['tensorrt'].__version__}"


def _memory_mb(key: str) -> float:
    """Return this process's memory now (VmRSS) or at its peak (VmHWM); 0 where it is not Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    lines = status.read_text(encoding="ascii").splitlines()
    kilobytes = [int(row.split()[1]) for row in lines if row.startswith(f"{key}:")]
    return sum(kilobytes[:1]) * 1024 / _MB


def _gpu_mb() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / _MB


# --- the report --------------------------------------------------------------------

_HEAD = (
    "| backend | run by | batch | p50 / p90 / p99 of a call (ms) | frames/s | CPU (ms/frame) | "
    "memory (MB) | people |"
)


def line(timing: Timing) -> str:
    """Return one row of the table in Markdown."""
    t = timing
    memory = f"{t.memory_mb:.0f}" + (f" + GPU {t.gpu_mb:.0f}" if t.gpu_mb is not None else "")
    return (
        f"| {t.name} | {t.provider} | {t.batch} | {t.p50_ms:.1f} / {t.p90_ms:.1f} / "
        f"{t.p99_ms:.1f} | {t.frames_per_s:.1f} | {t.cpu_ms:.1f} | {memory} | {t.people} |"
    )


def table(timings: Sequence[Timing], skipped: Sequence[Skipped]) -> str:
    """Return all of it as a table in Markdown."""
    lines = [_HEAD, "|---" * 8 + "|", *(line(timing) for timing in timings)]
    lines += [f"| {one.name} | left out: {one.reason} | | | | | | |" for one in skipped]
    return "\n".join(lines)


def _report(config: Config, timings: Sequence[Timing], skipped: Sequence[Skipped]) -> Timing:
    """Write and log the table; return the fastest."""
    text = table(timings, skipped)
    value = {
        "cores": cpu_cores(),
        "warm_up": config.deploy.warm_up,
        "rows": [asdict(timing) for timing in timings],
        "left_out": [asdict(one) for one in skipped],
    }
    write_report(report_dir(config) / "benchmark", value, text)
    fastest = max(timings, key=lambda timing: timing.frames_per_s)
    fps = fastest.frames_per_s
    logger.info(
        "fastest here: %s, batch %d, %.1f frames a second", fastest.name, fastest.batch, fps
    )
    return fastest
