"""Stage 3: tracks and labels -> train, val and test pickles with a report.

Two passes keep memory small: the first reads every video and keeps only names, times and ids;
then whole sources are assigned to the splits; the second reads the videos again and streams each
split into its pickle. ``metadata.json`` is written last: a folder that has it is finished.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from annotation.clips import Clip, ClipFinder, VideoClips
from annotation.contact_sheet import ContactSheets
from annotation.joined import JoinedFolder, Members, find_members, labels_digest, read_joined
from annotation.metadata import (
    SHOWS_VIDEO,
    Dataset,
    clips_of,
    describe,
    is_finished,
    negatives_by_class,
)
from annotation.near_duplicates import near_duplicates
from annotation.negatives import LabelledTracks, Negatives, find_negatives
from annotation.negatives_folders import combined_digest, read_folders
from annotation.report import write_report, write_sheets
from annotation.sources import find_sources
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config, DatasetConfig
from recognizer.dataset.labels import read_segments
from recognizer.dataset.mmaction import METADATA, read_split, write_split
from recognizer.dataset.split import (
    SPLITS,
    SplitSample,
    check_no_leak,
    folder_split,
    split_by_source,
)
from recognizer.runs.inputs import is_included
from recognizer.runs.manifest import (
    MANIFEST,
    Manifest,
    Progress,
    Settings,
    exclusive,
    result_path,
    write_manifest,
)
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.shards import stage_manifest
from recognizer.runs.stage_folders import (
    dataset_dir,
    fetched_tracks,
    stage3_dir,
    stage3_settings,
)
from recognizer.runs.stills import Stills, sample_fps_of, stills_of
from recognizer.storage.artifacts import POSE_SCHEMA, read_npz_meta, write_json
from recognizer.types import Sample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class _Inputs:
    """Where the data set comes from, read once.

    Attributes:
        tracks: stage 2's folder.
        stage2: stage 2's settings.
        settings: of stage 3; their digest names the folder of the pickles.
        digest: of stage 2's manifest and results.
        shows_video: whether the report's sheets lie on the video's pictures.

    """

    tracks: Path
    stage2: Settings
    settings: Settings
    digest: str
    shows_video: bool


def run_stage3(config: Config, progress: ProgressFactory = silent) -> Path:
    """Build the training pickles of everything that stage 2 finished.

    Args:
        config: the config; its ``dataset`` section decides labels, windows and split.
        progress: shows the inputs, and the videos read for the sheets.

    Returns:
        The stage's folder, finished. Of one that was finished before only the report's sheets
        are drawn again, where ``visualize.skeleton_only`` has changed since.

    Raises:
        FileNotFoundError: stage 2 has not finished with this config.
        ConfigError: a table of segments or sources that cannot be used, or a folder of
            ``dataset.negatives``.
        ValueError: no samples, a class without samples, or too few sources; nothing is
            written then.
        OSError: the folder is not writable or the disk is full.

    """
    dataset_dir(config)  # refused before any work if it is no folder
    tracks = fetched_tracks(config, progress)
    stage2 = stage_manifest(tracks, "stage2")
    include = config.annotation.include
    chosen = tuple(o for o in stage2.outcomes if is_included(o.video, include))
    stage2 = replace(stage2, outcomes=chosen)
    settings = stage3_settings(config, stage2)
    folder = stage3_dir(config, settings)
    stills = stills_of(config, sample_fps_of(stage2.settings))
    with exclusive(folder):
        joined = read_joined(config.dataset, tracks, stage2.settings)
        others = read_folders(config.dataset, tracks, stage2.settings).items()
        digests = [_inputs_digest(*one) for one in ((tracks, stage2), *others)]
        digests += [labels_digest(j, _inputs_digest(j.path, j.manifest)) for j in joined]
        inputs = combined_digest(digests)
        if is_finished(folder, inputs, settings):
            _redraw(folder, stills, progress)
            return folder
        segments = None
        if config.dataset.segments is not None:
            names = [outcome.video for outcome in stage2.outcomes]
            segments = read_segments(
                config.dataset.segments, config.dataset.classes, names, partial=bool(include)
            )
        finder = ClipFinder(config, tracks, segments)
        with progress("stage 3: videos", _count(stage2, joined)) as advance:
            members = find_members(finder, stage2, joined, advance)
            source = _Inputs(tracks, stage2.settings, settings, inputs, stills is not None)
            dataset = _dataset(config, source, members, finder, progress)
            sheets = ContactSheets(dataset.clips, stills)
            _write_splits(folder, dataset, members, sheets, advance)
        _describe(folder, dataset, sheets, progress)
    return folder


def _count(own: Manifest, joined: Sequence[JoinedFolder]) -> int:
    return sum(len(manifest.outcomes) for manifest in (own, *(one.manifest for one in joined)))


def _redraw(folder: Path, stills: Stills | None, progress: ProgressFactory) -> None:
    """Draw the sheets of a finished folder again if ``visualize.skeleton_only`` has changed.

    Of ``metadata.json`` only the key for it changes. If stopped on the way, the folder is
    unfinished, and everything is made again.
    """
    metadata = json.loads((folder / METADATA).read_bytes())
    shown = stills is not None
    if metadata.get(SHOWS_VIDEO) is shown:
        return
    logger.info(
        "stage 3: the report's sheets are drawn again, %s the video's pictures",
        "on" if shown else "without",
    )
    sheets = ContactSheets(clips_of(metadata), stills)
    for split in SPLITS:
        for _ in sheets.collect(read_split(folder / f"{split}.pkl")):
            pass
    write_sheets(folder, sheets, progress, negatives_by_class(metadata))
    write_json(folder / METADATA, folder, {**metadata, SHOWS_VIDEO: shown})


def _inputs_digest(tracks: Path, stage2: Manifest) -> str:
    """Return a digest of the inputs that changes when any of stage 2's results does."""
    digest = hashlib.sha256((tracks / MANIFEST).read_bytes())
    for outcome in stage2.outcomes:
        content: object = outcome.state
        if outcome.state != "refused":
            try:
                meta = read_npz_meta(result_path(tracks, outcome.video, ".npz"), POSE_SCHEMA)
                content = meta.get("source"), meta.get("frame_account")
            except (ValueError, OSError) as error:
                content = type(error).__name__
        digest.update(repr((outcome.video, content)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _dataset(
    config: Config,
    source: _Inputs,
    members: Members,
    finder: ClipFinder,
    progress: ProgressFactory,
) -> Dataset:
    """Assign the clips to the splits and check that nothing is in two of them."""
    section, videos = config.dataset, members.videos
    clips = sorted((c for video in videos for c in video.clips), key=lambda c: c.name)
    _require_samples(clips, section, finder.reasons)
    named = {**_named_sources(section, members.own), **_joined_sources(members)}
    source_of, copies = _merge_copies(named, videos)
    samples = [
        SplitSample(c.name, c.video, source_of[c.video], section.classes[c.class_name])
        for c in clips
    ]
    try:
        by, split_of_video = _split(section, samples, members.joined)
    except ConfigError:
        raise
    except ValueError as error:  # too few sources: say where the others went
        raise ValueError(f"stage 3: {error}{_without_sample(videos)}") from error
    data = LabelledTracks(source.tracks, source.stage2, videos, named)
    negatives = find_negatives(config, data, progress)
    assigned = [(s, split_of_video[s.video]) for s in samples]
    leak_table = _check_leaks(assigned, negatives, section)
    places = {video: (split, source_of[video]) for video, split in split_of_video.items()}
    alike = near_duplicates(videos, clips, places, section.duplicate_distance)
    return Dataset(
        section=section,
        settings=source.settings,
        videos=videos,
        clips=clips,
        split_of=split_of_video,
        source_of=source_of,
        split_by=by,
        leak_table=leak_table,
        copies=copies,
        statistics=finder.statistics,
        near_duplicates=alike,
        negatives=negatives,
        inputs_digest=source.digest,
        report_shows_video=source.shows_video,
    )


def _check_leaks(
    assigned: Sequence[tuple[SplitSample, str]], negatives: Negatives | None, section: DatasetConfig
) -> str:
    """Return the table that shows that nothing is in two splits, without negatives."""
    leak_table = check_no_leak(assigned)
    if in_train := _in_train(negatives, section):
        check_no_leak([*assigned, *in_train])
        leak_table += (
            f"\n+ {len(in_train)} negatives in train, of no source, video or name of the others"
        )
    return leak_table


def _in_train(negatives: Negatives | None, section: DatasetConfig) -> list[tuple[SplitSample, str]]:
    """Return the negatives as samples of the training split."""
    members = []
    for number, folder in enumerate(() if negatives is None else negatives.folders, 1):
        for clip in folder.clips:
            video, source = f"{number}: {clip.video}", folder.source_of[clip.video]
            label = section.classes[clip.class_name]
            members.append((SplitSample(clip.name, video, source, label), "train"))
    return members


def _require_samples(clips: list[Clip], section: DatasetConfig, reasons: Counter[str]) -> None:
    counts = Counter(clip.class_name for clip in clips)
    empty = [name for name in section.classes if not counts[name]]
    if not empty:
        return
    what = f"no sample of {' and '.join(empty)}" if clips else "no sample at all"
    why = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(5))
    raise ValueError(
        f"stage 3: expected samples of every class, got {what} ({len(clips)} samples)"
        f"{'; left out: ' + why if why else '; nothing was left out: is a class folder empty?'}"
    )


def _without_sample(videos: list[VideoClips]) -> str:
    """Return how many videos gave no sample and why, as the end of a sentence."""
    reasons = Counter(video.outcome.reason for video in videos if not video.clips)
    if not reasons:
        return ""
    why = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(5))
    more = f"; and {len(reasons) - 5} further reasons" if len(reasons) > 5 else ""
    return f". {reasons.total()} of {len(videos)} videos gave no sample: {why}{more}"


