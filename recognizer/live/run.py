"""Mode inference.realtime: cameras in, events out, until it is stopped.

    python main.py --mode inference.realtime --config configs/live.yaml

SIGINT or SIGTERM end it: open events are closed, what is found is in the database by then.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial

from recognizer.action.classifier import Classifier
from recognizer.analysis.services import classifier_path, open_classifier
from recognizer.command import EXIT_DONE
from recognizer.config.file import ConfigError
from recognizer.config.live import CameraConfig
from recognizer.config.schema import Config
from recognizer.installation import cpu_cores
from recognizer.live.analysis import SharedPose
from recognizer.live.kept_poses import PoseOrigin, origin_of
from recognizer.live.logs import PatientLog
from recognizer.live.program import LiveProgram
from recognizer.live.stopping import END_S, Work, end_process
from recognizer.pose.estimator import build_pose_model
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stage_folders import pose_model_files
from recognizer.signals import heed_signals

logger = logging.getLogger(__name__)


def realtime(config: Config, progress: ProgressFactory) -> int:
    """Run live detection (``--mode inference.realtime``); return the exit code.

    Args:
        config: the whole config.
        progress: not used; this mode logs.

    Returns:
        0; 3 where a camera was away at the end.

    Raises:
        ConfigError: no cameras, no classifier, or a secret that cannot be read.
        ModelError: a network that cannot be used, or whose output is not finite.
        StoreError: a database that cannot be used.

    """
    cameras = [camera for camera in config.live.cameras if camera.enabled]
    if not cameras:
        raise ConfigError(
            "live.cameras: expected one camera or more, got none; see configs/live.yaml, or try: "
            "--set \"live.cameras=[{name: door, url: 'rtsp://<host>/<stream>'}]\""
        )
    for camera in cameras:
        if camera.path is not None and not camera.path.is_file():
            raise ConfigError(
                f"live.cameras: {camera.name}: expected a video file at {camera.path}"
            )
    log = PatientLog()
    with log:
        code, hangs = _run(config, cameras)
    # Handlers, or a network, that are stuck would hold up or crash an orderly end.
    return end_process(code, flush=not log.hangs) if hangs or log.hangs else code


def _run(config: Config, cameras: Sequence[CameraConfig]) -> tuple[int, bool]:
    """Return the exit code, and whether a thread is still in a network."""
    stop = heed_signals()
    opening = Work("networks", partial(_open_networks, config))
    opening.wait(stop)
    if stop.is_set():
        logger.info("stopped before cameras were read")
        opening.wait_until(time.monotonic() + END_S)
        return EXIT_DONE, not opening.is_over
    program = LiveProgram(config, cameras, *opening.result())
    return program.run(stop), program.hangs


def _open_networks(
    config: Config,
) -> tuple[SharedPose, list[Classifier], PoseOrigin | None]:
    classifiers = _open_classifiers(config)
    origin = origin_of(config, classifiers) if config.live.keep_poses else None
    return _open_pose(config), classifiers, origin


def _open_pose(config: Config) -> SharedPose:
    section, files = config.models.pose_estimation, pose_model_files(config)
    return SharedPose(build_pose_model(section, files, threads=cpu_cores()))


def _open_classifiers(config: Config) -> list[Classifier]:
    return [
        open_classifier(config, service, classifier_path(config, service))
        for service in dict.fromkeys(config.inference.services)
    ]
