"""What the small pose network learns from: pictures of at most 640 pixels and their people.

    python -m samples.small_pose.data --assets ../shared/assets --distilled output/distill \
        --out output/small_pose

Labels come from three places: the poses in ``samples/`` (``fight_surv`` and ``falls``, every frame,
by stage 1; neighbouring frames must confirm them), data sets that ``annotation.distill`` made (one
folder each below ``--distilled``), and COCO's own annotations.
"""

import argparse
import csv
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.teacher_labels import AREA, CROWD, DOUBT, PERSON, Labels
from annotation.teacher_tracks import Window, confirmed
from recognizer.geometry import LETTERBOX_GREY, Letterbox, box_area
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.storage.artifacts import atomic_path, read_poses
from recognizer.types import ImageArray, Poses, PoseSequence
from samples.one_line_errors import one_line_errors

SIDE = 640
"""Sides of a picture, pixels: the network's input."""
SLOTS = 40
"""People and doubts of a picture; the largest are kept."""
TRAIN, VAL = 0, 1
SAMPLES = Path(__file__).resolve().parents[1]
_HELD_OUT = 9  # one source of so many is kept for validation
_NEIGHBOURS, _AGREEMENT = 2, 0.1
_FIGHT_FRAMES, _FALL_FRAMES = 12, 48
HELD_OUT_SUBJECT = "Subject_2"
"""Folder of ``falls`` that is for validation alone."""
PICTURES, LABELS = "pictures.npy", "labels.npz"
_NAMES = tuple(field.name for field in fields(Labels))
_EXPECTED = "expected what python -m samples.small_pose.data writes"
_AGAIN = "run python -m samples.small_pose.data again"


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, fitted to the input, and who is in it.

    Attributes:
        group: data set.
        split: ``TRAIN`` or ``VAL``; all pictures of a recording share it.
        bgr: (h, w, 3), the longer side is ``SIDE`` at most.
        labels: in pixels of ``bgr``.

    """

    group: str
    split: int
    bgr: ImageArray
    labels: Labels


@dataclass(frozen=True, eq=False)
class Data:
    """All pictures: (N, 640, 640, 3) BGR, read from disk when used, with N rows of labels.

    Attributes:
        pictures: padded at the right and below.
        sizes_wh: (N, 2) without the padding.
        labels: with ``SLOTS`` rows each; ``kinds`` 0 where there is none.
        groups: (N,) data set.
        splits: (N,) ``TRAIN`` or ``VAL``.

    """

    pictures: NDArray[np.uint8]
    sizes_wh: NDArray[np.int64]
    labels: Labels
    groups: NDArray[np.str_]
    splits: NDArray[np.uint8]

    def of(self, row: int) -> Labels:
        """Return the people and doubts of a picture."""
        return self._slots(row, np.flatnonzero(self.labels.kinds[row]))

    def person(self, row: int, slot: int) -> Labels:
        """Return the one person of a picture that is in this of its ``SLOTS`` rows of labels."""
        return self._slots(row, np.array([slot]))

    def _slots(self, row: int, slots: NDArray[np.int64]) -> Labels:
        return Labels(*(getattr(self.labels, name)[row][slots] for name in _NAMES))


def load(folder: Path) -> Data:
    """Open what ``write`` wrote; pictures stay on disk.

    Raises:
        OSError: a file is missing.
        ValueError: a file is damaged, or the files have not as many rows.

    """
    path = folder / LABELS
    try:
        with np.load(path) as file:
            labels = Labels(*(file[name] for name in _NAMES))
            sizes_wh, groups, splits = (file[name] for name in ("sizes_wh", "groups", "splits"))
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {_EXPECTED}, got {error}; {_AGAIN}") from error
    rows = {name: len(getattr(labels, name)) for name in _NAMES}
    rows |= {"sizes_wh": len(sizes_wh), "groups": len(groups), "splits": len(splits)}
    if len(set(rows.values())) > 1:
        raise ValueError(f"{path}: expected one row for each picture, got {rows}; {_AGAIN}")
    pictures = _stored(folder / PICTURES, len(groups))
    return Data(pictures, sizes_wh, labels, groups, splits)


def _stored(path: Path, count: int) -> NDArray[np.uint8]:
    """Return the array of the file, which is read when it is used."""
    try:
        pictures = np.load(path, mmap_mode="r")
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path}: {_EXPECTED}, got {error}; {_AGAIN}") from error
    shape = (count, SIDE, SIDE, 3)
    if pictures.shape != shape or pictures.dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 of shape {shape}, as {LABELS} beside it has {count} rows, got "
            f"{pictures.dtype} of shape {pictures.shape}; {_AGAIN}"
        )
    return np.asanyarray(pictures)


def write(pictures: Iterable[Picture], folder: Path) -> None:
    """Write ``pictures.npy`` and ``labels.npz`` whole; one picture is in memory at a time.

    Raises:
        ValueError: no pictures.
        OSError: the disk is full or not permitted; what was there before stays.

    """
    rows: list[tuple[tuple[int, int], str, int, Labels]] = []

    def noted() -> Iterator[ImageArray]:
        for one in pictures:
            height, width = one.bgr.shape[:2]
            rows.append(((width, height), one.group, one.split, _padded(one.labels)))
            whole = np.full((SIDE, SIDE, 3), LETTERBOX_GREY, np.uint8)
            whole[:height, :width] = one.bgr
            yield whole

    with (
        atomic_path(folder / PICTURES, folder) as stored,
        atomic_path(folder / LABELS, folder) as labelled,
    ):
        with stored.open("wb") as file:
            _write_pictures(file, noted())
        if not rows:
            raise ValueError(f"{folder}: expected pictures to write, got none; check the inputs")
        sizes, groups, splits, labels = zip(*rows, strict=True)
        np.savez_compressed(
            labelled,
            sizes_wh=np.array(sizes, np.int64),
            groups=np.array(groups),
            splits=np.array(splits, np.uint8),
            **{name: np.stack([getattr(one, name) for one in labels]) for name in _NAMES},
        )


def _write_pictures(file: BinaryIO, pictures: Iterable[ImageArray]) -> None:
    """Write a ``.npy`` of pictures (640, 640, 3) whose number is known at the end."""
    begin = _write_header(file, 0)
    count = 0
    for picture in pictures:
        file.write(picture.tobytes())
        count += 1
    file.seek(0)
    if _write_header(file, count) != begin:
        raise ValueError(f"expected a .npy header of {begin} bytes for {count} pictures too")


def _write_header(file: BinaryIO, count: int) -> int:
    """Return the header's bytes; NumPy leaves room in it for a first dimension that grows."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIDE, SIDE, 3)}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
    return file.tell()