def _named_sources(section: DatasetConfig, videos: Iterable[VideoClips]) -> dict[str, str]:
    """Return the source of each video with labelled parts, by ``dataset.split``."""
    used = {video.outcome.video: video for video in videos if video.clips or video.untracked}
    class_of = {
        name: (video.clips[0] if video.clips else video.untracked[0]).class_name
        for name, video in used.items()
        if not section.segments
    }
    return find_sources(section.split, list(used), class_of)


def _joined_sources(members: Members) -> dict[str, str]:
    """Return the source of each joined video with labelled parts."""
    used = (v.outcome.video for v in members.videos if v.clips or v.untracked)
    return {video: members.joined[video] for video in used if video in members.joined}


def _merge_copies(
    named: Mapping[str, str], videos: Iterable[VideoClips]
) -> tuple[dict[str, str], list[list[str]]]:
    """Return each video's source, and the groups of videos that are copies of one file.

    Copies under several names would leak like cuts of one recording; sources that share a copy
    become one.
    """
    source_of = dict(named)
    by_content: dict[str, list[str]] = {}
    for video in sorted(videos, key=lambda v: v.outcome.video):
        if video.content and video.outcome.video in named:
            by_content.setdefault(video.content, []).append(video.outcome.video)
    copies = [names for names in by_content.values() if len(names) > 1]
    for names in copies:
        kept = min(source_of[name] for name in names)
        merged = {source_of[name] for name in names}
        source_of = {v: kept if s in merged else s for v, s in source_of.items()}
    return source_of, sorted(copies)


