"""Everything of one run of live detection: cameras, engine, store, sinks, clips and the page.

`recognizer.live.run` opens the networks and ends it on a signal.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from recognizer.action.classifier import Classifier
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED
from recognizer.config.file import ConfigError
from recognizer.config.live import CameraConfig
from recognizer.config.schema import Config
from recognizer.installation import pip_command
from recognizer.live.analysis import SharedPose, analyses_of
from recognizer.live.clips import CameraClips, ClipWriter, PixelRing, SkeletonRing
from recognizer.live.drawn_zones import ZoneBook
from recognizer.live.engine import CameraState, Engine, Stage
from recognizer.live.events import LiveEvent
from recognizer.live.evidence import EvidenceRing
from recognizer.live.fleet import CameraFleet
from recognizer.live.recording import StoreRecorder
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.running import LatestPoses, RunningProgram
from recognizer.live.schedule import schedules_of_camera
from recognizer.live.sinks.deliver import Delivery
from recognizer.live.sinks.mqtt_topics import Entity
from recognizer.live.sinks.opening import open_deliveries
from recognizer.live.store import Store
from recognizer.live.store_reads import outbox_depths
from recognizer.live.store_schema import StoreError
from recognizer.live.values import CameraState as State
from recognizer.pipeline import PipelineSettings

logger = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0
_CLEAN_EVERY_S = 3600.0
_MIB = 1 << 20
_JOIN_S = 5.0
_TICK_S = 1.0
_SEEN = (State.STREAMING, State.ENDED)


class LiveProgram:
    """Live detection with networks that are open already.

    Args:
        config: the whole config.
        cameras: those that are read.
        pose: the network that they share.
        classifiers: one for each service.

    """

    def __init__(
        self,
        config: Config,
        cameras: Sequence[CameraConfig],
        pose: SharedPose,
        classifiers: Sequence[Classifier],
    ) -> None:
        self._config, self._section, self._cameras = config, config.live, cameras
        self._pose, self._classifiers = pose, classifiers

    def run(self, stop: threading.Event) -> int:
        """Run until ``stop`` is set or every camera has ended; return the exit code.

        Raises:
            ConfigError: a folder, a secret or a package that is missing.
            ModelError: a network whose output is not finite.
            StoreError: a database that cannot be used.

        """
        section = self._section
        _make_folder(section.alerts.store.path.parent, "live.alerts.store.path")
        if section.clips != "none":
            _make_folder(section.clips_dir, "live.clips_dir")
        _log_unused(self._config, self._cameras)
        with ExitStack() as stack:
            store = Store(section.alerts.store.path, section.alerts.sinks)
            stack.callback(store.close)
            if closed := store.close_left_open(time.time()):
                logger.warning("%d events of an earlier run were left open; ended", closed)
            zones = ZoneBook(store, section.alerts.zones)
            sinks = self._start_sinks(store, stack)
            writer = ClipWriter(section.clips_dir)
            writer.start()
            stack.callback(writer.stop)
            rings, clips, skeletons = self._clips(writer)
            fleet = CameraFleet(
                self._cameras, section.source, sinks=rings, max_frames=section.max_frames
            )
            latest = LatestPoses()
            program = self._running(fleet, latest, sinks)
            on_lag = self._open_page(program, store, zones, stack)
            recorder = StoreRecorder(store, clips, _log_event, on_lag)
            stack.callback(recorder.close)
            states = self._states(latest, skeletons, zones)
            engine = Engine(fleet.gatherer, self._pose, states, recorder)
            fleet.start()
            stack.callback(fleet.stop)
            logger.info("cameras: %s; events go to %s", _names(self._cameras), store.path)
            watch = threading.Thread(
                target=self._watch, args=(fleet, recorder, store, stop), daemon=True
            )
            watch.start()
            stack.callback(watch.join, _JOIN_S)
            stack.callback(stop.set)  # whatever ended the engine
            engine.run(stop)
            stop.set()
            away = [one for one in fleet.status() if one.state not in _SEEN]
        path = section.alerts.store.path
        logger.info("stopped; %d events, %d near misses in %s", *recorder.counts, path)
        for depth in outbox_depths(section.alerts.store.path):
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
        self, program: RunningProgram, store: Store, zones: ZoneBook, stack: ExitStack
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
        metrics = Metrics(program, store.path, sinks)
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
        stack.callback(page.stop)
        page.start()
        logger.info("the page is at %s", page.url)
        return metrics.observe_lag

    def _start_sinks(self, store: Store, stack: ExitStack) -> dict[str, Delivery]:
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
            stack.callback(delivery.stop)
        names = [sink.name for sink in self._section.alerts.sinks]
        return dict(zip(names, deliveries, strict=True))

    def _clips(
        self, writer: ClipWriter
    ) -> tuple[dict[str, EvidenceRing], dict[str, CameraClips], dict[str, SkeletonRing]]:
        """Return what keeps packets, what decides on clips, and what keeps poses, by camera."""
        evidence, kind = self._section.evidence, self._section.clips
        rings: dict[str, EvidenceRing] = {}
        skeletons: dict[str, SkeletonRing] = {}
        clips: dict[str, CameraClips] = {}
        for camera in self._cameras:
            name = camera.name
            if kind == "pixels":
                ring = rings[name] = EvidenceRing(name, evidence)
                clips[name] = CameraClips(PixelRing(ring), writer, evidence, ring.keep_from)
            elif kind == "skeletons":
                skeletons[name] = SkeletonRing(evidence)
                clips[name] = CameraClips(skeletons[name], writer, evidence)
        return rings, clips, skeletons

    def _states(
        self, latest: LatestPoses, skeletons: dict[str, SkeletonRing], zones: ZoneBook
    ) -> dict[str, CameraState]:
        settings = replace(
            PipelineSettings.from_config(self._config),
            stride_s=self._section.stride_s,
            look_ahead_s=self._section.look_ahead_s,
        )
        alerts = self._section.alerts
        listeners = {
            camera.name: latest.listener(camera.name, skeletons[camera.name].add)
            if camera.name in skeletons
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

    def _watch(
        self, fleet: CameraFleet, recorder: StoreRecorder, store: Store, stop: threading.Event
    ) -> None:
        """Log the cameras' state and clean the store, until stopped."""
        cleaned_s, logged_s = -_CLEAN_EVERY_S, time.monotonic()
        states: dict[str, State] = {}
        while not stop.wait(_TICK_S):
            _log_changes(fleet, states)
            if time.monotonic() - logged_s >= self._section.status_s:
                logged_s = time.monotonic()
                _log_status(fleet, recorder)
            if time.monotonic() - cleaned_s >= _CLEAN_EVERY_S:
                cleaned_s = time.monotonic()
                try:
                    self._clean(store)
                except (StoreError, OSError) as error:
                    logger.warning("events are not cleaned: %s", error)

    def _clean(self, store: Store) -> None:
        keep = self._section.alerts.store
        removed = store.clean(time.time(), keep.retention_days * _DAY_S, keep.quota_mib * _MIB)
        for event_id in removed.events:
            for path in self._section.clips_dir.glob(f"*/{event_id}.mp4"):
                path.unlink(missing_ok=True)
        if removed.over_quota_bytes > 0:
            logger.warning(
                "%s: %.0f MiB above live.alerts.store.quota_mib, none of it reviewed and sent",
                store.path,
                removed.over_quota_bytes / _MIB,
            )


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


