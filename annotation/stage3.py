"""Stage 3: people with ids and labels -> train, val and test pickles with a report.

Two passes keep memory small: the first looks at every video and keeps only names, times
and ids; then whole sources are dealt out to the splits; the second reads the videos again
and streams each split into its pickle. ``metadata.json`` is written last: where it is,
the folder is finished.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotation.clips import Clip, ClipFinder, VideoClips
from annotation.contact_sheet import ContactSheets
from annotation.metadata import SHOWS_VIDEO, Dataset, clips_of, describe, is_finished
from annotation.near_duplicates import duplicate_warnings, near_duplicates
from annotation.negatives import LabelledTracks, Negatives, find_negatives
from annotation.negatives_folders import combined_digest, read_folders
from annotation.negatives_report import negatives_by_class
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
    exclusive,
    read_manifest,
    result_path,
    write_manifest,
)
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.stage_folders import stage2_dir, stage3_dir, stage3_settings
from recognizer.runs.stills import Stills, sample_fps_of, stills_of
from recognizer.storage.artifacts import POSE_SCHEMA, read_npz_meta, write_json
from recognizer.types import Sample

logger = logging.getLogger(__name__)


def run_stage3(config: Config, progress: ProgressFactory = silent) -> Path:
    """Build the training pickles of everything that stage 2 finished.

    Args:
        config: the config; its ``dataset`` section decides labels, windows and split.
        progress: hears of each input's end state, and of the videos read for the sheets.

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
    tracks = stage2_dir(config)
    stage2 = read_manifest(tracks)
    include = config.annotation.include
    chosen = tuple(o for o in stage2.outcomes if is_included(o.video, include))
    stage2 = replace(stage2, outcomes=chosen)
    folder = stage3_dir(config)
    stills = stills_of(config, sample_fps_of(stage2.settings))
    with exclusive(folder):
        others = read_folders(config.dataset, tracks, stage2.settings).items()
        inputs = combined_digest([_inputs_digest(*one) for one in ((tracks, stage2), *others)])
        if is_finished(folder, inputs, stage3_settings(config, stage2)):
            _redraw(folder, stills, progress)
            return folder
        segments = None
        if config.dataset.segments is not None:
            videos = [outcome.video for outcome in stage2.outcomes]
            segments = read_segments(
                config.dataset.segments, config.dataset.classes, videos, partial=bool(include)
            )
        finder = ClipFinder(config, tracks, segments)
        with progress("stage 3: videos", len(stage2.outcomes)) as advance:
            found = []
            for before in stage2.outcomes:
                found.append(finder.find(before))
                advance(found[-1].outcome if not found[-1].clips else None, before.frames)
            dataset = _dataset(config, stage2, found, finder, progress)
            dataset.inputs_digest, dataset.report_shows_video = inputs, stills is not None
            sheets = ContactSheets(dataset.clips, stills)
            _write_splits(folder, dataset, finder, sheets, advance)
        _describe(folder, dataset, sheets, progress)
    return folder


