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

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import Scores, measure
from recognizer.dataset.mmaction import METADATA, METADATA_SCHEMA
from recognizer.dataset.split import SPLITS
from recognizer.runs.stills import sample_fps_of
from recognizer.storage.artifacts import ArtifactError, sha256_file, write_csv
from recognizer.types import Sample

NORMAL = 0  # the label of "nothing happens", by the contract of the classifiers


@dataclass(frozen=True, slots=True)
class Facts:
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
class Truth:
    """What stage 3's metadata says of a data set.

    Attributes:
        service: fight or falldown.
        classes: names in the order of labels.
        samples: facts of each sample, by name.
        nobody: the same of clips in which nobody was tracked; None if the file is of an
            older version, which did not say.
        sha256: of each split's pickle.
        negatives: facts of each sample of ``dataset.negatives``, which the training split alone
            has: learnt from, never judged.
        num_person: people at most in a sample.
        sample_fps: frame rate to which the videos were thinned, None if they were not.

    """

    service: str
    classes: tuple[str, ...]
    samples: Mapping[str, Facts]
    nobody: Mapping[str, Facts] | None
    sha256: Mapping[str, str]
    num_person: int
    sample_fps: float | None = None
    negatives: Mapping[str, Facts] = field(default_factory=dict)

    @property
    def pickled(self) -> dict[str, Facts]:
        """Return the facts of everything in the pickles, negatives among them."""
        return {**self.samples, **self.negatives}


def read_truth(folder: Path) -> Truth:
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
        nobody = value.get("nobody_tracked")
        negatives = _negatives(value)
        truth = Truth(
            service=str(value["service"]),
            classes=tuple(sorted(labels, key=lambda name: labels[name])),
            samples={name: _facts(facts) for name, facts in value["samples"].items()},
            nobody=None if nobody is None else {n: _facts(f) for n, f in nobody.items()},
            sha256={split: str(facts["sha256"]) for split, facts in value["splits"].items()},
            num_person=int(value["num_person"]),
            sample_fps=sample_fps_of(value.get("settings", {}).get("stage2", {})),
            negatives={name: _facts(facts) for name, facts in negatives.items()},
        )
        _check_negatives(truth)
        return truth
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


def _check_negatives(truth: Truth) -> None:
    """Refuse negatives that are judged by as well."""
    judged = {**(truth.nobody or {}), **truth.samples}
    sources = {facts.source for facts in judged.values()}
    for name, facts in truth.negatives.items():
        fault = ""
        if name in judged:
            where = "samples" if name in truth.samples else "nobody_tracked"
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


def pickles_of(truth: Truth, folder: Path) -> dict[str, Path]:
    """Return the pickle of each split, as metadata beside it was written about.

    Raises:
        ValueError: one that is not there, or was changed.

    """
    paths = {split: folder / f"{split}.pkl" for split in SPLITS}
    for split, path in paths.items():
        if not path.is_file() or sha256_file(path) != truth.sha256.get(split):
            raise ValueError(
                f"{path}: is not the pickle that {METADATA} beside it is about; run --mode "
                "annotation.stage3 again"
            )
    return paths


def check_agreement(truth: Truth, samples: Sequence[Sample], folder: Path) -> None:
    """Refuse metadata that says other things of samples than their pickle does.

    Raises:
        ArtifactError: a sample that it does not know, or gives another label.

    """
    known = truth.pickled
    for sample in samples:
        facts = known.get(sample.name)
        if facts is None or facts.label != sample.label:
            said = "nothing" if facts is None else f"label {facts.label}"
            raise ArtifactError(
                f"{folder / METADATA}: expected label {sample.label} for {sample.name!r}, as in "
                f"the pickle, found {said}; run --mode annotation.stage3 again"
            )


def check_complete(truth: Truth, names: Collection[str], folder: Path) -> None:
    """Refuse metadata that names samples that no pickle has.

    Raises:
        ArtifactError: the first of them.

    """
    if lost := sorted(truth.pickled.keys() - set(names)):
        raise ArtifactError(
            f"{folder / METADATA}: expected only samples of the pickles beside it, found "
            f"{lost[0]!r}, which none of them has ({len(lost)} in all); run --mode "
            "annotation.stage3 again"
        )


