"""Read and write the project's files from their paths alone."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType

from recognizer.checks import check_type
from recognizer.dataset.mmaction import read_split, write_split
from recognizer.sequences import join_sequences, parts_of
from recognizer.storage.artifacts import SCRATCH_FOLDER, read_poses, write_poses
from recognizer.types import PoseSequence, Sample


def load_poses(path: str | Path) -> PoseSequence:
    """Return the poses of a video from a file of stage 1, stage 2 or ``save_poses`` (``.npz``).

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, hostile or of another kind.

    """
    sequence, _, _ = read_poses(Path(path))
    return sequence


def save_poses(
    path: str | Path,
    sequence: PoseSequence | Iterable[PoseSequence],
    metadata: Mapping[str, object] | None = None,
    *,
    small: bool = False,
) -> None:
    """Write the poses of a video, whole or not at all.

    Args:
        path: the ``.npz`` to make; its folder is made as well.
        sequence: the poses, or the parts of one video in order of time.
        metadata: JSON values stored with them.
        small: round them as ``recognizer.compact`` says: a third of the size.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
        TypeError: an argument of another type.
        ValueError: no part, or parts that do not follow each other.

    """
    check_type("path", path, str, os.PathLike)
    check_type("metadata", metadata, Mapping, NoneType)
    whole = join_sequences(list(parts_of(sequence)))
    with _scratch(Path(path)) as root:
        write_poses(Path(path), root, whole, metadata or {}, small=small)


def load_samples(path: str | Path) -> list[Sample]:
    """Return the samples of a pickle of stage 3, as mmaction2 reads them; nothing is executed.

    Raises:
        FileNotFoundError: no such file.
        ArtifactError: damaged, hostile, or an invalid sample.

    """
    return read_split(Path(path))


def save_samples(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write a pickle that mmaction2 trains on, whole or not at all; return how many samples.

    Raises:
        TypeError: an argument of another type.
        ValueError: two samples of the same name.
        OSError: the disk is full, or the folder cannot be written.

    """
    check_type("path", path, str, os.PathLike)
    check_type("samples", samples, Iterable)
    with _scratch(Path(path)) as root:
        return write_split(Path(path), root, samples)


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Give the folder for unfinished files; remove its scratch folder afterwards."""
    root = path.absolute().parent
    try:
        yield root
    finally:
        with contextlib.suppress(OSError):  # not empty: another writer uses it
            (root / SCRATCH_FOLDER).rmdir()
