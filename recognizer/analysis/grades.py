"""The two grades of a fall: ``fall``, going down, and ``lying``, staying down.

Falls come from the classifier's windows, lying from the tracked poses over the whole video;
neither needs the other. Events in a rest zone are suppressed, and kept beside the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recognizer.action.results import (
    BOX_DIGITS,
    INVOLVEMENT_DIGITS,
    PROBABILITY_DIGITS,
    Event,
    Person,
    by_time,
)
from recognizer.analysis.zones import NOWHERE, Zone, zone_numbers
from recognizer.config.schema import Config
from recognizer.dataset.windows import TIME_DIGITS, slice_sequence
from recognizer.scoring.lying import (
    MARGIN_S,
    Lying,
    PostureRows,
    find_lying,
    lying_measure,
    posture_rows,
)
from recognizer.types import IntArray, PoseSequence

LYING = "Lying"  # the class of these events
_PART_S = 300.0  # length of video that is measured at once, which bounds memory
_ROUNDING_S = 1e-6
_AFTER_S = 1.0  # a fall ends where its person is so long after the event
_DOWN = 0.5  # of ``lying_measure``
_FALLS = 1.0  # the trunk's largest move between standing and lying, in body sizes

Graded = tuple[tuple[Event, ...], tuple[Event, ...]]


def lying_rules(config: Config) -> dict[str, float]:
    """Return the rules of lying events; empty where disabled."""
    section = config.inference.falldown
    if section.long_lie_s is None:
        return {}
    return {"long_lie_s": section.long_lie_s, "gap_s": section.lying_gap_s}


def grade_events(
    falls: Sequence[Event],
    sequence: PoseSequence,
    zones: Sequence[Zone],
    rules: Mapping[str, float],
) -> Graded:
    """Return the events of both grades, and those that rest zones suppress.

    Args:
        falls: events of the classifier's windows.
        sequence: the tracked video.
        zones: of this video.
        rules: long_lie_s and gap_s; empty: only falls.

    """
    falls = tuple(replace(event, grade="fall") for event in falls)
    if not rules and not any(zone.kind == "rest" for zone in zones):
        return falls, ()
    posture = _posture_rows(sequence)
    inside = zone_numbers(posture.place, zones, "rest", sequence.size_wh)
    measure, gap_s = lying_measure(posture), rules.get("gap_s", 0.0)
    all_lying = find_lying(posture, inside, long_lie_s=0.0, gap_s=gap_s)
    resting = [lying for lying in all_lying if lying.zone != NOWHERE]
    kept, suppressed = [], []
    for event in falls:
        zone = _rests(event, posture, measure, inside, resting)
        if zone == NOWHERE:
            kept.append(event)
        else:
            suppressed.append(replace(event, zone=zones[zone].name))
    long_lie_s = rules.get("long_lie_s", np.inf)
    for lying in all_lying:
        if lying.stop_s - lying.start_s < long_lie_s - _ROUNDING_S:
            continue
        event = _event(lying, posture, measure, long_lie_s)
        event = replace(event, follows_fall_s=_fall_before(event, falls, gap_s))
        if lying.zone == NOWHERE:
            kept.append(event)
        else:
            suppressed.append(replace(event, zone=zones[lying.zone].name))
    return by_time(kept), by_time(suppressed)


def _posture_rows(sequence: PoseSequence) -> PostureRows:
    """Return the posture rows of a video, measured part by part."""
    if not len(sequence):
        return posture_rows(sequence)
    begin = float(sequence.time_s[0])
    numbers = np.unique(np.floor((sequence.time_s - begin + _ROUNDING_S) / _PART_S))
    parts = []
    for start in (begin + numbers * _PART_S).tolist():
        stop = start + _PART_S
        part = posture_rows(slice_sequence(sequence, start - MARGIN_S, stop + MARGIN_S))
        inside = (part.time_s >= start - _ROUNDING_S) & (part.time_s < stop - _ROUNDING_S)
        parts.append(part[inside])
    return PostureRows.join(parts)


def _rests(
    event: Event,
    posture: PostureRows,
    measure: NDArray[np.float64],
    inside: IntArray,
    resting: Sequence[Lying],
) -> int:
    """Return the rest zone in which a fall ends, ``NOWHERE`` where it ends in none.

    It ends in a zone if its most involved person is in it and lies or is tracked to the end, or if
    a person starts to lie there near the place where the track was lost, and if none of its people
    lies outside. A person lost on the way down may lie in front of the bed: that is an alarm.
    """
    if not event.people:
        return NOWHERE
    ends = [_last_second(posture, p.track_id, event) for p in event.people]
    down = [bool(len(rows)) and np.mean(measure[rows]) >= _DOWN for rows in ends]
    first = ends[0]
    outside = (
        _zone_of(inside, rows) == NOWHERE for rows, lies in zip(ends, down, strict=True) if lies
    )
    if not len(first) or any(outside):
        return NOWHERE
    to_the_end = posture.time_s[first[-1]] >= event.stop_s - _AFTER_S / 2
    if (zone := _zone_of(inside, first)) != NOWHERE and (down[0] or to_the_end):
        return zone
    beside = (x for x in resting if _found_again(event, posture, int(first[-1]), x))
    return next((lying.zone for lying in beside), NOWHERE)


def _found_again(event: Event, posture: PostureRows, last: int, lying: Lying) -> bool:
    """Tell whether the person lost after row ``last`` is the one who starts to lie there."""
    after = max(event.start_s, float(posture.time_s[last]))
    if not after <= lying.start_s <= event.stop_s + _AFTER_S:
        return False
    both = np.array([last, lying.rows[0]])
    return bool(
        np.hypot(*np.diff(posture.place[both], axis=0)[0]) <= _FALLS * posture.size[both].max()
    )


def _last_second(posture: PostureRows, track_id: int, event: Event) -> IntArray:
    """Return the rows of a person's last second in an event and shortly after it."""
    around = (posture.time_s >= event.start_s) & (posture.time_s < event.stop_s + _AFTER_S)
    rows = np.flatnonzero(around & (posture.track_id == track_id))
    latest = posture.time_s[rows] >= posture.time_s[rows].max(initial=-np.inf) - _AFTER_S
    last: IntArray = rows[latest]
    return last


