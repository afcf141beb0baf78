"""The store of live events: what happened, what was decided, and which notices wait.

SQLite is the truth. One connection writes, under a lock; an event and its notices are written in
one transaction, so that a killed process leaves both or neither. Times are seconds since 1970.
"""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from recognizer.config.alerts import SinkConfig
from recognizer.live.events import LiveEvent, NearMiss, Outcome
from recognizer.live.store_file import StoreFile
from recognizer.live.store_schema import (
    BUSY_S,
    parsed_event,
    pragma,
    reading,
    store_errors,
)

Verdict = Literal["confirmed", "false_alarm", "unsure"]
MAX_ERROR = 300  # characters of a sink's error that are kept
_BATCH = 100  # events removed at once for the quota
# Events that may be removed: over, reviewed, and with no notice that was not sent.
_REMOVABLE = """state = 'end' AND review IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM outbox o WHERE o.event_id = events.id AND o.status != 'sent')"""


@dataclass(frozen=True, slots=True)
class Notice:
    """A state of an event that a sink has not had yet.

    Attributes:
        seq: its place in the outbox.
        event: the event in that state.
        attempts: how often sending it failed.
        waiting_since_utc_s: when its sink failed first while it waited, None: it has not.

    """

    seq: int
    event: LiveEvent
    attempts: int
    waiting_since_utc_s: float | None

    @property
    def key(self) -> str:
        """The same for every try, and for no other notice of the sink."""
        return self.event.key


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a cleaning removed.

    Attributes:
        events: their ids, for those who keep files of them.
        near_misses: number of them.
        gaps: number of them.
        over_quota_bytes: what is above the quota still, because none of it may be removed.

    """

    events: tuple[str, ...]
    near_misses: int
    gaps: int
    over_quota_bytes: int


class Store:
    """The database, opened to write by this process alone.

    Args:
        path: the file; made where there is none.
        sinks: those that get notices.
        busy_s: seconds to wait for a lock of another program.

    Raises:
        StoreError: of any kind.

    """

    def __init__(
        self, path: Path, sinks: Sequence[SinkConfig] = (), busy_s: float = BUSY_S
    ) -> None:
        self.path = path
        self._sinks, self._listeners = tuple(sinks), list[Callable[[], None]]()
        self._lock = threading.Lock()
        self._file = StoreFile(path, busy_s)

    def close(self) -> None:
        """Close the database; what was written is on the disk."""
        with self._lock:
            self._file.close()

    def check(self) -> None:
        """Look whether the database is where it was, and open it anew where it is not.

        Every write looks too; this is for a time without any.

        Raises:
            StoreMovedError: it is away, and cannot be opened anew now.
            StoreError: of any kind, of what stands in its place.

        """
        with self._lock, store_errors(self.path):
            self._file.at_its_place()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function after every change of events, from the thread that made it."""
        self._listeners.append(listener)

    # --- events ----------------------------------------------------------------------

    def put(self, outcomes: Iterable[Outcome], utc_s: float) -> None:
        """Write states of events, their notices, and near misses: all or nothing.

        A state that is there already changes nothing.

        Raises:
            StoreError: of any kind.

        """
        with self.writing() as db:
            for outcome in outcomes:
                if isinstance(outcome, NearMiss):
                    _put_near_miss(db, outcome)
                elif _put_event(db, outcome, utc_s) and not outcome.muted:
                    self._put_notices(db, outcome, utc_s)
        for listener in self._listeners:
            listener()

    def close_left_open(self, utc_s: float) -> int:
        """End the events that a killed process left open; return their number."""
        with reading(self.path) as db:
            rows = db.execute("SELECT body FROM events WHERE state != 'end' ORDER BY start_utc_s")
            events = [parsed_event(row["body"], self.path) for row in rows]
        self.put(
            [
                replace(event, state="end", closed_by="restart", revision=event.revision + 1)
                for event in events
            ],
            utc_s,
        )
        return len(events)

    def put_gap(
        self, camera: str, start_utc_s: float, end_utc_s: float | None, reason: str
    ) -> None:
        """Write a time without video, or the end of one that was written without."""
        with self.writing() as db:
            db.execute(
                "INSERT INTO gaps (camera, start_utc_s, end_utc_s, reason) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET end_utc_s = excluded.end_utc_s "
                "WHERE gaps.end_utc_s IS NULL",
                (camera, start_utc_s, end_utc_s, reason),
            )

    def review(
        self, event_id: str, verdict: Verdict, reviewer: str, utc_s: float, note: str = ""
    ) -> None:
        """Write what a person decided about an event; the last decision counts, all are kept.

        Raises:
            KeyError: no such event.

        """
        with self.writing() as db:
            done = db.execute("UPDATE events SET review = ? WHERE id = ?", (verdict, event_id))
            if done.rowcount != 1:
                raise KeyError(f"expected the id of an event, got {event_id!r}; it may be removed")
            db.execute(
                "INSERT INTO reviews (event_id, verdict, reviewer, note, utc_s) "
                "VALUES (?, ?, ?, ?, ?)",
                (event_id, verdict, reviewer, note, utc_s),
            )
        for listener in self._listeners:
            listener()

    def _put_notices(self, db: sqlite3.Connection, event: LiveEvent, utc_s: float) -> None:
        db.executemany(
            "INSERT INTO outbox (sink, event_id, revision, created_utc_s) VALUES (?, ?, ?, ?)",
            [
                (sink.name, event.event_id, event.revision, utc_s)
                for sink in self._sinks
                if sink.takes(event.camera, event.class_name)
            ],
        )

    # --- outbox ------------------------------------------------------------------------

    def next_notice(self, sink: str) -> Notice | None:
        """Return the first notice that a sink has not had."""
        with reading(self.path) as db:
            row = db.execute(
                "SELECT o.seq, o.attempts, o.waiting_since_utc_s, u.body FROM outbox o "
                "JOIN event_updates u USING (event_id, revision) "
                "WHERE o.sink = ? AND o.status = 'pending' ORDER BY o.seq LIMIT 1",
                (sink,),
            ).fetchone()
        if row is None:
            return None
        event = parsed_event(row["body"], self.path)
        return Notice(row["seq"], event, row["attempts"], row["waiting_since_utc_s"])

    def mark_sent(self, notice: Notice, utc_s: float) -> None:
        """Note that the sink has a notice."""
        self._mark(notice, "sent", None, utc_s)

    def mark_dead(self, notice: Notice, error: str, utc_s: float) -> None:
        """Note that a notice is given up; it is kept as unsent."""
        self._mark(notice, "dead", error[:MAX_ERROR], utc_s)

    def _mark(self, notice: Notice, status: str, error: str | None, utc_s: float) -> None:
        with self.writing() as db:
            db.execute(
                "UPDATE outbox SET status = ?, done_utc_s = ?, last_error = ? "
                "WHERE seq = ? AND status = 'pending'",
                (status, utc_s, error, notice.seq),
            )

    def mark_failed(self, sink: str, notice: Notice, error: str, utc_s: float) -> None:
        """Note a failed try; from now on all notices of the sink wait for it."""
        with self.writing() as db:
            db.execute(
                "UPDATE outbox SET attempts = attempts + 1, last_error = ? WHERE seq = ?",
                (error[:MAX_ERROR], notice.seq),
            )
            db.execute(
                "UPDATE outbox SET waiting_since_utc_s = ? "
                "WHERE sink = ? AND status = 'pending' AND waiting_since_utc_s IS NULL",
                (utc_s, sink),
            )

    def retry_dead(self, sink: str) -> int:
        """Let notices that were given up wait again, behind the others; return their number."""
        with self.writing() as db:
            done = db.execute(
                "UPDATE outbox SET status = 'pending', attempts = 0, waiting_since_utc_s = NULL, "
                "done_utc_s = NULL, seq = seq + (SELECT max(seq) FROM outbox) "
                "WHERE sink = ? AND status = 'dead'",
                (sink,),
            )
            db.execute(
                "UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM outbox) "
                "WHERE name = 'outbox'"
            )
        for listener in self._listeners:
            listener()
        return done.rowcount

    def drop_notices(self, sink: str) -> int:
        """Remove what a sink has not had, as for one that is gone; return the number."""
        with self.writing() as db:
            return db.execute(
                "DELETE FROM outbox WHERE sink = ? AND status != 'sent'", (sink,)
            ).rowcount

    def remote_id(self, sink: str, event_id: str) -> str | None:
        """Return the id that a sink's server gave an event."""
        with reading(self.path) as db:
            row = db.execute(
                "SELECT remote_id FROM remote_ids WHERE sink = ? AND event_id = ?",
                (sink, event_id),
            ).fetchone()
        return None if row is None else str(row["remote_id"])

    def put_remote_id(self, sink: str, event_id: str, remote_id: str) -> None:
        """Write the id that a sink's server gave an event."""
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO remote_ids SELECT ?, id, ? FROM events WHERE id = ?",
                (sink, remote_id, event_id),  # the event may be removed meanwhile
            )

    # --- retention -----------------------------------------------------------------------

    def clean(
        self,
        utc_s: float,
        retention_s: float,
        quota_bytes: int,
        file_bytes: Mapping[str, int] = MappingProxyType({}),
    ) -> Cleaned:
        """Remove what is too old, and the oldest above the quota.

        An event that is open, unreviewed, or has a notice that was not sent is always kept.

        Args:
            utc_s: the present.
            retention_s: how long events are kept.
            quota_bytes: of the database and the files together.
            file_bytes: of files by event id, for the caller to remove; other ids do not count.

        """
        before = utc_s - retention_s
        with self.writing() as db:
            removed = _ids(db, f"{_REMOVABLE} AND end_utc_s < ?", before)
            misses = db.execute("DELETE FROM near_misses WHERE end_utc_s < ?", (before,)).rowcount
            gaps = db.execute("DELETE FROM gaps WHERE end_utc_s < ?", (before,)).rowcount
            files = sum(file_bytes.get(one, 0) for (one,) in db.execute("SELECT id FROM events"))
            while (over := _used(db) + files - quota_bytes) > 0:
                oldest = _oldest(db, over, file_bytes)
                if not oldest:
                    break
                removed += _ids(db, "id IN (SELECT value FROM json_each(?))", json.dumps(oldest))
                files -= sum(file_bytes.get(one, 0) for one in oldest)
        with self._lock, store_errors(self.path):
            # As a script: a single execute() gives back one page. The checkpoint shortens the file.
            self._file.at_its_place().executescript(
                "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)"
            )
        return Cleaned(tuple(removed), misses, gaps, max(0, over))

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection that writes, in one transaction: for tables of other modules too."""
        with self._lock, store_errors(self.path):
            db = self._file.at_its_place()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _put_event(db: sqlite3.Connection, event: LiveEvent, utc_s: float) -> bool:
    """Write a state of an event; return False where that state or a later one is there."""
    row = db.execute("SELECT revision FROM events WHERE id = ?", (event.event_id,)).fetchone()
    if row is not None and row[0] >= event.revision:
        return False
    body = json.dumps(event.as_dict(), allow_nan=False)
    values: dict[str, Any] = {
        "id": event.event_id,
        "revision": event.revision,
        "state": event.state,
        "camera": event.camera,
        "class": event.class_name,
        "zone": event.zone,
        "start_utc_s": event.start_utc_s,
        "end_utc_s": event.end_utc_s,
        "peak": event.peak_probability,
        "muted": event.muted,
        "closed_by": event.closed_by,
        "body": body,
    }
    names = ", ".join(values)
    changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "id")
    db.execute(
        f"INSERT INTO events ({names}) VALUES ({', '.join('?' * len(values))}) "
        f"ON CONFLICT (id) DO UPDATE SET {changes}",
        tuple(values.values()),
    )
    db.execute(
        "INSERT INTO event_updates VALUES (?, ?, ?, ?, ?)",
        (event.event_id, event.revision, event.state, utc_s, body),
    )
    return True


def _put_near_miss(db: sqlite3.Connection, miss: NearMiss) -> None:
    db.execute(
        "INSERT INTO near_misses (camera, class, zone, start_s, end_s, start_utc_s, end_utc_s, "
        "peak, rule) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        astuple(miss),
    )


def _ids(db: sqlite3.Connection, where: str, value: float | str) -> list[str]:
    """Delete events; return their ids."""
    rows = db.execute(f"DELETE FROM events WHERE {where} RETURNING id", (value,))
    return [row[0] for row in rows]


def _oldest(db: sqlite3.Connection, over: int, file_bytes: Mapping[str, int]) -> list[str]:
    """Return the oldest events that may be removed: a batch, or fewer whose files are enough."""
    rows = db.execute(
        f"SELECT id FROM events WHERE {_REMOVABLE} ORDER BY start_utc_s LIMIT ?", (_BATCH,)
    ).fetchall()
    chosen: list[str] = []
    for (event_id,) in rows:
        if over <= 0:
            break
        chosen.append(event_id)
        over -= file_bytes.get(event_id, 0)
    return chosen


def _used(db: sqlite3.Connection) -> int:
    return (pragma(db, "page_count") - pragma(db, "freelist_count")) * pragma(db, "page_size")
