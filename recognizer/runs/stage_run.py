"""A run of a stage on its results, in a folder or in object storage.

In object storage, manifests and journals lie under the names that they have in a folder. A run
works on copies in a folder of its machine: fetched at its start; the journal put back every ten
seconds, at most a twentieth of the time, and manifests at the end. Each is put only over the
version that was fetched, so that two runs never mix. Results are written by the workers.
"""

import contextlib
import logging
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.runs.journal import JOURNAL
from recognizer.runs.manifest import MANIFEST, Manifest, Outcome, Progress
from recognizer.runs.object_lock import ALL, object_lock
from recognizer.runs.shards import (
    SHARDS_FOLDER,
    Shard,
    exclusive_run,
    shard_root,
    stage_manifest,
)
from recognizer.storage.artifacts import ArtifactError
from recognizer.storage.objects import (
    ConflictError,
    StoreError,
    Version,
    delete_object,
    list_below,
    put_object,
    read_object,
)
from recognizer.storage.results import FolderResults, Results, StoredResults

logger = logging.getLogger(__name__)

_EVERY_S = 10.0
_SHARE = 20  # a put that took a second is followed by none for twenty
_STEM, _, _SUFFIX = MANIFEST.rpartition(".")
_SHARD_JOURNAL = re.compile(rf"\d+-of-\d+/{re.escape(JOURNAL)}")


@dataclass(frozen=True, slots=True)
class StageRun:
    """A run that has a stage's results for itself.

    Attributes:
        folder: its manifests; for object storage a copy of them.
        root: of this run's scratch files and journal.
        results: what workers write.
        copies: of what the store keeps; None: it is a folder.

    """

    folder: Path
    root: Path
    results: Results
    copies: "_Copies | None" = None

    def keeping(self, advance: Progress) -> Progress:
        """Return ``advance`` that also puts the journal back into object storage now and then."""
        copies = self.copies
        if copies is None:
            return advance

        def keep(outcome: Outcome | None, frames: int) -> None:
            advance(outcome, frames)
            if outcome is not None:
                copies.keep_journal()

        return keep


@contextlib.contextmanager
def stage_run(place: Path | str, shard: Shard | None) -> Iterator[StageRun]:
    """Have a stage's results alone, for a shard or for a run over all videos.

    Args:
        place: the folder, or as text the address in object storage.
        shard: None for all videos.

    Raises:
        BlockingIOError: another run over all videos, or of this shard, is at work.
        ConfigError: there are manifests of a split into another number of shards; no obstore.
        OSError: the place cannot be made, read or written.

    """
    if isinstance(place, Path):
        with exclusive_run(place, shard) as root:
            yield StageRun(place, root, FolderResults(place, root))
        return
    with ExitStack() as stack:
        stack.enter_context(object_lock(place, ALL if shard is None else shard.name))
        folder = Path(stack.enter_context(_scratch_folder()))
        copies = _Copies(place, folder)
        copies.fetch_manifests()
        copies.fetch_journals(shard)
        with _naming(place, folder):
            root = stack.enter_context(exclusive_run(folder, shard))
        finished = False
        try:
            yield StageRun(folder, root, StoredResults(place, root), copies)
            finished = True
        finally:
            if finished:
                copies.put_back()
            else:
                copies.keep_what_is_done()


def read_stage(place: Path | str, stage: str | None = None, shard: Shard | None = None) -> Manifest:
    """Read the end states of a stage at a place. Arguments and errors as of ``stage_manifest``."""
    if isinstance(place, Path):
        return stage_manifest(place, stage, shard)
    with _scratch_folder() as text:
        folder = Path(text)
        _Copies(place, folder).fetch_manifests()
        with _naming(place, folder):
            return stage_manifest(folder, stage, shard)


def _scratch_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="recognizer-", ignore_cleanup_errors=True)


@contextlib.contextmanager
def _naming(address: str, folder: Path) -> Iterator[None]:
    """Name the address in errors that name the folder of its copies."""
    try:
        yield
    except (ConfigError, ArtifactError, FileNotFoundError) as error:
        raise type(error)(str(error).replace(str(folder), address)) from error


class _Copies:
    """Manifests and journals of an address, in a folder under the same names."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder
        self._journal = JOURNAL  # of this run
        self._fetched: dict[str, tuple[bytes, Version]] = {}  # manifests
        self._versions: dict[str, Version] = {}  # of journals
        self._put_size = -1
        self._next_s = time.monotonic() + _EVERY_S

    def fetch_manifests(self) -> None:
        """Fetch the stage's manifest and those of shards."""
        for stored in list_below(self._address, after=_STEM):
            if not stored.key.startswith(_STEM):
                break  # lists are in the order of keys
            if "/" not in stored.key and stored.key.endswith(f".{_SUFFIX}"):
                found = self._fetch(stored.key)
                if found is not None:
                    self._fetched[stored.key] = found

    def fetch_journals(self, shard: Shard | None) -> None:
        """Fetch the journal of this run, and those that it reads beside its own."""
        names = [JOURNAL]
        if shard is None:
            below = f"{self._address}/{SHARDS_FOLDER}"
            there = [stored.key for stored in list_below(below)]
            names += [f"{SHARDS_FOLDER}/{key}" for key in there if _SHARD_JOURNAL.fullmatch(key)]
        else:
            own = shard_root(self._folder, shard).relative_to(self._folder)
            self._journal = f"{own.as_posix()}/{JOURNAL}"
            names.append(self._journal)
        for name in names:
            found = self._fetch(name)
            if found is not None:
                self._versions[name] = found[1]

    def _fetch(self, name: str) -> tuple[bytes, Version] | None:
        found = read_object(self._address, name)
        if found is not None:
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found[0])
        return found

    def keep_journal(self) -> None:
        """Put the journal back, unless that was done shortly before.

        Raises:
            ConflictError: another run wrote it.
            StoreError: the store cannot be used.

        """
        start_s = time.monotonic()
        if start_s >= self._next_s:
            self._put_journal()
            stop_s = time.monotonic()
            self._next_s = stop_s + max(_EVERY_S, _SHARE * (stop_s - start_s))

    def _put_journal(self) -> None:
        path = self._folder / self._journal
        if not path.exists() or path.stat().st_size == self._put_size:
            return
        data = path.read_bytes()
        before = self._versions.get(self._journal)
        self._versions[self._journal] = put_object(self._address, self._journal, data, before)
        self._put_size = len(data)

    def keep_what_is_done(self) -> None:
        """Put the journal back after an error, which this one must not hide."""
        try:
            self._put_journal()
        except (StoreError, ConflictError) as error:
            logger.warning("the journal could not be kept, so the next run takes longer: %s", error)

    def put_back(self) -> None:
        """Put the journal and what changed of the manifests; remove those that were merged."""
        self._put_journal()
        gone = [name for name in self._fetched if not (self._folder / name).exists()]
        # As in a folder: one goes last, so that a split that lacks shards is not read as new.
        for name in gone[1:]:
            delete_object(self._address, name)
        for path in sorted(self._folder.glob(f"{_STEM}*.{_SUFFIX}")):
            data, before = path.read_bytes(), self._fetched.get(path.name)
            if before is None or before[0] != data:
                put_object(self._address, path.name, data, before and before[1])
        for name in gone[:1]:
            delete_object(self._address, name)
        for name in self._versions:
            if not (self._folder / name).exists():
                delete_object(self._address, name)
