"""Validation of a data set before a training: all faults at once."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from recognizer.dataset.mmaction import examine_split
from recognizer.storage.artifacts import ArtifactError
from recognizer.types import Sample

MIN_SAMPLES = 4  # a batch norm needs more than one, a split of them more than two
_SHOWN = 20
# Keypoints may lie beside the picture, but the middle of a person hardly ever does: of 203 clips
# of the Surveillance Camera Fight Dataset none has 1.3 % of them as far out as this.
_FAR, _MANY = 1.05, 0.05
# Of 212 clips no point lies as much as one picture beside the picture, no score reaches 1.2. What
# is beyond these is no pose: another unit, or a broken file.
_PICTURES_AWAY, _MAX_SCORE = 10, 10
# Keypoints within the former in a picture larger than the latter are parts of the picture.
_TINY_PX, _SOME_PX = 2, 32


class DatasetError(ValueError):
    """A data set that cannot be used for training or evaluation.

    Attributes:
        problems: one sentence each, with split and sample.

    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = [f"  - {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"  - and {len(self.problems) - _SHOWN} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{count} in the data set:", *lines]))


def check_splits(
    splits: Mapping[str, Path],
    num_classes: int,
    *,
    training: str = "train",
    may_be_empty: Collection[str] = (),
) -> dict[str, list[Sample]]:
    """Read the pickles of a data set; raise DatasetError with all its faults.

    Every split: readable, safe, PoseDataset's list layout; every sample: name, label, shapes,
    types, finite numbers, as many frames as it says, a picture size that fits its keypoints and
    is not swapped, keypoints in pixels, scores from 0 to about 1, at least one person; no name
    twice, across splits too; at least one sample. The training split: at least ``MIN_SAMPLES``,
    and some of each class.

    Args:
        splits: the pickle of each split by name, such as train, val and test.
        num_classes: labels are 0 to ``num_classes - 1``.
        training: the name of the training split.
        may_be_empty: splits that need no sample, such as the test split of a training
            that uses all data.

    Returns:
        The samples by split.

    Raises:
        DatasetError: any fault; each sentence names the split and the sample.

    """
    found: dict[str, list[Sample]] = {}
    problems: list[str] = []
    for split, path in splits.items():
        if path.is_file() and not path.stat().st_size:
            problems.append(f"{split}: {path}: the file is empty; copy it again, or run stage 3")
            continue
        try:
            found[split], faults = examine_split(path)
        except (ArtifactError, OSError) as error:
            problems.append(f"{split}: {error}")
            continue
        problems += [f"{split}: {fault}" for fault in faults]
        problems += [f"{split}: {fault}" for fault in sample_faults(found[split], num_classes)]
        if not faults and (found[split] or split not in may_be_empty):
            # Where faults left samples out, counts of the rest mean little.
            expected = num_classes if split == training else 0
            problems += [f"{split}: {fault}" for fault in _split_faults(found[split], expected)]
    problems += _shared_names(found)
    if problems:
        raise DatasetError(problems)
    return found


def sample_faults(samples: Sequence[Sample], num_classes: int) -> Iterator[str]:
    """Yield the faults of single samples."""
    for sample in samples:
        if not 0 <= sample.label < num_classes:
            yield f"{sample.name!r}: expected a label below {num_classes}, got {sample.label}"
        if not sample.keypoint_scores.any():
            yield f"{sample.name!r}: nobody is seen in any frame"
        elif fault := _unit_fault(sample):
            yield f"{sample.name!r}: {fault}"
        elif _is_swapped(sample):
            width, height = sample.size_wh
            yield (
                f"{sample.name!r}: people are outside the picture, {width} wide and {height} "
                f"high, but inside one {height} wide and {width} high; img_shape is (height, "
                "width)"
            )


def _unit_fault(sample: Sample) -> str:
    """Return the fault in the range of scores and pixels, "" if there is none."""
    scores = sample.keypoint_scores
    if scores.min() < 0 or scores.max() > _MAX_SCORE:
        return (
            f"expected keypoint scores from 0 (not seen) to about 1, got {scores.min():.3g} to "
            f"{scores.max():.3g}"
        )
    points, (width, height) = sample.keypoints[scores > 0], sample.size_wh
    away = np.abs(points / np.array([width, height], np.float32)).max()
    if away > _PICTURES_AWAY:
        return (
            f"expected keypoints in pixels of a picture {width} wide and {height} high, got some "
            f"at {np.abs(points).max():.3g}"
        )
    if np.abs(points).max() <= _TINY_PX and min(width, height) > _SOME_PX:
        return (
            f"expected keypoints in pixels of a picture {width} wide and {height} high, got all "
            f"of them within {_TINY_PX} pixels of a corner: are they parts of the picture?"
        )
    return ""


def _is_swapped(sample: Sample) -> bool:
    seen = sample.keypoint_scores > 0
    count = seen.sum(2)
    total = np.where(seen[..., None], sample.keypoints, 0).sum(2)
    middles = total[count > 0] / count[count > 0][:, None]
    size = np.array(sample.size_wh) * _FAR
    outside = (middles > size).any(1).mean()
    return bool(outside >= _MANY and not (middles > size[::-1]).any())


def _split_faults(samples: Sequence[Sample], num_classes: int) -> Iterator[str]:
    """Yield what is missing in a split; ``num_classes`` is 0 except for the training split."""
    minimum = MIN_SAMPLES if num_classes else 1
    if len(samples) < minimum:
        yield f"expected at least {minimum} samples, got {len(samples)}"
    counts = Counter(sample.label for sample in samples)
    for label in range(num_classes):
        if not counts[label]:
            yield f"no sample of class {label}; it has {dict(sorted(counts.items()))}"


def _shared_names(found: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    places: dict[str, list[str]] = defaultdict(list)
    for split, samples in found.items():
        for sample in samples:
            places[sample.name].append(split)
    for name, splits in places.items():
        if len(splits) > 1:
            yield f"{' and '.join(splits)}: {name!r} is in each of them"
