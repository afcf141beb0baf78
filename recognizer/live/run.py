"""Mode inference.realtime: cameras in, events out, until it is stopped.

    python main.py --mode inference.realtime --config configs/live.yaml

SIGINT or SIGTERM end it: open events are closed, what is found is in the database by then.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

from recognizer.action.classifier import Classifier
from recognizer.analysis.services import classifier_path, open_classifier
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import cpu_cores
from recognizer.live.analysis import SharedPose
from recognizer.live.kept_poses import origin_of
from recognizer.live.program import LiveProgram
from recognizer.pose.estimator import build_pose_model
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stage_folders import pose_model_files


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
    classifiers = _open_classifiers(config)
    origin = origin_of(config, classifiers) if config.live.keep_poses else None
    program = LiveProgram(config, cameras, _open_pose(config), classifiers, origin)
    with _until_stopped() as stop:
        return program.run(stop)


@contextlib.contextmanager
def _until_stopped() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    kept = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _open_pose(config: Config) -> SharedPose:
    section, files = config.models.pose_estimation, pose_model_files(config)
    return SharedPose(build_pose_model(section, files, threads=cpu_cores()))


def _open_classifiers(config: Config) -> list[Classifier]:
    return [
        open_classifier(config, service, classifier_path(config, service))
        for service in dict.fromkeys(config.inference.services)
    ]
