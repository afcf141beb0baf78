"""Windows of other footage without the event: the training split alone learns from them.

A classifier of fights that never saw a fall takes falls for fights, and the other way round.
``dataset.negatives`` names tracked footage (stage 2's folders) of which every window is a sample of
the normal class. It is never validated or tested on, so it must not hold what is.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation.clips import Clip, ClipFinder, VideoClips, evenly
from annotation.progress import Watch
from annotation.sources import known_sources
from annotation.workspace import MANIFEST, Manifest, read_manifest
from recognizer.artifacts import sha256_file
from recognizer.config import Config, DatasetSection
from recognizer.config_file import ConfigError
from recognizer.dataset.near_duplicates import find_pairs
from recognizer.names import nfc
from recognizer.types import Sample

logger = logging.getLogger(__name__)

_NAMED = 5  # of many equal faults, how many a message names
_ROUNDING = 0.01  # of a window: the median clip of 2 s lasts 2.002 s


@dataclass(frozen=True, eq=False, slots=True)
class NegativeFolder:
    """What one folder of ``dataset.negatives`` gives.

    Attributes:
        name: the data set's and the folder's own name.
        sha256: of its manifest.
        finder: reads its videos.
        found: what each video gave; ``clips`` are the chosen windows, under the names that their
            samples have.
        source_of: the recording, by video.
        windows: windows with people, chosen or not.

    """

    name: str
    sha256: str
    finder: ClipFinder
    found: tuple[VideoClips, ...]
    source_of: Mapping[str, str]
    windows: int

    @property
    def clips(self) -> list[Clip]:
        """Return the chosen windows."""
        return [clip for video in self.found for clip in video.clips]


@dataclass(frozen=True, eq=False, slots=True)
class Negatives:
    """The negatives of a data set.

    Attributes:
        class_name: the normal class.
        window_s: length of a window, seconds.
        folders: what each folder gives.

    """

    class_name: str
    window_s: float
    folders: tuple[NegativeFolder, ...]

    @property
    def clips(self) -> list[Clip]:
        """Return the windows of all folders."""
        return [clip for folder in self.folders for clip in folder.clips]

    def samples(self) -> Iterator[Sample]:
        """Yield their samples, one video after another."""
        for folder in self.folders:
            for video in folder.found:
                if video.clips:
                    yield from folder.finder.samples(video.outcome.video, video.clips)


@dataclass(frozen=True, eq=False, slots=True)
class Positives:
    """The data set that the negatives are for.

    Attributes:
        folder: stage 2's.
        settings: what its tracks were made with.
        found: what each of its videos gives.
        source_of: the recording, by video.

    """

    folder: Path
    settings: Mapping[str, Any]
    found: Sequence[VideoClips]
    source_of: Mapping[str, str]

    @property
    def clips(self) -> list[Clip]:
        """Return all samples to be."""
        return [clip for video in self.found for clip in video.clips]


def find_negatives(config: Config, data: Positives, watch: Watch) -> Negatives | None:
    """Return the windows of ``dataset.negatives``, None where it names no folder.

    Raises:
        ConfigError: a folder that is no stage 2, was made with other settings than the data, gives
            no window with people, or holds what the data set holds.
        FileNotFoundError, ArtifactError: no manifest, or a damaged one.

    """
    section = config.dataset
    if not section.negatives:
        return None
    window_s = section.window_s or median_s(data.clips)
    normal = min(section.classes, key=lambda name: section.classes[name])
    windows = section.model_copy(
        update={"window_s": window_s, "stride_s": window_s / 2, "segments": None}
    )
    cut = config.model_copy(update={"dataset": windows})
    manifests = read_folders(section.negatives, data.folder, data.settings)
    folders = []
    for number, (path, manifest) in enumerate(manifests.items(), 1):
        finder = ClipFinder(cut, path, None, normal)
        with watch(f"stage 3: negatives {number}", len(manifest.outcomes)) as tell:
            found = []
            for outcome in manifest.outcomes:
                found.append(finder.find(outcome))
                tell(found[-1].outcome, outcome.frames)
        folders.append(_folder(section, path, number, (finder, found), window_s))
        _refuse_what_is_tested(path, folders[-1], data, section.duplicate_distance)
    return Negatives(normal, window_s, tuple(folders))


def read_folders(
    folders: Sequence[Path], data: Path, settings: Mapping[str, Any]
) -> dict[Path, Manifest]:
    """Return the manifests of ``dataset.negatives``, before any video is read.

    Args:
        folders: of stage 2.
        data: the folder of the data set's tracks.
        settings: what those were made with.

    Raises:
        ConfigError, FileNotFoundError, ArtifactError: as ``find_negatives``.

    """
    _check_places(folders, data)
    return {path: _read(path, settings) for path in folders}


def median_s(clips: Sequence[Clip]) -> float:
    """Return the median length of clips, seconds: the window of what learns from whole clips."""
    return round(float(np.median([clip.stop_s - clip.start_s for clip in clips])), 3)


def combined_digest(digests: Sequence[str]) -> str:
    """Return one digest of several, the only one itself."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _folder(
    section: DatasetSection,
    path: Path,
    number: int,
    given: tuple[ClipFinder, Sequence[VideoClips]],
    window_s: float,
) -> NegativeFolder:
    """Choose the windows and name them apart from the data set's and other folders' samples."""
    finder, found = given
    windows = sum(len(video.clips) for video in found)
    if not windows:
        reasons = "; ".join(f"{n} x {text}" for text, n in finder.reasons.most_common(_NAMED))
        raise ConfigError(
            f"dataset.negatives: expected a window with people in {path}, found none in "
            f"{len(found)} videos{': ' + reasons if reasons else ''}; leave the folder out"
        )
    most = max(1, int(section.negatives_s / window_s + _ROUNDING))
    chosen = []
    for video in sorted(found, key=lambda v: v.outcome.video):
        kept = [
            (clip.name, replace(clip, name=f"negatives/{number}/{clip.name}"))
            for clip in evenly(video.clips, most)
        ]
        hashes = {c.name: video.hashes[old] for old, c in kept if old in video.hashes}
        chosen.append(replace(video, clips=[clip for _, clip in kept], hashes=hashes))
    names = [video.outcome.video for video in chosen]
    stage = path.parent.parent if path.parent.name == "stage2_tracking" else path.parent
    return NegativeFolder(
        f"{stage.name}/{path.name}", sha256_file(path / MANIFEST), finder, tuple(chosen),
        known_sources(section.split, names), windows,
    )  # fmt: skip


