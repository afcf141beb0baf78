"""Fetch official network files into the weights folder: whole and checked, or not at all.

    python main.py --mode models.fetch                                      what there is
    python main.py --mode models.fetch --set "models.fetch=[rtmo-l, rtmo-l-onnx]"

A checkpoint is compared with the digits of its SHA-256 in its name and never loaded here. Of an
ONNX archive only the network is taken out; its digest is kept beside it, as sha256sum writes it.
"""

import contextlib
import hashlib
import logging
import os
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deploy.download import Hear, Wanted, downloaded
from deploy.official import HOST, OfficialFile, named, table
from deploy.writing import tidy
from recognizer.artifacts import ArtifactError, atomic_path, sha256_file
from recognizer.command import next_command
from recognizer.config import Config
from recognizer.config_file import ConfigError

logger = logging.getLogger(__name__)

EXIT_DONE = 0
_LIST = "list"
_MAX_MEMBERS = 1000
_MAX_NETWORK_BYTES = 2**30
# Weights are noise to a packer: a network that shrank this much is none.
_MAX_RATIO = 50
_LOG_EVERY_S = 10.0


def fetch(config: Config, watch: Any) -> int:
    """Fetch the files of ``models.fetch``, or list what there is; return the exit code.

    Args:
        config: the whole config.
        watch: what every mode is given to show progress with inputs; this one shows bytes.

    Raises:
        ConfigError: an unknown name, or no folder to put files into.
        ConnectionError, ArtifactError, OSError: as ``download.downloaded``; also a file that is
            there already and is not the one wanted.

    """
    names = list(dict.fromkeys(config.models.fetch))
    if names in ([], [_LIST]):
        example = next_command(config, "models.fetch", {"models.fetch": ["rtmo-s-onnx"]})
        sys.stdout.write(f"{table()}next: {example}\n")
        return EXIT_DONE
    fetched = []
    for file in [_wanted(name) for name in names]:  # all names are known before any work
        path = _place(file, config.models.weights_dirs)
        fetched.append((file, path))
        if path.exists():
            logger.info("%s: already there; SHA-256 %s", path, check_present(file, path))
            continue
        base = config.models.mirror or HOST
        digest = _fetch(file, base + file.path, path)
        logger.info("%s: %.1f MB, SHA-256 %s", path, path.stat().st_size / 1e6, digest)
        logger.info("%s: %s; licence %s", file.name, file.about, file.licence)
    for file, path in fetched:
        logger.info("%s is in %s; next: %s", file.name, path, _next(config, file, path))
    return EXIT_DONE


def _next(config: Config, file: OfficialFile, path: Path) -> str:
    """Return the command that uses a fetched file."""
    key = "models.pose_estimation"
    if path.suffix == ".onnx":
        changes = {f"{key}.inference_mode": "onnx", f"{key}.onnx.model_path": path.name}
        return next_command(config, "annotation.stage1", changes)
    if file.name.startswith("rtmo"):
        mmpose = f"mmpose::body_2d_keypoint/rtmo/body7/{path.stem.rpartition('-')[0]}.py"
        changes = {"deploy.model": "pose", f"{key}.pth.config_file": mmpose,
                   f"{key}.pth.checkpoint_path": path.name}  # fmt: skip
        return next_command(config, "deploy.export", changes)
    return next_command(config, "train.fight", {"train.cfg_options": [f"load_from={path}"]})


def _wanted(name: str) -> OfficialFile:
    try:
        return named(name)
    except KeyError as error:
        raise ConfigError(
            f"models.fetch: expected the name of an official file, got {name!r}; {error.args[0]}; "
            f"--set models.fetch={_LIST} shows all"
        ) from error


def _place(file: OfficialFile, folders: Sequence[Path]) -> Path:
    """Return where the file is, else where it goes: the first folder that can be written to."""
    for folder in folders:
        if os.path.lexists(folder / file.file_name):
            return folder / file.file_name
    for folder in folders:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            folder.mkdir(parents=True, exist_ok=True)
            return folder / file.file_name
    looked = ", ".join(map(str, folders)) or "none"
    raise ConfigError(
        f"models.weights_dirs: expected a folder that can be written to, got {looked}; "
        "--set models.weights_dirs=[<folder>]"
    )


