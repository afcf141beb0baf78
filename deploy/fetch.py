"""Fetch official network files into the weights folder: whole and checked, or not at all.

    python main.py --mode models.fetch                                      what there is
    python main.py --mode models.fetch --set "models.fetch=[rtmo-l, rtmo-l-onnx]"
    python main.py --mode models.fetch --set models.fetch=balanced          a detector and RTMPose

A checkpoint is compared with the digits of its SHA-256 in its name and never loaded here. Of an
ONNX archive only the network is taken out; its digest is kept beside it, as sha256sum writes it.
"""

import contextlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.download import OnProgress, download, read_member
from deploy.model_zoo import HOST, PRESETS, OfficialFile, named, table
from deploy.outputs import tidy
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import COMMAND, SHIPPED_CONFIG
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import SCRATCH_FOLDER, ArtifactError, atomic_path, sha256_file

logger = logging.getLogger(__name__)

_LIST = "list"
_STALE_S = 3600.0
_LOG_EVERY_S = 10.0


def fetch(config: Config, progress: ProgressFactory) -> int:
    """Fetch the files of ``models.fetch``, or list what there is; return the exit code.

    Args:
        config: the whole config.
        progress: not used; this mode shows bytes.

    Raises:
        ConfigError: an unknown name, or no folder to put files into.
        ConnectionError, ArtifactError, OSError: as ``download.download``; also a file that is
            there already and is not the official one.

    """
    names = list(dict.fromkeys(config.models.fetch))
    if names in ([], [_LIST]):
        example = next_command(config, "models.fetch", {"models.fetch": ["rtmo-s-onnx"]})
        sys.stdout.write(f"{table()}next: {example}\n")
        return EXIT_DONE
    fetched = []
    singles = dict.fromkeys(one for name in names for one in PRESETS.get(name, (name,)))
    for file in [_official(name) for name in singles]:  # all names are known before any work
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
    for name in [one for one in names if one in PRESETS]:
        preset = SHIPPED_CONFIG.parent / "presets" / f"{name}.yaml"
        example = f"{COMMAND} --config {shlex.quote(str(preset))} --mode annotation.stage1"
        logger.info("%s: both are used together by %s", name, example)
    return EXIT_DONE


def _next(config: Config, file: OfficialFile, path: Path) -> str:
    """Return the command that uses a fetched file."""
    key = "models.pose_estimation"
    if file.name.endswith("-person-onnx"):
        changes = {f"{key}.topdown.detector.model_path": path.name}
        return next_command(config, "annotation.stage1", changes)
    if path.suffix == ".onnx":
        changes = {f"{key}.inference_mode": "onnx", f"{key}.onnx.model_path": path.name}
        return next_command(config, "annotation.stage1", changes)
    if file.name.startswith("rtmo"):
        mmpose = f"mmpose::body_2d_keypoint/rtmo/body7/{path.stem.rpartition('-')[0]}.py"
        changes = {
            "deploy.model": "pose",
            f"{key}.pth.config_file": mmpose,
            f"{key}.pth.checkpoint_path": path.name,
        }
        return next_command(config, "deploy.export", changes)
    return next_command(config, "train.fight", {"train.cfg_options": [f"load_from={path}"]})


def _official(name: str) -> OfficialFile:
    try:
        return named(name)
    except KeyError as error:
        raise ConfigError(
            f"models.fetch: expected the name of an official file, got {name!r}; {error.args[0]}; "
            f"--set models.fetch={_LIST} shows all"
        ) from error


def _place(file: OfficialFile, folders: Sequence[Path]) -> Path:
    """Return where the file is, else where it goes: the first folder that can be written to."""
    for name in (file.file_name, file.former_name):
        for folder in folders:
            if os.path.lexists(folder / name):
                return folder / name
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
    digest = sha256_file(path)
    expected = file.sha256_start or _kept_digest(path)
    if expected is None:
        raise ArtifactError(
            f"{path}: is there already, but {_digest_path(path).name} beside it is missing, so "
            "nothing tells whether it is the official file; move it away to fetch that"
        )
    if not digest.startswith(expected):
        raise ArtifactError(
            f"{path}: is there already, but its SHA-256 is {digest}, expected one that begins with "
            f"{expected}; delete it or move it away, and run the same command again"
        )
    return digest


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
    """Download, check, and put into place; return the SHA-256 of the file now there."""
    logger.info("fetching %s", url)
    folder = path.parent
    _remove_stale(folder)
    try:
        with _progress(file.name) as on_progress, atomic_path(path, folder) as scratch:
            digest = download(url, scratch, file.sha256_start, on_progress)
            if file.member is not None:
                logger.info("%s: SHA-256 of the archive %s", url, digest)
                digest = _extract(scratch, file.member, path, url)
        return digest
    finally:
        tidy(folder)


def _remove_stale(folder: Path) -> None:
    """Remove what a killed run left behind: files not written to for an hour."""
    for path in (folder / SCRATCH_FOLDER).glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _extract(archive: Path, member: str, path: Path, url: str) -> str:
    """Replace an archive by the network in it; return its SHA-256 as hex."""
    try:
        network = read_member(archive, member)
    except ArtifactError as error:
        raise ArtifactError(f"{url}: {error}") from error
    archive.write_bytes(network)
    digest = sha256_file(archive)
    # First the digest: should this be killed in between, there is no network yet.
    with atomic_path(_digest_path(path), path.parent) as beside:
        beside.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return digest


@contextlib.contextmanager
def _progress(title: str) -> Iterator[OnProgress]:
    """Show the bytes: a bar on a terminal, a log line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    last = time.monotonic()
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=None)

        def on_progress(done: int, total: int | None) -> None:
            nonlocal last
            bar.update(task, completed=done, total=total)
            if bar.disable and time.monotonic() - last > _LOG_EVERY_S:
                last = time.monotonic()
                of = f" of {total / 1e6:.0f}" if total else ""
                logger.info("%s: %.0f%s MB", title, done / 1e6, of)

        yield on_progress
