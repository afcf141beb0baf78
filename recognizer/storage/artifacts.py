"""Files on disk: atomic writes, pose records as ``.npz``, digests; ``pickles`` has the pickles.

A file under its final name is always whole: everything is written to a scratch file on
the same file system, synced, renamed, and the folder synced. Loading never runs code:
``allow_pickle=False`` for arrays. ``.npz`` members carry a CRC, so that a damaged file is
refused and never loads as something else.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from recognizer.arrays import require_rows
from recognizer.storage import compact
from recognizer.types import Poses, PoseSequence

SCRATCH_FOLDER = ".scratch"
POSE_SCHEMA = "recognizer.poses"
POSE_SCHEMA_VERSION = 1
POSE_COMPACT_VERSION = 2  # the same poses, rounded and coded as ``recognizer.compact`` says
_VERSIONS = {POSE_SCHEMA: (POSE_SCHEMA_VERSION, POSE_COMPACT_VERSION)}
METADATA_KEY = "recognizer"
"""The key of this program's metadata in ONNX files, checkpoints and training configs."""

_META_MEMBER = "meta.json"
_MAX_META_BYTES = 64 * 2**20
_CHUNK = 2**20
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][biufU]\d{1,9})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,18}, )*\d{0,18},?)\), \} *\n"
)
# A record of a day without people unpacks to 45 MB from next to nothing; real poses to twice
# their file. What is far beyond both was made to fill the memory.
_SMALL = 64 * 2**20
_MAX_RATIO = 100


Arrays = dict[str, NDArray[Any]]
Meta = dict[str, Any]
"""The JSON beside the arrays of a record: schema, version and metadata."""


class ArtifactError(ValueError):
    """A file that is not what its name promises: damaged, of another kind, or hostile."""


# --- digests -----------------------------------------------------------------------


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def short_digest(value: object) -> str:
    """Return eight hex digits that change when any part of a JSON-like value changes."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


# --- atomic writes -----------------------------------------------------------------


@contextlib.contextmanager
def atomic_path(final: Path, root: Path) -> Iterator[Path]:
    """Give a scratch path; what stands there at the end becomes ``final`` in one step.

    Args:
        final: where the file shall stand; its folder is made.
        root: the folder whose ``.scratch`` takes unfinished files (same file system).

    Raises:
        OSError: the disk is full, read-only or not permitted. Nothing is left behind.

    """
    scratch_dir = root / SCRATCH_FOLDER
    scratch_dir.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers such as PyAV choose the format by it.
    scratch = scratch_dir / f"{secrets.token_hex(8)}{final.suffix[:16]}"
    try:
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch.replace(final)
        _sync_folder(final.parent)
    finally:
        scratch.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_stale_scratch(root: Path) -> None:
    """Remove what a killed run left in ``root``'s scratch folder."""
    shutil.rmtree(root / SCRATCH_FOLDER, ignore_errors=True)


def json_text(value: object) -> str:
    """Return readable JSON with sorted keys and the end of a line."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def json_bytes(value: object) -> bytes:
    """Return ``json_text`` as UTF-8; undecodable file names are escaped."""
    return json_text(value).encode("utf-8", "backslashreplace")


def write_json(final: Path, root: Path, value: object) -> None:
    """Write a JSON file atomically."""
    _write_bytes(final, root, json_bytes(value))


def write_text(final: Path, root: Path, text: str) -> None:
    """Write a text atomically, as UTF-8; lone surrogates, as in odd file names, are escaped."""
    _write_bytes(final, root, text.encode("utf-8", "backslashreplace"))


def write_csv(
    final: Path, root: Path, rows: Iterable[Iterable[object]], *, byte_order_mark: bool = True
) -> None:
    """Write a table atomically as UTF-8.

    Args:
        final: the file.
        root: as of ``atomic_path``.
        rows: its header first.
        byte_order_mark: begin with the mark without which Excel takes UTF-8 for the system's code
            page and shows broken Hangul. Tables whose bytes enter a digest have none.

    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(final, root, "\ufeff" * byte_order_mark + text.getvalue())


def _write_bytes(final: Path, root: Path, data: bytes) -> None:
    try:
        with atomic_path(final, root) as scratch:
            scratch.write_bytes(data)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(final)) from error  # a full disk: where


# --- arrays with a JSON text beside them -------------------------------------------


