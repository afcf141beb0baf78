"""List the videos below a folder or an object store's address, by suffix, each under one name."""

import contextlib
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from recognizer.config.file import ConfigError
from recognizer.config.schema import AnnotationConfig
from recognizer.names import nfc
from recognizer.runs.journal import JOURNAL
from recognizer.runs.manifest import LOCK, MANIFEST, result_path
from recognizer.runs.object_lock import LOCKS
from recognizer.runs.shards import SHARDS_FOLDER
from recognizer.runs.worker_pool import OnFrames
from recognizer.storage.artifacts import SCRATCH_FOLDER
from recognizer.storage.objects import StoredObject, fetch, list_objects, split_address
from recognizer.storage.results import file_stamp

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
_MAX_NAME_BYTES = 255
_SUFFIX = re.compile(r"\*?\.?([^\s./*\\]+)")
# What a run keeps beside its results and removes: a video's result may not lie below.
_OWN_NAMES = frozenset((SCRATCH_FOLDER, SHARDS_FOLDER, LOCKS, LOCK, JOURNAL, MANIFEST))


@dataclass(frozen=True, slots=True)
class Video:
    """An input video: its path inside the input folder (with /), and the file or object."""

    relative: str
    source: Path | StoredObject

    @property
    def path(self) -> Path:
        """The path on disk.

        Raises:
            ConfigError: the video lies in object storage; ``local_file`` fetches it.

        """
        if isinstance(self.source, Path):
            return self.source
        raise _not_local(self.source.address)

    @property
    def size(self) -> int:
        """Bytes; 0 for a file that cannot be looked at."""
        if isinstance(self.source, StoredObject):
            return self.source.size
        try:
            return self.source.stat().st_size
        except OSError:
            return 0

    @property
    def stamp(self) -> str:
        """Text that changes with the content; "" for a file that cannot be looked at."""
        if isinstance(self.source, StoredObject):
            return self.source.stamp
        return file_stamp(self.source)

    @property
    def refusal(self) -> str:
        """Why it can have no result under its name; "" if it can."""
        first, *_ = folders = self.relative.split("/")[:-1] or [""]
        if first in _OWN_NAMES:
            return f"below a folder {first}, a name that runs use beside results; rename the folder"
        stored = isinstance(self.source, StoredObject)
        if not stored or all(len(os.fsencode(part)) <= _MAX_NAME_BYTES for part in folders):
            return ""
        return f"a part of the object's key is longer than {_MAX_NAME_BYTES} bytes; rename it"


def _not_local(address: str) -> ConfigError:
    return ConfigError(
        f"annotation.input: expected a local folder for this mode, got {address}; fetch the videos "
        "with a tool of the store first"
    )


@contextlib.contextmanager
def local_file(video: Video, root: Path, on_frames: OnFrames) -> Iterator[Path]:
    """Give the path of a video; one in object storage is fetched and removed at the end.

    Args:
        video: the video.
        root: the folder whose scratch folder takes it.
        on_frames: called with 0 while it is fetched.

    Raises:
        ObjectError, StoreError: as of ``fetch``.
        OSError: it cannot be written.

    """
    if isinstance(video.source, Path):
        yield video.source
        return
    folder = root / SCRATCH_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    # The suffix stays: FFmpeg takes raw streams by it.
    path = folder / f"{secrets.token_hex(8)}{PurePosixPath(video.relative).suffix[:16]}"
    try:
        fetch(video.source, path, lambda count: on_frames(0))
        yield path
    finally:
        path.unlink(missing_ok=True)


def list_videos(section: AnnotationConfig, *, selected: bool = True) -> list[Video]:
    """Return the videos of ``annotation.input``: those ``include`` selects, or all.

    A file counts as a folder with this video alone, whatever its suffix. An output folder inside
    the input folder is not searched. Raises as ``find_videos``, and as ``list_objects``.
    """
    if isinstance(section.input, str):
        found = _stored_videos(section.input, section.video_suffixes)
        return included_videos(found, section) if selected else found
    if section.input.is_file():
        return [Video(section.input.name, section.input)]
    include = section.include if selected else ()
    results = section.output_dir
    if isinstance(results, str):
        return find_videos(section.input, section.video_suffixes, include)
    same = os.path.realpath(results) == os.path.realpath(section.input)
    results = results / section.dataset if same else results
    return find_videos(section.input, section.video_suffixes, include, results)


