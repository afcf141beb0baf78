"""``metadata.json``: what is in the pickles, where from, and what was left out and why."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotation.clips import ClassStatistics, Clip, VideoClips, clip_name
from annotation.near_duplicates import duplicate_warnings
from annotation.negatives import Negatives
from annotation.negatives_report import describe_negatives
from recognizer.config.schema import DatasetConfig
from recognizer.dataset.mmaction import METADATA, METADATA_SCHEMA
from recognizer.dataset.split import SPLITS, class_weights, folder_split
from recognizer.storage.artifacts import sha256_file

SCHEMA_VERSION = 1
SHOWS_VIDEO = "report_shows_video"


@dataclass(eq=False, slots=True)
class Dataset:
    """Everything about the data set but the keypoints themselves.

    Attributes:
        section: the ``dataset`` section of the config.
        settings: what decided the result, of all stages, with the models' digests.
        found: what each input gave, with its end state.
        clips: all samples, sorted by name.
        split_of: train, val or test, by video.
        source_of: the recording, by video.
        split_by: ``source`` or ``folders``.
        proof: the table that shows that nothing is on two sides.
        copies: groups of videos that are copies of one file.
        figures: what the report shows, by class.
        near_duplicates: clips of different sources that look alike.
        negatives: windows of other footage that are learnt from as well, None without.
        inputs_digest: of stage 2's manifest and results.
        report_shows_video: whether the report's sheets lie on the video's pictures, where the
            video is at hand; False hides faces.

    """

    section: DatasetConfig
    settings: dict[str, Any]
    found: list[VideoClips]
    clips: list[Clip]
    split_of: dict[str, str]
    source_of: dict[str, str]
    split_by: str
    proof: str
    copies: list[list[str]]
    figures: dict[str, ClassStatistics]
    near_duplicates: dict[str, Any]
    negatives: Negatives | None = None
    inputs_digest: str = field(default="")
    report_shows_video: bool = True

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
    of_video = {found.outcome.video: found for found in dataset.found}
    return {
        "schema": METADATA_SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "service": dataset.section.service,
        "classes": dataset.section.classes,
        "num_person": dataset.section.num_person,
        "totals": _totals(dataset),
        "splits": {split: _split_facts(dataset, split, counts[split], folder) for split in SPLITS},
        "class_balance": {n: count / sum(total.values()) for n, count in total.items()},
        "class_weights": _weights(dataset, counts),
        "split_by": dataset.split_by,
        "no_leak": dataset.proof.splitlines(),
        "copies": dataset.copies,
        "near_duplicates": dataset.near_duplicates,
        "warnings": _warnings(dataset, counts),
        "samples": {
            clip.name: _sample_facts(dataset, clip) | _picture_facts(of_video[clip.video])
            for clip in dataset.clips
        },
        **(
            {}
            if negatives is None
            else {"negatives": describe_negatives(negatives, dataset.section)}
        ),
        "nobody_tracked": _nobody_tracked(dataset),
        "failures": {
            v.outcome.video: v.outcome.reason for v in dataset.found if v.outcome.state != "done"
        },
        "settings": dataset.settings,
        "inputs_digest": dataset.inputs_digest,
        SHOWS_VIDEO: dataset.report_shows_video,
    }


def _totals(dataset: Dataset) -> dict[str, int]:
    states = Counter(video.outcome.state for video in dataset.found)
    return {
        "inputs": len(dataset.found),
        "done": states["done"],
        "damaged": states["damaged"],
        "refused": states["refused"],
        "samples": len(dataset.clips),
        **_negatives(dataset),
        "parts_left_out": sum(len(video.problems) for video in dataset.found),
        "windows_without_people": sum(video.empty_windows for video in dataset.found),
        "windows_without_class": sum(video.unlabelled_windows for video in dataset.found),
    }


def _split_facts(
    dataset: Dataset, split: str, counts: dict[str, int], folder: Path
) -> dict[str, Any]:
    videos = sorted(v for v, s in dataset.split_of.items() if s == split)
    path = folder / f"{split}.pkl"
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "samples": sum(counts.values()),
        "by_class": counts,
        **(_negatives(dataset) if split == "train" else {}),
        "videos": len(videos),
        "sources": sorted({dataset.source_of[video] for video in videos}),
    }


def _negatives(dataset: Dataset) -> dict[str, int]:
    counts = dataset.negative_counts()
    return {"negatives": sum(counts.values())} if counts else {}


def _sample_facts(dataset: Dataset, clip: Clip) -> dict[str, Any]:
    return {
        "video": clip.video,
        "start_s": clip.start_s,
        "stop_s": clip.stop_s,
        "class": clip.class_name,
        "label": dataset.section.classes[clip.class_name],
        "split": dataset.split_of[clip.video],
        "source": dataset.source_of[clip.video],
        "people": len(clip.track_ids),
        "track_ids": list(clip.track_ids),
        "frames": clip.frames,
    }


def _picture_facts(found: VideoClips) -> dict[str, Any]:
    """Return what a classifier must not decide by: size and rate of a video's pictures."""
    return {"size_wh": list(found.size_wh), "fps": found.fps}


def _nobody_tracked(dataset: Dataset) -> dict[str, Any]:
    """Return the labelled parts that are no samples because nobody was tracked in them.

    Their split is that of their source; None if none of it came into a split.
    """
    section = dataset.section
    whole = section.segments is None and section.window_s is None
    of_source = {dataset.source_of[video]: split for video, split in dataset.split_of.items()}
    facts = {}
    for found in dataset.found:
        video = found.outcome.video
        for part in found.untracked:
            source = dataset.source_of[video]
            split = folder_split(video) if dataset.split_by == "folders" else of_source.get(source)
            start, stop = round(part.start_s, 6), round(part.stop_s, 6)
            facts[clip_name(video, start, stop, whole=whole)] = {
                "video": video,
                "start_s": start,
                "stop_s": stop,
                "class": part.class_name,
                "label": section.classes[part.class_name],
                "split": split,
                "source": source,
                **_picture_facts(found),
            }
    return facts


def _weights(dataset: Dataset, counts: dict[str, dict[str, int]]) -> dict[str, float]:
    """Return class weights from what is trained on; from all samples if there is no train.

    Negatives are trained on.
    """
    classes = dataset.section.classes
    further = dataset.negative_counts()
    learnt = {name: counts["train"][name] + further.get(name, 0) for name in classes}
    if not sum(learnt.values()):
        learnt = {name: sum(counts[split][name] for split in SPLITS) for name in classes}
    weights = class_weights({label: learnt[name] for name, label in classes.items()})
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


def is_finished(folder: Path, inputs_digest: str, settings: dict[str, Any]) -> bool:
    """Tell whether the folder holds the whole, undamaged result of inputs and settings.

    How the report's sheets are drawn is no part of it: see ``SHOWS_VIDEO``.
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


def clips_of(metadata: dict[str, Any]) -> list[Clip]:
    """Return the samples that ``metadata.json`` names, sorted by name."""
    return [
        Clip(
            name,
            facts["video"],
            facts["start_s"],
            facts["stop_s"],
            facts["class"],
            tuple(facts["track_ids"]),
            facts["frames"],
        )
        for name, facts in sorted(metadata["samples"].items())
    ]