# --- refusals ----------------------------------------------------------------------


def _check_places(folders: Sequence[Path], data: Path) -> None:
    seen = {data.resolve(): "the data set's own tracks"}
    for path in folders:
        if known := seen.get(path.resolve()):
            raise ConfigError(
                f"dataset.negatives: expected other footage than the data set's, each folder once, "
                f"got {path}: {known}; leave it out"
            )
        seen[path.resolve()] = "named twice"


def _read(path: Path, expected: Mapping[str, Any]) -> Manifest:
    """Return a folder's manifest; refuse another stage, other settings and nothing in it."""
    manifest = read_manifest(path)
    if manifest.stage != "stage2":
        raise ConfigError(
            f"dataset.negatives: expected the folder of a stage 2 (tracks), got one of "
            f"{manifest.stage}: {path}; name the folder that --mode annotation.stage2 writes"
        )
    own, data = ({k: v for k, v in s.items() if k != "scoring"}
                 for s in (manifest.settings, expected))  # fmt: skip
    if other := list(_differences(own, data)):
        shown = "; ".join(f"{key}: {a!r:.80} instead of {b!r:.80}" for key, a, b in other[:_NAMED])
        raise ConfigError(
            f"dataset.negatives: expected poses and tracks made as the data set's, or the network "
            f"learns to tell the settings apart, got others in {path}: {shown}; run stages 1 and 2 "
            "on that footage with this config"
        )
    if not any(outcome.state != "refused" for outcome in manifest.outcomes):
        raise ConfigError(
            f"dataset.negatives: expected tracked videos in {path}, found none "
            f"({len(manifest.outcomes)} refused); leave the folder out"
        )
    return manifest


def _differences(one: Any, other: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two trees of settings differ: the key and both values, None where it is not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(name), other.get(name), f"{key}.{name}".lstrip("."))
    elif one != other:
        yield key, one, other


