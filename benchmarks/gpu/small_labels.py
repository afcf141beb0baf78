"""Label footage by a strong, slow teacher: what our small pose network learns from.

    python -m benchmarks.gpu.small_labels --assets ../shared/assets --out output/small_labels

Every frame is looked at by a person detector upright and turned by +90 and -90 degrees, and by
MoveNet MultiPose; every person by a heatmap network upright and, where that is unsure, turned both
ways, then once more with its mirror image. All opinions are kept as they are; which of them make a
label is decided when they are packed (``benchmarks.gpu.small_data``).

Frames are taken round-robin over the clips, so that an early stop still covers all sources. Each
clip of a round is one file, written whole; what is there is not labelled again.
"""

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu._part import ROOT
from benchmarks.gpu.small_choice import SIDE, is_there
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.geometry import Letterbox, box_iou, nms
from recognizer.pose.detector import Boxes, YoloxDetector
from recognizer.pose.topdown import TopDownPose
from recognizer.types import FloatArray, ImageArray, Poses
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

PER_ROUND = 3
TURNED_BOX = 0.9  # factor of a box found on a turned picture
UPRIGHT_POSE = 1.1  # an upright pose is kept unless a turned one is this much better
SURE_POSE = 0.75  # mean keypoint score from which the turned views are not tried
SAME_BOX = 0.5
LEAST_BOX = 0.1
LEAST_MOVENET = 0.1


@dataclass(frozen=True)
class Clip:
    """A video, the recording that it comes from, and how many frames to take of it."""

    path: Path
    source: str
    frames: int


