"""Events for the store and the sinks."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

from recognizer.action.results import Person
from recognizer.config.alerts import JsonLinesSink
from recognizer.live.events import CloseCause, LiveEvent, State
from recognizer.live.store import Notice

UTC_S = 1_800_000_000.0
PERSON = Person(7, 0.9, (10.0, 20.0, 30.0, 60.0), 1.0, 3.0)
OPEN = LiveEvent(
    event_id="e1",
    revision=0,
    state="new",
    camera="hall",
    class_name="Fight",
    zone="door",
    start_s=100.0,
    end_s=103.5,
    start_utc_s=UTC_S,
    end_utc_s=UTC_S + 3.5,
    peak_probability=0.9,
    peak_s=2.0,
    probabilities=((2.0, 0.9), (2.5, 0.8)),
    streams={"pose": 0.9, "movement": 0.4},
    people=(PERSON,),
)


def event(
    event_id: str = "e1",
    state: State = "new",
    revision: int = 0,
    *,
    camera: str = "hall",
    muted: bool = False,
    after_s: float = 0.0,
) -> LiveEvent:
    """Return a state of an event that began ``after_s`` after the first."""
    closed_by: CloseCause | None = "quiet" if state == "end" else None
    return replace(
        OPEN,
        event_id=event_id,
        state=state,
        revision=revision,
        camera=camera,
        muted=muted,
        start_s=OPEN.start_s + after_s,
        end_s=OPEN.end_s + after_s,
        start_utc_s=OPEN.start_utc_s + after_s,
        end_utc_s=OPEN.end_utc_s + after_s,
        closed_by=closed_by,
    )


def whole(event_id: str, **other: float) -> list[LiveEvent]:
    """Return an event from its beginning to its end."""
    return [
        event(event_id, "new", 0, **other),  # type: ignore[arg-type]
        event(event_id, "update", 1, **other),  # type: ignore[arg-type]
        event(event_id, "end", 2, **other),  # type: ignore[arg-type]
    ]


def notice(state: State = "new", revision: int = 0, event_id: str = "e1") -> Notice:
    """Return a notice of an event's state."""
    return Notice(revision + 1, event(event_id, state, revision), 0, None)


def file_sink(folder: Path, name: str = "log", **other: str) -> JsonLinesSink:
    """Return the config of a file of JSON lines in a folder."""
    return JsonLinesSink(name=name, path=folder / f"{name}.jsonl", **other)  # type: ignore[arg-type]


def rows(path: Path, question: str, *values: object) -> list[tuple[Any, ...]]:
    """Return what a database answers, by a connection of its own."""
    db = sqlite3.connect(path)
    try:
        return db.execute(question, values).fetchall()
    finally:
        db.close()
