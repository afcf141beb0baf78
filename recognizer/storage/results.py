"""Where a stage keeps its results, under names with /: a folder, or a prefix in object storage.

Both write a file under its name in one step, whole or not at all: by a rename, or by a conditional
put. Neither is opened at first: workers on other machines get one by pickle.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from recognizer.storage.artifacts import SCRATCH_FOLDER, ArtifactError
from recognizer.storage.objects import list_below, read_object, save_object

_MAX_KEY_BYTES = 1024
_IN_NO_KEY = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

Write = Callable[[Path, Path], None]
"""Writes a file, given its path and the folder whose ``.scratch`` takes unfinished files."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A result that is there: text that changes with its content, and its time since 1970."""

    stamp: str
    modified_s: float


class Results(Protocol):
    """The results of a stage."""

    @property
    def root(self) -> Path:
        """The folder on this machine whose ``.scratch`` takes unfinished files."""
        ...

    def save(self, name: str, write: Write) -> str:
        """Write a result in one step and return its stamp.

        Raises:
            OSError: it cannot be written; names the place.

        """
        ...

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Give the path of a result on this machine, for reading.

        Raises:
            ArtifactError: there is none, in object storage.
            OSError: it cannot be read.

        """
        ...

    def listed(self, names: Collection[str]) -> Callable[[str], Listed | None]:
        """Return a function that looks up which of these results are there.

        Raises:
            OSError: they cannot be listed.

        """
        ...

    def refusal(self, name: str) -> str:
        """Return why there can be no result of this name, "" if there can."""
        ...


def file_stamp(path: Path) -> str:
    """Return text that changes with a file's content, "" if there is no such file.

    The time of the inode changes also where a copy keeps size and time of the content.
    """
    found = _look(path)
    return "" if found is None else found.stamp


def _look(path: Path) -> Listed | None:
    try:
        now = path.stat()
    except OSError:
        return None
    return Listed(f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}", now.st_mtime)


@dataclass(frozen=True, slots=True)
class FolderResults:
    """Results in a folder of this machine, or one that it shares with others."""

    folder: Path
    root: Path

    def __str__(self) -> str:
        return str(self.folder)

    def save(self, name: str, write: Write) -> str:
        """Write a result in one step and return its stamp."""
        final = self.folder / name
        try:
            write(final, self.root)
        except OSError as error:
            raise OSError(f"cannot write {final}: {error}") from error
        return file_stamp(final)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Give the path of a result."""
        yield self.folder / name

    def listed(self, names: Collection[str]) -> Callable[[str], Listed | None]:
        """Return a function that looks at a file when it is asked for it."""
        return lambda name: _look(self.folder / name)

    def refusal(self, name: str) -> str:
        """Return "": a video's name is that of a file already."""
        return ""


@dataclass(frozen=True, slots=True)
class StoredResults:
    """Results below an address of object storage; ``root`` is a folder of this machine."""

    address: str
    root: Path

    def __str__(self) -> str:
        return self.address

    def save(self, name: str, write: Write) -> str:
        """Write a result to a scratch file, put it under its name, and return its stamp."""
        with self._scratch(name) as path:
            try:
                write(path, self.root)
                data = path.read_bytes()
            except OSError as error:
                raise OSError(f"cannot write the scratch file {path}: {error}") from error
            try:
                version = save_object(self.address, name, data)
            except OSError as error:
                raise OSError(f"cannot write {name} to object storage: {error}") from error
        return f"{len(data)} {version.tag}"

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Fetch a result for reading; it is removed at the end."""
        found = read_object(self.address, name)
        if found is None:
            raise ArtifactError(f"expected a result at {self.address}/{name}, found none")
        with self._scratch(name) as path:
            path.write_bytes(found[0])
            yield path

    @contextlib.contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        folder = self.root / SCRATCH_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{secrets.token_hex(8)}{PurePosixPath(name).suffix[:16]}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def listed(self, names: Collection[str]) -> Callable[[str], Listed | None]:
        """List all results page by page; those of the names alone are held in memory."""
        kept = frozenset(names)
        found = {
            one.key: Listed(one.stamp, one.modified_s)
            for one in list_below(self.address)
            if one.key in kept
        }
        return found.get

    def refusal(self, name: str) -> str:
        """Return why no object can have the name of this result."""
        if _IN_NO_KEY.search(name):
            return "its name holds what no key of an object can: control characters or no UTF-8"
        key = f"{self.address.partition('://')[2].partition('/')[2]}/{name}"
        if len(os.fsencode(key)) > _MAX_KEY_BYTES:
            return f"the key of its result would be longer than {_MAX_KEY_BYTES} bytes; rename it"
        return ""


def open_results(place: Path | str, root: Path) -> Results:
    """Return the results at a place: a folder, or as text an address of object storage."""
    return FolderResults(place, root) if isinstance(place, Path) else StoredResults(place, root)
