"""The journal of a run: which results are finished, so that a restart need not open them.

One line for each result: a CRC-32 and a JSON list of the input's name, the stamps of its source and
of its result, and its end state. A file whose size, times of content and of inode are as in the
journal is the same file; any other is compared as without a journal. A line that was cut off by the
end of the process ends the journal; what is missing from it is found by opening results.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from recognizer.runs.manifest import Outcome, Progress, Settings
from recognizer.storage.artifacts import atomic_path

JOURNAL = ".journal"
_VERSION = 1  # a higher one makes all results be opened once
_SPARE_LINES = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished result.

    Attributes:
        source: stamp of what it was made from.
        result: stamp of its file.
        outcome: the end state.

    """

    source: str
    result: str
    outcome: Outcome


class Journal:
    """The finished results of a run, read at its start and appended to."""

    def __init__(self, file: BinaryIO, own: dict[str, Entry], others: dict[str, Entry]) -> None:
        self._file = file
        self._own = own
        self._others = others
        self._unchanged: set[str] = set()  # of ``own``, looked at in this run

    def outcome(self, video: str, source: str, result: str) -> Outcome | None:
        """Return the end state of a finished result, None if it must be looked at.

        Args:
            video: name of the input.
            source: present stamp of what the result is made from.
            result: its present stamp, "" if there is none.

        """
        for entries in (self._own, self._others):
            entry = entries.get(video)
            if entry is None or not source or entry.source != source:
                continue
            if entry.result != result:
                return None
            if entries is self._own:
                self._unchanged.add(video)
            return replace(entry.outcome, stamp=result)
        return None

    def record(self, outcome: Outcome, source: str) -> None:
        """Append a finished result unless it is there; refused inputs have none."""
        if outcome.state == "refused" or not source or not outcome.stamp:
            return
        entry = Entry(source, outcome.stamp, outcome)
        if self._own.get(outcome.video) != entry:
            self._own[outcome.video] = entry
            self._file.write(_line(entry))

    def recording(self, advance: Progress, sources: Mapping[str, str]) -> Progress:
        """Return ``advance`` that records as well.

        Args:
            advance: called last.
            sources: stamp of each input's source, as of before its job.

        """

        def record(outcome: Outcome | None, frames: int) -> None:
            if outcome is not None and outcome.video not in self._unchanged:
                self.record(outcome, sources.get(outcome.video, ""))
            advance(outcome, frames)

        return record


@contextlib.contextmanager
def open_journal(root: Path, settings: Settings, others: Sequence[Path] = ()) -> Iterator[Journal]:
    """Read the journal in ``root`` and go on with it.

    Args:
        root: its folder, which the run has for itself.
        settings: what decides the results; a journal of other settings is begun anew.
        others: folders of further journals that are read.

    Raises:
        OSError: the folder cannot be written.

    """
    header = _header(settings)
    read: dict[str, Entry] = {}
    for other in others:
        read |= _read(other / JOURNAL, header)[0]
    path = root / JOURNAL
    own, whole_bytes, lines = _read(path, header)
    if not whole_bytes or lines > 2 * len(own) + _SPARE_LINES:
        with atomic_path(path, root) as scratch, scratch.open("wb") as file:
            file.write(header)
            file.writelines(map(_line, own.values()))
    else:
        os.truncate(path, whole_bytes)
    with path.open("ab", buffering=0) as file:  # a line is out of this process at once
        yield Journal(file, own, read)


def _header(settings: Settings) -> bytes:
    text = json.dumps(settings, sort_keys=True, default=str)
    value = {
        "schema": "recognizer.journal",
        "version": _VERSION,
        "settings": hashlib.sha256(text.encode()).hexdigest(),
    }
    return json.dumps(value).encode() + b"\n"


def _line(entry: Entry) -> bytes:
    o = entry.outcome
    value = [o.video, entry.source, entry.result, o.state, o.reason, o.frames, o.notes]
    data = json.dumps(value).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _read(path: Path, header: bytes) -> tuple[dict[str, Entry], int, int]:
    """Return the entries up to the last whole line, the bytes up to there, the lines.

    A file of other settings, or none, has 0 bytes of ours.
    """
    entries: dict[str, Entry] = {}
    whole_bytes = lines = 0
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            entry = _entry(line) if lines else None
            if entry is None and (lines or line != header):
                break
            if entry is not None:
                entries[entry.outcome.video] = entry
            whole_bytes, lines = whole_bytes + len(line), lines + 1
    return entries, whole_bytes, lines


def _entry(line: bytes) -> Entry | None:
    """Return the entry of a line, None for one that is not whole or not of this form."""
    crc, data = line[:8], line[9:-1]
    if not data or not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(data):
        return None
    try:
        video, source, result, state, reason, frames, notes = json.loads(str(data, "ascii"))
        texts = (video, source, result, reason, *notes)
    except (ValueError, TypeError, RecursionError):
        return None
    fits = all(type(text) is str for text in texts) and type(frames) is int
    if not fits or state not in ("done", "damaged"):
        return None
    return Entry(source, result, Outcome(video, state, reason, frames, tuple(notes)))