def _padded(labels: Labels) -> Labels:
    """Return the labels in ``SLOTS`` rows: people first, then the largest."""
    order = np.lexsort((-box_area(labels.boxes), labels.kinds))[:SLOTS]

    def pad(values: NDArray[Any]) -> NDArray[Any]:
        rows = values[order]
        return np.pad(rows, [(0, SLOTS - len(rows))] + [(0, 0)] * (rows.ndim - 1))

    return Labels(*(pad(getattr(labels, name)) for name in _NAMES))


def _fitted(group: str, split: int, bgr: ImageArray, labels: Labels) -> Picture:
    """Shrink a picture and its labels to the input; smaller ones stay as they are."""
    height, width = bgr.shape[:2]
    fit = Letterbox.fit((width, height), (SIDE, SIDE))
    if fit.scale >= 1:
        return Picture(group, split, bgr, labels)
    keypoints = labels.keypoints.copy()
    keypoints[..., :2] = fit.to_input(keypoints[..., :2])
    moved = Labels(
        fit.to_input(labels.boxes),
        keypoints,
        labels.scores,
        labels.kinds,
        (labels.areas * fit.scale**2).astype(np.float32),
    )
    small = cv2.resize(bgr, fit.inner_wh, interpolation=cv2.INTER_AREA)
    return Picture(group, split, np.asarray(small, np.uint8), moved)


# --- poses of samples/ --------------------------------------------------------------


def split_of(source: str) -> int:
    """Return the split of a recording, by a digest of its name."""
    return VAL if zlib.crc32(source.encode()) % _HELD_OUT == 0 else TRAIN


def split_of_fall(video: str) -> int:
    """Return the split of a video of ``falls``, by its first folder, the person's."""
    return VAL if PurePosixPath(video).parts[0] == HELD_OUT_SUBJECT else TRAIN


def from_samples(assets: Path) -> Iterator[Picture]:
    """Yield pictures of ``fight_surv`` and ``falls`` with the poses of ``samples/``.

    ``split_of`` and ``split_of_fall`` decide which are for validation alone.
    """
    with (SAMPLES / "sources.csv").open(encoding="utf-8") as file:
        source_of = {row["video"]: row["source"] for row in csv.DictReader(file)}
    for name, results, frames in (
        ("fight_surv", SAMPLES / "stage1", _FIGHT_FRAMES),
        ("falls", SAMPLES / "falls_stage1", _FALL_FRAMES),
    ):
        for outcome in read_manifest(results).outcomes:
            video = outcome.video
            split = split_of_fall(video) if name == "falls" else split_of(source_of[video])
            sequence = read_poses(result_path(results, video, ".npz"))[0]
            path = assets / name / video
            for bgr, labels in _labelled_frames(path, sequence, frames):
                yield _fitted(name, split, bgr, labels)


