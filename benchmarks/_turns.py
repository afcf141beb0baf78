"""CPU and wall time of calls that take turns in one process, one thread."""

import statistics
import time
from collections.abc import Callable, Mapping

Times = dict[str, tuple[float, float]]  # name -> CPU seconds, wall seconds


def race(calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> Times:
    """Return the median CPU and wall time of each call."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + warm_up):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: medians(times[warm_up:]) for name, times in taken.items()}


def medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median of the first and of the second values."""
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


def print_ratios(times: Times, peer: str, targets: Mapping[str, float]) -> None:
    """Print the times of each contender, and the peer's as multiples of them."""
    width = max(map(len, times))
    for name, (cpu, wall) in times.items():
        target = f" (target {targets[name]} x)" if name in targets else ""
        print(
            f"  {name:{width}} CPU {cpu * 1e3:8.2f} ms {times[peer][0] / cpu:6.2f} x, "
            f"wall {wall * 1e3:8.2f} ms {times[peer][1] / wall:6.2f} x{target}"
        )
