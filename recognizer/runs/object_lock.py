"""One run at a time on an output in object storage, by an object that only one can create.

The object lies below ``.locks/`` and says who holds it. It is made before others are looked for, so
that of two runs at most one goes on. One whose process has ended is taken over where that can be
seen: on its own machine. Elsewhere a person removes it, as the message says.
"""

import contextlib
import getpass
import json
import logging
import os
import secrets
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from recognizer.storage.objects import (
    ConflictError,
    StoreError,
    Version,
    delete_object,
    list_below,
    put_object,
    read_object,
)

logger = logging.getLogger(__name__)

LOCKS = ".locks"
ALL = "all"  # the lock of a run over all videos; shards have their own


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        user: of the process.
        host: its machine's name.
        process: its number.
        started: when the lock was made.
        place: the start of its machine and its namespace of processes.
        born: when its process began, in clock ticks of its machine.
        token: random, of this lock alone.

    """

    user: str
    host: str
    process: int
    started: str
    place: str
    born: str
    token: str

    def has_ended(self) -> bool:
        """Tell whether its process is seen to have ended, which is so on its machine alone."""
        return self.place == _place() and self.born != _born(self.process)


def _own() -> Owner:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        user = str(os.getuid())
    now = datetime.now(UTC).isoformat(" ", "seconds")
    number = os.getpid()
    return Owner(
        user, socket.gethostname(), number, now, _place(), _born(number), secrets.token_hex(16)
    )


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return secrets.token_hex(8)  # nothing can be seen of processes here


def _born(process: int) -> str:
    """Return when a process began, "" if there is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks
    return "" if fields[0] == "Z" else fields[19]


@contextlib.contextmanager
def object_lock(address: str, name: str) -> Iterator[None]:
    """Hold the lock of a run: over all videos, or of a shard, which shares with other shards.

    SIGTERM, and SIGHUP of a terminal that closes, end the run as Ctrl-C does, so that the lock is
    removed.

    Args:
        address: of the stage's results.
        name: ``all``, or that of a shard.

    Raises:
        BlockingIOError: another run holds it.
        StoreError: the store cannot be used.

    """
    own = _own()
    with _heeding_signals() as ignore_signals:
        try:
            _take(address, name, own)
        except KeyboardInterrupt:  # the store may have the lock already
            ignore_signals()
            _release(address, name, own)
            raise
        try:
            _refuse_others(address, name)
            yield
        finally:
            ignore_signals()
            _release(address, name, own)


def _take(address: str, name: str, own: Owner) -> None:
    data = json.dumps(asdict(own), indent=2).encode()
    replaced = None
    for _ in range(3):
        try:
            put_object(address, _key(name), data, replaced)
        except ConflictError:
            found = _read(address, name)
            if found is None:
                replaced = None
                continue
            owner, replaced = found
            if owner is None or not owner.has_ended():
                raise _busy(address, name, owner) from None
            logger.warning("%s: taking over the lock of a run that was killed", address)
        else:
            return
    raise _busy(address, name, None)


def _refuse_others(address: str, name: str) -> None:
    """Refuse to run beside a run over all videos, or as one beside shards."""
    for stored in list_below(f"{address}/{LOCKS}"):
        other = stored.key
        if other == name or ALL not in (name, other):
            continue
        found = _read(address, other)
        if found is None:
            continue
        if found[0] is None or not found[0].has_ended():
            raise _busy(address, other, found[0])
        delete_object(address, _key(other))  # who takes it meanwhile finds this run's, and leaves


def _read(address: str, name: str) -> tuple[Owner | None, Version] | None:
    """Return who holds a lock, None in place of an owner that cannot be read; None without lock."""
    found = read_object(address, _key(name))
    if found is None:
        return None
    try:
        owner = Owner(**json.loads(found[0]))
    except (ValueError, TypeError, RecursionError):
        return None, found[1]
    expected = {one.name: one.type for one in fields(Owner)}
    fits = all(type(value) is expected[name] for name, value in asdict(owner).items())
    return owner if fits else None, found[1]


def _busy(address: str, name: str, owner: Owner | None) -> BlockingIOError:
    who = (
        "an owner that it does not name"
        if owner is None
        else f"{owner.user} on {owner.host}, process {owner.process}, since {owner.started}"
    )
    lock = f"{address}/{_key(name)}"
    how = (
        f": aws s3 rm {shlex.quote(lock)}"
        if lock.startswith("s3://")
        else " with a tool of the store"
    )
    return BlockingIOError(
        f"another run is at work in {address}: {who}; wait for it or stop it. If it is known to "
        f"have ended without removing its lock, remove the object {lock}{how}"
    )


def _release(address: str, name: str, own: Owner) -> None:
    try:
        found = _read(address, name)
        if found is not None and found[0] == own:
            delete_object(address, _key(name))
    except StoreError as error:
        logger.warning(
            "the lock %s/%s could not be removed (%s); remove it before a run on another machine",
            address,
            _key(name),
            error.reason,
        )


def _key(name: str) -> str:
    return f"{LOCKS}/{name}"


@contextlib.contextmanager
def _heeding_signals() -> Iterator[Callable[[], None]]:
    """End what runs here at a signal; yield what has signals ignored while the lock is removed."""
    came = closing = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if closing or (came and number != signal.SIGINT):
            return
        came = True
        raise KeyboardInterrupt

    def ignore_signals() -> None:
        nonlocal closing
        closing = True

    if threading.current_thread() is not threading.main_thread():
        yield ignore_signals  # signals are the main thread's alone
        return
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)  # by C; by nohup
    }
    for number in before:
        signal.signal(number, stop)
    try:
        yield ignore_signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
