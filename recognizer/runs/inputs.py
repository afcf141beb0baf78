"""List the videos below a folder, by suffix, each under one name."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.config.schema import AnnotationConfig
from recognizer.names import nfc
from recognizer.runs.manifest import result_path

logger = logging.getLogger(__name__)

# Suffixes of video files. Files of those that annotation.video_suffixes does not name are counted
# in a warning, so that none is left out silently.
_KINDS = (
    ".mp4 .avi .mkv .mov .ts .mts .m2ts .m2t .webm .m4v .mpg .mpeg .mpe .m1v .m2v .mpv .flv .f4v "
    ".wmv .asf .3gp .3g2 .ogv .ogm .vob .mod .tod .mxf .dv .divx .xvid .rm .rmvb .qt .dav .264 "
    ".h264 .avc .265 .h265 .hevc .266 .h266 .vvc .av1 .obu .ivf .mjpg .mjpeg .y4m .yuv .nut .wtv "
    ".dvr-ms .amv .nsv .swf .gif .apng .mj2 .bik .r3d .braw .cine .lrv .insv .svo .hik .ssf .mk3d "
    ".gxf .evo .ismv .mp4v .m4p .trp .tp .g64 .g64x .pva .pmp .vc1 .h263 .263 .h261 .flc .fli"
)
_VIDEO_KINDS = frozenset(_KINDS.split())
_APPLE_DOUBLE = "._"  # prefix of files in which macOS keeps the attributes of others
_SUFFIX = re.compile(r"\*?\.?([^\s./*\\]+)")


@dataclass(frozen=True, slots=True)
class Video:
    """An input video: its path inside the input folder (with /) and on disk."""

    relative: str
    path: Path


def list_videos(section: AnnotationConfig, *, selected: bool = True) -> list[Video]:
    """Return the videos of ``annotation.input``: those ``include`` selects, or all.

    A file counts as a folder with this video alone, whatever its suffix. An output folder inside
    the input folder is not searched. Raises as ``find_videos``.
    """
    if section.input.is_file():
        return [Video(section.input.name, section.input)]
    include = section.include if selected else ()
    same = os.path.realpath(section.output_dir) == os.path.realpath(section.input)
    results = section.output_dir / section.dataset if same else section.output_dir
    return find_videos(section.input, section.video_suffixes, include, results)


def video_path(section: AnnotationConfig, relative: str) -> Path:
    """Return the path of a video of ``annotation.input``, which may be that file itself."""
    return section.input if section.input.is_file() else result_path(section.input, relative, "")


def find_videos(
    folder: Path, suffixes: Sequence[str], include: Sequence[str] = (), excluded: Path | None = None
) -> list[Video]:
    """Return all files below ``folder`` with one of the suffixes, sorted by name.

    Links to folders are followed once each, so that a loop of links ends. Other files of a video
    kind are counted in a warning.

    Args:
        folder: the input folder.
        suffixes: such as ``.mp4``, in any case, with or without the dot.
        include: patterns such as ``Fight/*``; a video must match one, if there are any.
        excluded: a folder that is not searched.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no video in it.
        ConfigError: not a suffix.

    """
    if not folder.is_dir():
        found_there = "a file" if folder.exists() else "nothing"
        raise FileNotFoundError(
            f"annotation.input: expected a folder of videos, found {found_there} at {folder}"
        )
    selected = _normal_suffixes(suffixes)
    found: dict[str, Path] = {}
    left_out: dict[str, list[str]] = {}  # by suffix, or by what they are
    for path in _files(folder, excluded):
        relative, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
        if suffix not in selected | _VIDEO_KINDS:
            continue
        if path.name.startswith(_APPLE_DOUBLE):
            left_out.setdefault(_APPLE_DOUBLE, []).append(relative)
        elif suffix in selected:
            found[relative] = path
        else:
            left_out.setdefault(suffix, []).append(relative)
    _warn_of_left_out(folder, left_out)
    names = [name for name in sorted(found) if is_included(name, include)]
    if not names:
        matching = f" and matching {', '.join(include)}" if include else ""
        raise ValueError(
            f"annotation.input: expected videos ({', '.join(sorted(selected))}){matching} below "
            f"{folder}, found none"
        )
    return [Video(name, found[name]) for name in names]


def _normal_suffixes(suffixes: Iterable[str]) -> frozenset[str]:
    """Return suffixes with a dot, in lower case; ``mp4`` and ``*.mp4`` mean ``.mp4``."""
    matches = {suffix: _SUFFIX.fullmatch(suffix.strip()) for suffix in suffixes}
    wrong = [suffix for suffix, match in matches.items() if match is None]
    if wrong:
        raise ConfigError(
            f"annotation.video_suffixes: expected suffixes such as .mp4, got {wrong[0]!r}"
        )
    return frozenset(f".{match[1].lower()}" for match in matches.values() if match is not None)


def _files(folder: Path, excluded: Path | None) -> Iterator[Path]:
    """Yield every file below a folder; links to folders are followed once each."""
    seen = {os.path.realpath(excluded)} if excluded is not None else set()
    for root, subfolders, files in os.walk(folder, onerror=_cannot_list, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            logger.warning("%s is not searched: results, or a folder that is in already", root)
            subfolders.clear()
            continue
        seen.add(real)
        # Links last: a folder gets its own name rather than a link's.
        subfolders.sort(key=lambda name: (Path(root, name).is_symlink(), name))
        yield from (Path(root, name) for name in files)


_warned: set[str] = set()


def _warn_of_left_out(folder: Path, left_out: Mapping[str, Sequence[str]]) -> None:
    """Warn once of files of a video kind that are not read, and why."""
    texts = []
    copies = left_out.get(_APPLE_DOUBLE, ())
    if copies:
        texts.append(
            f"skipped {len(copies)} of macOS's ._* files, such as {min(copies)}: they hold "
            "attributes of the files beside them, no pictures"
        )
    others = {suffix: names for suffix, names in left_out.items() if suffix != _APPLE_DOUBLE}
    if others:
        counts = ", ".join(f"{len(names)} {suffix}" for suffix, names in sorted(others.items()))
        example = min(name for names in others.values() for name in names)
        texts.append(
            f"files of a video kind that are not looked at: {counts}, such as {example}; add their "
            "suffixes to annotation.video_suffixes to read them"
        )
    for text in texts:
        line = f"{folder}: {text}"
        if line not in _warned:  # every stage lists the videos
            _warned.add(line)
            logger.warning("%s", line)


def _cannot_list(error: OSError) -> None:
    raise OSError(
        f"annotation.input: cannot list {error.filename}: {error.strerror}; its videos would be "
        "lost silently. Give permission, or move it away"
    ) from error


def is_included(video: str, include: Sequence[str]) -> bool:
    """Tell whether ``annotation.include`` selects a video; without patterns it selects all."""
    return not include or any(fnmatchcase(nfc(video), nfc(pattern)) for pattern in include)