def _refuse_what_is_tested(
    path: Path, folder: NegativeFolder, data: Positives, max_distance: float | None
) -> None:
    """Refuse footage that the data set has as well, whatever its split.

    test.crossval tests on every source, those of the training split as well.
    """
    found = [*_same_names(folder, data), *_copies(folder, data)]
    if max_distance is not None:
        found += _alike(folder, data, max_distance)
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ConfigError(
            f"dataset.negatives: expected footage that the data set does not hold, since every "
            f"source of that is tested on, found in {path}: {'; '.join(found[:_NAMED])}{more}; "
            "make tracks without these videos (--mode annotation.stage2 with annotation.include "
            "and another annotation.dataset) and name their folder"
        )


def _same_names(folder: NegativeFolder, data: Positives) -> list[str]:
    known = {nfc(name) for pair in data.source_of.items() for name in pair}
    return [
        f"{video} is called as a video of the data set" if nfc(video) in known
        else f"{video} is of the source {source}, which the data set has as well"
        for video, source in folder.source_of.items()
        if nfc(video) in known or nfc(source) in known
    ]  # fmt: skip


def _copies(folder: NegativeFolder, data: Positives) -> list[str]:
    known = {video.content: video.outcome.video for video in data.found if video.content}
    return [
        f"{video.outcome.video} is a copy of {known[video.content]}"
        for video in folder.found
        if video.content in known
    ]


def _alike(folder: NegativeFolder, data: Positives, max_distance: float) -> list[str]:
    """Return which windows look like a sample of the data set."""
    ours, theirs = _hashes(data.found), _hashes(folder.found)
    names = [*ours, *theirs]
    groups = ["data"] * len(ours) + ["negatives"] * len(theirs)
    pairs = find_pairs([*ours.values(), *theirs.values()], groups, max_distance)
    return [
        f"{names[pair.second]} looks like {names[pair.first]} ({pair.distance:g} of 64 bits differ)"
        for pair in pairs
    ]


def _hashes(found: Sequence[VideoClips]) -> dict[str, NDArray[np.uint64]]:
    return {name: own for video in found for name, own in video.hashes.items()}


# --- metadata.json -----------------------------------------------------------------


def describe_negatives(negatives: Negatives, section: DatasetSection) -> dict[str, Any]:
    """Return what ``metadata.json`` says of them: folders with counts, and each sample."""
    return {
        "class": negatives.class_name,
        "window_s": negatives.window_s,
        "max_s_per_video": section.negatives_s,
        "folders": [_folder_facts(folder) for folder in negatives.folders],
        "samples": {
            clip.name: {
                "video": clip.video,
                "start_s": clip.start_s,
                "stop_s": clip.stop_s,
                "class": clip.class_name,
                "label": section.classes[clip.class_name],
                "split": "train",
                "source": folder.source_of[clip.video],
                "people": len(clip.track_ids),
                "track_ids": list(clip.track_ids),
                "frames": clip.frames,
                "size_wh": list(video.size_wh),
                "fps": video.fps,
            }
            for folder in negatives.folders
            for video in folder.found
            for clip in video.clips
        },
    }


def _folder_facts(folder: NegativeFolder) -> dict[str, Any]:
    used = [video.outcome.video for video in folder.found if video.clips]
    return {
        "folder": folder.name,
        "manifest_sha256": folder.sha256,
        "videos": len(folder.found),
        "videos_used": len(used),
        "sources": sorted({folder.source_of[video] for video in used}),
        "windows_with_people": folder.windows,
        "samples": len(folder.clips),
        "left_out": {
            video.outcome.video: video.outcome.reason for video in folder.found if not video.clips
        },
    }


def negatives_lines(value: Mapping[str, Any] | None) -> list[str]:
    """Return the lines of the report's page, none without negatives."""
    if value is None:
        return []
    lines = [
        f"Negatives, learnt from as {value['class']} in train alone (windows of "
        f"{value['window_s']:g} s, at most {value['max_s_per_video']:g} s of a video):"
    ]
    return ["", *lines, *(
        f"- {one['folder']}: {one['samples']} samples of {one['videos_used']} of {one['videos']} "
        f"videos, {one['windows_with_people']} windows with people"
        for one in value["folders"]
    )]  # fmt: skip
