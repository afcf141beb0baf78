"""What a classifier says about the windows of a video, and whom they are about.

A window's people are chosen and ranked by the function that made the training samples.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.record import (
    BOX_DIGITS,
    INVOLVEMENT_DIGITS,
    PROBABILITY_DIGITS,
    TIME_DIGITS,
    Person,
    Window,
)
from annotation.clips import people_of
from recognizer.action.classifier import Classifier
from recognizer.backends.network import ModelError
from recognizer.config import ScoringSection
from recognizer.dataset.samples import NobodyTrackedError, build_sample
from recognizer.dataset.windows import plan_windows, slice_sequence
from recognizer.scoring.ranking import Involvement, Service
from recognizer.types import PoseSequence

_NO_LABEL = 0  # a sample needs a label; a classifier does not look at it
_NORMAL = 0  # the label of the class that is no event


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Which windows a video is cut into.

    Attributes:
        service: how people are ranked.
        length_s: length of each, seconds.
        stride_s: from one start to the next, seconds.
        min_frames: windows with fewer frames are not judged.
        views: test-time views whose probabilities are averaged with the window's own.

    """

    service: Service
    length_s: float
    stride_s: float
    min_frames: int
    views: tuple[str, ...] = ()


def judge_windows(
    sequence: PoseSequence,
    classifier: Classifier,
    plan: WindowPlan,
    scoring: ScoringSection,
    report: Callable[[int], None] = lambda frames: None,
) -> tuple[Window, ...]:
    """Return every window of a video with its probabilities and its people.

    Args:
        sequence: the tracked video, gaps filled, as in stage 2's result.
        classifier: the trained network.
        plan: the windows.
        scoring: how people are ranked.
        report: called after each window, with 0: a sign of life.

    Raises:
        ValueError: a stride longer than the window.
        ModelError: a classifier that gives no numbers.

    """
    windows = []
    for start, stop in plan_windows(sequence, plan.length_s, plan.stride_s):
        span = round(start, TIME_DIGITS), round(stop, TIME_DIGITS)
        cut = slice_sequence(sequence, *span)
        windows.append(_judge(cut, span, classifier, plan, scoring))
        report(0)
    return tuple(windows)


def _judge(
    cut: PoseSequence,
    span: tuple[float, float],
    classifier: Classifier,
    plan: WindowPlan,
    scoring: ScoringSection,
) -> Window:
    start, stop = span
    if len(cut) < plan.min_frames:
        return Window(start, stop, len(cut), "too_few_frames", {})
    slots = classifier.facts.sample_people
    try:
        ids, ranked = people_of(cut, plan.service, scoring, slots)
    except NobodyTrackedError:
        normal, *others = classifier.classes
        return Window(start, stop, len(cut), "nobody", {normal: 1.0, **dict.fromkeys(others, 0.0)})
    sample = build_sample(cut, ids, slots, f"{start:.3f}-{stop:.3f} s", _NO_LABEL)
    judged = classifier.judge(sample, plan.views)
    if not np.isfinite(judged.probabilities).all():
        raise ModelError(
            f"{classifier.path}: the classifier gives numbers that are not finite (NaN); its file "
            "is broken or was exported from a training that went wrong"
        )
    rounded = [round(float(value), PROBABILITY_DIGITS) for value in judged.probabilities]
    probabilities = dict(zip(classifier.classes, rounded, strict=True))
    if judged.nobody:  # tracked, but nothing of them is left in what the network sees
        return Window(start, stop, len(cut), "nobody", probabilities)
    streams = {
        name: round(1 - float(values[_NORMAL]), PROBABILITY_DIGITS)
        for name, values in judged.streams.items()
    }
    people = people_in(cut, ids, ranked)
    return Window(start, stop, len(cut), "judged", probabilities, people, streams)


def people_in(
    cut: PoseSequence, ids: Iterable[int] | NDArray[np.int64], ranked: Involvement
) -> tuple[Person, ...]:
    """Return where and when each of some people was seen in a window."""
    involvement, frame_of_row = ranked.by_id(), cut.frame_of_row
    people = []
    for track_id in (int(i) for i in ids):
        # A row that only fills a gap is nobody's sighting.
        mine = cut.poses.track_ids == track_id
        rows = np.flatnonzero(mine & cut.poses.keypoint_scores.any(axis=1))
        boxes = cut.poses.boxes[rows].astype(np.float64)
        box = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
        times = cut.time_s[frame_of_row[rows[[0, -1]]]].tolist()
        x1, y1, x2, y2 = (round(value, BOX_DIGITS) for value in box)
        first, last = (round(time, TIME_DIGITS) for time in times)
        value = round(involvement[track_id], INVOLVEMENT_DIGITS)
        people.append(Person(track_id, value, (x1, y1, x2, y2), first, last))
    return tuple(people)
