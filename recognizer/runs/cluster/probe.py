"""What a node of the cluster is asked before it gets work; runs there, whatever is installed.

It is sent by value and needs the standard library alone, so that a node without this program, or
with another version of it, can still answer. All arguments and results are plain values.
"""

import contextlib
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHUNK = 2**20
_APPEAR_S = 5.0  # a network file system shows a new file a little later


def examine_node(
    version: str, marker: tuple[str, str], reads: Sequence[str], files: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Look for what workers need on this node.

    Args:
        version: of this program on the driver.
        marker: path and content of a file that the driver wrote into the output folder; or the
            address of an object.
        reads: paths that workers read.
        files: network files with their SHA-256.

    Returns:
        What is wrong here, and the network files that are not here with that content.

    """
    faults = []
    try:
        import recognizer
    except ImportError as error:
        faults.append(f"expected Recognizer {version}, found none ({error}); install it there")
    else:
        if recognizer.__version__ != version:
            faults.append(
                f"expected Recognizer {version}, as the driver has, found "
                f"{recognizer.__version__}; install the same there"
            )
    place = marker[0]
    faults += _store_faults(*marker) if "://" in place else _folder_faults(*marker)
    faults += [
        f"expected to see {one}, found nothing there; mount it on every node under the same path"
        for one in reads
        if not Path(one).exists()
    ]
    return faults, [one for one, digest in files.items() if _digest(Path(one)) != digest]


def _folder_faults(path: str, content: str) -> list[str]:
    if not _appears(Path(path), content):
        return [
            f"expected to see the driver's output folder, found no file that it wrote at {path}; "
            "mount the folder on every node under the same path"
        ]
    if not os.access(Path(path).parent, os.W_OK | os.X_OK):
        return [f"expected an output folder that can be written to, got {Path(path).parent}"]
    return []


def _store_faults(address: str, content: str) -> list[str]:
    """Return why the output in object storage cannot be used from here."""
    try:
        from recognizer.storage.objects import read_object
    except ImportError:
        return []  # no Recognizer here, which is a fault already
    advice = (
        "every node needs the endpoint and the credentials of object storage in the environment "
        "with which it started Ray"
    )
    folder, _, name = address.rpartition("/")
    try:
        found = read_object(folder, name)
    except (OSError, ValueError) as error:  # refused, not reached; no obstore
        return [f"expected to read the driver's output, got {error}; {advice}"]
    if found is None or found[0] != content.encode():
        return [
            f"expected to see the driver's output, found no object that it wrote at {address}; "
            f"{advice}"
        ]
    return []


def _appears(path: Path, content: str) -> bool:
    deadline = time.monotonic() + _APPEAR_S
    while True:
        with contextlib.suppress(OSError):  # not there yet
            if path.read_text(encoding="utf-8") == content:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, "" for one that cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def keep_files(names: Sequence[tuple[str, str]], *contents: bytes) -> list[str]:
    """Keep network files, given as digest and name, in this node's cache; return their paths."""
    pairs = zip(names, contents, strict=True)
    return [_keep_file(data, digest, name) for (digest, name), data in pairs]


def _keep_file(data: bytes, digest: str, name: str) -> str:
    """Keep a network file in this node's cache and return its path.

    It is written once for each content: a file with this digest is used as it is.

    Raises:
        OSError: no place for it.

    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for base in (home, Path(tempfile.gettempdir())):
        final = base / "recognizer" / digest / name
        if _digest(final) == digest:
            return str(final)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            scratch = final.with_name(f".{secrets.token_hex(8)}")
            scratch.write_bytes(data)
            scratch.replace(final)
        except OSError:
            continue
        return str(final)
    raise OSError(f"expected a place to keep {name}, found none in {home} or {base}")
