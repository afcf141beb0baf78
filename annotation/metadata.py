"""``metadata.json``: content and origin of the pickles, and what was left out and why."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotation.clips import ClassStatistics, Clip, VideoClips, clip_name
from annotation.near_duplicates import duplicate_warnings
from annotation.negatives import NegativeFolder, Negatives
from recognizer.config.schema import DatasetConfig
from recognizer.dataset.mmaction import METADATA, METADATA_SCHEMA
from recognizer.dataset.split import SPLITS, class_weights, folder_split
from recognizer.runs.manifest import Settings
from recognizer.storage.artifacts import sha256_file

SCHEMA_VERSION = 1
SHOWS_VIDEO = "report_shows_video"
Metadata = Mapping[str, Any]  # the content of ``metadata.json``


@dataclass(frozen=True, eq=False, slots=True)
class Dataset:
    """Everything about the data set except the keypoints.

    Attributes:
        section: the ``dataset`` section of the config.
        settings: of all stages, with the models' digests.
        videos: end state and clips of each input.
        clips: all samples, sorted by name.
        split_of: train, val or test, by video.
        source_of: the recording, by video.
        split_by: ``source`` or ``folders``.
        leak_table: the table that shows that nothing is in two splits.
        copies: groups of videos that are copies of one file.
        statistics: what the report shows, by class.
        near_duplicates: clips of different sources that look alike.
        negatives: windows of other footage that are learnt from as well, None without.
        inputs_digest: of stage 2's manifest and results.
        report_shows_video: whether the report's sheets lie on the video's pictures, where the
            video is at hand; False hides faces.

    """

    section: DatasetConfig
    settings: Settings
    videos: list[VideoClips]
    clips: list[Clip]
    split_of: dict[str, str]
    source_of: dict[str, str]
    split_by: str
    leak_table: str
    copies: list[list[str]]
    statistics: dict[str, ClassStatistics]
    near_duplicates: dict[str, Any]
    negatives: Negatives | None
    inputs_digest: str
    report_shows_video: bool

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of samples by split and class, without negatives."""
        counted = Counter((self.split_of[c.video], c.class_name) for c in self.clips)
        return {s: {name: counted[s, name] for name in self.section.classes} for s in SPLITS}

    def negative_counts(self) -> dict[str, int]:
        """Return the number of negatives by class, all in train; empty without any."""
        negatives = self.negatives
        return {} if negatives is None else {negatives.class_name: len(negatives.clips)}