def _facts(value: Mapping[str, Any]) -> Facts:
    start_s, stop_s = float(value["start_s"]), float(value["stop_s"])
    label, source, video = int(value["label"]), str(value["source"]), str(value["video"])
    known = "size_wh" in value and "fps" in value
    width, height = value["size_wh"] if known else (0, 0)
    return Facts(
        label,
        source,
        value["split"],
        stop_s - start_s,
        video,
        start_s,
        (int(width), int(height)) if known else None,
        float(value["fps"]) if known else None,
    )


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """What was said of each sample, and what is true.

    Attributes:
        classes: names in the order of labels.
        names: (N,) sample names.
        labels: (N,) the truth.
        probabilities: (N, K).
        sources: (N,) or None where nobody knows.
        tracked: (N,) False where nobody was tracked: "normal" by definition.

    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    sources: tuple[str, ...] | None
    tracked: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[Any]) -> "Predictions":
        """Return the samples that a mask or an index array selects."""
        chosen = np.arange(len(self.names))[rows].tolist()
        return Predictions(
            self.classes,
            tuple(self.names[i] for i in chosen),
            self.labels[rows],
            self.probabilities[rows],
            None if self.sources is None else tuple(self.sources[i] for i in chosen),
            self.tracked[rows],
        )

    def with_nobody(self, nobody: Mapping[str, Facts]) -> "Predictions":
        """Return the same and the clips without anybody: the normal class, probability 1."""
        facts = list(nobody.values())
        certain = np.eye(len(self.classes))[np.full(len(facts), NORMAL)]
        sources = None
        if self.sources is not None:
            sources = (*self.sources, *(f.source for f in facts))
        return Predictions(
            self.classes,
            (*self.names, *nobody),
            np.concatenate([self.labels, np.array([f.label for f in facts], np.int64)]),
            np.concatenate([self.probabilities, certain]),
            sources,
            np.concatenate([self.tracked, np.zeros(len(facts), np.bool_)]),
        )

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class of the highest probability, (N,)."""
        return np.asarray(self.probabilities.argmax(1), np.int64)

    def scores(self, bootstrap: int, seed: int) -> Scores:
        """Return how right they are; whole sources are resampled where these are known."""
        return measure(
            self.labels,
            self.probabilities,
            self.classes,
            bootstrap=bootstrap,
            seed=seed,
            groups=self.sources,
        )

    def worst(self, count: int) -> list[int]:
        """Return the mistakes, the least probability of the truth first; equals by name."""
        true = np.take_along_axis(self.probabilities, self.labels[:, None], 1)[:, 0]
        wrong = np.flatnonzero(self.predicted != self.labels).tolist()
        return sorted(wrong, key=lambda i: (true[i], self.names[i]))[:count]


def write_predictions(path: Path, root: Path, said: Predictions) -> None:
    """Write one row per sample: name, source, truth, prediction, tracked, probabilities."""
    header = ["sample", "source", "class", "predicted", "tracked"]
    table: list[list[Any]] = [[*header, *(f"probability_{name}" for name in said.classes)]]
    for i, name in enumerate(said.names):
        source = "" if said.sources is None else said.sources[i]
        truth, predicted = (said.classes[k] for k in (said.labels[i], said.predicted[i]))
        rows = (f"{p:.6f}" for p in said.probabilities[i])
        table.append([name, source, truth, predicted, int(said.tracked[i]), *rows])
    write_csv(path, root, table)


def worst_json(said: Predictions, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return the given samples as plain values for a report."""
    return [
        {
            "sample": said.names[i],
            "source": None if said.sources is None else said.sources[i],
            "class": said.classes[said.labels[i]],
            "predicted": said.classes[said.predicted[i]],
            "probability_of_truth": float(said.probabilities[i, said.labels[i]]),
            "tracked": bool(said.tracked[i]),
        }
        for i in rows
    ]
