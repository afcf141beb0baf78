"""Clock, record of measurements and failures, roofline and tables of the speed measurements."""

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu._card import median_seconds
from benchmarks.gpu._part import Options, Results

MS = 1e3
MIB = 2**20
TERA = 1e12
# What multiplies in which precision; convolutions of torch run float32 in TF32 by default.
PEAKS = {"fp32": "fp32_tflops", "tf32": "tf32_tflops", "fp16": "fp16_tflops", "bf16": "bf16_tflops"}


@dataclass(frozen=True)
class Clock:
    """How long one thing is timed.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        seconds: at most, beside warming up.
        most: calls.
        least: calls, however long they take.
        warm_ups: calls before.

    """

    device: str
    seconds: float
    most: int
    least: int = 3
    warm_ups: int = 3

    def latencies(self, call: Callable[[], Any]) -> dict[str, float]:
        """Return p50, p90 and p99 of a call's wall time, in ms, and how many calls there were.

        Every call is waited for: latency, not throughput.
        """
        for _ in range(self.warm_ups):
            call()
        self.wait()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        taken: list[float] = []
        until = time.perf_counter() + self.seconds
        while len(taken) < self.least or (len(taken) < self.most and time.perf_counter() < until):
            start = time.perf_counter()
            call()
            self.wait()
            taken.append((time.perf_counter() - start) * MS)
        found = {f"p{q}_ms": float(np.percentile(taken, q)) for q in (50, 90, 99)}
        return found | {"calls": len(taken), "peak_mib": self.peak_mib()}

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == "cuda"

    def wait(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def peak_mib(self) -> float:
        """Return the most memory that tensors took since the clock was warm, MiB; CPU: 0."""
        return torch.cuda.max_memory_allocated(self.device) / MIB if self.cuda else 0.0

    def network_ms(self, work: Callable[[], Any]) -> float:
        """Return the median time of what runs on the device alone, by events on a GPU."""
        if not self.cuda:
            return self.median_ms(work)
        return MS * median_seconds(work, self.device, min(self.most, 10))

    def median_ms(self, call: Callable[[], Any]) -> float:
        """Return the median of ``latencies``."""
        return self.latencies(call)["p50_ms"]


@dataclass
class MeasurementLog:
    """Measurements by key: skips known ones and begins none when the time is nearly over.

    Attributes:
        options: of the part.
        results: of the part.
        until: seconds that must be left of the part's time to begin another measurement.
        failed: what has failed in this process and is not tried again in it.
        kept: what took time to build and serves again, by name.

    """

    options: Options
    results: Results
    until: float = 0.0
    failed: set[str] = field(default_factory=set)
    kept: dict[str, Any] = field(default_factory=dict)

    def measure(self, key: str, work: Callable[[], Any]) -> Any:
        """Return a measurement: the known one, or a new one, or None where it failed or is late."""
        known = self.results.values.get(key)
        if known is not None and not is_error(known):
            return known
        if self.late or key in self.failed:
            return None
        start = time.monotonic()
        try:
            value = work()
        except Exception as error:  # noqa: BLE001  # one failure must not end the others
            line = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({line.name}:{line.lineno})"
            self.results.put(key, {"error": reason[:1000]})
            self.failed.add(key)
            value = None
        else:
            self.results.put(key, value)
        took = time.monotonic() - start
        print(f"{key}: {took:.1f} s" + ("" if value else ", failed"), flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return value

    def build(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what ``make`` builds, built once."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def has(self, keys: Iterable[str]) -> bool:
        """Tell whether nothing is left to do for these, so that nothing need be built."""
        missing = [key for key in keys if key not in self.failed]
        found = [self.results.values.get(key) for key in missing]
        return all(one is not None and not is_error(one) for one in found)

    @property
    def late(self) -> bool:
        """Whether no other measurement may begin."""
        return self.options.left <= self.until


def is_error(value: Any) -> bool:
    """Tell whether a measurement failed."""
    return isinstance(value, dict) and "error" in value


def roofline(
    found: dict[str, Any], card: dict[str, Any], dtype: str, flops: float, moved: float
) -> dict[str, Any]:
    """Return which share of the card's measured speed a call reached.

    Args:
        found: a measurement with ``p50_ms``.
        card: of ``_card.measure``.
        dtype: a key of ``PEAKS``.
        flops: floating-point operations of the call.
        moved: bytes that its layers read and write if each does once.

    """
    seconds = found["p50_ms"] / MS
    peak, copies = card.get(PEAKS[dtype]), card.get("copy_tbps")
    shares = {"tflops": flops / seconds / TERA, "tbps": moved / seconds / TERA}
    if peak:
        shares["of_matmul"] = shares["tflops"] / peak
    if copies:
        shares["of_copy"] = shares["tbps"] / copies
    if peak and copies:
        # The better of the two bounds is the time that no program of these layers can beat.
        shares["of_roofline"] = max(shares["of_matmul"], shares["of_copy"])
    return shares


def cost(module: torch.nn.Module, given: torch.Tensor) -> tuple[float, float]:
    """Return FLOPs and bytes of one forward run: what is multiplied; what layers read and write."""
    from torch.utils.flop_counter import FlopCounterMode

    moved = [0.0]

    def count(layer: torch.nn.Module, args: Any, out: Any) -> None:
        own = [*layer.parameters(recurse=False), *args, *(out if isinstance(out, tuple) else [out])]
        moved[0] += sum(one.numel() * one.element_size() for one in own if torch.is_tensor(one))

    leaves = [layer for layer in module.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in leaves]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(given)
    finally:
        for hook in hooks:
            hook.remove()
    return float(counter.get_total_flops()), moved[0]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: Any, digits: int = 3) -> str:
    """Return a figure with some digits that count; a dash where there is none."""
    if not isinstance(value, int | float):
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percent(value: Any) -> str:
    """Return a share in percent; a dash where there is none."""
    return f"{100 * value:.0f} %" if isinstance(value, int | float) else "-"
