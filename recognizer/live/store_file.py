"""The database's file while it is in use: held by one process, and opened anew where it was moved.

SQLite goes on to write to a file that was removed or renamed, where nothing will read it. So each
write looks first whether the file at the path is still the one that is open.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
from pathlib import Path
from typing import IO

from recognizer.live.store_schema import (
    StoreFullError,
    StoreLockedError,
    StoreMovedError,
    open_writer,
)

logger = logging.getLogger(__name__)


class StoreFile:
    """The open database and its lock.

    Args:
        path: the file; made where there is none.
        busy_s: seconds to wait for a lock of another program.

    Raises:
        StoreError: of any kind.

    """

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path, self._busy_s = path, busy_s
        self._held = _held_alone(path)
        try:
            self._db = open_writer(path, busy_s)
        except BaseException:
            self._held.close()
            raise
        self._identity = _identity(path)
        self._wal = _identity(_beside(path, "-wal"))
        self._is_open = True

    def close(self) -> None:
        """Close the database; what was written is on the disk."""
        self._is_open = False
        self._db.close()
        self._held.close()

    def at_its_place(self) -> sqlite3.Connection:
        """Return the database, opened anew where its file was removed or replaced.

        A file that was removed is written again, with all that it held; another database in its
        place is used as it is. While its folder or disk is away there is nothing to open.

        Raises:
            StoreMovedError: nothing can be opened now.
            StoreError: of any kind, of what stands in its place.

        """
        found = _identity(self._path)
        if self._is_open and (found is None or found != self._identity):
            try:
                self._open_anew(found)
            except OSError as error:
                raise StoreMovedError(
                    f"{self._path}: expected the database that is in use, it was moved and cannot "
                    f"be made again: {error.strerror}; changes of events wait in memory"
                ) from error
        elif self._wal is None:  # it comes with the first write
            self._wal = _identity(_beside(self._path, "-wal"))
        return self._db

    def _open_anew(self, found: tuple[int, int] | None) -> None:
        folder = _identity(self._path.parent)
        if folder is None or (found is None and self._identity and folder[0] != self._identity[0]):
            raise StoreMovedError(
                f"{self._path}: expected the database that is in use, its folder or disk is away; "
                "changes of events wait in memory: bring it back before the program ends"
            )
        held = self._held_here()
        try:
            if found is None:
                self._write_again()
                text = "the database was removed while in use; all that it held is written again"
            else:
                self._remove_old_log()
                text = (
                    "another file stands in the place of the database that was in use; it is used "
                    "from now on, without the events of the other"
                )
            anew = open_writer(self._path, self._busy_s)
        except BaseException:
            if held is not self._held:
                held.close()
            raise
        self._db.close()  # SQLite sees that its file was moved, and leaves the new one's log alone
        if held is not self._held:
            self._held.close()
        self._db = anew
        self._held, self._identity = held, _identity(self._path)
        self._wal = _identity(_beside(self._path, "-wal"))
        logger.warning("%s: %s", self._path, text)

    def _held_here(self) -> IO[bytes]:
        """Return the lock at the path: the one that is held, or another where it was moved too."""
        about = os.fstat(self._held.fileno())
        if _identity(_beside(self._path, ".lock")) == (about.st_dev, about.st_ino):
            return self._held
        return _held_alone(self._path)

    def _write_again(self) -> None:
        """Write what the open database holds to its place."""
        scratch = _beside(self._path, ".new")
        scratch.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(scratch)) as copy:
            self._db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        for end in ("-wal", "-shm"):  # of the removed file; it would be taken for the new one's
            _beside(self._path, end).unlink(missing_ok=True)
        scratch.replace(self._path)

    def _remove_old_log(self) -> None:
        """Remove the write-ahead log where it is the old database's."""
        wal = _beside(self._path, "-wal")
        if self._wal is not None and _identity(wal) == self._wal:
            wal.unlink()
            _beside(self._path, "-shm").unlink(missing_ok=True)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and number of a file; None: there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _held_alone(path: Path) -> IO[bytes]:
    """Return a lock file that no other process holds; the lock ends with its process."""
    place = _beside(path, ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = place.open("ab")
    except OSError as error:
        raise StoreFullError(f"{place}: cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StoreLockedError(
            f"{path}: expected a database for this process alone, another one writes it; end that "
            "or set another path"
        ) from error
    return file
