"""The end state of every input of a stage: a manifest, and one run at a time in its folder.

``manifest.json`` holds no times and no machine, so that equal work gives equal bytes.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from recognizer.storage.artifacts import ArtifactError, json_text, remove_stale_scratch, write_text

MANIFEST, MANIFEST_SCHEMA = "manifest.json", "recognizer.manifest"
LOCK = ".lock"
State = Literal["done", "damaged", "refused"]
Settings = dict[str, Any]
"""What decides a stage's results, as JSON holds it: nested objects of plain values."""

_MAX_NAME_BYTES = 255
_NO_NAMES = frozenset(("", ".", ".."))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end state of one input of a stage.

    Attributes:
        video: path inside the input folder.
        state: ``done``; ``damaged``: done, with a damage report; ``refused``: no result.
        reason: why it is damaged or refused; empty when done.
        frames: frames in the result.
        notes: remarks that are no damage, such as streams that were not read.
        stamp: of the result, where it was written or looked at in this run; in no manifest.

    """

    video: str
    state: State
    reason: str = ""
    frames: int = 0
    notes: tuple[str, ...] = ()
    stamp: str = field(default="", compare=False)


Progress = Callable[[Outcome | None, int], None]
"""Called with (an input's end state or None, frames since the last call)."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Settings of a finished stage and one outcome per input."""

    stage: str
    settings: Settings
    outcomes: tuple[Outcome, ...]


def result_path(stage_dir: Path, video: str, suffix: str) -> Path:
    """Return the path of the result for ``video`` in a folder. Raises as ``result_name``."""
    return stage_dir / result_name(video, suffix)


def result_name(video: str, suffix: str) -> str:
    """Return the name of the result for ``video``: its path, its suffix and ours.

    Raises:
        ValueError: the path would leave the stage's folder.

    """
    *folders, name = parts = video.split("/")
    if "\0" in video or not _NO_NAMES.isdisjoint(parts):
        raise ValueError(f"expected a path inside the input folder, got {video!r}")
    if len(os.fsencode(name + suffix)) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        start = os.fsdecode(os.fsencode(name)[:200]).encode("utf-8", "ignore").decode()
        name = f"{start}~{digest}"
    return "/".join((*folders, name + suffix))


@contextlib.contextmanager
def exclusive(stage_dir: Path) -> Iterator[None]:
    """Lock a stage's folder for this run and remove what a killed run left half-done.

    Raises:
        BlockingIOError: another run is at work in this folder.
        OSError: the folder cannot be made or written.

    """
    with lock_folder(stage_dir):
        remove_stale_scratch(stage_dir)
        try:
            yield
        finally:
            remove_stale_scratch(stage_dir)


@contextlib.contextmanager
def lock_folder(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a folder, made if need be: alone, or shared with others that share it.

    Raises:
        BlockingIOError: another run is at work in this folder.
        OSError: the folder cannot be made or written.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a+")  # a shared lock over NFS needs it readable
    except OSError as error:
        raise OSError(
            f"output folder: expected a place that can be written, got {folder}: "
            f"{error.strerror or error}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"another run is at work in {folder}; wait for it or stop it"
            ) from error
        yield


def write_manifest(
    stage_dir: Path, manifest: Manifest, name: str = MANIFEST, root: Path | None = None
) -> None:
    """Write ``manifest.json``: settings, totals and one end state per input.

    Args:
        stage_dir: the stage's folder.
        manifest: the manifest.
        name: of the file; a shard has its own.
        root: the folder whose scratch takes the unfinished file; None: the stage's.

    """
    counts = dict.fromkeys(get_args(State), 0)
    for outcome in manifest.outcomes:
        counts[outcome.state] += 1
    inputs = {outcome.video: outcome for outcome in manifest.outcomes}
    value = {
        "schema": MANIFEST_SCHEMA,
        "stage": manifest.stage,
        "settings": manifest.settings,
        "totals": {**counts, "inputs": len(inputs)},
    }
    text = f'{{\n  "inputs": {_inputs_json(inputs)},{json_text(value).removeprefix("{")}'
    write_text(stage_dir / name, stage_dir if root is None else root, text)


def _inputs_json(inputs: Mapping[str, Outcome]) -> str:
    """Return what ``json_text`` makes of the end states, inside an object, sooner.

    With indents the standard library's encoder is Python, ten times slower for 100,000 inputs.
    """
    if not inputs:
        return "{}"
    fields_of = cache(_fields_json)
    name_of = json.JSONEncoder(ensure_ascii=False).encode
    rows = (
        f"\n    {name_of(video)}: {fields_of(o.state, o.reason, o.frames, o.notes)}"
        for video, o in sorted(inputs.items())
    )
    return f"{{{','.join(rows)}\n  }}"


def _fields_json(state: State, reason: str, frames: int, notes: tuple[str, ...]) -> str:
    value = {"state": state, "reason": reason, "frames": frames}
    text = json_text({**value, "notes": notes} if notes else value)
    return text.rstrip().replace("\n", "\n    ")  # none inside a string, where it is escaped


def outcomes_before(path: Path) -> dict[str, Outcome]:
    """Return the end states in a manifest of an earlier run, none if there is no such file."""
    try:
        return {outcome.video: outcome for outcome in read_manifest_file(path).outcomes}
    except (FileNotFoundError, ArtifactError):
        return {}


def read_manifest(stage_dir: Path, stage: str | None = None) -> Manifest:
    """Read a stage's manifest.

    Args:
        stage_dir: the stage's folder.
        stage: whose results are needed (``stage1``, ``stage2``), for the message; None: any.

    Raises:
        FileNotFoundError: the stage has not finished in this folder.
        ArtifactError: the file is damaged or of another kind.

    """
    path = stage_dir / MANIFEST
    if not path.is_file():
        mode = "" if stage is None else f" (--mode annotation.{stage})"
        raise FileNotFoundError(
            f"expected the results of a finished stage in {stage_dir}, found no {MANIFEST}; "
            f"run the stage before this one{mode} with the same config first"
        )
    return read_manifest_file(path)


def read_manifest_file(path: Path) -> Manifest:
    """Read a manifest under any name.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: the file is damaged or of another kind.

    """
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != MANIFEST_SCHEMA:
            raise ArtifactError(f"{path}: expected schema '{MANIFEST_SCHEMA}'")
        outcomes = tuple(
            Outcome(video, **{**fields, "notes": tuple(fields.get("notes", ()))})
            for video, fields in value["inputs"].items()
        )
        for o in outcomes:
            fits = isinstance(o.reason, str) and type(o.frames) is int and o.frames >= 0
            if not fits or o.state not in get_args(State):
                raise ArtifactError(f"{path}: not an end state: {o}")
        return Manifest(str(value["stage"]), dict(value["settings"]), outcomes)
    except ArtifactError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a readable manifest: {error}") from error
