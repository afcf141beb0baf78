"""Results of classifiers on a video: people, windows, events."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recognizer.dataset.windows import TIME_DIGITS
from recognizer.scoring.ranking import Involvement
from recognizer.types import PoseSequence

# Rounded when they are made, so that what is computed from a file and from memory agrees.
PROBABILITY_DIGITS, INVOLVEMENT_DIGITS, BOX_DIGITS = 6, 4, 1

WindowState = Literal["judged", "nobody", "too_few_frames"]
Grade = Literal["fall", "lying"]


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a window or event.

    Attributes:
        track_id: the id in the video's tracks.
        involvement: in the event, in [0, 1].
        box: smallest rectangle around all places where seen, x1 y1 x2 y2 pixels.
        first_s: first time seen in it.
        last_s: last time seen in it.

    """

    track_id: int
    involvement: float
    box: tuple[float, float, float, float]
    first_s: float
    last_s: float

    def joined(self, other: "Person") -> "Person":
        """Return the same person over two windows, with the higher involvement."""
        return Person(
            track_id=self.track_id,
            involvement=max(self.involvement, other.involvement),
            box=(
                min(self.box[0], other.box[0]),
                min(self.box[1], other.box[1]),
                max(self.box[2], other.box[2]),
                max(self.box[3], other.box[3]),
            ),
            first_s=min(self.first_s, other.first_s),
            last_s=max(self.last_s, other.last_s),
        )


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a video and its probabilities.

    Attributes:
        start_s: its start.
        stop_s: its end, exclusive.
        frames: frames in it.
        state: ``judged``: classified by the network; ``nobody``: no people tracked, normal by
            definition; ``too_few_frames`` to classify.
        probabilities: by class name; empty where the frames are too few.
        people: those in the network's input, most involved first.
        streams: probability of anything but the first class by each stream alone, ``pose`` and
            ``movement``; only ``pose`` where no movement was measured, empty for a classifier of
            one stream.

    """

    start_s: float
    stop_s: float
    frames: int
    state: WindowState
    probabilities: dict[str, float]
    people: tuple[Person, ...] = ()
    streams: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Windows of one class above the threshold, merged; or a person who stays down.

    Attributes:
        class_name: of the event; ``Lying`` for the grade ``lying``.
        start_s: start of its first window; when first seen lying.
        stop_s: end of its last; when last seen lying.
        peak_probability: highest probability in it; the part of the time seen lying.
        peak_s: middle of the window with that; when a person had been down for long_lie_s.
        windows: number of windows above the threshold; 0 for lying, which no window detects.
        people: the people of these windows, most involved first; all ids of a lying person.
        grade: of the service falldown; None for others.
        follows_fall_s: start of the fall after which a person lies; None without one.
        zone: name of the rest zone that suppresses it; None for an event.
        streams: those of the window with the highest probability.

    """

    class_name: str
    start_s: float
    stop_s: float
    peak_probability: float
    peak_s: float
    windows: int
    people: tuple[Person, ...]
    grade: Grade | None = None
    follows_fall_s: float | None = None
    zone: str | None = None
    streams: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, as an analysis file has them (``analysis/schema.json``).

        ``class_name`` is called ``class``; ``grade``, ``follows_fall_s`` and ``zone`` are left out
        where they are None.
        """
        value = asdict(self)
        value["class"] = value.pop("class_name")
        return {k: v for k, v in value.items() if v is not None}

    def __str__(self) -> str:
        """Return a line such as ``Fight 3.00-6.50 s, probability 0.93, people 2, 5``.

        For lying, the share of time seen lying replaces the probability.
        """
        ids = ", ".join(str(person.track_id) for person in self.people)
        measure = "share of time" if self.grade == "lying" else "probability"
        text = f"{self.class_name} {self.start_s:.2f}-{self.stop_s:.2f} s, {measure} "
        return text + f"{self.peak_probability:.2f}" + (f", people {ids}" if ids else "")


def by_time(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return events in order of start, stop and class."""
    return tuple(sorted(events, key=lambda e: (e.start_s, e.stop_s, e.class_name)))


def people_in(
    cut: PoseSequence, ids: Iterable[int] | NDArray[np.int64], ranked: Involvement
) -> tuple[Person, ...]:
    """Return where and when people are visible in a window.

    Args:
        cut: the frames of the window.
        ids: the people, each seen in it.
        ranked: the ranking of the window.

    """
    involvement, frame_of_row = ranked.by_id(), cut.frame_of_row
    people = []
    for track_id in (int(i) for i in ids):
        # Rows of filled gaps do not count.
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
