"""Labels, sources and splits of a data set's clips, from stage 3's ``metadata.json``.

Stage 3 leaves out clips without a tracked person: there is nothing to learn from. But they were
labelled, and the running system will answer "normal" on them, so a test counts them as such, right
or wrong.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recognizer.config.file import ConfigError
from recognizer.dataset.check import check_splits
from recognizer.dataset.mmaction import METADATA, METADATA_SCHEMA
from recognizer.dataset.split import SPLITS
from recognizer.runs.stills import sample_fps_of
from recognizer.storage.artifacts import ArtifactError, sha256_file
from recognizer.types import Sample

NORMAL = 0  # the label of "nothing happens", by the contract of the classifiers


@dataclass(frozen=True, slots=True)
class ClipLabel:
    """One labelled clip.

    Attributes:
        label: its class.
        source: the recording.
        split: None if it is in none.
        seconds: its length.
        video: the video it is part of, empty if unknown.
        start_s: its start in the video.
        size_wh: width and height of its pictures, None if unknown.
        fps: its frame rate, None if unknown.

    """

    label: int
    source: str
    split: str | None
    seconds: float
    video: str = ""
    start_s: float = 0.0
    size_wh: tuple[int, int] | None = None
    fps: float | None = None


@dataclass(frozen=True, eq=False, slots=True)
class DatasetLabels:
    """All labelled clips of a data set.

    Attributes:
        service: fight or falldown.
        classes: names in the order of labels.
        samples: the clips in the pickles, by name.
        untracked: clips without a tracked person, which no pickle has; None if the metadata is of
            an older version that does not name them.
        sha256: of each split's pickle.
        negatives: samples of ``dataset.negatives``, which the training split alone has: learnt
            from, never tested on.
        num_person: people at most in a sample.
        sample_fps: frame rate to which the videos were thinned, None if they were not.

    """

    service: str
    classes: tuple[str, ...]
    samples: Mapping[str, ClipLabel]
    untracked: Mapping[str, ClipLabel] | None
    sha256: Mapping[str, str]
    num_person: int
    sample_fps: float | None = None
    negatives: Mapping[str, ClipLabel] = field(default_factory=dict)

    @property
    def pickled(self) -> dict[str, ClipLabel]:
        """Return everything in the pickles, negatives among them."""
        return {**self.samples, **self.negatives}

    @property
    def labelled(self) -> dict[str, ClipLabel]:
        """Return the clips to test on: samples and clips without a tracked person."""
        return {**self.samples, **(self.untracked or {})}


def read_labels(folder: Path) -> DatasetLabels:
    """Read ``metadata.json`` of a finished stage 3.

    Raises:
        FileNotFoundError: there is none.
        ArtifactError: it is damaged or of another kind.

    """
    path = folder / METADATA
    if not path.is_file():
        raise FileNotFoundError(
            f"expected {METADATA} of a finished stage 3 in {folder}, found none; run "
            "--mode annotation.stage3"
        )
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != METADATA_SCHEMA:
            raise ArtifactError(
                f"{path}: expected schema '{METADATA_SCHEMA}', found {value['schema']!r}"
            )
        labels: dict[str, int] = dict(value["classes"])
        if sorted(labels.values()) != list(range(len(labels))) or len(labels) < 2:
            raise ValueError(f"expected classes with labels from 0, each once, got {labels!r}")
        untracked = value.get("nobody_tracked")
        dataset = DatasetLabels(
            service=str(value["service"]),
            classes=tuple(sorted(labels, key=lambda name: labels[name])),
            samples=_clips(value["samples"]),
            untracked=None if untracked is None else _clips(untracked),
            sha256={split: str(about["sha256"]) for split, about in value["splits"].items()},
            num_person=int(value["num_person"]),
            sample_fps=sample_fps_of(value.get("settings", {}).get("stage2", {})),
            negatives=_clips(_negatives(value)),
        )
        _check_negatives(dataset)
        return dataset
    except ArtifactError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not readable metadata of stage 3: {error!r}") from error


def _clips(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, ClipLabel]:
    return {name: _clip(row) for name, row in rows.items()}


def _clip(row: Mapping[str, Any]) -> ClipLabel:
    start_s, stop_s = float(row["start_s"]), float(row["stop_s"])
    label, source, video = int(row["label"]), str(row["source"]), str(row["video"])
    known = "size_wh" in row and "fps" in row
    width, height = row["size_wh"] if known else (0, 0)
    return ClipLabel(
        label,
        source,
        row["split"],
        stop_s - start_s,
        video,
        start_s,
        (int(width), int(height)) if known else None,
        float(row["fps"]) if known else None,
    )


def _negatives(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the rows of the negatives, none without that key."""
    if "negatives" not in value:
        return {}
    negatives = value["negatives"]
    if not isinstance(negatives, dict) or not isinstance(negatives.get("samples"), dict):
        raise ValueError(
            f"negatives: expected an object with samples, got {negatives!r:.80}; run --mode "
            "annotation.stage3 again"
        )
    samples: Mapping[str, Any] = negatives["samples"]
    return samples


