"""What is true of the samples: label, source, split; and what a classifier said of them.

Stage 3 leaves out clips in which nobody was tracked: there is nothing to learn from. But
they were labelled, and the running system will answer "normal" on them. An honest report
counts them as such, right or wrong.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recognizer.dataset.mmaction import METADATA, METADATA_SCHEMA
from recognizer.dataset.split import SPLITS
from recognizer.runs.stills import sample_fps_of
from recognizer.storage.artifacts import ArtifactError, sha256_file
from recognizer.types import Sample

NORMAL = 0  # the label of "nothing happens", by the contract of the classifiers


@dataclass(frozen=True, slots=True)
class ClipLabel:
    """What stage 3 says of one labelled clip.

    Attributes:
        label: its class.
        source: the recording.
        split: None if it came into none.
        seconds: its length.
        video: the video it is part of, empty where nobody knows.
        start_s: its start in the video.
        size_wh: width and height of its pictures, None where nobody knows.
        fps: its pictures per second, None where nobody knows.

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
    """What stage 3's metadata says of a data set.

    Attributes:
        service: fight or falldown.
        classes: names in the order of labels.
        samples: facts of each sample, by name.
        untracked: the same of clips in which nobody was tracked; None if the file is of an
            older version, which did not say.
        sha256: of each split's pickle.
        negatives: facts of each sample of ``dataset.negatives``, which the training split alone
            has: learnt from, never judged.
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
        """Return the facts of everything in the pickles, negatives among them."""
        return {**self.samples, **self.negatives}


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
        negatives = _negatives(value)
        dataset = DatasetLabels(
            service=str(value["service"]),
            classes=tuple(sorted(labels, key=lambda name: labels[name])),
            samples={name: _facts(facts) for name, facts in value["samples"].items()},
            untracked=None if untracked is None else {n: _facts(f) for n, f in untracked.items()},
            sha256={split: str(facts["sha256"]) for split, facts in value["splits"].items()},
            num_person=int(value["num_person"]),
            sample_fps=sample_fps_of(value.get("settings", {}).get("stage2", {})),
            negatives={name: _facts(facts) for name, facts in negatives.items()},
        )
        _check_negatives(dataset)
        return dataset
    except ArtifactError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not readable metadata of stage 3: {error!r}") from error


def _negatives(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is said of each negative, nothing where there is no such key."""
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
    """Refuse negatives that are judged by as well."""
    judged = {**(dataset.untracked or {}), **dataset.samples}
    sources = {facts.source for facts in judged.values()}
    for name, facts in dataset.negatives.items():
        fault = ""
        if name in judged:
            where = "samples" if name in dataset.samples else "nobody_tracked"
            fault = f"stands under {where} as well"
        elif facts.source in sources:
            fault = f"is of {facts.source!r}, which is a source of the data set"
        elif facts.split != "train":
            fault = f"is of the split {facts.split!r}"
        if fault:
            raise ValueError(
                f"negatives: expected samples of other sources, in train alone; {name!r} {fault}; "
                "run --mode annotation.stage3 again"
            )


def pickles_of(dataset: DatasetLabels, folder: Path) -> dict[str, Path]:
    """Return the pickle of each split, as metadata beside it was written about.

    Raises:
        ValueError: one that is not there, or was changed.

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
    """Refuse metadata that says other things of samples than their pickle does.

    Raises:
        ArtifactError: a sample that it does not know, or gives another label.

    """
    known = dataset.pickled
    for sample in samples:
        facts = known.get(sample.name)
        if facts is None or facts.label != sample.label:
            said = "nothing" if facts is None else f"label {facts.label}"
            raise ArtifactError(
                f"{folder / METADATA}: expected label {sample.label} for {sample.name!r}, as in "
                f"the pickle, found {said}; run --mode annotation.stage3 again"
            )


def check_complete(dataset: DatasetLabels, names: Collection[str], folder: Path) -> None:
    """Refuse metadata that names samples that no pickle has.

    Raises:
        ArtifactError: the first of them.

    """
    if lost := sorted(dataset.pickled.keys() - set(names)):
        raise ArtifactError(
            f"{folder / METADATA}: expected only samples of the pickles beside it, found "
            f"{lost[0]!r}, which none of them has ({len(lost)} in all); run --mode "
            "annotation.stage3 again"
        )


def _facts(value: Mapping[str, Any]) -> ClipLabel:
    start_s, stop_s = float(value["start_s"]), float(value["stop_s"])
    label, source, video = int(value["label"]), str(value["source"]), str(value["video"])
    known = "size_wh" in value and "fps" in value
    width, height = value["size_wh"] if known else (0, 0)
    return ClipLabel(
        label,
        source,
        value["split"],
        stop_s - start_s,
        video,
        start_s,
        (int(width), int(height)) if known else None,
        float(value["fps"]) if known else None,
    )
