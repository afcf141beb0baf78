"""What the page and the metrics read of the store of live events."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recognizer.live.events import LiveEvent, NearMiss
from recognizer.live.store import Verdict
from recognizer.live.store_schema import check_application, parsed_event, reading

MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are listed; None: all.

    Attributes:
        camera: of this camera.
        class_name: of this class.
        zone: in this zone.
        state: in this state.
        review: with this verdict; empty: without one.
        from_utc_s: that start at or after it.
        until_utc_s: that start before it.

    """

    camera: str | None = None
    class_name: str | None = None
    zone: str | None = None
    state: str | None = None
    review: str | None = None
    from_utc_s: float | None = None
    until_utc_s: float | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event in a list; names as in ``LiveEvent``."""

    event_id: str
    state: str
    camera: str
    class_name: str
    zone: str
    start_utc_s: float
    end_utc_s: float
    peak_probability: float
    muted: bool
    closed_by: str | None
    review: Verdict | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event of a page; the next begins after it."""

    start_utc_s: float
    event_id: str


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, latest first, and where the next page begins; None: there is none."""

    events: tuple[EventRow, ...]
    following: Cursor | None


@dataclass(frozen=True, slots=True)
class Review:
    """What a person decided about an event."""

    verdict: Verdict
    reviewer: str
    note: str
    utc_s: float


@dataclass(frozen=True, slots=True)
class DecidedEvent:
    """An event in its last state and the last decision about it; None: there is none."""

    event: LiveEvent
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class GapRow:
    """A time without video; ``end_utc_s`` None: it goes on."""

    camera: str
    start_utc_s: float
    end_utc_s: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """A sink's notices that wait, those given up, and the last error, None: none."""

    sink: str
    pending: int
    dead: int
    last_error: str | None


