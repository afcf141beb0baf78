"""Which videos there are: found by suffix, below a folder, each under one name."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from recognizer.config import AnnotationSection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Video:
    """An input video: its path inside the input folder (with /) and on disk."""

    relative: str
    path: Path


def list_videos(section: AnnotationSection, *, selected: bool = True) -> list[Video]:
    """Return the videos of ``annotation.input``: those ``include`` selects, or all.

    A file is taken as a folder with this video alone, whatever its suffix. Results are no
    input: an output folder inside the input folder is not searched. Raises
    as ``find_videos``.
    """
    if section.input.is_file():
        return [Video(section.input.name, section.input)]
    include = section.include if selected else ()
    same = os.path.realpath(section.output_dir) == os.path.realpath(section.input)
    results = section.output_dir / section.dataset if same else section.output_dir
    return find_videos(section.input, section.video_suffixes, include, results)


def find_videos(
    folder: Path, suffixes: Sequence[str], include: Sequence[str] = (), apart: Path | None = None
) -> list[Video]:
    """Return all files below ``folder`` with one of the suffixes, sorted by name.

    Links to folders are followed once each, so that a loop of links ends.

    Args:
        folder: the input folder.
        suffixes: such as ``.mp4``, in any case.
        include: patterns such as ``Fight/*``; a video must match one, if there are any.
        apart: a folder that is not searched.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no video in it.

    """
    if not folder.is_dir():
        found_there = "a file" if folder.exists() else "nothing"
        raise FileNotFoundError(
            f"annotation.input: expected a folder of videos, found {found_there} at {folder}"
        )
    wanted = {suffix.lower() for suffix in suffixes}
    found: dict[str, Path] = {}
    seen = {os.path.realpath(apart)} if apart is not None else set()
    for root, subfolders, files in os.walk(folder, onerror=_cannot_list, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            logger.warning("%s is not searched: results, or a folder that is in already", root)
            subfolders.clear()
            continue
        seen.add(real)
        # Links last: a folder is known by its own name rather than by a link's.
        subfolders.sort(key=lambda name: (Path(root, name).is_symlink(), name))
        for name in files:
            path = Path(root, name)
            if path.suffix.lower() in wanted:
                found[path.relative_to(folder).as_posix()] = path
    names = [name for name in sorted(found) if is_included(name, include)]
    if not names:
        matching = f" and matching {', '.join(include)}" if include else ""
        raise ValueError(
            f"annotation.input: expected videos ({', '.join(sorted(wanted))}){matching} below "
            f"{folder}, found none"
        )
    return [Video(name, found[name]) for name in names]


def _cannot_list(error: OSError) -> None:
    raise OSError(
        f"annotation.input: cannot list {error.filename}: {error.strerror}; its videos would be "
        "lost silently. Give permission, or move it away"
    ) from error


def is_included(video: str, include: Sequence[str]) -> bool:
    """Tell whether ``annotation.include`` selects a video; without patterns it selects all."""
    return not include or any(fnmatchcase(video, pattern) for pattern in include)