def _labelled_frames(
    path: Path, sequence: PoseSequence, frames: int
) -> Iterator[tuple[ImageArray, Labels]]:
    from recognizer.video.reader import VideoReader  # PyAV, which a training does without

    count = len(sequence.time_s)
    chosen = set(np.linspace(0, count - 1, min(frames, count)).round().astype(int).tolist())
    with VideoReader(path) as reader:
        for place, frame in enumerate(reader):
            if place in chosen:
                first, stop = max(0, place - _NEIGHBOURS), min(count, place + _NEIGHBOURS + 1)
                around = [labels_of(sequence.frame(i)) for i in range(first, stop)]
                times = sequence.time_s[first:stop]
                window = Window(around, times, place - first, sequence.size_wh)
                yield frame.image.bgr(), confirmed(window, _AGREEMENT)


def labels_of(poses: Poses) -> Labels:
    """Return the labels that the poses of one frame are worth: people, and doubts."""
    scores = poses.keypoint_scores
    mean, good = scores.mean(1), (scores >= 0.35).sum(1)
    sure = ((poses.box_scores >= 0.35) & (mean >= 0.28)) | (mean >= 0.45)
    posed = sure & (good >= 5)
    plain = ~posed & (poses.box_scores >= 0.5)
    weights = np.where((scores >= 0.3) & posed[:, None], scores, 0)
    keypoints = np.concatenate([poses.keypoints, weights[..., None]], -1).astype(np.float32)
    return Labels(
        poses.boxes.astype(np.float32),
        keypoints,
        np.where(posed[:, None], scores, -1).astype(np.float32),
        np.where(posed | plain, PERSON, DOUBT).astype(np.uint8),
        (box_area(poses.boxes) * AREA).astype(np.float32),
    )


# --- COCO's format ------------------------------------------------------------------


def from_coco(group: str, split: int, file: Path, images: Path) -> Iterator[Picture]:
    """Yield the pictures of a COCO file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    people: dict[int, list[Mapping[str, Any]]] = {}
    for one in content["annotations"]:
        people.setdefault(one["image_id"], []).append(one)
    for image in content["images"]:
        bgr = cv2.imread(str(images / image["file_name"]))
        if bgr is None:
            raise FileNotFoundError(f"{images / image['file_name']}: expected a picture")
        seen = _annotated(people.get(image["id"], []))
        yield _fitted(group, split, np.asarray(bgr, np.uint8), seen)


def _annotated(people: list[Mapping[str, Any]]) -> Labels:
    boxes = np.array([p["bbox"] for p in people], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    keypoints = np.array([p.get("keypoints", [0] * 51) for p in people], np.float32)
    keypoints = keypoints.reshape(-1, 17, 3)
    seen = keypoints[..., 2]
    known = (seen > 0).any(1)[:, None]
    # Seen, hidden but marked; what is not marked has no target where a pose is.
    scores = np.where(known & (seen > 0), np.where(seen > 1, 0.9, 0.6), -1).astype(np.float32)
    keypoints[..., 2] = seen > 0
    crowd = np.array([bool(p["iscrowd"]) for p in people], np.bool_)
    kinds = np.where(crowd, CROWD, PERSON).astype(np.uint8).reshape(-1)
    areas = np.array([p["area"] for p in people], np.float32).reshape(-1)
    return Labels(boxes, keypoints, scores, kinds, areas)


def collect(assets: Path, distilled: Path) -> Iterator[Picture]:
    """Yield all pictures."""
    coco = assets / "coco"
    for name, split in (("train2017", TRAIN), ("val2017", VAL)):
        file = coco / "annotations" / f"person_keypoints_{name}.json"
        yield from from_coco("coco", split, file, coco / name)
    for folder in sorted(path for path in distilled.iterdir() if (path / "distill.json").exists()):
        for split, name in ((TRAIN, "train"), (VAL, "val")):
            file = folder / f"person_keypoints_{name}.json"
            yield from from_coco(folder.name, split, file, folder / "images")
    yield from from_samples(assets)


def summary(data: Data) -> Iterator[str]:
    """Yield a line for each data set and split: pictures, people, people with a pose."""
    people = data.labels.kinds == PERSON
    posed = people & (data.labels.scores >= 0).any(2)
    for group, split in sorted(set(zip(data.groups.tolist(), data.splits.tolist(), strict=True))):
        own = (data.groups == group) & (data.splits == split)
        yield (
            f"{group} {'val' if split == VAL else 'train'}: {own.sum()} pictures, "
            f"{people[own].sum()} people, {posed[own].sum()} with a pose"
        )


@one_line_errors
def main() -> int:
    """Collect and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--distilled", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    write(collect(given.assets, given.distilled), given.out)
    for line in summary(load(given.out)):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
