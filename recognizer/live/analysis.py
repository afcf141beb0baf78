"""Frames of all cameras -> classified windows: one pose network, and tracks of each camera.

``recognizer.pipeline`` pulls the frames of one video; here the cameras push theirs. The parts are
the same: ``tracking.online``, ``EventDetector`` and its windows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recognizer.action.classifier import Classifier
from recognizer.action.results import Window
from recognizer.config.types import PoseKind
from recognizer.live.values import LiveFrame
from recognizer.movement import MovementMeter
from recognizer.pipeline import EventDetector, PipelineSettings
from recognizer.pose.estimator import PoseModel, VideoPose
from recognizer.pose.stream import require_finite, with_movement
from recognizer.tracking.online import OnlineTracks
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder


@dataclass(frozen=True, slots=True)
class CameraWindow:
    """A classified window of a camera.

    Attributes:
        camera: the camera's name.
        service: ``fight`` or ``falldown``.
        classes: of the classifier, the normal one first.
        size_wh: width and height of the camera's picture, pixels.
        window: its times are those of the camera's frames.

    """

    camera: str
    service: str
    classes: tuple[str, ...]
    size_wh: tuple[int, int]
    window: Window


class SharedPose:
    """One pose network for the frames of all cameras.

    Args:
        model: the network. One that sees everybody at once gets the frames of all cameras
            together; a top-down one remembers each camera's people, and gets them camera by camera.

    """

    def __init__(self, model: PoseModel) -> None:
        self.kind = model.kind
        self._model = model
        self._videos: dict[str, VideoPose] = {}

    def __call__(self, frames: Sequence[LiveFrame]) -> list[Poses]:
        """Return the people of each frame; at most one frame a camera.

        Raises:
            ModelError: a network that gives NaN or infinity.

        """
        if self.kind != "topdown":
            return require_finite(self._model([live.frame.image for live in frames]))
        found: list[Poses] = []
        for live in frames:
            video = self._videos.setdefault(live.camera, self._model.for_video())
            found += require_finite(video([live.frame.image], [live.frame.time_s]))
        return found

    def forget(self, camera: str) -> None:
        """Start again with a camera, as after a gap."""
        self._videos.pop(camera, None)


class CameraAnalysis:
    """Tracks and windows of one camera.

    Args:
        camera: its name.
        classifiers: one for each service.
        settings: tracks, windows, and how far ahead tracks are known.
        kind: of the pose network.
        on_tracked: called with each stretch of tracked frames, for overlays.

    """

    def __init__(
        self,
        camera: str,
        classifiers: Sequence[Classifier],
        settings: PipelineSettings,
        kind: PoseKind,
        on_tracked: Callable[[PoseSequence], None] = lambda part: None,
    ) -> None:
        self._camera, self._on_tracked = camera, on_tracked
        self._has_movement = any(one.metadata.movement is not None for one in classifiers)
        self._tracks = OnlineTracks(settings.tracking, settings.look_ahead_s, kind=kind)
        self._windows: list[CameraWindow] = []
        self._size_wh = (0, 0)
        self._detectors = [
            EventDetector(one, settings, self._collector(one)) for one in classifiers
        ]
        self._meter = MovementMeter()

    def update(self, live: LiveFrame, poses: Poses) -> list[CameraWindow]:
        """Take the next frame with its people; return the windows that are complete.

        Raises:
            ModelError: a classifier whose output is not finite.
            ValueError: a frame of another size, or earlier than the last one.

        """
        frame = live.frame
        self._size_wh = frame.image.size_wh
        builder = PoseSequenceBuilder()
        measured = with_movement(self._meter, frame, poses) if self._has_movement else poses
        builder.append(measured, frame.time_s, corrupt=frame.corrupt)
        return self._classify(self._tracks.update(builder.build(self._size_wh)))

    def finish(self) -> list[CameraWindow]:
        """Return the remaining windows, at a gap or the end, and start again."""
        windows = self._classify(self._tracks.finish())
        for detector in self._detectors:
            detector.finish()
        windows += self._taken()
        self._meter = MovementMeter()
        return windows

    def _classify(self, parts: Sequence[PoseSequence]) -> list[CameraWindow]:
        for part in parts:
            self._on_tracked(part)
            for detector in self._detectors:
                detector.update(part)
        return self._taken()

    def _taken(self) -> list[CameraWindow]:
        taken, self._windows = self._windows, []
        return taken

    def _collector(self, classifier: Classifier) -> Callable[[Window], None]:
        def keep(window: Window) -> None:
            self._windows.append(
                CameraWindow(
                    self._camera,
                    classifier.service,
                    tuple(classifier.classes),
                    self._size_wh,
                    window,
                )
            )

        return keep


def analyses_of(
    cameras: Sequence[str],
    classifiers: Sequence[Classifier],
    settings: PipelineSettings,
    kind: PoseKind,
    on_tracked: Mapping[str, Callable[[PoseSequence], None]] | None = None,
) -> dict[str, CameraAnalysis]:
    """Return the analysis of each camera, by name."""
    listeners = on_tracked or {}
    return {
        name: CameraAnalysis(
            name, classifiers, settings, kind, listeners.get(name, lambda part: None)
        )
        for name in cameras
    }
