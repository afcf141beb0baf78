"""Find the events of a video: frames -> poses -> tracks -> windows -> events, as a stream.

Every stage is an iterator over parts of the video (``PoseSequence``) that later stages pull from,
so that memory does not grow with the video, nothing is written, and an event is yielded as soon as
no later frame can change it:

    frames --estimate_poses--> parts --track_stream--> tracked parts --detect_events--> events

An analysis of files (mode ``inference.analysis``) shares everything from the windows on, and so
gives equal windows and events for equal tracks. Its tracks are those of ``tracking.offline``, which
knows the whole video; here they are those of ``tracking.online``, with ``look_ahead_s`` of
look-ahead. With an infinite look-ahead both are equal. Long lying and zones are graded by the
analysis alone: they need the whole video.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import get_args

import numpy as np

from recognizer.action.classifier import Classifier
from recognizer.action.events import EventMerger
from recognizer.action.results import Event, Person, Window
from recognizer.action.views import require_views
from recognizer.action.windows import MIN_FRAMES, WindowPlan, classify_window
from recognizer.checks import MAX_BATCH_SIZE, MAX_THREADS, check_number, check_type, check_whole
from recognizer.config.models import PoseEstimationConfig
from recognizer.config.schema import Config, ScoringConfig, TrackingConfig
from recognizer.config.types import PoseKind
from recognizer.dataset.windows import WindowCutter
from recognizer.installation import cpu_cores
from recognizer.models import open_classifier, open_with_settings
from recognizer.pose.estimator import PoseSource
from recognizer.pose.stream import estimate_poses
from recognizer.sequences import parts_of
from recognizer.tracking.online import LOOK_AHEAD_S, track_stream
from recognizer.types import Frame, PathLike, PoseSequence
from recognizer.video.prefetch import prefetch
from recognizer.video.reader import VideoReader

__all__ = [
    "Event",
    "EventDetector",
    "Person",
    "PipelineSettings",
    "Window",
    "detect_events",
    "estimate_poses",
    "find_events",
    "track_stream",
]

# Of the numbers in PipelineSettings: the smallest, which are whole and their largest, which may
# be None.
_MINIMUM = {
    "stride_s": 0.02,
    "min_frames": 1,
    "threshold": 0,
    "merge_gap_s": 0,
    "min_event_s": 0,
    "look_ahead_s": 0,
    "batch_size": 1,
    "sample_fps": 0,
    "threads": 1,
}
_WHOLE = {"min_frames": None, "batch_size": MAX_BATCH_SIZE, "threads": MAX_THREADS}
_OPTIONAL = {"stride_s", "threshold", "sample_fps", "threads"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings:
    """How events are found in a video; the defaults are those of configs/config.yaml.

    Attributes:
        pose: how a pose network that is given as a file is run. An engine always runs in
            TensorRT and a ``.pth`` in torch.
        tracking: settings of the tracker.
        scoring: how people are ranked.
        stride_s: from one window to the next, seconds; None: half a window.
        min_frames: windows with fewer frames are not classified.
        views: test-time views whose probabilities are averaged, of ``action.views.VIEWS``.
        threshold: probability from which a window counts; None: the one in the classifier's file.
        merge_gap_s: windows above the threshold at most this far apart are one event, seconds.
        min_event_s: shorter events are dropped, seconds.
        look_ahead_s: how far ahead tracks are known, seconds; events come so much later, and up
            to 0.5 s more. Infinity: the whole video, with its poses in memory.
        batch_size: frames that the pose network sees at once, 1 to 256; for a live camera, 1.
        sample_fps: frames per second to use; None: all. For files only: of given frames all are
            used.
        threads: of the decoder and the networks, 1 to 256; from 2 on, decoding runs beside the
            pose network. None: one for each core of this process.

    Raises:
        TypeError: a section of another type.
        ValueError: a number out of its range, or an unknown view.

    """

    pose: PoseEstimationConfig = field(default_factory=PoseEstimationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    stride_s: float | None = None
    min_frames: int = MIN_FRAMES
    views: tuple[str, ...] = ()
    threshold: float | None = None
    merge_gap_s: float = 1.0
    min_event_s: float = 0.0
    look_ahead_s: float = LOOK_AHEAD_S
    batch_size: int = 8
    sample_fps: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the values that no stage checks before its first frame."""
        for name, minimum in _MINIMUM.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if name in _WHOLE:
                check_whole(name, value, 1, _WHOLE[name])
            else:
                _check_minimum(name, value, minimum)
        check_type("pose", self.pose, PoseEstimationConfig)
        check_type("tracking", self.tracking, TrackingConfig)
        check_type("scoring", self.scoring, ScoringConfig)
        if self.threshold is not None and self.threshold > 1:
            raise ValueError(f"threshold: expected at most 1, got {self.threshold}")
        if self.sample_fps is not None and not 0 < self.sample_fps < math.inf:
            raise ValueError(f"sample_fps: expected above 0 and finite, got {self.sample_fps}")
        require_views(self.views)

    @classmethod
    def from_config(cls, config: Config) -> "PipelineSettings":
        """Return the settings of a config file; the threshold is the classifier's."""
        inference, annotation = config.inference, config.annotation
        return cls(
            pose=config.models.pose_estimation,
            tracking=config.tracking,
            scoring=config.scoring,
            stride_s=inference.stride_s,
            min_frames=config.dataset.min_frames,
            views=tuple(inference.views),
            merge_gap_s=inference.merge_gap_s,
            min_event_s=inference.min_event_s,
            batch_size=annotation.batch_size,
            sample_fps=annotation.sample_fps,
        )


