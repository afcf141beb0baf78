"""Plausibility of a data set's classes: folder names, splits, copies."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from recognizer.names import folded
from recognizer.types import Sample

_NAMED = 5  # of many equal faults, the number that a message names


def class_faults(samples: Sequence[Sample], classes: Sequence[str]) -> Iterator[str]:
    """Yield evidence that labels stand for other classes than expected.

    A sample's name holds the folders of its video, which often have the classes' names. Single
    clips of a folder may have another label (such as those before a fall), so only a permutation
    of the folders of two or more classes is a fault.

    Args:
        samples: of a data set.
        classes: names in the order of labels.

    """
    labels_of = {folded(name): label for label, name in enumerate(classes)}
    found: dict[int, Counter[int]] = defaultdict(Counter)
    for sample in samples:
        for folder in PurePosixPath(sample.name).parts[:-1]:
            if (label := labels_of.get(folded(folder))) is not None:
                found[label][sample.label] += 1
    usual = {label: counts.most_common(1)[0][0] for label, counts in found.items()}
    moved = {label: other for label, other in usual.items() if label != other}
    if len(usual) > 1 and moved and set(usual.values()) == set(usual):
        listed = ", ".join(
            f"folder {classes[label]} has label {other}, which is {classes[other]}"
            for label, other in sorted(moved.items())
        )
        yield (
            f"expected labels of {', '.join(f'{i}: {name}' for i, name in enumerate(classes))}, "
            f"but {listed}; are dataset.classes in another order than when the "
            "pickles were made?"
        )


def class_warnings(
    found: Mapping[str, Sequence[Sample]], classes: Sequence[str] | None, training: str = "train"
) -> Iterator[str]:
    """Yield what may spoil a training or its validation.

    Args:
        found: samples by split.
        classes: names in the order of labels, None: unknown.
        training: the name of the training split.

    """
    samples = [sample for part in found.values() for sample in part]
    if classes is not None and (strange := _strange_folders(samples, classes)):
        yield strange
    if found.get("val"):
        labels = range(max(sample.label for sample in samples) + 1)
        names = [f"class {label}" for label in labels] if classes is None else classes
        yield from _missing_classes(found["val"], names)
    yield from _copies(found, training)


def _strange_folders(samples: Sequence[Sample], classes: Sequence[str]) -> str:
    """Return a warning where each label has its own folder, none with a class's name."""
    known = {folded(name) for name in classes}
    labels: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        parts = PurePosixPath(sample.name).parts
        if len(parts) < 2 or any(folded(part) in known for part in parts[:-1]):
            return ""
        labels[parts[0]].add(sample.label)
    paired = all(len(of) == 1 for of in labels.values()) and len(labels) == len(classes)
    if not paired or len({label for of in labels.values() for label in of}) != len(classes):
        return ""
    listed = ", ".join(f"{name} (label {min(of)})" for name, of in sorted(labels.items()))
    return (
        f"the samples are of the folders {listed}, the classes are called {', '.join(classes)}: is "
        "this the data set of another service?"
    )


def _missing_classes(samples: Sequence[Sample], classes: Sequence[str]) -> Iterator[str]:
    counts = Counter(sample.label for sample in samples)
    missing = [name for label, name in enumerate(classes) if not counts[label]]
    if not missing:
        return
    there = ", ".join(f"{count} of {classes[label]}" for label, count in sorted(counts.items()))
    what = "nothing about telling them apart" if len(counts) == 1 else "nothing about the others"
    yield (
        f"val: expected samples of every class, got only {there} and none of {', '.join(missing)}: "
        f"its accuracy says {what}, but chooses the best epoch. Deal the data out anew (--mode "
        "annotation.stage3 with other dataset.ratios or more sources), or take the last epoch: "
        "--cfg-options default_hooks.checkpoint.save_best=None"
    )


def _copies(found: Mapping[str, Sequence[Sample]], training: str) -> Iterator[str]:
    """Yield the samples of other splits that are also training samples under another name."""
    learnt = {_digest(sample): sample.name for sample in found.get(training, ())}
    for split, samples in found.items():
        if split == training:
            continue
        twice = [(s.name, learnt[d]) for s in samples if (d := _digest(s)) in learnt]
        if twice:
            listed = ", ".join(f"{name} is {other}" for name, other in twice[:_NAMED])
            dots = ", ..." if len(twice) > _NAMED else ""
            yield (
                f"{split}: {len(twice)} of {len(samples)} samples are copies of samples of "
                f"{training} under another name ({listed}{dots}): its figures are too good; take "
                "the copies out"
            )


def _digest(sample: Sample) -> bytes:
    return hashlib.sha256(sample.keypoints.tobytes()).digest()
