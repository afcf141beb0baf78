"""What the kit's runners share: a folder of their own, an end to whole groups, ends of logs."""

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any

LOCK = ".lock"
POLL_S = 0.1
DEAD_S = 10.0
"""From a kill to giving a process up: one that waits inside a driver does not end."""
TAIL_BYTES = 2**16


def claim(out: Path) -> IO[bytes]:
    """Make a folder and keep it for this process until what is returned is closed.

    Raises:
        RuntimeError: it cannot be made or written, or another process has it; with what to do.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("ab")
    except OSError as error:
        raise RuntimeError(
            f"--out: expected a folder that can be written, got {out}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RuntimeError(
            f"--out: another run writes into {out}; wait for its end, or choose another --out"
        ) from error
    except OSError:
        pass  # a file system without locks
    return file


def send(process: subprocess.Popen[Any], number: int) -> bool:
    """Send a signal to a process that leads a group, and to its group; False: none is left."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def end_group(process: subprocess.Popen[Any], grace: float) -> None:
    """Ask the group of a process to end, wait until all of it has, and kill what is left."""
    until = time.monotonic() + grace
    alive = send(process, signal.SIGTERM)
    while alive and time.monotonic() < until:
        time.sleep(POLL_S)
        process.poll()  # one that has ended counts until it is waited for
        alive = send(process, 0)
    kill(process)


def kill(process: subprocess.Popen[Any]) -> bool:
    """Kill a process and its group; False: it does not end even so."""
    send(process, signal.SIGKILL)
    try:
        process.wait(DEAD_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def tail(log: Path, lines: int, width: int) -> list[str]:
    """Return the last lines of a log of any size and content, cut to a width; printable."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    last = text.rstrip().splitlines()[-lines:]
    return ["".join(c if c.isprintable() else "?" for c in line[:width]) for line in last]