def write_npz(
    final: Path,
    root: Path,
    arrays: Mapping[str, NDArray[Any]],
    meta: Mapping[str, object],
    *,
    small: bool = False,
) -> None:
    """Write arrays and a JSON text as one ``.npz``; equal input gives equal bytes.

    With ``small`` the JSON text is packed as well, no longer to be read with any pager.

    Raises:
        ValueError: an array of objects, which could not be read back safely.

    """
    packing = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
    with (
        atomic_path(final, root) as scratch,
        zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        archive.writestr(zipfile.ZipInfo(_META_MEMBER), json_bytes(meta), packing)
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # its fixed date keeps bytes equal
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as member:
                np.save(member, np.ascontiguousarray(array), allow_pickle=False)


def read_npz_meta(path: Path, schema: str) -> Meta:
    """Read only the JSON text of an ``.npz``. Raises as ``read_npz``."""
    with _open_archive(path) as archive:
        return _read_meta(archive, path, schema)


def read_npz(path: Path, schema: str) -> tuple[Arrays, Meta]:
    """Read an ``.npz`` that ``write_npz`` made.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, of another schema or version, or holding objects.

    """
    with _open_archive(path) as archive:
        meta = _read_meta(archive, path, schema)
        members = [info for info in archive.infolist() if info.filename != _META_MEMBER]
        return {info.filename[:-4]: _read_array(archive, info, path) for info in members}, meta


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """Read one array; its size is checked before memory is allocated."""
    with archive.open(info) as member:
        dtype, shape = _read_header(member, f"{path}: {info.filename}")
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - member.tell():
            raise ArtifactError(f"{path}: {info.filename} announces {shape} but holds other")
        data = bytearray(size)
        if member.readinto(data) != size or member.read(1):  # type: ignore[attr-defined]
            raise ArtifactError(f"{path}: {info.filename} is not as long as it says")
    return np.frombuffer(data, dtype).reshape(shape)


def _read_header(member: IO[bytes], name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Read the one kind of .npy header that np.save writes for plain C-ordered arrays.

    NumPy's own reader takes more: it hands the header to Python's parser.
    """
    start = member.read(10)
    if start[:8] != b"\x93NUMPY\x01\x00" or len(start) < 10:
        raise ArtifactError(f"{name} is no array as we write it")
    header = _NPY_HEADER.fullmatch(member.read(int.from_bytes(start[8:], "little")))
    if header is None:
        raise ArtifactError(f"{name} holds other than plain numbers or text in C order")
    return np.dtype(header[1].decode()), tuple(int(n) for n in header[2].split(b",") if n.strip())


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise FileNotFoundError(f"expected a result file at {path}, found none")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive.infolist(), path)
            yield archive
    except ArtifactError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        KeyError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        SyntaxError,
        MemoryError,
        OverflowError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"{path}: not a readable result file: {reason}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # damaged offsets lead before the start of the file
            raise
        raise ArtifactError(f"{path}: not a readable result file: {error}") from error


def _check_members(members: Sequence[zipfile.ZipInfo], path: Path) -> None:
    if len({info.filename for info in members}) != len(members):
        raise ArtifactError(f"{path}: two members of one name")
    for info in members:
        named = info.filename == _META_MEMBER or info.filename.endswith(".npy")
        known = info.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        # A comment or an extra field is damage that swallowed the entry of the next member.
        if not named or not known or info.comment or info.extra:
            raise ArtifactError(f"{path}: {info.filename!r} is not as we write it")
    size = sum(info.file_size for info in members)
    if size > _SMALL + _MAX_RATIO * path.stat().st_size:
        raise ArtifactError(f"{path}: would unpack to {size} bytes, which no result does")


def _read_meta(archive: zipfile.ZipFile, path: Path, schema: str) -> Meta:
    if archive.getinfo(_META_MEMBER).file_size > _MAX_META_BYTES:
        raise ArtifactError(f"{path}: {_META_MEMBER} is too large")
    meta = json.loads(archive.read(_META_MEMBER))
    if not isinstance(meta, dict) or meta.get("schema") != schema:
        found = meta.get("schema") if isinstance(meta, dict) else None
        raise ArtifactError(f"{path}: expected schema '{schema}', found {found!r}")
    known = _VERSIONS.get(schema, (1,))
    if meta.get("schema_version") not in known:
        raise ArtifactError(
            f"{path}: expected schema version {' or '.join(map(str, known))}, found "
            f"{meta.get('schema_version')!r}; make the file again"
        )
    return meta


# --- pose sequences ----------------------------------------------------------------

_PEOPLE = ("keypoints", "keypoint_scores", "boxes", "box_scores", "track_ids")
_MOVEMENT = "movement"  # only where it was measured; older files have none


def write_poses(
    final: Path,
    root: Path,
    sequence: PoseSequence,
    meta: Mapping[str, object],
    extra: Mapping[str, NDArray[Any]] | None = None,
    *,
    small: bool = False,
) -> None:
    """Write a pose sequence, further per-track arrays and metadata.

    Args:
        final: where the file shall stand.
        root: the folder whose ``.scratch`` takes unfinished files.
        sequence: the poses.
        meta: the metadata, JSON values by key.
        extra: the further arrays.
        small: round the poses as ``recognizer.compact`` says: a third of the size.

    Raises:
        ValueError: poses that have no compact form, if that was asked for.

    """
    poses = sequence.poses
    people = compact.pack(poses) if small else _plain(poses)
    arrays: Arrays = {
        **people,
        "frame_offsets": sequence.frame_offsets,
        "time_s": sequence.time_s,
        "corrupt": sequence.corrupt,
        **(extra or {}),
    }
    header = {
        "schema": POSE_SCHEMA,
        "schema_version": POSE_COMPACT_VERSION if small else POSE_SCHEMA_VERSION,
        "size_wh": list(sequence.size_wh),
    }
    write_npz(final, root, arrays, {**meta, **header}, small=small)


def _plain(poses: Poses) -> Arrays:
    people = {name: getattr(poses, name) for name in _PEOPLE}
    return people if poses.movement is None else {**people, _MOVEMENT: poses.movement}


def read_poses(path: Path) -> tuple[PoseSequence, Arrays, Meta]:
    """Read a pose sequence, the further arrays and the metadata.

    The file says itself whether it is in the full or in the compact form.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, hostile or of another kind.

    """
    arrays, meta = read_npz(path, POSE_SCHEMA)
    try:
        if meta["schema_version"] == POSE_COMPACT_VERSION:
            poses = compact.unpack(arrays)
        else:
            people: dict[str, Any] = {name: arrays.pop(name) for name in _PEOPLE}
            poses = Poses(**people, movement=arrays.pop(_MOVEMENT, None))
        if poses.movement is not None:
            require_rows(_MOVEMENT, poses.movement, poses.movement.shape)
        width, height = meta["size_wh"]
        sequence = PoseSequence(
            poses,
            arrays.pop("frame_offsets"),
            arrays.pop("time_s"),
            arrays.pop("corrupt"),
            (int(width), int(height)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: not a pose record: {error}") from error
    return sequence, arrays, meta
