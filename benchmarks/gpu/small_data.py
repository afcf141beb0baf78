"""What the small network learns from: gathered for the trip, and read on the GPU's machine.

The frames of all clips travel as one video, COCO's pictures as JPEG; their labels as one .npz.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from annotation.teacher_labels import CROWD, DOUBT, PERSON, Labels, choose
from benchmarks.gpu._part import PACK, ROOT
from benchmarks.gpu.small_network import read_start
from recognizer.geometry import LETTERBOX_GREY, Letterbox, box_area
from recognizer.types import ImageArray

SIDE = 416
"""Long side of the pictures, pixels: the input of the small network."""
SLOTS = 24
"""People and doubts of a picture; the largest are kept."""
TRAIN, CCTV_VAL, COCO_VAL, COCO_TRAIN = range(4)
ASSETS = ROOT.parent / "shared" / "assets"
LABELLED = ROOT / "output" / "small_labels"
_HELD_OUT = 9  # one source of so many is kept for validation
NAMES = tuple(field.name for field in fields(Labels))
_CRF = "21"


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures (N, 416, 416, 3) BGR uint8, ``Labels`` with one more axis, splits and groups (N,).

    A group is the data set that a picture is of.
    """

    pictures: NDArray[np.uint8]
    labels: Labels
    splits: NDArray[np.uint8]
    groups: NDArray[np.str_]

    def part(self, *splits: int) -> "Data":
        """Return some splits."""
        return self._rows(np.flatnonzero(np.isin(self.splits, splits)))

    def spread(self, most: int) -> "Data":
        """Return at most so many pictures, spread over all."""
        step = max(1, -(-len(self.splits) // most))
        return self._rows(np.arange(0, len(self.splits), step))

    def _rows(self, rows: NDArray[np.int64]) -> "Data":
        labels = Labels(*(getattr(self.labels, name)[rows] for name in NAMES))
        return Data(self.pictures[rows], labels, self.splits[rows], self.groups[rows])


def padded(labels: Labels) -> Labels:
    """Return the labels in ``SLOTS`` rows: people first, then the largest."""
    order = np.lexsort((-box_area(labels.boxes), labels.kinds))[:SLOTS]

    def pad(values: NDArray[Any]) -> NDArray[Any]:
        rows = values[order]
        wide = [(0, SLOTS - len(rows))] + [(0, 0)] * (rows.ndim - 1)
        return np.pad(rows, wide)

    return Labels(*(pad(getattr(labels, name)) for name in NAMES))


# --- here: gather ------------------------------------------------------------------


def pack(target: Path, labelled: Path = LABELLED, assets: Path = ASSETS) -> None:
    """Write ``frames.mp4``, ``labels.npz`` and ``start.npz`` into a folder.

    Raises:
        FileNotFoundError: nothing is labelled yet; ``benchmarks.gpu.small_labels`` does that.

    """
    target.mkdir(parents=True, exist_ok=True)
    frames = sorted(_frames(labelled), key=lambda f: (f[0], f[1]))
    if not frames:
        raise FileNotFoundError(
            f"{labelled}: expected labelled frames; run python -m benchmarks.gpu.small_labels"
        )
    labels = [padded(f[3]) for f in frames]
    inner = [f[2].shape[:2] for f in frames]
    splits = [f[4] for f in frames]
    scratch = target / "scratch"
    scratch.mkdir(exist_ok=True)
    _write_video(scratch / "frames.mp4", [_boxed(f[2]) for f in frames])
    jpegs: dict[str, NDArray[Any]] = {}
    for split, number in (("train2017", COCO_TRAIN), ("val2017", COCO_VAL)):
        for picture, seen in _coco(assets / "coco", split):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 88]
            jpegs[f"jpeg_{len(jpegs)}"] = cv2.imencode(".jpg", picture, quality)[1]
            labels.append(padded(seen))
            splits.append(number)
    arrays = {name: np.stack([getattr(seen, name) for seen in labels]) for name in NAMES}
    videos = np.array([f"{f[0]} {f[1]:.2f}" for f in frames])
    np.savez_compressed(
        scratch / "labels.npz",
        splits=np.array(splits, np.uint8),
        videos=videos,
        inner=np.array(inner, np.int16),
        **arrays,
        **jpegs,
    )
    start = read_start(assets / "weights" / "yolox_nano.onnx")
    np.savez(scratch / "start.npz", **{k: v.astype(np.float16) for k, v in start.items()})
    for path in scratch.iterdir():  # all at once: no half of a pack is copied
        path.replace(target / path.name)
    scratch.rmdir()


def _frames(folder: Path) -> Iterator[tuple[str, float, ImageArray, Labels, int]]:
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            video, source = str(file["video"]), str(file["source"])
            for i, time_s in enumerate(file["times"]):
                names = ("boxes", "scores", "keypoints", "movenet", "pose")
                seen = choose({name: file[f"{name}_{i}"] for name in names})
                picture = cv2.imdecode(file[f"jpeg_{i}"], cv2.IMREAD_COLOR)
                yield video, float(time_s), picture, seen, split_of(source)  # type: ignore[misc]


def split_of(source: str) -> int:
    """Return the split of a recording: all of its clips are on one side."""
    if source.startswith("falls/"):
        return CCTV_VAL if source == "falls/Subject_2" else TRAIN
    if source.startswith(("videos/", "multiview")):
        return TRAIN
    return CCTV_VAL if zlib.crc32(source.encode()) % _HELD_OUT == 0 else TRAIN


def _boxed(picture: ImageArray) -> ImageArray:
    whole = np.full((SIDE, SIDE, 3), LETTERBOX_GREY, np.uint8)
    whole[: picture.shape[0], : picture.shape[1]] = picture
    return whole


def _write_video(path: Path, pictures: list[ImageArray]) -> None:
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": _CRF, "preset": "fast", "threads": "1"}
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        file.mux(stream.encode())


def _coco(folder: Path, split: str) -> Iterator[tuple[ImageArray, Labels]]:
    """Yield each picture of COCO fitted to the input and, to train, enlarged at its people."""
    path = folder / "annotations" / f"person_keypoints_{split}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    people: dict[int, list[dict[str, Any]]] = {}
    for one in content["annotations"]:
        people.setdefault(one["image_id"], []).append(one)
    for image in content["images"]:
        bgr = cv2.imread(str(folder / split / image["file_name"]))
        if bgr is None:
            raise FileNotFoundError(f"{folder / split / image['file_name']}: expected a picture")
        seen = _truth(people.get(image["id"], []))
        height, width = bgr.shape[:2]
        yield _cut(bgr, seen, np.array([0, 0, width, height]))  # type: ignore[arg-type]
        if split == "train2017":
            for window in _windows(seen, width, height):
                yield _cut(bgr, seen, window)  # type: ignore[arg-type]


def _truth(people: list[dict[str, Any]]) -> Labels:
    boxes = np.array([p["bbox"] for p in people], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    keypoints = np.array([p["keypoints"] for p in people], np.float32).reshape(-1, 17, 3)
    seen = keypoints[..., 2]
    known = (seen > 0).any(1)[:, None]
    scores = np.where(known, np.choose(seen.astype(int), [0.0, 0.7, 1.0]), -1).astype(np.float32)
    keypoints[..., 2] = seen > 0
    kinds = np.where([bool(p["iscrowd"]) for p in people], CROWD, PERSON).astype(np.uint8)
    areas = np.array([p["area"] for p in people], np.float32)
    return Labels(boxes, keypoints, scores, kinds.reshape(-1), areas)


def _windows(seen: Labels, width: int, height: int) -> Iterator[NDArray[np.float64]]:
    for box, scores in zip(seen.boxes, seen.scores, strict=True):
        half = max(box[2] - box[0], box[3] - box[1]) * 0.8
        if (scores > 0).sum() >= 3 and half > 30 and half < 0.4 * max(width, height):
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            window = [
                max(0, x - half),
                max(0, y - half),
                min(width, x + half),
                min(height, y + half),
            ]
            yield np.round(window)


def _cut(bgr: ImageArray, seen: Labels, window: NDArray[Any]) -> tuple[ImageArray, Labels]:
    """Return a window of a picture, fitted to the input, with the people in it."""
    x1, y1, x2, y2 = (int(v) for v in window)
    part = bgr[y1:y2, x1:x2]
    fit = Letterbox.fit((x2 - x1, y2 - y1), (SIDE, SIDE))
    corner = np.array([x1, y1], np.float32)
    boxes = fit.to_input(seen.boxes - np.tile(corner, 2))
    limit = np.tile(np.array(fit.inner_wh, np.float32), 2)
    clipped = np.clip(boxes, 0, limit)
    keypoints = seen.keypoints.copy()
    keypoints[..., :2] = fit.to_input(keypoints[..., :2] - corner)
    inside = ((keypoints[..., :2] >= 0) & (keypoints[..., :2] < limit[:2])).all(-1)
    keypoints[..., 2] *= inside
    scores = np.where(inside | (seen.scores < 0), seen.scores, 0).astype(np.float32)
    share = _area(clipped) / np.maximum(_area(boxes), 1)
    kinds = np.where((share < 0.25) & (seen.kinds == PERSON), DOUBT, seen.kinds).astype(np.uint8)
    rows = np.flatnonzero(share > 0.02)
    shrink = cv2.INTER_AREA if fit.scale < 1 else cv2.INTER_LINEAR
    areas = (seen.areas * fit.scale**2 * share).astype(np.float32)
    cut = Labels(clipped[rows], keypoints[rows], scores[rows], kinds[rows], areas[rows])
    return cv2.resize(part, fit.inner_wh, interpolation=shrink), cut  # type: ignore[return-value]


def _area(boxes: NDArray[Any]) -> NDArray[Any]:
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return np.asarray(width * height)


# --- there: read -------------------------------------------------------------------


def load(folder: Path, most: int | None = None) -> Data:
    """Read what was packed: all frames, or the first ``most`` and COCO's pictures.

    Raises:
        ValueError: a video with another number of frames than there are labels.

    """
    with np.load(folder / "labels.npz") as file:
        arrays = {name: file[name] for name in file.files}
    count = len(arrays["videos"])
    frames = _read_video(folder / "frames.mp4", min(count, most or count))
    rest = len(arrays["splits"]) - count
    pictures = np.empty((len(frames) + rest, SIDE, SIDE, 3), np.uint8)
    pictures[: len(frames)] = frames
    for picture, (height, width) in zip(pictures, arrays["inner"], strict=False):
        picture[height:], picture[:, width:] = LETTERBOX_GREY, LETTERBOX_GREY
    for i in range(rest):
        decoded = cv2.imdecode(arrays[f"jpeg_{i}"], cv2.IMREAD_COLOR)
        pictures[len(frames) + i] = _boxed(decoded)  # type: ignore[arg-type]
    rows = np.r_[: len(frames), count : count + rest]
    labels = Labels(*(arrays[name][rows] for name in NAMES))
    groups = [str(video).split("/")[0] for video in arrays["videos"]] + ["coco"] * rest
    return Data(pictures, labels, arrays["splits"][rows], np.array(groups)[rows])


def _read_video(path: Path, count: int) -> NDArray[np.uint8]:
    frames = np.empty((count, SIDE, SIDE, 3), np.uint8)
    video = cv2.VideoCapture(str(path))
    for i in range(count):
        read, frame = video.read()
        if not read:
            raise ValueError(f"{path}: expected {count} frames, got {i}; pack it again")
        frames[i] = frame
    video.release()
    return frames


if __name__ == "__main__":
    pack(PACK / "data" / "small")
