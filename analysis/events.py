"""The events of one video: windows merged, and everybody whom they are about."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.record import TIME_DIGITS, Event, Person, Window
from recognizer.action.events import merge_windows


def find_events(
    windows: Sequence[Window], classes: Sequence[str], rules: Mapping[str, float]
) -> tuple[Event, ...]:
    """Return the events of every class but the first, which is the normal one.

    Args:
        windows: of one video, in order of time.
        classes: names in the order of labels.
        rules: threshold, merge_gap_s and min_event_s.

    """
    spans = [(w.start_s, w.stop_s) for w in windows]
    events = []
    for name in classes[1:]:
        probabilities = [w.probabilities.get(name, np.nan) for w in windows]
        for interval in merge_windows(spans, probabilities, **rules):
            peak = windows[interval.peak_window]
            inside = [windows[i] for i in interval.windows]
            event = Event(
                class_name=name,
                start_s=interval.start_s,
                stop_s=interval.stop_s,
                peak_probability=interval.peak,
                peak_s=round((peak.start_s + peak.stop_s) / 2, TIME_DIGITS),
                windows=len(inside),
                people=_together(inside),
                streams=dict(peak.streams),
            )
            events.append(event)
    return tuple(sorted(events, key=lambda e: (e.start_s, e.stop_s, e.class_name)))


def _together(windows: Sequence[Window]) -> tuple[Person, ...]:
    """Return everybody of some windows once, with the highest involvement."""
    met: dict[int, Person] = {}
    for person in (p for window in windows for p in window.people):
        known = met.get(person.track_id, person)
        met[person.track_id] = Person(
            track_id=person.track_id,
            involvement=max(known.involvement, person.involvement),
            box=(
                min(known.box[0], person.box[0]),
                min(known.box[1], person.box[1]),
                max(known.box[2], person.box[2]),
                max(known.box[3], person.box[3]),
            ),
            first_s=min(known.first_s, person.first_s),
            last_s=max(known.last_s, person.last_s),
        )
    return tuple(sorted(met.values(), key=lambda p: (-p.involvement, p.track_id)))
