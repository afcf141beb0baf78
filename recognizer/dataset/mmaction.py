"""Samples as mmaction2's PoseDataset reads them: the only file that spells its keys.

Its pickle is a list of dicts. ``frame_dir`` names the sample and must be unique;
``img_shape`` and ``original_shape`` are (height, width), the other way round than ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recognizer.artifacts import ArtifactError, read_pickle, write_pickle_list
from recognizer.types import UNTRACKED, Sample


def to_mmaction(sample: Sample) -> dict[str, Any]:
    """Return the sample as one item of a PoseDataset pickle."""
    width, height = sample.size_wh
    return {
        "frame_dir": sample.name,
        "total_frames": int(sample.keypoints.shape[1]),
        "img_shape": (int(height), int(width)),
        "original_shape": (int(height), int(width)),
        "label": int(sample.label),
        "keypoint": np.ascontiguousarray(sample.keypoints),
        "keypoint_score": np.ascontiguousarray(sample.keypoint_scores),
    }


def write_split(path: Path, root: Path, samples: Iterable[Sample]) -> int:
    """Write one split's pickle while its samples are made, and return their number.

    Args:
        path: the file to write, whole or not at all.
        root: the folder whose scratch folder takes it until it is whole.
        samples: made one after another; never more than one is held.

    Raises:
        ValueError: two samples of the same name.
        OSError: the disk is full or not writable.

    """
    names: set[str] = set()

    def items() -> Iterator[dict[str, Any]]:
        for sample in samples:
            if sample.name in names:
                raise ValueError(f"{path.name}: expected unique names, got {sample.name!r} twice")
            names.add(sample.name)
            yield to_mmaction(sample)

    write_pickle_list(path, root, items())
    return len(names)


def read_split(path: Path) -> list[Sample]:
    """Read a pickle in PoseDataset's list layout; nothing in it is executed.

    The pickle does not say who sits in the slots, so ``track_ids`` are all -1.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, hostile, or a sample that is not as it should be; the
            message names it.

    """
    value = read_pickle(path)
    if not isinstance(value, list):
        raise ArtifactError(
            f"{path}: expected a list of samples, got {type(value).__name__}; of PoseDataset's "
            "two layouts (a list, or a dict with split and annotations) only the list is read"
        )
    samples = [_from_mmaction(item, f"{path}: sample {i}") for i, item in enumerate(value)]
    names: set[str] = set()
    for sample in samples:
        if sample.name in names:
            raise ArtifactError(f"{path}: two samples are called {sample.name!r}")
        names.add(sample.name)
    return samples


def _from_mmaction(item: Any, where: str) -> Sample:
    if not isinstance(item, Mapping):
        raise ArtifactError(f"{where}: expected a dict, got {type(item).__name__}")
    where += f" {item.get('frame_dir')!r}"
    try:
        keypoints, scores = item["keypoint"], item["keypoint_score"]
        height, width = item["img_shape"]
        sample = Sample(
            item["frame_dir"],
            item["label"],
            keypoints,
            scores,
            (int(width), int(height)),
            np.full(len(keypoints), UNTRACKED, np.int64),
        )
    except KeyError as error:
        raise ArtifactError(f"{where}: the key {error} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{where}: {error}") from error
    _check_scalars(sample, item, where)
    return sample


def _check_scalars(sample: Sample, item: Mapping[str, Any], where: str) -> None:
    if not isinstance(sample.name, str) or not sample.name:
        raise ArtifactError(f"{where}: expected a name as frame_dir")
    if type(sample.label) is not int or sample.label < 0:
        raise ArtifactError(f"{where}: expected a label >= 0, got {sample.label!r}")
    frames = sample.keypoints.shape[1]
    if item.get("total_frames") != frames:
        raise ArtifactError(
            f"{where}: expected total_frames {frames} as in keypoint, got "
            f"{item.get('total_frames')!r}"
        )
    if frames == 0 or len(sample.keypoints) == 0 or min(sample.size_wh) < 1:
        raise ArtifactError(f"{where}: expected at least one person, one frame and one pixel")
