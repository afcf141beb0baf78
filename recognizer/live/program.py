"""Everything of one run of live detection: cameras, engine, store, sinks, clips and the page.

`recognizer.live.run` opens the networks and ends it on a signal.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from recognizer.action.classifier import Classifier
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED
from recognizer.config.file import ConfigError
from recognizer.config.live import CameraConfig
from recognizer.config.schema import Config
from recognizer.installation import pip_command
from recognizer.live.analysis import SharedPose, analyses_of
from recognizer.live.clips import (
    CameraClips,
    ClipSource,
    ClipWriter,
    PixelRing,
    SkeletonClips,
)
from recognizer.live.drawn_zones import ZoneBook
from recognizer.live.engine import CameraState, Engine, Stage
from recognizer.live.events import LiveEvent
from recognizer.live.evidence import EvidenceRing
from recognizer.live.fleet import CameraFleet
from recognizer.live.kept_poses import KeptPosesSource, PoseOrigin
from recognizer.live.pose_ring import PoseRing
from recognizer.live.recording import StoreRecorder
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.running import LatestPoses, RunningProgram
from recognizer.live.schedule import schedules_of_camera
from recognizer.live.sinks.deliver import Delivery
from recognizer.live.sinks.mqtt_topics import Entity
from recognizer.live.sinks.opening import open_deliveries
from recognizer.live.stopping import END_S, Closing, Work
from recognizer.live.store import Store
from recognizer.live.store_reads import last_notices, outbox_depths
from recognizer.live.store_schema import StoreError
from recognizer.live.values import CameraStatus
from recognizer.live.watch import SEEN, Watch
from recognizer.pipeline import PipelineSettings
from recognizer.storage.artifacts import remove_stale_scratch

logger = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0
_MIB = 1 << 20
_FOR_SINKS_S = 1.8  # of END_S, to send what is written last


class LiveProgram:
    """Live detection with networks that are open already.

    Args:
        config: the whole config.
        cameras: those that are read.
        pose: the network that they share.
        classifiers: one for each service.
        origin: what makes the poses, to keep those of events; None: they are not kept.

    """

    def __init__(
        self,
        config: Config,
        cameras: Sequence[CameraConfig],
        pose: SharedPose,
        classifiers: Sequence[Classifier],
        origin: PoseOrigin | None = None,
    ) -> None:
        self._config, self._section, self._cameras = config, config.live, cameras
        self._pose, self._classifiers, self._origin = pose, classifiers, origin
        self._engine: Work[None] | None = None

    def run(self, stop: threading.Event) -> int:
        """Run until ``stop`` is set or every camera has ended; return the exit code.

        Raises:
            ConfigError: a folder, a secret or a package that is missing.
            ModelError: a network whose output is not finite.
            StoreError: a database that cannot be used.

        """
        section = self._section
        _make_folder(section.alerts.store.path.parent, "live.alerts.store.path")
        if section.clips != "none" or self._origin is not None:
            _make_folder(section.clips_dir, "live.clips_dir")
        _log_unused(self._config, self._cameras)
        store = Store(section.alerts.store.path, section.alerts.sinks)
        with Closing("database", store.close) as closing:
            if closed := store.close_left_open(time.time()):
                logger.warning("%d events of an earlier run were left open; ended", closed)
            zones = ZoneBook(store, section.alerts.zones)
            sinks = self._start_sinks(store, closing)
            remove_stale_scratch(section.clips_dir)
            writer = ClipWriter(section.clips_dir, section.min_free_mib * _MIB)
            writer.start()
            closing.add("clips", writer.stop)
            packets, poses, clips = self._clips(writer)
            fleet = CameraFleet(
                self._cameras, section.source, sinks=packets, max_frames=section.max_frames
            )
            latest = LatestPoses()
            program = self._running(fleet, latest, sinks)
            on_lag = self._open_page(program, writer, closing, store, zones)
            recorder = StoreRecorder(store, clips, _log_event, on_lag)
            states = self._states(latest, poses, zones)
            remember_notices(store.path, states)
            engine = Engine(fleet.gatherer, self._pose, states, recorder)
            self._work(engine, fleet, recorder, closing, stop)
            away = [one for one in fleet.status() if one.state not in SEEN]
        return self._report(recorder, away)

    def _work(
        self,
        engine: Engine,
        fleet: CameraFleet,
        recorder: StoreRecorder,
        closing: Closing,
        stop: threading.Event,
    ) -> None:
        """Find events until stopped; what is found is written before this returns."""

        def find() -> None:
            try:
                engine.run(stop)
            finally:
                try:
                    recorder.close()
                finally:
                    stop.set()  # whatever ended the engine; the main thread must not set it

        fleet.start()
        closing.add("cameras", lambda until_s: fleet.stop(max(until_s - time.monotonic(), 0)))
        logger.info("cameras: %s; events go to %s", _names(self._cameras), recorder.store.path)
        # A plain thread: what it raises is shown at once, not at the end of a run of weeks.
        upkeep = Watch(self._section, fleet, recorder)
        watch = threading.Thread(target=upkeep.run, args=(stop,), name="watch", daemon=True)
        watch.start()
        closing.add("watch", lambda until_s: watch.join(max(until_s - time.monotonic(), 0)))
        self._engine = Work("engine", find)
        try:
            self._engine.wait(stop)
        finally:
            closing.until_s = time.monotonic() + END_S
        self._engine.wait_until(closing.until_s - _FOR_SINKS_S)
        if self._engine.is_over:
            self._engine.result()
        else:
            logger.error("the network takes too long; open events are ended at the next start")

    @property
    def hangs(self) -> bool:
        """Whether a thread of an ended run is still in the network."""
        return self._engine is not None and not self._engine.is_over

    def _report(self, recorder: StoreRecorder, away: Sequence[CameraStatus]) -> int:
        path = self._section.alerts.store.path
        logger.info("stopped; %d events, %d near misses in %s", *recorder.counts, path)
        try:
            depths = outbox_depths(path)
        except StoreError as error:
            logger.error("%s", error)
            depths = ()
        for depth in depths:
            if depth.pending:
                logger.warning("sink %s: %d notices wait", depth.sink, depth.pending)
        for one in away:
            logger.error("away at the end: %s (%s)", one.name, one.last_error or "no picture yet")
        return EXIT_SOME_REFUSED if away else EXIT_DONE

    def _running(
        self, fleet: CameraFleet, latest: LatestPoses, sinks: dict[str, Delivery]
    ) -> RunningProgram:
        skeleton_only = self._section.page.skeleton_only
        hidden = self._section.clips == "pixels" and skeleton_only
        clips_dir = None if hidden else self._section.clips_dir
        return RunningProgram(fleet, latest, clips_dir, sinks=sinks, shows_pixels=not skeleton_only)

    def _open_page(
        self,
        program: RunningProgram,
        writer: ClipWriter,
        closing: Closing,
        store: Store,
        zones: ZoneBook,
    ) -> Callable[[Stage, float], None]:
        """Serve the page, where it is enabled; return what takes lags."""
        if not self._section.page.enabled:
            return lambda stage, seconds: None
        try:
            from recognizer.live.page.health import Metrics
            from recognizer.live.page.server import PageServer
        except ImportError as error:
            raise ConfigError(
                f"live.page: it needs more packages ({error}); install them ({sys.executable} -m "
                f"{pip_command('live.txt')}), or set live.page.enabled: false"
            ) from error
        sinks = [sink.name for sink in self._section.alerts.sinks]
        metrics = Metrics(program, store.path, sinks, clips_paused=lambda: writer.is_paused)
        try:
            page = PageServer(
                self._section.page,
                store,
                program,
                rules=self._section.alerts.rules,
                metrics=metrics,
                zones=zones,
            )
        except ValueError as error:
            raise ConfigError(f"live.page: {error}") from error
        closing.add("page", lambda until_s: page.stop())
        page.start()
        logger.info("the page is at %s", page.url)
        return metrics.observe_lag

    def _start_sinks(self, store: Store, closing: Closing) -> dict[str, Delivery]:
        entities = [
            Entity(camera.name, name)
            for camera in self._cameras
            for classifier in self._classifiers
            for name in classifier.classes[1:]
        ]
        try:
            deliveries = open_deliveries(self._section.alerts.sinks, store, entities)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"live.alerts.sinks: {error}") from error
        for delivery in deliveries:
            delivery.start()
            closing.add(delivery.name, delivery.stop)
        names = [sink.name for sink in self._section.alerts.sinks]
        return dict(zip(names, deliveries, strict=True))

    def _clips(
        self, writer: ClipWriter
    ) -> tuple[dict[str, EvidenceRing], dict[str, PoseRing], dict[str, CameraClips]]:
        """Return what keeps packets, what keeps poses, and what decides on files, by camera."""
        evidence, kind = self._section.evidence, self._section.clips
        packets: dict[str, EvidenceRing] = {}
        poses: dict[str, PoseRing] = {}
        clips: dict[str, CameraClips] = {}
        for camera in self._cameras:
            name = camera.name
            ring = PoseRing(evidence.max_s + evidence.after_s)
            sources: list[ClipSource] = []
            if self._origin is not None:  # first: at the end, time to write is short
                sources.append(KeptPosesSource(ring, evidence, self._origin))
            if kind == "skeletons":
                sources.append(SkeletonClips(ring, evidence))
            if sources:
                poses[name] = ring
            if kind == "pixels":
                packets[name] = EvidenceRing(name, evidence)
                sources.append(PixelRing(packets[name]))
                clips[name] = CameraClips(sources, writer, evidence, packets[name].keep_from)
            elif sources:
                clips[name] = CameraClips(sources, writer, evidence)
        return packets, poses, clips

    def _states(
        self, latest: LatestPoses, poses: dict[str, PoseRing], zones: ZoneBook
    ) -> dict[str, CameraState]:
        settings = replace(
            PipelineSettings.from_config(self._config),
            stride_s=self._section.stride_s,
            look_ahead_s=self._section.look_ahead_s,
        )
        alerts = self._section.alerts
        listeners = {
            camera.name: latest.listener(camera.name, poses[camera.name].add)
            if camera.name in poses
            else latest.listener(camera.name)
            for camera in self._cameras
        }
        analyses = analyses_of(
            [camera.name for camera in self._cameras],
            self._classifiers,
            settings,
            self._pose.kind,
            listeners,
        )
        states = {}
        for camera in self._cameras:
            name = camera.name
            scene = Scene(name, zones.current(name), schedules_of_camera(alerts.schedules, name))
            rules: dict[str, CameraRules] = {
                one.service: CameraRules(scene, one.service, one.classes, alerts.rules)
                for one in self._classifiers
            }
            begun_utc_s = None if camera.path is None else time.time()
            states[name] = CameraState(analyses[name], rules, begun_utc_s)
        return states


def remember_notices(path: Path, states: Mapping[str, CameraState]) -> None:
    """Mute what a run before this one has sent notices of; files begin anew each time."""
    now_utc_s, now_s = time.time(), time.monotonic()
    for (camera, class_name, zone), utc_s in last_notices(path, now_utc_s - _DAY_S).items():
        state = states.get(camera)
        if state is not None and state.begun_utc_s is None:
            for rules in state.rules.values():
                rules.remember_notice(class_name, zone, now_utc_s - utc_s, now_s)


def _make_folder(folder: Path, key: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{key}: cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{key}: expected a folder that can be written to, got {folder}")


def _log_event(event: LiveEvent) -> None:
    if event.state != "update":
        logger.info(
            "%s: %s %s, probability %.2f, %.1f s%s",
            event.camera,
            event.class_name,
            event.state,
            event.peak_probability,
            event.end_s - event.start_s,
            f", zone {event.zone}" if event.zone else "",
        )


def _log_unused(config: Config, cameras: Sequence[CameraConfig]) -> None:
    """Warn of settings whose pattern fits no camera."""
    alerts, names = config.live.alerts, [camera.name for camera in cameras]
    parts = [("zones", i, one.fits) for i, one in enumerate(alerts.zones)]
    parts += [("schedules", i, one.fits) for i, one in enumerate(alerts.schedules)]
    for key, number, fits in parts:
        if not any(map(fits, names)):
            logger.warning("live.alerts.%s.%d: fits none of the cameras", key, number)


def _names(cameras: Sequence[CameraConfig]) -> str:
    return ", ".join(camera.name for camera in cameras)
