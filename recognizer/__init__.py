"""CCTV video to trained, deployable detectors of fights and falls.

    import recognizer as rz

    pose = rz.open_pose_model("rtmo-s.onnx")
    tracker = rz.Tracker(kind=pose.kind)
    with rz.VideoReader("camera.mp4") as frames:
        for frame in frames:
            people = tracker.update(pose(frame), frame.time_s)
    for event in rz.find_events("camera.mp4", "fight.onnx", pose="rtmo-s.onnx"):
        print(event)

Every name below is imported when it is first used: importing this package loads neither torch nor
mm*, onnxruntime, OpenCV or NumPy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; _HOMES has the same names
    from recognizer.action.classifier import Classifier as Classifier
    from recognizer.action.results import Event as Event
    from recognizer.action.results import Person as Person
    from recognizer.action.results import Window as Window
    from recognizer.action.windows import WindowPlan as WindowPlan
    from recognizer.action.windows import classify_windows as classify_windows
    from recognizer.backends.network import ModelError as ModelError
    from recognizer.config.file import ConfigError as ConfigError
    from recognizer.config.file import load_config as load_config
    from recognizer.config.models import PoseEstimationConfig as PoseEstimationConfig
    from recognizer.config.schema import Config as Config
    from recognizer.config.schema import ScoringConfig as ScoringConfig
    from recognizer.config.schema import TrackingConfig as TrackingConfig
    from recognizer.dataset.samples import build_sample as build_sample
    from recognizer.dataset.windows import plan_windows as plan_windows
    from recognizer.dataset.windows import slice_sequence as slice_sequence
    from recognizer.draw import color_of as color_of
    from recognizer.draw import draw_caption as draw_caption
    from recognizer.draw import draw_people as draw_people
    from recognizer.draw import draw_skeleton as draw_skeleton
    from recognizer.files import load_poses as load_poses
    from recognizer.files import load_samples as load_samples
    from recognizer.files import save_poses as save_poses
    from recognizer.files import save_samples as save_samples
    from recognizer.models import PoseEstimator as PoseEstimator
    from recognizer.models import find_model as find_model
    from recognizer.models import open_classifier as open_classifier
    from recognizer.models import open_pose_model as open_pose_model
    from recognizer.pipeline import EventDetector as EventDetector
    from recognizer.pipeline import PipelineSettings as PipelineSettings
    from recognizer.pipeline import detect_events as detect_events
    from recognizer.pipeline import find_events as find_events
    from recognizer.pose.stream import estimate_poses as estimate_poses
    from recognizer.storage.artifacts import ArtifactError as ArtifactError
    from recognizer.tracking.offline import track_people as track_people
    from recognizer.tracking.online import track_stream as track_stream
    from recognizer.tracking.tracker import Tracker as Tracker
    from recognizer.tracking.tracks import fill_gaps as fill_gaps
    from recognizer.tracking.tracks import split_tracks as split_tracks
    from recognizer.types import Frame as Frame
    from recognizer.types import FrameAccount as FrameAccount
    from recognizer.types import Poses as Poses
    from recognizer.types import PoseSequence as PoseSequence
    from recognizer.types import PoseSequenceBuilder as PoseSequenceBuilder
    from recognizer.types import Sample as Sample
    from recognizer.types import Track as Track
    from recognizer.video.array_image import ArrayImage as ArrayImage
    from recognizer.video.container import VideoError as VideoError
    from recognizer.video.reader import VideoReader as VideoReader
    from recognizer.video.writer import VideoWriter as VideoWriter

__version__ = "0.1.0"

_NAMES = {  # module -> its public names
    "action.classifier": "Classifier",
    "action.results": "Event Person Window",
    "action.windows": "WindowPlan classify_windows",
    "storage.artifacts": "ArtifactError",
    "backends.network": "ModelError",
    "config.schema": "Config ScoringConfig TrackingConfig",
    "config.file": "ConfigError load_config",
    "config.models": "PoseEstimationConfig",
    "dataset.samples": "build_sample",
    "dataset.windows": "plan_windows slice_sequence",
    "draw": "color_of draw_caption draw_people draw_skeleton",
    "files": "load_poses load_samples save_poses save_samples",
    "models": "PoseEstimator find_model open_classifier open_pose_model",
    "pipeline": "EventDetector PipelineSettings detect_events find_events",
    "pose.stream": "estimate_poses",
    "tracking.offline": "track_people",
    "tracking.online": "track_stream",
    "tracking.tracker": "Tracker",
    "tracking.tracks": "fill_gaps split_tracks",
    "types": "Frame FrameAccount PoseSequence PoseSequenceBuilder Poses Sample Track",
    "video.array_image": "ArrayImage",
    "video.container": "VideoError",
    "video.reader": "VideoReader",
    "video.writer": "VideoWriter",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *_HOMES]


if not TYPE_CHECKING:  # a type checker would take every name for one of this module

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, whether they were imported by now or not."""
    return sorted({*globals(), *__all__})