def list_events(
    path: Path, chosen: Filter | None = None, after: Cursor | None = None, limit: int = 50
) -> EventPage:
    """Return a page of events, latest first.

    Args:
        path: the database.
        chosen: which; None: all.
        after: the last page's ``following``.
        limit: events on a page.

    Raises:
        ValueError: a limit that is not in 1 to 500.
        StoreError: of any kind.

    """
    _check_limit(limit)
    where, values = _conditions(chosen or Filter())
    if after is not None:
        where.append("(start_utc_s, id) < (?, ?)")
        values += [after.start_utc_s, after.event_id]
    with reading(path) as db:
        rows = db.execute(
            "SELECT id, state, camera, class, zone, start_utc_s, end_utc_s, peak, muted, "
            f"closed_by, review FROM events WHERE {' AND '.join(where) or '1'} "
            "ORDER BY start_utc_s DESC, id DESC LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
    events = tuple(_event_row(row) for row in rows[:limit])
    last = events[-1] if len(rows) > limit else None
    return EventPage(events, Cursor(last.start_utc_s, last.event_id) if last else None)


def _conditions(chosen: Filter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("camera = ?", chosen.camera),
        ("class = ?", chosen.class_name),
        ("zone = ?", chosen.zone),
        ("state = ?", chosen.state),
        ("review = ?", chosen.review or None),
        ("start_utc_s >= ?", chosen.from_utc_s),
        ("start_utc_s < ?", chosen.until_utc_s),
    ):
        if value is not None:
            where.append(condition)
            values.append(value)
    if chosen.review == "":
        where.append("review IS NULL")
    return where, values


def _event_row(row: sqlite3.Row) -> EventRow:
    return EventRow(
        event_id=row["id"],
        state=row["state"],
        camera=row["camera"],
        class_name=row["class"],
        zone=row["zone"],
        start_utc_s=row["start_utc_s"],
        end_utc_s=row["end_utc_s"],
        peak_probability=row["peak"],
        muted=bool(row["muted"]),
        closed_by=row["closed_by"],
        review=row["review"],
    )


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: expected 1 to {MAX_PAGE}, got {limit}")


def read_event(path: Path, event_id: str) -> LiveEvent:
    """Return an event in its last state.

    Raises:
        KeyError: no such event.
        StoreError: of any kind.

    """
    with reading(path) as db:
        row = db.execute("SELECT body FROM events WHERE id = ?", (event_id,)).fetchone()
    if row is None:
        raise KeyError(f"expected the id of an event, got {event_id!r}; it may be removed")
    return parsed_event(row["body"], path)


def list_decided(path: Path) -> list[DecidedEvent]:
    """Return all events with the decisions about them, of one moment, the earliest first.

    Raises:
        StoreError: of any kind, as for a database of another program or a later version.

    """
    with reading(path) as db:
        check_application(db, path)
        rows = db.execute("SELECT body, review FROM events ORDER BY start_utc_s, id").fetchall()
    return [DecidedEvent(parsed_event(row["body"], path), row["review"]) for row in rows]


def list_reviews(path: Path, event_id: str) -> tuple[Review, ...]:
    """Return all decisions about an event, the last one last."""
    with reading(path) as db:
        rows = db.execute(
            "SELECT verdict, reviewer, note, utc_s FROM reviews WHERE event_id = ? ORDER BY seq",
            (event_id,),
        ).fetchall()
    return tuple(Review(*row) for row in rows)


def list_near_misses(
    path: Path, camera: str | None = None, limit: int = 50
) -> tuple[NearMiss, ...]:
    """Return the latest near misses, latest first."""
    _check_limit(limit)
    with reading(path) as db:
        rows = db.execute(
            "SELECT camera, class, zone, start_s, end_s, start_utc_s, end_utc_s, peak, rule "
            "FROM near_misses WHERE camera = ? OR ? IS NULL ORDER BY end_utc_s DESC LIMIT ?",
            (camera, camera, limit),
        ).fetchall()
    return tuple(NearMiss(*row) for row in rows)


def list_gaps(path: Path, camera: str | None = None, limit: int = 50) -> tuple[GapRow, ...]:
    """Return the latest gaps, latest first."""
    _check_limit(limit)
    with reading(path) as db:
        rows = db.execute(
            "SELECT camera, start_utc_s, end_utc_s, reason FROM gaps "
            "WHERE camera = ? OR ? IS NULL ORDER BY start_utc_s DESC LIMIT ?",
            (camera, camera, limit),
        ).fetchall()
    return tuple(GapRow(*row) for row in rows)


def outbox_depths(path: Path) -> tuple[OutboxDepth, ...]:
    """Return how many notices each sink has not had."""
    with reading(path) as db:
        rows = db.execute(
            "SELECT sink, sum(status = 'pending'), sum(status = 'dead'), max(last_error) "
            "FROM outbox WHERE status != 'sent' GROUP BY sink ORDER BY sink"
        ).fetchall()
    return tuple(OutboxDepth(*row) for row in rows)


def last_notices(path: Path, since_utc_s: float) -> dict[tuple[str, str, str], float]:
    """Return when the last event with notices began to be sent, by camera, class and zone.

    Args:
        path: the database.
        since_utc_s: older ones are left out.

    """
    with reading(path) as db:
        rows = db.execute(
            "SELECT e.camera, e.class, e.zone, max(u.utc_s) FROM events e "
            "JOIN event_updates u ON u.event_id = e.id AND u.state = 'new' "
            "WHERE e.muted = 0 AND e.end_utc_s >= ? AND u.utc_s >= ? "
            "GROUP BY e.camera, e.class, e.zone",
            (since_utc_s, since_utc_s),
        )
        return {(row[0], row[1], row[2]): float(row[3]) for row in rows}


def count_events(path: Path) -> dict[tuple[str, str], int]:
    """Return the number of events by class and state; ``reviewed`` comes after ``end``."""
    with reading(path) as db:
        rows = db.execute(
            "SELECT class, CASE WHEN review IS NULL THEN state ELSE 'reviewed' END AS reached, "
            "count(*) FROM events GROUP BY class, reached"
        )
        return {(row[0], row[1]): row[2] for row in rows}


def newer_event(path: Path, chosen: Filter, before: Cursor) -> str | None:
    """Return the id of the event that a list shows just before another; None: it is the first."""
    where, values = _conditions(chosen)
    with reading(path) as db:
        row = db.execute(
            f"SELECT id FROM events WHERE {' AND '.join([*where, '(start_utc_s, id) > (?, ?)'])} "
            "ORDER BY start_utc_s, id LIMIT 1",
            (*values, before.start_utc_s, before.event_id),
        ).fetchone()
    return None if row is None else str(row["id"])