def _split(
    section: DatasetConfig, members: list[SplitSample], joined: Collection[str]
) -> tuple[str, dict[str, str]]:
    """Return how the split was made and the split of each video.

    Where folders make it, joined videos, which have none, are learnt from.
    """
    folders = {
        member.video: "train" if member.video in joined else folder_split(member.video)
        for member in members
    }
    without = sorted(video for video, split in folders.items() if split is None)
    if section.split.by == "folders" and without:
        raise ConfigError(
            "dataset.split.by: folders: expected one train, val or test folder in every path, "
            f"found none or several in {len(without)}: {', '.join(without[:10])}; use 'source'"
        )
    if section.split.by == "folders" or (section.split.by == "auto" and not without):
        return "folders", {video: str(split) for video, split in folders.items()}
    splits = split_by_source(
        members, len(section.classes), section.split.ratios, section.split.seed
    )
    return "source", {member.video: splits[member.source] for member in members}


def _write_splits(
    folder: Path, dataset: Dataset, members: Members, sheets: ContactSheets, advance: Progress
) -> None:
    # Old and new pickles side by side would be of different splits, and leak.
    for name in (METADATA, MANIFEST, *(f"{split}.pkl" for split in SPLITS)):
        (folder / name).unlink(missing_ok=True)
    for split in SPLITS:
        samples = _samples(dataset, split, members, advance)
        write_split(folder / f"{split}.pkl", folder, sheets.collect(samples))


def _describe(
    folder: Path, dataset: Dataset, sheets: ContactSheets, progress: ProgressFactory
) -> None:
    metadata = describe(dataset, folder)
    outcomes = tuple(video.outcome for video in dataset.videos)
    metadata["report"] = write_report(folder, dataset, metadata, sheets, progress)
    write_manifest(folder, Manifest("stage3", dataset.settings, outcomes))
    write_json(folder / METADATA, folder, metadata)


def _samples(dataset: Dataset, split: str, members: Members, advance: Progress) -> Iterator[Sample]:
    """Yield the samples of one split, one video after another."""
    for video in sorted(dataset.videos, key=lambda v: v.outcome.video):
        if video.clips and dataset.split_of[video.outcome.video] == split:
            finder = members.finder_of[video.outcome.video]
            yield from finder.samples(video.outcome.video, video.clips)
            advance(video.outcome, 0)
    if split == "train" and dataset.negatives is not None:
        yield from dataset.negatives.samples()