def included_videos(videos: Sequence[Video], section: AnnotationConfig) -> list[Video]:
    """Return the videos that ``annotation.include`` selects; ValueError if there are none."""
    if isinstance(section.input, Path) and section.input.is_file():
        return [*videos]
    kept = [v for v in videos if is_included(v.relative, section.include)]
    if not kept:
        raise _none_found(section.input, section.video_suffixes, section.include)
    return kept


def local_input(section: AnnotationConfig) -> Path:
    """Return ``annotation.input`` for a mode that reads local videos alone.

    Raises:
        ConfigError: the videos lie in object storage.

    """
    if isinstance(section.input, str):
        raise _not_local(section.input)
    return section.input


def video_path(section: AnnotationConfig, relative: str) -> Path:
    """Return the path of a video of ``annotation.input``, which may be that file itself.

    Raises:
        ConfigError: the videos lie in object storage.

    """
    folder = local_input(section)
    return folder if folder.is_file() else result_path(folder, relative, "")


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
            f"annotation.input: expected a video or a folder of videos, found {found_there} at "
            f"{folder}"
        )
    videos = _videos_among(_files(folder, excluded), suffixes, folder)
    kept = [v for v in videos if is_included(v.relative, include)]
    if not kept:
        raise _none_found(folder, suffixes, include)
    return kept


def _stored_videos(address: str, suffixes: Sequence[str]) -> list[Video]:
    """Return the videos below the address of an object store, sorted by name.

    Raises:
        StoreError: as of ``list_objects``.
        ValueError: no video there.

    """
    stored = list_objects(address)
    one = split_address(address)[1].rpartition("/")[2]
    videos = _videos_among(((item.key or one, item) for item in stored), suffixes, address)
    if not videos:
        raise _none_found(address, suffixes, ())
    return videos


def _none_found(place: Path | str, suffixes: Iterable[str], include: Sequence[str]) -> ValueError:
    matching = f" and matching {', '.join(include)}" if include else ""
    return ValueError(
        f"annotation.input: expected videos ({', '.join(sorted(_normal_suffixes(suffixes)))})"
        f"{matching} below {place}, found none"
    )


def _videos_among(
    files: Iterable[tuple[str, Path | StoredObject]], suffixes: Iterable[str], place: Path | str
) -> list[Video]:
    """Return the videos among files, sorted by name; warn of others of a video kind."""
    selected = _normal_suffixes(suffixes)
    known = selected | _VIDEO_KINDS
    found: dict[str, Path | StoredObject] = {}
    left_out: dict[str, list[str]] = {}  # by suffix, or by what they are
    for relative, source in files:
        name = relative.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - of a million names
        if suffix not in known:
            continue
        if name.startswith(_APPLE_DOUBLE):
            left_out.setdefault(_APPLE_DOUBLE, []).append(relative)
        elif suffix not in selected:
            left_out.setdefault(suffix, []).append(relative)
        elif relative not in found or not _is_marker(source):
            found[relative] = source
    _warn_of_left_out(place, left_out)
    return [Video(name, found[name]) for name in sorted(found)]


def _is_marker(source: Path | StoredObject) -> bool:
    """Tell whether an object may be the marker of a folder, which its client names without /."""
    return isinstance(source, StoredObject) and source.size == 0


def _normal_suffixes(suffixes: Iterable[str]) -> frozenset[str]:
    """Return suffixes with a dot, in lower case; ``mp4`` and ``*.mp4`` mean ``.mp4``."""
    matches = {suffix: _SUFFIX.fullmatch(suffix.strip()) for suffix in suffixes}
    wrong = [suffix for suffix, match in matches.items() if match is None]
    if wrong:
        raise ConfigError(
            f"annotation.video_suffixes: expected suffixes such as .mp4, got {wrong[0]!r}"
        )
    return frozenset(f".{match[1].lower()}" for match in matches.values() if match is not None)


def _files(folder: Path, excluded: Path | None) -> Iterator[tuple[str, Path]]:
    """Yield every file below a folder, with its path inside; links to folders count once each."""
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
        here = Path(root)
        inside = here.relative_to(folder).as_posix()
        start = "" if inside == "." else f"{inside}/"
        yield from ((start + name, here / name) for name in files)


_warned: set[str] = set()


def _warn_of_left_out(place: Path | str, left_out: Mapping[str, Sequence[str]]) -> None:
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
        line = f"{place}: {text}"
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