def check_present(file: OfficialFile, path: Path) -> str:
    """Return the SHA-256 of a file that is there; raise ArtifactError if it is another one."""
    if not path.is_file():
        raise ArtifactError(f"{path}: expected a file or nothing, found neither; remove it")
    found = sha256_file(path)
    expected = file.sha256_start or _kept_digest(path)
    if expected is None:
        raise ArtifactError(
            f"{path}: is there already, but {_digest_path(path).name} beside it is missing, so "
            "nothing tells whether it is the official file; move it away to fetch that"
        )
    if not found.startswith(expected):
        raise ArtifactError(
            f"{path}: is there already, but its SHA-256 is {found}, expected one that begins with "
            f"{expected}; delete it or move it away, and run the same command again"
        )
    return found


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _kept_digest(path: Path) -> str | None:
    beside = _digest_path(path)
    if not beside.is_file():
        return None
    text = beside.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
    return text if len(text) == 64 else "(unreadable)"


# --- fetching ----------------------------------------------------------------------


def _fetch(file: OfficialFile, url: str, path: Path) -> str:
    """Download, check, and put into place; return the SHA-256 of what is there now."""
    part = path.with_name(f"{url.rpartition('/')[2]}.part")
    logger.info("fetching %s", url)
    with _shown(file.name) as hear, downloaded(Wanted(url, file.sha256_start, hear), part) as whole:
        with _tidy(path.parent), atomic_path(path, path.parent) as scratch:
            if file.member is None:
                part.replace(scratch)
                return whole
            logger.info("%s: SHA-256 of the archive %s", part.stem, whole)
            digest = take_out(part, file.member, scratch)
            # First the digest: should this be killed in between, there is no network yet.
            with atomic_path(_digest_path(path), path.parent) as beside:
                beside.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        return digest


@contextlib.contextmanager
def _tidy(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        tidy(folder)


@contextlib.contextmanager
def _shown(title: str) -> Iterator[Hear]:
    """Show the bytes: a bar on a terminal, a log line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _log_lines(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _log_lines(title: str) -> Hear:
    last = time.monotonic()

    def hear(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > _LOG_EVERY_S:
            last = time.monotonic()
            of = f" of {total / 1e6:.0f}" if total else ""
            logger.info("%s: %.0f%s MB", title, done / 1e6, of)

    return hear


# --- archives ----------------------------------------------------------------------


def take_out(archive: Path, member: str, goal: Path) -> str:
    """Copy the one member of that base name to ``goal``; return its SHA-256 as hex.

    No path of the archive is ever used as a path; an archive with one that would leave the
    folder is refused all the same, because no honest one has it.

    Raises:
        ArtifactError: no archive, a damaged or hostile one, or not exactly one such member.

    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = _chosen(opened.infolist(), member, archive)
            with opened.open(info) as source, goal.open("wb") as file:
                return _copy_out(source, file, info, archive)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError,
        UnicodeDecodeError,
    ) as error:  # fmt: skip
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"{archive.stem}: not a readable archive: {reason}") from error


def _chosen(members: Sequence[zipfile.ZipInfo], name: str, archive: Path) -> zipfile.ZipInfo:
    if len(members) > _MAX_MEMBERS:
        raise ArtifactError(f"{archive.stem}: {len(members)} members; no official archive has that")
    for info in members:
        place = PurePosixPath(info.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in place.parts[0:1]:
            raise ArtifactError(f"{archive.stem}: {info.filename!r} would leave the folder")
    found = [m for m in members if m.filename.rpartition("/")[2] == name]
    if len(found) != 1:
        raise ArtifactError(f"{archive.stem}: expected one {name} in it, found {len(found)}")
    (info,) = found
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ArtifactError(f"{archive.stem}: {info.filename} is a link, expected a network")
    if info.file_size > min(_MAX_NETWORK_BYTES, _MAX_RATIO * max(info.compress_size, 1)):
        raise ArtifactError(
            f"{archive.stem}: {info.filename} would unpack to {info.file_size} bytes from "
            f"{info.compress_size}, which no network does"
        )
    return info


def _copy_out(source: IO[bytes], file: IO[bytes], info: zipfile.ZipInfo, archive: Path) -> str:
    sha256, left = hashlib.sha256(), info.file_size
    while chunk := source.read(2**20):
        left -= len(chunk)
        if left < 0:
            raise ArtifactError(f"{archive.stem}: {info.filename} is longer than it says")
        file.write(chunk)
        sha256.update(chunk)
    if left:
        raise ArtifactError(f"{archive.stem}: {info.filename} is shorter than it says")
    return sha256.hexdigest()
