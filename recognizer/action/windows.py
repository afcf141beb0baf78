"""Windows of tracked people, classified.

A window's people are chosen and ranked by the function that made the training samples.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import NoneType
from typing import get_args

import numpy as np

from recognizer.action.classifier import Classifier
from recognizer.action.results import PROBABILITY_DIGITS, Window, people_in
from recognizer.action.views import require_views
from recognizer.backends.network import ModelError
from recognizer.checks import check_number, check_type, check_whole
from recognizer.config.schema import ScoringConfig
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, people_of
from recognizer.dataset.windows import Span, WindowCutter
from recognizer.scoring.ranking import Service
from recognizer.sequences import parts_of
from recognizer.types import PoseSequence

MIN_FRAMES = 4
_NO_LABEL = 0  # a sample needs a label; a classifier does not use it
_NORMAL = 0  # the label of the class that is no event


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Windows that a video is cut into.

    Attributes:
        service: how people are ranked.
        length_s: length of each, seconds.
        stride_s: from one start to the next, seconds.
        min_frames: windows with fewer frames are not classified.
        views: test-time views whose probabilities are averaged with the window's own.

    Raises:
        TypeError: a length or stride that is no number.
        ValueError: an unknown service or view, or ``min_frames`` below 1.

    """

    service: Service
    length_s: float
    stride_s: float
    min_frames: int = MIN_FRAMES
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value but that of the stride against the length, which the cutter checks."""
        if self.service not in get_args(Service):
            names = " or ".join(get_args(Service))
            raise ValueError(f"service: expected {names}, got {self.service!r}")
        check_number("length_s", self.length_s)
        check_number("stride_s", self.stride_s)
        check_whole("min_frames", self.min_frames)
        require_views(self.views)

    @classmethod
    def for_classifier(
        cls,
        classifier: Classifier,
        *,
        stride_s: float | None = None,
        min_frames: int = MIN_FRAMES,
        views: Iterable[str] = (),
    ) -> "WindowPlan":
        """Return the windows for a classifier: of the length it was trained on.

        Args:
            classifier: the trained network.
            stride_s: from one start to the next, seconds; None: half the length.
            min_frames: windows with fewer frames are not classified.
            views: names of ``views.VIEWS``.

        Raises:
            TypeError: an argument of another type.
            ValueError: a stride longer than the window, or an unknown view.

        """
        check_type("classifier", classifier, Classifier)
        length_s = classifier.window_s
        if stride_s is not None:
            check_number("stride_s", stride_s)
        if stride_s is not None and stride_s > length_s:
            raise ValueError(
                f"stride_s: expected at most the window of {classifier.service}, "
                f"{length_s:g} s, got {stride_s:g}; frames between two windows would be lost"
            )
        stride_s = length_s / 2 if stride_s is None else stride_s
        return cls(classifier.service, length_s, stride_s, min_frames, tuple(views))


def classify_windows(
    parts: PoseSequence | Iterable[PoseSequence],
    classifier: Classifier,
    plan: WindowPlan | None = None,
    scoring: ScoringConfig | None = None,
) -> Iterator[Window]:
    """Yield every window of a video with its probabilities and its people, in order of time.

    Args:
        parts: the tracked video, whole or in parts that follow each other, such as
            ``recognizer.tracking.online.track_stream`` yields.
        classifier: the trained network.
        plan: the windows; None: as ``WindowPlan.for_classifier(classifier)``.
        scoring: how people are ranked; None: by the default weights.

    Raises:
        TypeError: an argument of another type, such as a classifier's path.
        ValueError: a stride longer than the window, a plan of another service, or parts that do
            not follow each other.
        ModelError: a classifier whose output is not finite.

    """
    check_type("classifier", classifier, Classifier)
    check_type("plan", plan, WindowPlan, NoneType)
    check_type("scoring", scoring, ScoringConfig, NoneType)
    plan = WindowPlan.for_classifier(classifier) if plan is None else plan
    if plan.service != classifier.service:
        raise ValueError(
            f"plan: expected windows of {classifier.service}, the classifier's service, got "
            f"{plan.service}; WindowPlan.for_classifier makes them"
        )
    scoring = ScoringConfig() if scoring is None else scoring
    return _classify(parts_of(parts), classifier, plan, scoring)


def _classify(
    parts: Iterable[PoseSequence], classifier: Classifier, plan: WindowPlan, scoring: ScoringConfig
) -> Iterator[Window]:
    cutter = WindowCutter(plan.length_s, plan.stride_s)
    for part in parts:
        for span, cut in cutter.update(part):
            yield classify_window(cut, span, classifier, plan, scoring)
    for span, cut in cutter.finish():
        yield classify_window(cut, span, classifier, plan, scoring)


def classify_window(
    cut: PoseSequence, span: Span, classifier: Classifier, plan: WindowPlan, scoring: ScoringConfig
) -> Window:
    """Return one window with its probabilities and its people.

    Args:
        cut: the frames in it.
        span: its start and stop, seconds.
        classifier: the trained network.
        plan: of the window; its length and stride are not used.
        scoring: how people are ranked.

    Raises:
        ModelError: a classifier whose output is not finite.

    """
    start, stop = span
    if len(cut) < plan.min_frames:
        return Window(start, stop, len(cut), "too_few_frames", {})
    slots = classifier.metadata.sample_people
    try:
        ids, ranked = people_of(cut, plan.service, scoring, slots)
    except NoTrackedPeopleError:
        normal, *others = classifier.classes
        return Window(start, stop, len(cut), "nobody", {normal: 1.0, **dict.fromkeys(others, 0.0)})
    sample = build_sample(cut, ids, slots, f"{start:.3f}-{stop:.3f} s", _NO_LABEL)
    prediction = classifier.predict(sample, plan.views)
    if not np.isfinite(prediction.probabilities).all():
        raise ModelError(
            f"{classifier.path}: the classifier gives numbers that are not finite (NaN); its file "
            "is broken or was exported from a training that went wrong"
        )
    rounded = [round(float(value), PROBABILITY_DIGITS) for value in prediction.probabilities]
    probabilities = dict(zip(classifier.classes, rounded, strict=True))
    if prediction.no_people:  # tracked, but not visible in the chosen frames
        return Window(start, stop, len(cut), "nobody", probabilities)
    streams = {
        name: round(1 - float(values[_NORMAL]), PROBABILITY_DIGITS)
        for name, values in prediction.streams.items()
    }
    people = people_in(cut, ids, ranked)
    return Window(start, stop, len(cut), "judged", probabilities, people, streams)