def clips(assets: Path) -> list[Clip]:
    """Return all footage; those with one ``source`` never part between training and test."""
    with (assets / "fight_surv" / "sources.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = [Clip(assets / "fight_surv" / r["video"], f"fight/{r['source']}", 12) for r in rows]
    for path in sorted((assets / "falls").glob("*/*/*.mp4")):
        found.append(Clip(path, f"falls/{path.parts[-3]}", 24))
    for path in sorted((assets / "multiview_falls").glob("*/*.mp4")):
        found.append(Clip(path, "multiview", 24))
    for path in sorted((assets / "bed_falls").glob("*/*.mp4")):
        # Synthetic clips of one prompt look alike: the folder and the first two digits part them.
        found.append(Clip(path, f"bed/{path.stem[:-1]}", 4))
    for path in sorted((assets / "videos").iterdir()):
        found.append(Clip(path, f"videos/{path.stem}", 36))
    return found


def sampled_indices(count: int, frames: int, turn: int) -> list[int]:
    """Return the indices of a round: three or fewer, spread, none of an earlier round."""
    rounds = max(1, -(-frames // PER_ROUND))
    if turn >= rounds:
        return []
    places = (np.arange(PER_ROUND) + (turn * 0.618 + 0.31) % 1) / PER_ROUND
    return sorted({int(place * count) for place in places[: frames - turn * PER_ROUND]})


def read_frames(path: Path, frames: int, turn: int) -> list[tuple[float, ImageArray]]:
    """Return time and BGR pixels of the frames of a round."""
    with VideoReader(path) as reader:
        count = sum(1 for _ in reader)
    indices = sampled_indices(count, frames, turn)
    with VideoReader(path) as reader:
        return [(f.time_s, f.image.bgr()) for f in reader if f.index in indices]


class Turn:
    """A quarter turn of a picture: ``quarters`` as in numpy.rot90 (counter-clockwise)."""

    def __init__(self, size_wh: tuple[int, int], quarters: int) -> None:
        self.size_wh, self.quarters = size_wh, quarters % 4

    def picture(self, bgr: ImageArray) -> ImageArray:
        """Return the turned picture."""
        return np.ascontiguousarray(np.rot90(bgr, self.quarters))

    def points(self, points: FloatArray) -> FloatArray:
        """Map (..., 2) pixels of the upright picture to the turned one."""
        width, height = self.size_wh
        x, y = points[..., 0], points[..., 1]
        turned = {0: (x, y), 1: (y, width - x), 3: (height - y, x)}[self.quarters]
        return np.stack(turned, axis=-1, dtype=np.float32)

    def back(self, points: FloatArray) -> FloatArray:
        """Map (..., 2) pixels of the turned picture to the upright one."""
        width, height = self.size_wh
        x, y = points[..., 0], points[..., 1]
        upright = {0: (x, y), 1: (width - y, x), 3: (y, height - x)}[self.quarters]
        return np.stack(upright, axis=-1, dtype=np.float32)

    def boxes(self, boxes: FloatArray, *, back: bool = False) -> FloatArray:
        """Map (N, 4) boxes to the turned picture, or back."""
        corners = (self.back if back else self.points)(boxes.reshape(-1, 2, 2))
        return np.concatenate([corners.min(1), corners.max(1)], axis=1)


class Teacher:
    """Three networks that look several times.

    Args:
        weights: folder with the three files of ``../shared/assets/weights``.

    """

    def __init__(self, weights: Path) -> None:
        settings = DetectorConfig(score_threshold=LEAST_BOX, nms_threshold=0.65)
        plain, mirrored = TopDownConfig(), TopDownConfig(flip_test=True)
        self._detector = YoloxDetector(OnnxNetwork(weights / "yolox_nano.onnx", settings), settings)
        network = OnnxNetwork(weights / "pp_tinypose_256x192.onnx", OnnxRuntimeOptions())
        self._pose = TopDownPose(self._detector, network, plain)
        self._pose_mirrored = TopDownPose(self._detector, network, mirrored)
        self._movenet = OnnxNetwork(weights / "movenet_multipose.onnx", OnnxRuntimeOptions())

    def __call__(self, bgr: ImageArray) -> dict[str, NDArray[Any]]:
        """Return the candidates of a picture, see ``_candidates`` for the arrays' names."""
        turns = [Turn((bgr.shape[1], bgr.shape[0]), q) for q in (0, 1, 3)]
        views = [ArrayImage(t.picture(bgr)) for t in turns]
        boxes, scores = self._boxes(views, turns)
        people = self._multipose(bgr)
        return self._candidates(views, turns, boxes, scores, people)

    def _boxes(self, views: list[ArrayImage], turns: list[Turn]) -> tuple[FloatArray, FloatArray]:
        """Return the detector's boxes (N, 4) and scores (N, 2): upright view, best of all."""
        found = self._detector(views)
        boxes = [t.boxes(f.xyxy, back=True) for t, f in zip(turns, found, strict=True)]
        best = [found[0].scores, found[1].scores * TURNED_BOX, found[2].scores * TURNED_BOX]
        everything, ranked = np.concatenate(boxes), np.concatenate(best)
        kept = nms(everything, ranked, SAME_BOX)
        upright = np.zeros(len(ranked), np.float32)
        if len(boxes[0]) and len(kept):
            same = box_iou(everything, boxes[0]) * (box_iou(everything, boxes[0]) > SAME_BOX)
            upright = np.where(same.max(1) > 0, found[0].scores[same.argmax(1)], 0)
        return everything[kept], np.stack([upright, ranked], axis=1)[kept].astype(np.float32)

    def _multipose(self, bgr: ImageArray) -> FloatArray:
        """Return MoveNet's people (N, 56): 17 x (x, y, score), x1 y1 x2 y2, score; pixels."""
        height, width = bgr.shape[:2]
        scale = 512 / max(height, width)
        wh = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
        rgb = np.ascontiguousarray(cv2.resize(bgr, wh, interpolation=cv2.INTER_AREA)[..., ::-1])
        (raw,) = self._movenet.run({"input:0": rgb[None].astype(np.int32)}).values()
        people = raw[0][raw[0][:, 55] >= LEAST_MOVENET].astype(np.float32)
        points = people[:, :51].reshape(-1, 17, 3)[:, :, [1, 0, 2]] * [width, height, 1]
        box = people[:, [52, 51, 54, 53]] * [width, height, width, height]
        flat = [points.reshape(-1, 51), box, people[:, 55:]]
        return np.concatenate(flat, axis=1, dtype=np.float32)

    def _candidates(
        self,
        views: list[ArrayImage],
        turns: list[Turn],
        boxes: FloatArray,
        scores: FloatArray,
        people: FloatArray,
    ) -> dict[str, NDArray[Any]]:
        """Join both opinions on boxes, and pose people.

        Returns:
            ``boxes`` (N, 4); ``scores`` (N, 3): detector upright, detector best, MoveNet;
            ``keypoints`` (N, 17, 3); ``movenet`` (N, 17, 3), zeros where it found no person;
            ``pose`` (N, 4): quarter turn that is kept, mean keypoint score upright and in both
            turns without mirror (0: not tried).

        """
        other = people[:, 51:55]
        overlap = box_iou(boxes, other) if len(boxes) and len(other) else np.zeros((0, 0))
        movenet = np.zeros((len(boxes) + len(other), 56), np.float32)
        pairs = np.argwhere(overlap > SAME_BOX)
        taken_rows, taken_people = set(), set()
        for row, person in sorted(pairs.tolist(), key=lambda p: -overlap[p[0], p[1]]):
            if row not in taken_rows and person not in taken_people:
                movenet[row] = people[person]
                taken_rows.add(row)
                taken_people.add(person)
        rest = [p for p in range(len(other)) if p not in taken_people]
        movenet[len(boxes) : len(boxes) + len(rest)] = people[rest]
        movenet = movenet[: len(boxes) + len(rest)]
        people = np.concatenate([boxes, other[rest]]).astype(np.float32)
        ranks = np.concatenate([scores, np.zeros((len(rest), 2), np.float32)])
        scores = np.concatenate([ranks, movenet[:, 55:]], axis=1)
        worth = is_there(scores)  # the others stay doubts, whatever their pose
        keypoints = np.zeros((len(people), 17, 3), np.float32)
        pose = np.zeros((len(people), 4), np.float32)
        keypoints[worth], pose[worth] = self._poses(views, turns, people[worth])
        return {
            "boxes": people,
            "scores": scores,
            "keypoints": keypoints,
            "movenet": movenet[:, :51].reshape(-1, 17, 3),
            "pose": pose,
        }

    def _poses(
        self, views: list[ArrayImage], turns: list[Turn], boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, 17, 3) of the best turn with its mirror, and ``pose`` (N, 4)."""
        means = np.zeros((len(boxes), 3), np.float32)
        means[:, 0] = self._look(self._pose, views[0], boxes).keypoint_scores.mean(1)
        unsure = np.flatnonzero(means[:, 0] < SURE_POSE)
        for i in (1, 2):
            seen = self._look(self._pose, views[i], turns[i].boxes(boxes[unsure]))
            means[unsure, i] = seen.keypoint_scores.mean(1)
        best = (means * [UPRIGHT_POSE, 1, 1]).argmax(1)
        keypoints = np.zeros((len(boxes), 17, 3), np.float32)
        for i, turn in enumerate(turns):
            rows = np.flatnonzero(best == i)
            seen = self._look(self._pose_mirrored, views[i], turn.boxes(boxes[rows]))
            keypoints[rows, :, :2] = turn.back(seen.keypoints)
            keypoints[rows, :, 2] = seen.keypoint_scores
        quarters = np.array([t.quarters for t in turns], np.float32)[best]
        return keypoints, np.concatenate([quarters[:, None], means], axis=1).astype(np.float32)

    def _look(self, model: TopDownPose, view: ArrayImage, boxes: FloatArray) -> Poses:
        ones = np.ones(len(boxes), np.float32)
        return model.with_boxes([view], [Boxes(boxes.astype(np.float32), ones)])[0]


def label_clip(teacher: Teacher, clip: Clip, turn: int, target: Path) -> int:
    """Label the frames of a round and write them; return their number.

    The file holds per frame i: ``jpeg_i`` (picture with a long side of ``SIDE``) and the
    candidates' arrays ``boxes_i``, ... in pixels of that picture; ``times``, ``source``, ``video``.
    """
    frames = read_frames(clip.path, clip.frames, turn)
    arrays: dict[str, NDArray[Any]] = {
        "times": np.array([t for t, _ in frames]),
        "source": np.array(clip.source),
        "video": np.array("/".join(clip.path.parts[-3:])),
    }
    for i, (_, bgr) in enumerate(frames):
        fit = Letterbox.fit((bgr.shape[1], bgr.shape[0]), (SIDE, SIDE))
        for name, values in teacher(bgr).items():
            place = values.copy()
            if name == "boxes":
                place = fit.to_input(values)
            elif name in ("keypoints", "movenet"):
                place[..., :2] = fit.to_input(values[..., :2])
            arrays[f"{name}_{i}"] = place
        small = cv2.resize(bgr, fit.inner_wh, interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 97])[1]
        arrays[f"jpeg_{i}"] = jpeg
    scratch = target.with_suffix(".part")
    with scratch.open("wb") as file:
        np.savez(file, **arrays)
    scratch.replace(target)
    return len(frames)


def main() -> int:
    """Label until everything is labelled or the time is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, default=ROOT.parent / "shared" / "assets")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "small_labels")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--part", default="0/1", help="i/n: every n-th clip, from the i-th")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--backwards", action="store_true", help="beside another run: last first")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    teacher = Teacher(given.assets / "weights")
    first, step = (int(n) for n in given.part.split("/"))
    mine = clips(given.assets)[first::step]
    if given.backwards:
        mine.reverse()
    start, done = time.monotonic(), 0
    for turn in range(given.rounds):
        for clip in mine:
            name = "-".join((*clip.path.parts[-3:-1], clip.path.stem))
            target = given.out / f"{turn:02d}-{name}.npz"
            if turn * PER_ROUND >= clip.frames or target.is_file():
                continue
            if time.monotonic() - start > given.minutes * 60:
                return 0
            try:
                done += label_clip(teacher, clip, turn, target)
            except (OSError, ValueError) as error:
                print(f"{clip.path}: left out: {error}", flush=True)
            spent = time.monotonic() - start
            each = spent / max(1, done)
            print(f"{target.name}: {done} frames, {each:.2f} s a frame", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
