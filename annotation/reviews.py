"""What became of each event of live detection as training data: its record, label and source.

``reviews.json`` holds all of it; ``labels.csv`` and ``sources.csv`` are what stage 3 reads.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from recognizer.dataset.labels import SEGMENT_COLUMNS
from recognizer.runs.manifest import Outcome
from recognizer.runs.stage_folders import LABELS, SOURCES
from recognizer.storage.artifacts import ArtifactError, write_csv, write_json

RECORDS = "reviews.json"
_SCHEMA = "recognizer.reviews"
State = Literal["done", "refused", "skipped"]


@dataclass(frozen=True, slots=True)
class ReviewRecord:
    """An event and what became of it.

    Attributes:
        event_id: the event.
        camera: name of its camera.
        class_name: what live detection took it for.
        verdict: the last decision; None: there is none.
        video: name of its tracks in the folder.
        source: camera and day.
        state: ``done``: its tracks are there; ``refused``: it was decided, but has no usable
            poses; ``skipped``: nothing is to be learnt from it.
        reason: why it is refused or skipped.
        label: the class to learn; empty unless done.
        start_s: when that begins, seconds on the tracks' clock.
        stop_s: when it ends.
        frames: of its tracks.
        notes: remarks.

    """

    event_id: str
    camera: str
    class_name: str
    verdict: str | None
    video: str
    source: str
    state: State
    reason: str = ""
    label: str = ""
    start_s: float = 0.0
    stop_s: float = 0.0
    frames: int = 0
    notes: tuple[str, ...] = ()


def read_records(folder: Path) -> dict[str, ReviewRecord]:
    """Return the records of an earlier run by event, none where there was no such run.

    Raises:
        ArtifactError: the file is damaged or of another kind.

    """
    path = folder / RECORDS
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != _SCHEMA:
            raise ValueError(f"schema {value['schema']!r:.60}")
        return {event_id: _record(event_id, row) for event_id, row in value["events"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: expected what an earlier run recorded, got: {error}; remove {folder} and run "
            "again: it is made anew from the database"
        ) from error


def _record(event_id: str, row: Mapping[str, object]) -> ReviewRecord:
    values = {**row, "notes": tuple(row["notes"])}  # type: ignore[arg-type]
    record = ReviewRecord(event_id=event_id, **values)  # type: ignore[arg-type]
    if record.state not in get_args(State) or not isinstance(record.video, str):
        raise ValueError(f"no record of an event: {row!r:.200}")
    return record


def write_records(folder: Path, records: Sequence[ReviewRecord]) -> None:
    """Write the records, and the labels and sources of those that are done."""
    rows = {r.event_id: {k: v for k, v in asdict(r).items() if k != "event_id"} for r in records}
    done = sorted((r for r in records if r.state == "done"), key=lambda r: r.video)
    labels = [(r.video, repr(r.start_s), repr(r.stop_s), r.label) for r in done]
    write_csv(folder / LABELS, folder, [SEGMENT_COLUMNS, *labels], byte_order_mark=False)
    sources = [("video", "source"), *((r.video, r.source) for r in done)]
    write_csv(folder / SOURCES, folder, sources, byte_order_mark=False)
    write_json(folder / RECORDS, folder, {"schema": _SCHEMA, "events": rows})


def outcomes_of(records: Iterable[ReviewRecord]) -> tuple[Outcome, ...]:
    """Return the end states for stage 2's manifest: of the events that were decided."""
    return tuple(
        Outcome(r.video, "done" if r.state == "done" else "refused", r.reason, r.frames, r.notes)
        for r in records
        if r.state != "skipped"
    )