def describe(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Return the content of ``metadata.json``; the pickles must be written already."""
    counts = dataset.counts()
    total = {n: sum(counts[split][n] for split in SPLITS) for n in dataset.section.classes}
    negatives = dataset.negatives
    by_name = {video.outcome.video: video for video in dataset.videos}
    return {
        "schema": METADATA_SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "service": dataset.section.service,
        "classes": dataset.section.classes,
        "num_person": dataset.section.num_person,
        "totals": _totals(dataset),
        "splits": {split: _split_json(dataset, split, counts[split], folder) for split in SPLITS},
        "class_balance": {n: count / sum(total.values()) for n, count in total.items()},
        "class_weights": _weights(dataset, counts),
        "split_by": dataset.split_by,
        "no_leak": dataset.leak_table.splitlines(),
        "copies": dataset.copies,
        "near_duplicates": dataset.near_duplicates,
        "warnings": _warnings(dataset, counts),
        "samples": {
            clip.name: _sample_json(
                clip,
                by_name[clip.video],
                dataset.section,
                (dataset.split_of[clip.video], dataset.source_of[clip.video]),
            )
            for clip in dataset.clips
        },
        **({} if negatives is None else {"negatives": _negatives(negatives, dataset.section)}),
        "nobody_tracked": _untracked(dataset),
        "failures": _reasons([v for v in dataset.videos if v.outcome.state != "done"]),
        "settings": dataset.settings,
        "inputs_digest": dataset.inputs_digest,
        SHOWS_VIDEO: dataset.report_shows_video,
    }


def _totals(dataset: Dataset) -> dict[str, int]:
    states = Counter(video.outcome.state for video in dataset.videos)
    return {
        "inputs": len(dataset.videos),
        "done": states["done"],
        "damaged": states["damaged"],
        "refused": states["refused"],
        "samples": len(dataset.clips),
        **_negative_count(dataset),
        "parts_left_out": sum(len(video.problems) for video in dataset.videos),
        "windows_without_people": sum(video.empty_windows for video in dataset.videos),
        "windows_without_class": sum(video.unlabelled_windows for video in dataset.videos),
    }


def _split_json(
    dataset: Dataset, split: str, counts: dict[str, int], folder: Path
) -> dict[str, object]:
    videos = sorted(v for v, s in dataset.split_of.items() if s == split)
    path = folder / f"{split}.pkl"
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "samples": sum(counts.values()),
        "by_class": counts,
        **(_negative_count(dataset) if split == "train" else {}),
        "videos": len(videos),
        "sources": sorted({dataset.source_of[video] for video in videos}),
    }


def _negative_count(dataset: Dataset) -> dict[str, int]:
    counts = dataset.negative_counts()
    return {"negatives": sum(counts.values())} if counts else {}


def _reasons(videos: Iterable[VideoClips]) -> dict[str, str]:
    return {video.outcome.video: video.outcome.reason for video in videos}


def _sample_json(
    clip: Clip, video: VideoClips, section: DatasetConfig, split_source: tuple[str, str]
) -> dict[str, object]:
    """Return a sample's row; split and source are those of its video."""
    split, source = split_source
    return {
        "video": clip.video,
        "start_s": clip.start_s,
        "stop_s": clip.stop_s,
        "class": clip.class_name,
        "label": section.classes[clip.class_name],
        "split": split,
        "source": source,
        "people": len(clip.track_ids),
        "track_ids": list(clip.track_ids),
        "frames": clip.frames,
        **_picture_json(video),
    }


def _picture_json(video: VideoClips) -> dict[str, object]:
    """Return size and rate of a video's pictures, which a classifier must not decide by."""
    return {"size_wh": list(video.size_wh), "fps": video.fps}


def _negatives(negatives: Negatives, section: DatasetConfig) -> dict[str, object]:
    """Return the negatives: counts of each folder, and each sample."""
    return {
        "class": negatives.class_name,
        "window_s": negatives.window_s,
        "max_s_per_video": section.negatives_s,
        "folders": [_folder_json(folder) for folder in negatives.folders],
        "samples": {
            clip.name: _sample_json(clip, video, section, ("train", folder.source_of[clip.video]))
            for folder in negatives.folders
            for video in folder.videos
            for clip in video.clips
        },
    }


def _folder_json(folder: NegativeFolder) -> dict[str, object]:
    used = [video.outcome.video for video in folder.videos if video.clips]
    return {
        "folder": folder.name,
        "manifest_sha256": folder.sha256,
        "videos": len(folder.videos),
        "videos_used": len(used),
        "sources": sorted({folder.source_of[video] for video in used}),
        "windows_with_people": folder.windows,
        "samples": len(folder.clips),
        "left_out": _reasons(video for video in folder.videos if not video.clips),
        "unreadable": _reasons(video for video in folder.videos if video.unreadable),
    }


def _untracked(dataset: Dataset) -> dict[str, object]:
    """Return the labelled parts that are no samples for want of a tracked person.

    Their split is that of their source; None if no part of that is in a split.
    """
    section = dataset.section
    of_source = {dataset.source_of[video]: split for video, split in dataset.split_of.items()}
    rows: dict[str, object] = {}
    for video in dataset.videos:
        name = video.outcome.video
        for part in video.untracked:
            source = dataset.source_of[name]
            by_folder = folder_split(name) if dataset.split_by == "folders" else None
            split = of_source.get(source) or by_folder
            start, stop = round(part.start_s, 6), round(part.stop_s, 6)
            rows[clip_name(name, start, stop, whole=video.whole)] = {
                "video": name,
                "start_s": start,
                "stop_s": stop,
                "class": part.class_name,
                "label": section.classes[part.class_name],
                "split": split,
                "source": source,
                **_picture_json(video),
            }
    return rows


def _weights(dataset: Dataset, counts: dict[str, dict[str, int]]) -> dict[str, float]:
    """Return class weights of the train split with its negatives; of all samples if it is empty."""
    classes = dataset.section.classes
    negatives = dataset.negative_counts()
    train = {name: counts["train"][name] + negatives.get(name, 0) for name in classes}
    if not sum(train.values()):
        train = {name: sum(counts[split][name] for split in SPLITS) for name in classes}
    weights = class_weights({label: train[name] for name, label in classes.items()})
    return {name: round(weights[label], 6) for name, label in classes.items()}


def _warnings(dataset: Dataset, counts: dict[str, dict[str, int]]) -> list[str]:
    warnings = []
    for split in SPLITS:
        empty = [name for name, n in counts[split].items() if n == 0]
        if len(empty) == len(counts[split]):
            warnings.append(f"{split} is empty")
        elif empty:
            warnings.append(f"{split} has no sample of {', '.join(empty)}")
    named = dataset.section.split.sources or dataset.section.split.source_regex
    if dataset.split_by == "source" and not named:
        warnings.append(
            "every video counts as its own source; if several were cut from one recording, name "
            "it with dataset.split.sources or source_regex"
        )
    warnings += duplicate_warnings(dataset.near_duplicates)
    warnings += [f"copies of one file, kept in one split: {', '.join(c)}" for c in dataset.copies]
    return warnings


def is_finished(folder: Path, inputs_digest: str, settings: Settings) -> bool:
    """Tell whether the folder holds the whole, undamaged result of inputs and settings.

    The drawing of the report's sheets does not count: see ``SHOWS_VIDEO``.
    """
    try:
        metadata = json.loads((folder / METADATA).read_bytes())
        return (
            metadata["schema"] == METADATA_SCHEMA
            and metadata["schema_version"] == SCHEMA_VERSION
            and metadata["inputs_digest"] == inputs_digest
            and metadata["settings"] == settings
            and {"nobody_tracked", "near_duplicates"} <= metadata.keys()
            and ("negatives" in metadata) == ("negatives" in metadata["totals"])
            and all(
                sha256_file(folder / f"{split}.pkl") == metadata["splits"][split]["sha256"]
                for split in SPLITS
            )
            and all((folder / name).is_file() for name in metadata["report"])
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def clips_of(metadata: Metadata) -> list[Clip]:
    """Return the samples that ``metadata.json`` names, sorted by name."""
    return [
        Clip(
            name,
            row["video"],
            row["start_s"],
            row["stop_s"],
            row["class"],
            tuple(row["track_ids"]),
            row["frames"],
        )
        for name, row in sorted(metadata["samples"].items())
    ]


def negatives_by_class(metadata: Metadata) -> dict[str, int]:
    """Return the number of negatives by class, empty without any."""
    value = metadata.get("negatives")
    return {} if value is None else {value["class"]: len(value["samples"])}


def unreadable_negatives(metadata: Metadata) -> dict[str, str]:
    """Return the reasons why results of stage 2 could not be read, by folder and video."""
    return {
        f"{folder['folder']}: {video}": reason
        for folder in metadata.get("negatives", {}).get("folders", ())
        for video, reason in folder.get("unreadable", {}).items()
    }
