"""Samples as mmaction2's PoseDataset reads them: the only file that spells its keys.

Its pickle is a list of dicts. ``frame_dir`` names the sample and must be unique;
``img_shape`` and ``original_shape`` are (height, width), the other way round than ours.
PoseDataset and mmaction2's transforms keep ``boxes``, ``movement`` and ``time_s`` unread; a pickle
may lack them.
"""

from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from recognizer.checks import check_type
from recognizer.storage.artifacts import ArtifactError
from recognizer.storage.pickles import read_pickle, write_pickle_list
from recognizer.types import UNTRACKED, Sample

METADATA = "metadata.json"  # beside the pickles
METADATA_SCHEMA = "recognizer.dataset"
NAME_KEY = "frame_dir"
_EXTRA = {
    "boxes": (3, "(people, frames, 4)"),
    "movement": (3, "(people, frames, 6)"),
    "time_s": (1, "(frames,)"),
}
_ARRAYS = {
    "keypoint": (4, "(people, frames, 17, 2)"),
    "keypoint_score": (3, "(people, frames, 17)"),
}
_MAX_SIDE = 100_000  # pixels; far above any camera


def to_mmaction(sample: Sample) -> dict[str, object]:
    """Return the sample as one item of a PoseDataset pickle."""
    width, height = sample.size_wh
    extra = {key: getattr(sample, key) for key in _EXTRA}
    return {
        "frame_dir": sample.name,
        "total_frames": int(sample.keypoints.shape[1]),
        "img_shape": (int(height), int(width)),
        "original_shape": (int(height), int(width)),
        "label": int(sample.label),
        "keypoint": np.ascontiguousarray(sample.keypoints),
        "keypoint_score": np.ascontiguousarray(sample.keypoint_scores),
        **{key: np.ascontiguousarray(v) for key, v in extra.items() if v is not None},
    }


def write_split(path: Path, root: Path, samples: Iterable[Sample]) -> int:
    """Write one split's pickle sample by sample; return their number.

    Args:
        path: the file to write, whole or not at all.
        root: the folder whose scratch folder holds it until it is complete.
        samples: made one after another; only one is in memory.

    Raises:
        ValueError: two samples of the same name.
        OSError: the disk is full or not writable.

    """
    names: set[str] = set()

    def items() -> Iterator[dict[str, object]]:
        for sample in samples:
            check_type("samples", sample, Sample)
            if sample.name in names:
                raise ValueError(f"{path.name}: expected unique names, got {sample.name!r} twice")
            names.add(sample.name)
            yield to_mmaction(sample)

    write_pickle_list(path, root, items())
    return len(names)


def read_split(path: Path) -> list[Sample]:
    """Read a pickle in PoseDataset's list layout; nothing in it is executed.

    The pickle has no ids, so ``track_ids`` are all -1.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, hostile, or an invalid sample; the message names it.

    """
    samples, faults = examine_split(path)
    if faults:
        raise ArtifactError(f"{path}: {faults[0]}")
    return samples


def examine_split(path: Path) -> tuple[list[Sample], list[str]]:
    """Read a pickle in PoseDataset's list layout; return the good samples and all faults.

    A fault is a sentence that begins with the sample's number and name.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: the file as a whole is damaged, hostile or of another layout.

    """
    value = read_pickle(path)
    if not isinstance(value, list):
        raise ArtifactError(
            f"{path}: expected a list of samples, got {type(value).__name__}; of PoseDataset's "
            "two layouts (a list, or a dict with split and annotations) only the list is read"
        )
    samples: list[Sample] = []
    faults: list[str] = []
    names: set[str] = set()
    for i, item in enumerate(value):
        sample, wrong = _from_mmaction(item)
        if sample is not None and sample.name in names:
            wrong = [f"two samples are called {sample.name!r}"]
        elif sample is not None:
            samples.append(sample)
            names.add(sample.name)
        name = f" {item.get('frame_dir')!r}" if isinstance(item, Mapping) else ""
        faults += [f"sample {i}{name}: {text}" for text in wrong]
    return samples, faults


def _from_mmaction(item: object) -> tuple[Sample | None, list[str]]:
    """Return a sample, or None and its faults."""
    if not isinstance(item, Mapping):
        return None, [f"expected a dict, got {type(item).__name__}"]
    keys = ("frame_dir", "total_frames", "img_shape", "label", "keypoint", "keypoint_score")
    missing = [f"the key {key!r} is missing" for key in keys if key not in item]
    if missing:
        return None, missing
    faults = list(_scalar_faults(item))
    if wrong := list(_form_faults(item)):
        return None, [*faults, *wrong]
    keypoints, (height, width) = item["keypoint"], item["img_shape"]
    try:
        sample = Sample(
            item["frame_dir"],
            item["label"] if faults else int(item["label"]),
            keypoints,
            item["keypoint_score"],
            (int(width), int(height)),
            np.full(len(keypoints), UNTRACKED, np.int64),
            *(item.get(key) for key in _EXTRA),
        )
    except ValueError as error:
        return None, [*faults, str(error)]
    faults += _size_faults(sample, item["total_frames"])
    return (None, faults) if faults else (sample, [])


def _scalar_faults(item: Mapping[str, Any]) -> Iterator[str]:
    name, label = item["frame_dir"], item["label"]
    if not isinstance(name, str) or not name:
        yield "expected a name as frame_dir"
    if isinstance(label, bool) or not isinstance(label, Integral):
        yield (
            f"expected a label that is a whole number, got {label!r:.60} ({type(label).__name__})"
        )
    elif int(label) < 0:
        yield f"expected a label >= 0, got {label}"


def _is_size(value: Any) -> bool:
    pair = isinstance(value, list | tuple | np.ndarray) and np.shape(value) == (2,)
    return pair and all(
        isinstance(side, int | np.integer) and 1 <= side <= _MAX_SIDE for side in value
    )


def _form_faults(item: Mapping[str, Any]) -> Iterator[str]:
    shape = item["img_shape"]
    if not _is_size(shape):
        yield (
            f"expected img_shape (height, width), whole numbers of pixels from 1 to {_MAX_SIDE}, "
            f"got {repr(shape)[:60]}"
        )
    extra = {key: form for key, form in _EXTRA.items() if item.get(key) is not None}
    for key, (axes, form) in {**_ARRAYS, **extra}.items():
        value = item[key]
        if not isinstance(value, np.ndarray) or value.ndim != axes:
            shape = f"{value.shape} " if isinstance(value, np.ndarray) else ""
            yield f"expected {key} as an array {form}, got {shape}{type(value).__name__}"


def _size_faults(sample: Sample, total_frames: object) -> Iterator[str]:
    frames = sample.keypoints.shape[1]
    if not isinstance(total_frames, Integral) or int(total_frames) != frames:
        yield f"expected total_frames {frames} as in keypoint, got {total_frames!r}"
    if frames == 0 or len(sample.keypoints) == 0:
        yield "expected at least one person and one frame"
