"""Further folders of stage 2 with labels and sources of their own, joined to a data set.

``dataset.also`` names them; ``annotation.from_reviews`` writes such folders. Their videos are
members like all others: split by source, tested on in ``test.crossval``.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from annotation.clips import ClipFinder, VideoClips, median_s
from annotation.negatives_folders import differences
from annotation.sources import read_sources
from recognizer.config.file import ConfigError
from recognizer.config.schema import DatasetConfig
from recognizer.dataset.labels import Segment, read_segments
from recognizer.names import nfc
from recognizer.runs.manifest import Manifest, Progress, Settings, read_manifest
from recognizer.runs.stage_folders import LABELS, SOURCES, also_files
from recognizer.storage.artifacts import ArtifactError

logger = logging.getLogger(__name__)

_NAMED = 5  # of many equal faults, how many a message names
_TURNED = "turned_revision"  # the same networks, another version of this program
# Of stage 1's settings, what need not be equal: the frame rate is each camera's own, and movement
# that was not measured is missing in the samples, which train.movement reports.
_FREE = ("sample_fps", "movement", "rounded_to", _TURNED)


@dataclass(frozen=True, eq=False, slots=True)
class JoinedFolder:
    """A folder of ``dataset.also``.

    Attributes:
        path: the folder.
        manifest: its end states.
        segments: the labels of its videos.
        source_of: the recording of each video.

    """

    path: Path
    manifest: Manifest
    segments: Mapping[str, tuple[Segment, ...]]
    source_of: Mapping[str, str]


@dataclass(frozen=True, eq=False, slots=True)
class Members:
    """The videos of a data set, its own and joined ones.

    Attributes:
        videos: end state and clips of each.
        finder_of: what reads the samples of each video.
        joined: the source of each joined video.

    """

    videos: list[VideoClips]
    finder_of: Mapping[str, ClipFinder]
    joined: Mapping[str, str]

    @property
    def own(self) -> list[VideoClips]:
        """Return the videos of the data set's own folder."""
        return [video for video in self.videos if video.outcome.video not in self.joined]


def read_joined(
    section: DatasetConfig, data: Path | None, settings: Settings | None
) -> list[JoinedFolder]:
    """Read manifests, labels and sources of ``dataset.also``, before any video.

    Args:
        section: names the folders.
        data: the folder of the data set's tracks, None if not known yet.
        settings: of these tracks, None if not known yet.

    Raises:
        ConfigError: a folder that is no stage 2, has no labels or sources, is named twice, or was
            made with another pose network or tracker than the data set.

    """
    seen = set() if data is None else {data.resolve()}
    folders = []
    for path in section.also:
        if path.resolve() in seen:
            raise ConfigError(
                f"dataset.also: expected other folders than the data set's own, each once, got "
                f"{path} a second time; leave it out"
            )
        seen.add(path.resolve())
        folders.append(_read(section, path, settings))
    return folders


def _read(section: DatasetConfig, path: Path, settings: Settings | None) -> JoinedFolder:
    also_files(path)
    try:
        manifest = read_manifest(path, "stage2")
    except (ArtifactError, OSError) as error:
        raise ConfigError(f"dataset.also: {error}") from error
    if manifest.stage != "stage2":
        raise ConfigError(
            f"dataset.also: expected the folder of a stage 2 (tracks), got one of "
            f"{manifest.stage}: {path}"
        )
    if settings is not None:
        _check_settings(path, manifest.settings, settings)
    names = [outcome.video for outcome in manifest.outcomes]
    segments = read_segments(path / LABELS, section.classes, names)
    sources = read_sources(path / SOURCES, {})
    if missing := sorted(segments.keys() - sources.keys()):
        raise ConfigError(
            f"{path / SOURCES}: expected a row for every video of {LABELS}, {len(missing)} are "
            f"missing: {', '.join(missing[:_NAMED])}"
        )
    return JoinedFolder(path, manifest, segments, sources)


def _check_settings(path: Path, made: Settings, expected: Settings) -> None:
    if differ := list(differences(_decisive(made), _decisive(expected))):
        shown = "; ".join(f"{key}: {a!r:.80} instead of {b!r:.80}" for key, a, b in differ[:_NAMED])
        raise ConfigError(
            "dataset.also: expected poses and tracks by the data set's networks and tracker, or a "
            f"classifier learns to tell these apart, got others in {path}: {shown}; make the data "
            "set's with the config of live detection, or let that run with the data set's"
        )
    ours, theirs = (dict(one.get("stage1") or {}).get(_TURNED) for one in (made, expected))
    if ours != theirs:
        logger.warning(
            "stage 3: dataset.also: poses in %s are of revision %s of the search in turned "
            "pictures, the data set's of %s: people who lie may be found more often in one",
            path,
            ours,
            theirs,
        )


def _decisive(settings: Settings) -> Settings:
    stage1 = {k: v for k, v in dict(settings.get("stage1") or {}).items() if k not in _FREE}
    return {"stage1": stage1, "tracking": settings.get("tracking")}


def labels_digest(folder: JoinedFolder, tracks: str) -> str:
    """Return one digest of a folder's tracks and tables."""
    digest = hashlib.sha256(tracks.encode())
    for name in (LABELS, SOURCES):
        digest.update((folder.path / name).read_bytes())
    return digest.hexdigest()


def find_members(
    finder: ClipFinder, own: Manifest, folders: Sequence[JoinedFolder], advance: Progress
) -> Members:
    """Return the labelled clips of a data set's own folder and of those joined to it.

    Raises:
        ConfigError: a video that two folders have.

    """
    videos: list[VideoClips] = []
    finders: dict[str, ClipFinder] = {}
    joined: dict[str, str] = {}

    def find(one: ClipFinder, manifest: Manifest) -> None:
        _refuse_twice(manifest, finders)
        for before in manifest.outcomes:
            video = one.find(before)
            videos.append(video)
            finders[before.video] = one
            advance(video.outcome if not video.clips else None, before.frames)

    find(finder, own)
    clips = [clip for video in videos for clip in video.clips]
    # Events last as long as they do; a classifier takes equally many frames of each sample.
    part_s = median_s(clips) if clips else None
    for folder in folders:
        find(finder.beside(folder.path, folder.segments, part_s), folder.manifest)
    for folder in folders:
        joined |= {o.video: folder.source_of.get(o.video, "") for o in folder.manifest.outcomes}
    return Members(videos, finders, joined)


def _refuse_twice(manifest: Manifest, known: Collection[str]) -> None:
    names = {nfc(name) for name in known}
    twice = [o.video for o in manifest.outcomes if nfc(o.video) in names]
    if twice:
        raise ConfigError(
            f"dataset.also: expected every video once, found {len(twice)} in two folders, such as "
            f"{twice[0]}; leave one of the folders out"
        )