def _check_minimum(name: str, value: object, minimum: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: expected a number of {minimum} or more, got {value!r}")
    check_number(name, value)
    if not float(value) >= minimum:
        raise ValueError(f"{name}: expected a number of {minimum} or more, got {value!r}")


def find_events(
    video: PathLike | Iterable[Frame],
    *classifiers: PathLike | Classifier | Sequence[PathLike | Classifier],
    pose: PathLike | PoseSource,
    settings: PipelineSettings | None = None,
) -> Iterator[Event]:
    """Yield the events of a video, each as soon as no later frame can change it.

    Networks are opened now, the video when the first event is asked for.

    Args:
        video: a file, or frames of one camera in order of time.
        classifiers: classifier files (``.onnx``) or opened ones, or a list of them; each finds
            its own events.
        pose: the pose network's file, or an opened model. A top-down network needs the detector
            named in ``settings.pose``.
        settings: None: the defaults.

    Yields:
        Events in the order of their completion; falls with the grade ``fall``.

    Raises:
        FileNotFoundError: no such file.
        ModelError: a file of another kind, or a network that gives NaN.
        VideoError: a video that cannot be read.
        ValueError: no classifier, a pose model without its kind, a stride longer than a window, or
            frames whose time falls or whose size changes.

    """
    settings = PipelineSettings() if settings is None else settings
    given = [one for group in classifiers for one in _listed(group)]
    if not given:
        raise ValueError("classifiers: expected one or more classifier files, got none")
    opened = [
        one if isinstance(one, Classifier) else open_classifier(one, threads=settings.threads)
        for one in given
    ]
    detectors = [EventDetector(one, settings) for one in opened]
    model = (
        open_with_settings(pose, settings.pose, threads=settings.threads)
        if isinstance(pose, str | os.PathLike)
        else pose
    )
    kind = getattr(model, "kind", None)
    if kind not in get_args(PoseKind):
        raise ValueError(
            f"pose: expected a model whose kind is one of {get_args(PoseKind)}, got {kind!r} of "
            f"{type(model).__name__}"
        )
    return _find_events(video, detectors, model, settings)


def detect_events(
    tracked: PoseSequence | Iterable[PoseSequence], detectors: Iterable["EventDetector"]
) -> Iterator[Event]:
    """Yield the events of a tracked video; every detector gets each part in turn.

    Args:
        tracked: the video, whole or in parts that follow each other.
        detectors: fresh ones, or after ``reset``.

    Raises:
        TypeError: an argument of another type.
        ValueError: parts that do not follow each other.
        ModelError: a classifier whose output is not finite.

    """
    check_type("detectors", detectors, Iterable)
    detectors = list(detectors)
    for detector in detectors:
        check_type("detectors", detector, EventDetector)
    for part in parts_of(tracked):
        for detector in detectors:
            yield from detector.update(part)
    for detector in detectors:
        yield from detector.finish()


class EventDetector:
    """Windows and events of one classifier in a stream of tracked people.

    Args:
        classifier: the trained network.
        settings: windows, ranking and events; those of poses and tracks are not used.
        on_window: called with each window as it is classified.

    Raises:
        ValueError: a stride longer than the window.

    """

    def __init__(
        self,
        classifier: Classifier,
        settings: PipelineSettings | None = None,
        on_window: Callable[[Window], None] = lambda window: None,
    ) -> None:
        check_type("classifier", classifier, Classifier)
        check_type("settings", settings, PipelineSettings, NoneType)
        settings = PipelineSettings() if settings is None else settings
        self.classifier = classifier
        self._plan = WindowPlan.for_classifier(
            classifier,
            stride_s=settings.stride_s,
            min_frames=settings.min_frames,
            views=settings.views,
        )
        self._scoring, self._on_window = settings.scoring, on_window
        self._cutter = WindowCutter(self._plan.length_s, self._plan.stride_s)
        threshold = classifier.threshold if settings.threshold is None else settings.threshold
        self._merger = EventMerger(
            classifier.classes,
            threshold=threshold,
            merge_gap_s=settings.merge_gap_s,
            min_event_s=settings.min_event_s,
        )

    def reset(self) -> None:
        """Start again, as for another video."""
        self._cutter.reset()
        self._merger.reset()

    def update(self, part: PoseSequence) -> list[Event]:
        """Take the next frames; return the events that are complete.

        Raises:
            TypeError: no pose sequence; the state stays as before the call.
            ValueError: another picture size than before, or times that fall.
            ModelError: a classifier whose output is not finite.

        """
        return self._merge(self._cutter.update(part))

    def finish(self) -> list[Event]:
        """Return the remaining events at the end of the video, and reset."""
        last = self._merge(self._cutter.finish())
        return last + self._graded(self._merger.finish())

    @property
    def open_events(self) -> list[Event]:
        """Events so far that later windows may still extend: for an early alarm."""
        return self._graded(self._merger.open_events)

    def _merge(self, windows: Iterable[tuple[tuple[float, float], PoseSequence]]) -> list[Event]:
        complete = []
        for span, cut in windows:
            window = classify_window(cut, span, self.classifier, self._plan, self._scoring)
            self._on_window(window)
            complete += self._merger.update(window)
        return self._graded(complete)

    def _graded(self, events: Iterable[Event]) -> list[Event]:
        if self.classifier.service != "falldown":
            return list(events)
        return [replace(event, grade="fall") for event in events]


def _find_events(
    video: PathLike | Iterable[Frame],
    detectors: list[EventDetector],
    model: PoseSource,
    settings: PipelineSettings,
) -> Iterator[Event]:
    has_movement = any(one.classifier.metadata.movement is not None for one in detectors)
    with ExitStack() as stack:
        poses = estimate_poses(
            _frames(video, settings, stack),
            model,
            batch_size=settings.batch_size,
            movement=has_movement,
        )
        tracked = track_stream(poses, settings.tracking, settings.look_ahead_s, kind=model.kind)
        yield from detect_events(tracked, detectors)


def _frames(
    video: PathLike | Iterable[Frame], settings: PipelineSettings, stack: ExitStack
) -> Iterable[Frame]:
    if not isinstance(video, str | os.PathLike):
        return video
    threads = settings.threads or min(cpu_cores(), MAX_THREADS)
    reader = VideoReader(Path(video), sample_fps=settings.sample_fps, threads=threads)
    stack.enter_context(reader)
    if threads == 1:
        return reader
    return stack.enter_context(closing(prefetch(reader, 2 * settings.batch_size)))


def _listed(
    given: PathLike | Classifier | Sequence[PathLike | Classifier],
) -> Sequence[PathLike | Classifier]:
    return [given] if isinstance(given, str | os.PathLike | Classifier) else given