def _zone_of(inside: IntArray, rows: IntArray) -> int:
    numbers, counts = np.unique(inside[rows], return_counts=True)
    return int(numbers[np.argmax(counts)])


def _event(
    lying: Lying, posture: PostureRows, measure: NDArray[np.float64], long_lie_s: float
) -> Event:
    people = []
    ordered = np.sort(lying.rows)  # posture rows are sorted by person and time
    for rows in np.split(ordered, np.flatnonzero(np.diff(posture.track_id[ordered])) + 1):
        boxes = posture.box[rows]
        x1, y1 = boxes[:, :2].min(axis=0).tolist()
        x2, y2 = boxes[:, 2:].max(axis=0).tolist()
        people.append(
            Person(
                track_id=int(posture.track_id[rows[0]]),
                involvement=round(float(measure[rows].mean()), INVOLVEMENT_DIGITS),
                box=(
                    round(x1, BOX_DIGITS),
                    round(y1, BOX_DIGITS),
                    round(x2, BOX_DIGITS),
                    round(y2, BOX_DIGITS),
                ),
                first_s=round(float(posture.time_s[rows[0]]), TIME_DIGITS),
                last_s=round(float(posture.time_s[rows[-1]]), TIME_DIGITS),
            )
        )
    return Event(
        class_name=LYING,
        start_s=round(lying.start_s, TIME_DIGITS),
        stop_s=round(lying.stop_s, TIME_DIGITS),
        peak_probability=round(lying.seen, PROBABILITY_DIGITS),
        peak_s=round(lying.start_s + long_lie_s, TIME_DIGITS),
        windows=0,
        people=tuple(sorted(people, key=lambda p: (-p.involvement, p.track_id))),
        grade="lying",
    )


def _fall_before(lying: Event, falls: Sequence[Event], gap_s: float) -> float | None:
    """Return the start of the last fall before a person lies, None without one.

    The fall starts before and ends at most ``gap_s`` before, and one of its people has the id, or
    overlaps the place, of the lying person.
    """
    fits = [
        fall.start_s
        for fall in falls
        if fall.start_s <= lying.start_s <= fall.stop_s + gap_s
        and any(_same(a, b) for a in fall.people for b in lying.people)
    ]
    return max(fits, default=None)


def _same(one: Person, other: Person) -> bool:
    (a1, b1, a2, b2), (c1, d1, c2, d2) = one.box, other.box
    return one.track_id == other.track_id or (a1 < c2 and c1 < a2 and b1 < d2 and d1 < b2)