def _check_negatives(dataset: DatasetLabels) -> None:
    """Refuse negatives that are tested on as well."""
    tested = dataset.labelled
    sources = {clip.source for clip in tested.values()}
    for name, clip in dataset.negatives.items():
        fault = ""
        if name in tested:
            where = "samples" if name in dataset.samples else "nobody_tracked"
            fault = f"stands under {where} as well"
        elif clip.source in sources:
            fault = f"is of {clip.source!r}, which is a source of the data set"
        elif clip.split != "train":
            fault = f"is of the split {clip.split!r}"
        if fault:
            raise ValueError(
                f"negatives: expected samples of other sources, in train alone; {name!r} {fault}; "
                "run --mode annotation.stage3 again"
            )


def read_dataset(folder: Path, service: str) -> tuple[DatasetLabels, list[Sample]]:
    """Read the labels and the checked samples of all splits of a finished stage 3.

    Raises:
        FileNotFoundError: no metadata.
        ConfigError: a data set for another service.
        ArtifactError, ValueError: pickles or metadata that are damaged or do not belong together.

    """
    dataset = read_labels(folder)
    if dataset.service != service:
        raise ConfigError(
            f"dataset.service: {service}, but {folder} was made for {dataset.service}"
        )
    paths = pickles_of(dataset, folder)
    splits = check_splits(paths, len(dataset.classes), training="", may_be_empty=SPLITS)
    samples = [sample for split in SPLITS for sample in splits[split]]
    check_agreement(dataset, samples, folder)
    check_complete(dataset, {sample.name for sample in samples}, folder)
    return dataset, samples


def pickles_of(dataset: DatasetLabels, folder: Path) -> dict[str, Path]:
    """Return the pickle of each split, with the digest that the metadata names.

    Raises:
        ValueError: one is not there, or was changed.

    """
    paths = {split: folder / f"{split}.pkl" for split in SPLITS}
    for split, path in paths.items():
        if not path.is_file() or sha256_file(path) != dataset.sha256.get(split):
            raise ValueError(
                f"{path}: is not the pickle that {METADATA} beside it is about; run --mode "
                "annotation.stage3 again"
            )
    return paths


def check_agreement(dataset: DatasetLabels, samples: Sequence[Sample], folder: Path) -> None:
    """Refuse metadata whose labels are not those of the pickles.

    Raises:
        ArtifactError: a sample that the metadata does not know, or gives another label.

    """
    known = dataset.pickled
    for sample in samples:
        clip = known.get(sample.name)
        if clip is None or clip.label != sample.label:
            found = "nothing" if clip is None else f"label {clip.label}"
            raise ArtifactError(
                f"{folder / METADATA}: expected label {sample.label} for {sample.name!r}, as in "
                f"the pickle, found {found}; run --mode annotation.stage3 again"
            )


def check_complete(dataset: DatasetLabels, names: Collection[str], folder: Path) -> None:
    """Refuse metadata that names samples that no pickle has.

    Raises:
        ArtifactError: names the first of them.

    """
    if missing := sorted(dataset.pickled.keys() - set(names)):
        raise ArtifactError(
            f"{folder / METADATA}: expected only samples of the pickles beside it, found "
            f"{missing[0]!r}, which none of them has ({len(missing)} in all); run --mode "
            "annotation.stage3 again"
        )