def _redraw(folder: Path, stills: Stills | None, progress: ProgressFactory) -> None:
    """Draw the sheets of a finished folder again where they show the video and shall not.

    And where they do not show it and shall. Nothing else is touched but what ``metadata.json``
    says of it; stopped on the way, the folder is not finished, and all is made again.
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
        facts: Any = outcome.state
        if outcome.state != "refused":
            try:
                meta = read_npz_meta(result_path(tracks, outcome.video, ".npz"), POSE_SCHEMA)
                facts = meta.get("source"), meta.get("frame_account")
            except (ValueError, OSError) as error:
                facts = type(error).__name__
        digest.update(repr((outcome.video, facts)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _dataset(
    config: Config,
    stage2: Manifest,
    found: list[VideoClips],
    finder: ClipFinder,
    progress: ProgressFactory,
) -> Dataset:
    """Deal the clips out to the splits and prove that nothing is on two sides."""
    section = config.dataset
    clips = sorted((c for video in found for c in video.clips), key=lambda c: c.name)
    _require_samples(clips, section, finder.reasons)
    named = _named_sources(section, found)
    source_of, copies = _merge_copies(named, found)
    members = [
        SplitSample(c.name, c.video, source_of[c.video], section.classes[c.class_name])
        for c in clips
    ]
    try:
        by, split_of_video = _split(section, members)
    except ConfigError:
        raise
    except ValueError as error:  # too few sources: say where the others went
        raise ValueError(f"stage 3: {error}{_without_sample(found)}") from error
    data = LabelledTracks(stage2_dir(config), stage2.settings, found, named)
    negatives = find_negatives(config, data, progress)
    dealt = [(m, split_of_video[m.video]) for m in members]
    proof = _prove(dealt, negatives, section)
    places = {video: (split, source_of[video]) for video, split in split_of_video.items()}
    alike = near_duplicates(found, clips, places, section.duplicate_distance)
    for warning in duplicate_warnings(alike):
        logger.warning("stage 3: %s", warning)
    return Dataset(
        section=section,
        settings=stage3_settings(config, stage2),
        found=found,
        clips=clips,
        split_of=split_of_video,
        source_of=source_of,
        split_by=by,
        proof=proof,
        copies=copies,
        figures=finder.figures,
        near_duplicates=alike,
        negatives=negatives,
    )


def _prove(
    dealt: Sequence[tuple[SplitSample, str]], negatives: Negatives | None, section: DatasetConfig
) -> str:
    """Return the table that shows that nothing is on two sides, negatives apart."""
    proof = check_no_leak(dealt)
    if further := _in_train(negatives, section):
        check_no_leak([*dealt, *further])
        proof += f"\n+ {len(further)} negatives in train, of no source, video or name of the others"
    return proof


def _in_train(negatives: Negatives | None, section: DatasetConfig) -> list[tuple[SplitSample, str]]:
    """Return the negatives as the proof sees them: samples of the training split."""
    found = []
    for number, folder in enumerate(() if negatives is None else negatives.folders, 1):
        for clip in folder.clips:
            video, source = f"{number}: {clip.video}", folder.source_of[clip.video]
            label = section.classes[clip.class_name]
            found.append((SplitSample(clip.name, video, source, label), "train"))
    return found


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


def _without_sample(found: list[VideoClips]) -> str:
    """Return how many videos gave no sample and why, as the end of a sentence."""
    reasons = Counter(video.outcome.reason for video in found if not video.clips)
    if not reasons:
        return ""
    why = "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(5))
    more = f"; and {len(reasons) - 5} further reasons" if len(reasons) > 5 else ""
    return f". {reasons.total()} of {len(found)} videos gave no sample: {why}{more}"


def _named_sources(section: DatasetConfig, found: Iterable[VideoClips]) -> dict[str, str]:
    """Return the source of each video with labelled parts, as ``dataset.split`` says."""
    used = {video.outcome.video: video for video in found if video.clips or video.untracked}
    class_of = {
        name: (video.clips[0] if video.clips else video.untracked[0]).class_name
        for name, video in used.items()
        if not section.segments
    }
    return find_sources(section.split, list(used), class_of)


def _merge_copies(
    named: Mapping[str, str], found: Iterable[VideoClips]
) -> tuple[dict[str, str], list[list[str]]]:
    """Return each video's source, and the groups of videos that are copies of one file.

    Copies under several names would leak as surely as cuts of one recording; the sources
    that share a copy become one.
    """
    source_of = dict(named)
    by_content: dict[str, list[str]] = {}
    for video in sorted(found, key=lambda v: v.outcome.video):
        if video.content and video.outcome.video in named:
            by_content.setdefault(video.content, []).append(video.outcome.video)
    copies = [names for names in by_content.values() if len(names) > 1]
    for names in copies:
        kept = min(source_of[name] for name in names)
        merged = {source_of[name] for name in names}
        source_of = {v: kept if s in merged else s for v, s in source_of.items()}
    return source_of, sorted(copies)


def _split(section: DatasetConfig, members: list[SplitSample]) -> tuple[str, dict[str, str]]:
    """Return how the split was made and the split of each video."""
    folders = {member.video: folder_split(member.video) for member in members}
    without = sorted(video for video, split in folders.items() if split is None)
    if section.split.by == "folders" and without:
        raise ConfigError(
            "dataset.split.by: folders: expected one train, val or test folder in every path, "
            f"found none or several in {len(without)}: {', '.join(without[:10])}; use 'source'"
        )
    if section.split.by == "folders" or (section.split.by == "auto" and not without):
        return "folders", {video: str(split) for video, split in folders.items()}
    dealt = split_by_source(members, len(section.classes), section.split.ratios, section.split.seed)
    return "source", {member.video: dealt[member.source] for member in members}


def _write_splits(
    folder: Path, dataset: Dataset, finder: ClipFinder, sheets: ContactSheets, advance: Progress
) -> None:
    # Nothing old may stand beside something new: two halves of different splits would leak.
    for name in (METADATA, MANIFEST, *(f"{split}.pkl" for split in SPLITS)):
        (folder / name).unlink(missing_ok=True)
    for split in SPLITS:
        samples = _samples(dataset, split, finder, advance)
        write_split(folder / f"{split}.pkl", folder, sheets.collect(samples))


def _describe(
    folder: Path, dataset: Dataset, sheets: ContactSheets, progress: ProgressFactory
) -> None:
    metadata = describe(dataset, folder)
    outcomes = tuple(video.outcome for video in dataset.found)
    metadata["report"] = write_report(folder, dataset, metadata, sheets, progress)
    write_manifest(folder, Manifest("stage3", dataset.settings, outcomes))
    write_json(folder / METADATA, folder, metadata)


def _samples(
    dataset: Dataset, split: str, finder: ClipFinder, advance: Progress
) -> Iterator[Sample]:
    """Yield the samples of one split, one video after another."""
    for video in sorted(dataset.found, key=lambda v: v.outcome.video):
        if video.clips and dataset.split_of[video.outcome.video] == split:
            yield from finder.samples(video.outcome.video, video.clips)
            advance(video.outcome, 0)
    if split == "train" and dataset.negatives is not None:
        yield from dataset.negatives.samples()
