"""The database of live events: its tables, how it is opened, and what its errors mean."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from recognizer.live.events import LiveEvent, event_from_dict

APPLICATION_ID = 0x52434C56  # tells our database from those of other programs
BUSY_S = 5.0

# One tuple of statements for each version; those of a version that was released never change.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE events (
            id TEXT PRIMARY KEY, revision INTEGER NOT NULL, state TEXT NOT NULL,
            camera TEXT NOT NULL, class TEXT NOT NULL, zone TEXT NOT NULL,
            start_utc_s REAL NOT NULL, end_utc_s REAL NOT NULL, peak REAL NOT NULL,
            muted INTEGER NOT NULL, closed_by TEXT, review TEXT, body TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX events_by_time ON events (start_utc_s, id)",
        "CREATE INDEX events_by_camera ON events (camera, start_utc_s, id)",
        "CREATE INDEX events_by_review ON events (review, start_utc_s, id)",
        """CREATE TABLE event_updates (
            event_id TEXT NOT NULL REFERENCES events ON DELETE CASCADE,
            revision INTEGER NOT NULL, state TEXT NOT NULL, utc_s REAL NOT NULL,
            body TEXT, PRIMARY KEY (event_id, revision)
        ) STRICT""",
        """CREATE TABLE reviews (
            seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL REFERENCES events ON DELETE CASCADE,
            verdict TEXT NOT NULL, reviewer TEXT NOT NULL, note TEXT NOT NULL, utc_s REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX reviews_by_event ON reviews (event_id)",
        """CREATE TABLE near_misses (
            seq INTEGER PRIMARY KEY, camera TEXT NOT NULL, class TEXT NOT NULL,
            zone TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
            start_utc_s REAL NOT NULL, end_utc_s REAL NOT NULL, peak REAL NOT NULL,
            rule TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX near_misses_by_time ON near_misses (end_utc_s)",
        """CREATE TABLE gaps (
            seq INTEGER PRIMARY KEY, camera TEXT NOT NULL, start_utc_s REAL NOT NULL,
            end_utc_s REAL, reason TEXT NOT NULL, UNIQUE (camera, start_utc_s, reason)
        ) STRICT""",
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, event_id TEXT NOT NULL,
            revision INTEGER NOT NULL, status TEXT NOT NULL DEFAULT 'pending',
            created_utc_s REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
            waiting_since_utc_s REAL, done_utc_s REAL, last_error TEXT,
            UNIQUE (sink, event_id, revision),
            FOREIGN KEY (event_id, revision) REFERENCES event_updates ON DELETE CASCADE
        ) STRICT""",
        "CREATE INDEX outbox_pending ON outbox (sink, seq) WHERE status = 'pending'",
        "CREATE INDEX outbox_by_event ON outbox (event_id, revision)",
        """CREATE TABLE remote_ids (
            sink TEXT NOT NULL, event_id TEXT NOT NULL REFERENCES events ON DELETE CASCADE,
            remote_id TEXT NOT NULL, PRIMARY KEY (sink, event_id)
        ) STRICT""",
        "CREATE INDEX remote_ids_by_event ON remote_ids (event_id)",
    ),
    (
        # Every state of every zone that was drawn; the last one of a zone counts.
        """CREATE TABLE zones (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL, camera TEXT NOT NULL, kind TEXT NOT NULL,
            name TEXT NOT NULL, polygon TEXT NOT NULL, is_removed INTEGER NOT NULL,
            author TEXT NOT NULL, utc_s REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX zones_by_id ON zones (id, seq)",
    ),
)


class StoreError(RuntimeError):
    """The database of live events cannot be used; the message says why and what to do."""


class StoreVersionError(StoreError):
    """A database of a later version, or of another program."""


class StoreDamagedError(StoreError):
    """No database, or a damaged one."""


class StoreFullError(StoreError):
    """The disk is full or cannot be written."""


class StoreLockedError(StoreError):
    """Another process holds the database."""


class StoreMovedError(StoreError):
    """The database is no longer at its place; it is opened anew when that is possible."""


_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ``StoreError``, with the file's place."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _FULL:
            raise StoreFullError(
                f"{path}: expected room and the right to write, got: {error}; nothing of this step "
                "is kept. Free space on its disk"
            ) from error
        if code in _LOCKED:
            raise StoreLockedError(
                f"{path}: expected a database that is free, another process locks it; close that"
            ) from error
        raise StoreError(f"{path}: cannot be opened or used as a database: {error}") from error
    except sqlite3.IntegrityError:
        raise
    except sqlite3.ProgrammingError as error:
        raise StoreError(f"{path}: cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreDamagedError(
            f"{path}: expected a database of live events, got: {error}. Move it away, and its "
            "-wal and -shm files with it, and start again, or restore a copy"
        ) from error


def open_writer(path: Path, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open or make the database, and bring it to this version.

    Raises:
        StoreError: of any kind.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFullError(f"{path.parent}: cannot be made: {error.strerror}") from error
    with store_errors(path):
        db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        try:
            check_application(db, path)
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            _migrate(db)
        except BaseException:
            db.close()
            raise
    return db


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that can only read; its reads are of one moment.

    Raises:
        StoreError: of any kind.

    """
    with store_errors(path):
        db = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
        )
        try:
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")
            yield db
        finally:
            db.close()


def parsed_event(body: str, path: Path) -> LiveEvent:
    """Return the event of a row.

    Raises:
        StoreDamagedError: the row holds none.

    """
    try:
        return event_from_dict(json.loads(body))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreDamagedError(
            f"{path}: expected an event as JSON in a row, got: {type(error).__name__}: {error}. "
            "Move it away, and its -wal and -shm files with it, and start again, or restore a copy"
        ) from error


def check_application(db: sqlite3.Connection, path: Path) -> None:
    """Check that a database is one of ours, or empty, and of no later version.

    Raises:
        StoreVersionError: it is not.

    """
    version, application = pragma(db, "user_version"), pragma(db, "application_id")
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreVersionError(
            f"{path}: expected a database of live events, found one of another program; set "
            "another path"
        )
    if version > len(MIGRATIONS):
        raise StoreVersionError(
            f"{path}: expected a database of version {len(MIGRATIONS)} or before, found version "
            f"{version}; run the later release that made it"
        )


def _migrate(db: sqlite3.Connection) -> None:
    """Run what the database lacks, all or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[pragma(db, "user_version") :]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def pragma(db: sqlite3.Connection, name: str) -> int:
    """Return the number that a pragma holds."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
