"""A file with one JSON object a line, each notice once."""

import json
import os
from pathlib import Path

from recognizer.live.sinks.sink import SinkError, notice_bytes
from recognizer.live.store import Notice

_BEGIN = b'{"key"'
_TAIL = 4 * 2**20  # a line is far shorter


class JsonLines:
    """Appends notices to a file, which other programs may move away at any time.

    A process killed between the line and the note that it was sent writes no second line: the
    file's last line tells. A line of ours without an end, of a killed process or a full disk, is
    removed; one of another program gets its end.

    Args:
        path: the file; made where there is none.

    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, notice: Notice) -> None:
        """Append a line, and wait until it is on the disk.

        Raises:
            SinkError: the file cannot be written.

        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                self._append(handle, notice)
            finally:
                os.close(handle)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: no file is open between two notices."""

    def _append(self, handle: int, notice: Notice) -> None:
        size = os.fstat(handle).st_size
        start = max(0, size - _TAIL)
        tail = os.pread(handle, size - start, start)
        whole = tail.rfind(b"\n") + 1
        if _key(tail[:whole]) == notice.key:
            return
        torn = tail[whole:]
        is_ours = torn.startswith(_BEGIN[: len(torn)]) and (whole > 0 or start == 0)
        end = size - len(torn) if is_ours else size
        os.ftruncate(handle, end)
        line = memoryview((b"" if is_ours else b"\n") + notice_bytes(notice) + b"\n")
        try:
            while line:
                written = os.pwrite(handle, line, end)
                line, end = line[written:], end + written
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size - len(torn) if is_ours else size)
            raise


def _key(lines: bytes) -> object:
    """Return the key of the last line; None for none, or a line of another program."""
    last = lines.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        value = json.loads(last)
    except ValueError:
        return None
    return value.get("key") if isinstance(value, dict) else None
