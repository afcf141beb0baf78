"""Health for monitoring: is it alive, is it ready, and figures for Prometheus."""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recognizer.live.page.state import LiveState
from recognizer.live.store_reads import count_events, outbox_depths
from recognizer.live.store_schema import StoreError
from recognizer.live.values import CameraState, CameraStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Stage = Literal["decode", "pose", "score", "sent"]
_LAG_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)


class Metrics:
    """The figures of one program, in a registry of their own.

    Args:
        live: the running program.
        store: the database of events.
        sinks: names of all sinks, to show those without waiting notices.
        clips_paused: whether the disk has too little room for clips.

    """

    def __init__(
        self,
        live: LiveState,
        store: Path,
        sinks: Sequence[str] = (),
        *,
        clips_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._registry = CollectorRegistry()
        self._lag = Histogram(
            "recognizer_lag_seconds",
            "Seconds from the capture of a frame to the end of a stage",
            ["stage"],
            buckets=_LAG_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_Figures(live, store, tuple(sinks), clips_paused))

    def observe_lag(self, stage: Stage, seconds: float) -> None:
        """Count how long after its capture a frame was through a stage."""
        self._lag.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Figures(Collector):
    """Figures that are read when they are asked for."""

    def __init__(
        self,
        live: LiveState,
        store: Path,
        sinks: tuple[str, ...],
        clips_paused: Callable[[], bool],
    ) -> None:
        self._live, self._store, self._sinks = live, store, sinks
        self._clips_paused = clips_paused

    def describe(self) -> Iterable[Metric]:
        return []  # else a registration would read the store

    def collect(self) -> Iterator[Metric]:
        yield from _cameras(self._live.cameras())
        yield _gauge("ready", "Whether networks are loaded and cameras are read", self._live.ready)
        yield _gauge(
            "disk_free_bytes",
            "Free bytes on the disk of the store",
            lambda: _free_bytes(self._store.parent),
        )
        yield _gauge(
            "clips_paused", "Whether the disk has too little room for clips", self._clips_paused
        )
        try:
            yield self._outbox()
            yield self._events()
        except StoreError:
            yield _gauge("store_readable", "Whether the database can be read", lambda: 0)
        else:
            yield _gauge("store_readable", "Whether the database can be read", lambda: 1)

    def _outbox(self) -> Metric:
        family = GaugeMetricFamily(
            "recognizer_outbox_depth", "Notices that were not sent", labels=["sink", "status"]
        )
        depths = {depth.sink: (depth.pending, depth.dead) for depth in outbox_depths(self._store)}
        for sink, (pending, dead) in ({sink: (0, 0) for sink in self._sinks} | depths).items():
            family.add_metric([sink, "pending"], pending)
            family.add_metric([sink, "dead"], dead)
        return family

    def _events(self) -> Metric:
        family = GaugeMetricFamily(
            "recognizer_events", "Events in the store", labels=["class", "state"]
        )
        for labels, count in count_events(self._store).items():
            family.add_metric(labels, count)
        return family


def _free_bytes(folder: Path) -> float:
    """Return the room on a folder's disk; NaN where there is no such folder."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return math.nan


def _gauge(name: str, text: str, value: Callable[[], float]) -> Metric:
    return GaugeMetricFamily(f"recognizer_{name}", text, value=float(value()))


def _cameras(cameras: Sequence[CameraStatus]) -> Iterator[Metric]:
    fps = GaugeMetricFamily("recognizer_camera_fps", "Frames per second", labels=["camera"])
    age = GaugeMetricFamily(
        "recognizer_last_frame_age_seconds", "Seconds since the last frame", labels=["camera"]
    )
    states = GaugeMetricFamily(
        "recognizer_camera_state", "1 for the state that holds", labels=["camera", "state"]
    )
    frames = CounterMetricFamily("recognizer_frames", "Frames handed on", labels=["camera"])
    drops = CounterMetricFamily("recognizer_drops", "Frames dropped", labels=["camera", "cause"])
    reconnects = CounterMetricFamily(
        "recognizer_reconnects", "Connections lost or refused", labels=["camera", "reason"]
    )
    for camera in cameras:
        fps.add_metric([camera.name], camera.fps)
        frames.add_metric([camera.name], camera.frames)
        if camera.last_frame_age_s is not None:
            age.add_metric([camera.name], camera.last_frame_age_s)
        for state in CameraState:
            states.add_metric([camera.name, state], float(camera.state is state))
        for cause, count in camera.drops.items():
            drops.add_metric([camera.name, cause], count)
        for reason, count in camera.reconnects.items():
            reconnects.add_metric([camera.name, reason], count)
    yield from (fps, age, states, frames, drops, reconnects)


def not_ready(live: LiveState, store: Path) -> str | None:
    """Return why the program cannot detect and report, None: it can."""
    if not live.ready():
        return "networks are not loaded or cameras are not read yet"
    if dead := live.dead_sinks():
        return f"sinks deliver no more, the log says why; start anew: {', '.join(dead)}"
    try:
        count_events(store)
    except StoreError:
        return "the database of events cannot be read"
    return None
