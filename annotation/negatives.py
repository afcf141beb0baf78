"""Negatives: windows of other footage without the event, for the training split alone.

A classifier of fights that never saw a fall takes falls for fights, and the other way round.
``dataset.negatives`` names tracked footage (stage 2's folders), every window of which is a sample
of the normal class. It is never validated or tested on, so it must not hold footage that is.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotation.clips import Clip, ClipFinder, VideoClips, median_s
from annotation.negatives_folders import ROUNDING, normal_class, read_folders, windows_per_video
from annotation.sources import known_sources
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config, DatasetConfig
from recognizer.dataset.near_duplicates import find_shared
from recognizer.names import nfc
from recognizer.runs.manifest import MANIFEST, Settings
from recognizer.runs.progress import ProgressFactory
from recognizer.sequences import evenly_spaced
from recognizer.storage.artifacts import sha256_file
from recognizer.types import Sample

logger = logging.getLogger(__name__)

_NAMED = 5  # of many equal faults, how many a message names


@dataclass(frozen=True, eq=False, slots=True)
class NegativeFolder:
    """The windows of one folder of ``dataset.negatives``.

    Attributes:
        name: the data set's and the folder's own name.
        sha256: of its manifest.
        finder: reads its videos.
        videos: end state and chosen windows of each video, under the names of their samples.
        source_of: the recording, by video.
        windows: windows with people, chosen or not.

    """

    name: str
    sha256: str
    finder: ClipFinder
    videos: tuple[VideoClips, ...]
    source_of: Mapping[str, str]
    windows: int

    @property
    def clips(self) -> list[Clip]:
        """Return the chosen windows."""
        return [clip for video in self.videos for clip in video.clips]


@dataclass(frozen=True, eq=False, slots=True)
class Negatives:
    """The negatives of a data set.

    Attributes:
        class_name: the normal class.
        window_s: length of a window, seconds.
        folders: in the order of the config.

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
            for video in folder.videos:
                if video.clips:
                    yield from folder.finder.samples(video.outcome.video, video.clips)


@dataclass(frozen=True, eq=False, slots=True)
class LabelledTracks:
    """The data set that the negatives are for.

    Attributes:
        folder: stage 2's.
        settings: of its tracks.
        videos: end state and clips of each of its videos.
        source_of: the recording, by video, as ``dataset.split`` names it: sources that share a
            copied file are not merged, so that each name is known.

    """

    folder: Path
    settings: Settings
    videos: Sequence[VideoClips]
    source_of: Mapping[str, str]

    @property
    def clips(self) -> list[Clip]:
        """Return the clips of all videos."""
        return [clip for video in self.videos for clip in video.clips]


def find_negatives(
    config: Config, data: LabelledTracks, progress: ProgressFactory
) -> Negatives | None:
    """Return the windows of ``dataset.negatives``, None where it names no folder.

    Raises:
        ConfigError: a folder that is no stage 2, was made with other settings than the data, gives
            no window with people, or holds what the data set holds.

    """
    section = config.dataset
    if not section.negatives:
        return None
    window_s = section.window_s or median_s(data.clips)
    normal, most = normal_class(section), windows_per_video(section, window_s)
    windows = section.model_copy(
        update={"window_s": window_s, "stride_s": window_s / 2, "segments": None}
    )
    cut = config.model_copy(update={"dataset": windows})
    _refuse_names(len(section.negatives), data)
    manifests = read_folders(section, data.folder, data.settings)
    folders = []
    for number, (path, manifest) in enumerate(manifests.items(), 1):
        finder = ClipFinder(cut, path, None, normal)
        with progress(f"stage 3: negatives {number}: videos", len(manifest.outcomes)) as advance:
            videos = []
            for outcome in manifest.outcomes:
                videos.append(_if_long_enough(finder.find(outcome), window_s, finder))
                advance(videos[-1].outcome, outcome.frames)
        folders.append(_folder(section, path, number, (finder, videos), most))
        _refuse_copies(folders)
        _refuse_tested_footage(path, folders[-1], data)
    if section.duplicate_distance is not None:
        folders = _without_alike(folders, data, section.duplicate_distance)
    return Negatives(normal, window_s, tuple(folders))


def _if_long_enough(video: VideoClips, window_s: float, finder: ClipFinder) -> VideoClips:
    """Return a video, without clips where it is shorter than a window.

    Its one clip would be shorter than all others, which a network could learn.
    """
    if all(clip.stop_s - clip.start_s >= window_s * (1 - ROUNDING) for clip in video.clips):
        return video
    reason = f"shorter than a window of {window_s:g} s"
    finder.reasons[reason] += 1
    return _left_out(video, reason)


def _left_out(video: VideoClips, reason: str) -> VideoClips:
    outcome = replace(video.outcome, state="refused", reason=reason, frames=0)
    return replace(video, outcome=outcome, clips=[], hashes={})