def _log_changes(fleet: CameraFleet, states: dict[str, State]) -> None:
    """Log which cameras were lost or came back since the last call."""
    for one in fleet.status():
        before = states.get(one.name)
        lost = one.state in (State.WAITING, State.FAILED)
        if lost and before not in (State.WAITING, State.FAILED):
            logger.warning("%s: away: %s", one.name, one.last_error)
            states[one.name] = one.state
        elif one.state in _SEEN and before != one.state:
            logger.info("%s: %s", one.name, one.state)
            states[one.name] = one.state


def _log_unused(config: Config, cameras: Sequence[CameraConfig]) -> None:
    """Warn of settings whose pattern fits no camera."""
    alerts, names = config.live.alerts, [camera.name for camera in cameras]
    parts = [("zones", i, one.fits) for i, one in enumerate(alerts.zones)]
    parts += [("schedules", i, one.fits) for i, one in enumerate(alerts.schedules)]
    for key, number, fits in parts:
        if not any(map(fits, names)):
            logger.warning("live.alerts.%s.%d: fits none of the cameras", key, number)


def _log_status(fleet: CameraFleet, recorder: StoreRecorder) -> None:
    for one in fleet.status():
        dropped = sum(one.drops.values())
        text = f", {one.last_error}" if one.last_error and one.state != State.STREAMING else ""
        logger.info(
            "%s: %s, %.1f frames/s, %d dropped%s", one.name, one.state, one.fps, dropped, text
        )
    lag = recorder.lag_quantile("score", 0.95)
    if lag is not None:
        logger.info("95 %% of the windows were classified within %.2f s of their last frame", lag)


def _names(cameras: Sequence[CameraConfig]) -> str:
    return ", ".join(camera.name for camera in cameras)
