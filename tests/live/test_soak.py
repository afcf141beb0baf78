"""200 faults over ten cameras: noticed, reported, mended; minutes long.

``pytest -m slow -s tests/live/test_soak.py`` prints the figures.
"""

import random
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import psutil
import pytest

from recognizer.config.live import CameraConfig, EvidenceConfig
from recognizer.live.evidence import EvidenceRing
from recognizer.live.values import CameraState
from tests.live.fault_proxy import Fault, FaultProxy
from tests.live.watching import Watch, watching

CAMERAS, FAULTS_EACH = 10, 20
FAULTS = [fault for fault in Fault if fault is not Fault.NONE]


@dataclass(frozen=True)
class Event:
    """A fault that was set and taken back, on the monotonic clock."""

    camera: str
    fault: Fault
    start_s: float
    end_s: float


def disturb(name: str, proxy: FaultProxy, seed: int, events: list[Event]) -> None:
    """Set one fault after the other, each for a time after which the retries are still quick."""
    choose = random.Random(seed)
    for number in range(FAULTS_EACH):
        time.sleep(choose.uniform(4.0, 6.0))
        fault = FAULTS[(seed + number) % len(FAULTS)]
        start_s = time.monotonic()
        proxy.set(fault)
        time.sleep(choose.uniform(1.3, 2.5))
        proxy.set(Fault.NONE)
        events.append(Event(name, fault, start_s, time.monotonic()))


def resumed_s(watch: Watch, event: Event) -> float:
    """Return how long after a fault's end frames came that were taken after it."""
    later = (f for f in watch.of(event.camera) if f.frame.time_s > event.end_s)
    return next(later).captured_s - event.end_s


def noticed_s(watch: Watch, event: Event) -> float:
    """Return how long after a fault's start its gap was reported; NaN where none was needed."""
    for at_s, gap in watch.gaps:
        if gap.camera == event.camera and event.start_s < at_s < event.end_s + 10:
            return at_s - event.start_s
    return float("nan")


@pytest.mark.slow
def test_200_faults_are_noticed_reported_and_mended(rtsp_port):
    names = [f"camera {number}" for number in range(CAMERAS)]
    events: list[Event] = []
    process = psutil.Process()
    with ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(rtsp_port)) for _ in names]
        cameras = [
            CameraConfig(name=name, url=f"rtsp://127.0.0.1:{proxy.port}/long.mp4", fps=10)
            for name, proxy in zip(names, proxies, strict=True)
        ]
        rings = {name: EvidenceRing(name, EvidenceConfig()) for name in names}
        watch = stack.enter_context(watching(*cameras, sinks=rings))
        watch.until(lambda: all(len(watch.of(name)) > 10 for name in names))
        before = process.num_fds(), threading.active_count()
        threads = [
            threading.Thread(target=disturb, args=(name, proxy, seed, events))
            for seed, (name, proxy) in enumerate(zip(names, proxies, strict=True))
        ]
        for thread in threads:
            thread.start()
        watch.until(lambda: not any(thread.is_alive() for thread in threads), timeout_s=900)
        watch.during(8.0)
        status = watch.fleet.status()
        after = process.num_fds(), threading.active_count()
    resumed = np.array([resumed_s(watch, event) for event in events])
    noticed = np.array([noticed_s(watch, event) for event in events])
    unreported = [
        (name, hole, [gap for gap in watch.gaps_of(name) if abs(gap.start_s - hole[0]) < 10])
        for name in names
        for hole in watch.unreported(name)
    ]
    lost = [s.name for s in status if s.state is not CameraState.STREAMING]
    figures = [
        f"faults {len(events)}, gaps {len(watch.gaps)}, frames {len(watch.frames)}",
        f"noticed after {np.nanmedian(noticed):.2f} s, at most {np.nanmax(noticed):.2f} s",
        f"later than 2 s: {(resumed > 2).sum()}; unreported {unreported}; lost {lost}",
        f"reasons {sum((Counter(s.reconnects) for s in status), Counter())}",
        f"files and threads before {before}, after {after}",
    ]
    for fault in FAULTS:
        took = resumed[[event.fault is fault for event in events]]
        figures.append(
            f"resumed {fault.value}: {np.median(took):.2f} s, at most {took.max():.2f} s"
        )
    sys.stdout.write("\n".join(["", *figures, ""]))
    assert len(events) == CAMERAS * FAULTS_EACH
    assert unreported == []
    assert lost == []
    assert np.nanmax(noticed) <= 5
    # Garbage that ends while a camera is opened again costs the rest of that try: 5 s.
    assert (resumed <= 2).mean() >= 0.97
    assert resumed.max() <= 8
    assert after[0] <= before[0] + CAMERAS