def _folder(
    section: DatasetConfig,
    path: Path,
    number: int,
    read: tuple[ClipFinder, Sequence[VideoClips]],
    most: int,
) -> NegativeFolder:
    """Choose the windows and give their samples names that no other samples have."""
    finder, videos = read
    windows = sum(len(video.clips) for video in videos)
    if not windows:
        reasons = "; ".join(f"{n} x {text}" for text, n in finder.reasons.most_common(_NAMED))
        raise ConfigError(
            f"dataset.negatives: expected a window with people in {path}, found none in "
            f"{len(videos)} videos{': ' + reasons if reasons else ''}; leave the folder out"
        )
    chosen = []
    for video in sorted(videos, key=lambda v: v.outcome.video):
        kept = [
            (clip.name, replace(clip, name=f"{_prefix(number)}/{clip.name}"))
            for clip in evenly_spaced(video.clips, most)
        ]
        hashes = {c.name: video.hashes[old] for old, c in kept if old in video.hashes}
        chosen.append(replace(video, clips=[clip for _, clip in kept], hashes=hashes))
    names = [video.outcome.video for video in chosen]
    stage = path.parent.parent if path.parent.name == "stage2_tracking" else path.parent
    return NegativeFolder(
        f"{stage.name}/{path.name}",
        sha256_file(path / MANIFEST),
        finder,
        tuple(chosen),
        known_sources(section.split, names),
        windows,
    )


# --- refusals ----------------------------------------------------------------------


def _refuse_names(folders: int, data: LabelledTracks) -> None:
    """Refuse videos of the data set whose samples could have names of negatives."""
    prefixes = tuple(f"{_prefix(number)}/" for number in range(1, folders + 1))
    same = [v.outcome.video for v in data.videos if v.outcome.video.startswith(prefixes)]
    if same:
        raise ConfigError(
            f"dataset.negatives: expected no video of the data set below {' or '.join(prefixes)}, "
            f"which the samples of negatives are called by, found {len(same)}, such as {same[0]}; "
            "rename the folder 'negatives' in annotation.input and run stages 1 and 2 again"
        )


def _prefix(number: int) -> str:
    return f"negatives/{number}"


def _refuse_copies(folders: Sequence[NegativeFolder]) -> None:
    """Refuse a file that two folders have: its windows would count double."""
    seen: dict[str, str] = {}
    for folder in folders[:-1]:
        seen |= {v.content: f"{folder.name}: {v.outcome.video}" for v in folder.videos if v.content}
    last = folders[-1]
    copies = [
        f"{video.outcome.video} is a copy of {seen[video.content]}"
        for video in last.videos
        if video.content in seen
    ]
    if copies:
        raise ConfigError(
            f"dataset.negatives: expected each video once, found {len(copies)} in {last.name} that "
            f"an earlier folder has: {'; '.join(copies[:_NAMED])}; leave one of the folders out"
        )


def _refuse_tested_footage(path: Path, folder: NegativeFolder, data: LabelledTracks) -> None:
    """Refuse footage that the data set has as well, whatever its split.

    test.crossval tests on every source, those of the training split as well.
    """
    faults = [*_same_names(folder, data), *_copies(folder, data)]
    if faults:
        more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise ConfigError(
            f"dataset.negatives: expected footage that the data set does not hold, since every "
            f"source of that is tested on, found in {path}: {'; '.join(faults[:_NAMED])}{more}; "
            "make tracks without these videos (--mode annotation.stage2 with annotation.include "
            "and another annotation.dataset) and name their folder"
        )


def _same_names(folder: NegativeFolder, data: LabelledTracks) -> list[str]:
    known = {nfc(name) for pair in data.source_of.items() for name in pair}
    return [
        f"{video} is called as a video of the data set"
        if nfc(video) in known
        else f"{video} is of the source {source}, which the data set has as well"
        for video, source in folder.source_of.items()
        if nfc(video) in known or nfc(source) in known
    ]


def _copies(folder: NegativeFolder, data: LabelledTracks) -> list[str]:
    known = {video.content: video.outcome.video for video in data.videos if video.content}
    return [
        f"{video.outcome.video} is a copy of {known[video.content]}"
        for video in folder.videos
        if video.content in known
    ]


def _without_alike(
    folders: Sequence[NegativeFolder], data: LabelledTracks, max_distance: float
) -> list[NegativeFolder]:
    """Return the folders without the videos that share pictures with a sample of the data set.

    Half of the pictures of a window or of the sample are enough.

    Raises:
        ConfigError: no video remains.

    """
    known = _hashes(data.videos)
    hashes = _hashes(video for folder in folders for video in folder.videos)
    names, known_names = list(hashes), list(known)
    alike = {
        names[pair.first]: f"looks like {known_names[pair.second]} of the data set "
        f"({pair.distance:g} of 64 bits differ in half of their pictures)"
        for pair in find_shared(list(hashes.values()), list(known.values()), max_distance)
    }
    kept = [
        replace(f, videos=tuple(_if_unlike(v, alike, f.name) for v in f.videos)) for f in folders
    ]
    if not any(folder.clips for folder in kept):
        name, reason = next(iter(alike.items()))
        raise ConfigError(
            "dataset.negatives: expected footage that the data set does not hold, found none but "
            f"videos that look like it, such as {name}: {reason}; name other footage, or set "
            "dataset.duplicate_distance to null"
        )
    return kept


def _if_unlike(video: VideoClips, alike: Mapping[str, str], folder: str) -> VideoClips:
    reasons = [alike[clip.name] for clip in video.clips if clip.name in alike]
    if not reasons:
        return video
    logger.warning(
        "stage 3: dataset.negatives: left out: %s: %s: %s",
        folder,
        video.outcome.video,
        reasons[0],
    )
    return _left_out(video, reasons[0])


def _hashes(videos: Iterable[VideoClips]) -> dict[str, NDArray[np.uint64]]:
    return {name: hashes for video in videos for name, hashes in video.hashes.items()}
