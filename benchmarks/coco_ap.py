"""Keypoint AP of the top-down path on COCO files, with true boxes and with the detector.

    python -m benchmarks.coco_ap --coco ../shared/assets/coco
    python -m benchmarks.coco_ap --turn 1

With ``--turn``, pictures and annotations are turned by a quarter, as if all people lay, and people
in their true boxes are posed as they are and in the best of three turns.

Prints AP per split, box source and decoding, beside the figures that a plain reference
(quarter offset, no flip) reached on exactly these files.
"""

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks._command import ASSETS, CONFIG, WEIGHTS
from benchmarks._images import read_image
from benchmarks._needs import need
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.file import load_config
from recognizer.pose.detector import Boxes, YoloxDetector
from recognizer.pose.topdown import TopDownPose
from recognizer.pose.turned import TURNS, best_turns
from recognizer.runs.stage_folders import pose_model_files
from recognizer.types import IntArray, Poses, TimeArray
from recognizer.video.array_image import ArrayImage

Rows = list[dict[str, Any]]  # COCO results
REFERENCE = {
    ("val2017", "true"): 0.586,
    ("train2017", "true"): 0.480,
    ("val2017", "detector"): 0.539,
    ("train2017", "detector"): 0.455,
}
KEYPOINT_FLOOR = 0.2
Decoding = Literal["dark", "quarter_offset"]
VARIANTS: list[tuple[Decoding, bool]] = [
    ("quarter_offset", False),
    ("dark", False),
    ("dark", True),
]


def true_boxes(coco: COCO, image_id: int) -> Boxes:
    """Return the annotated boxes of people who have keypoints, all with score 1."""
    people = [a for a in coco.imgToAnns[image_id] if a["num_keypoints"] and not a["iscrowd"]]
    xywh = np.array([a["bbox"] for a in people], np.float32).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return Boxes(xyxy, np.ones(len(xyxy), np.float32))


def detections(poses: Poses, image_id: int) -> Rows:
    """Return COCO result rows, scored as box score x mean of the confident keypoints."""
    rows: Rows = []
    for keypoints, scores, box_score in zip(
        poses.keypoints, poses.keypoint_scores, poses.box_scores, strict=True
    ):
        confident = scores > KEYPOINT_FLOOR
        score = float(box_score * (scores[confident].mean() if confident.any() else 0))
        flat = np.concatenate([keypoints, scores[:, None]], axis=1).ravel().tolist()
        rows.append({"image_id": image_id, "category_id": 1, "keypoints": flat, "score": score})
    return rows


def turned(coco: COCO, turn: int) -> None:
    """Turn the annotations of a COCO file by ``turn`` quarters (1 or -1), in place."""
    for note in coco.anns.values():
        info = coco.imgs[note["image_id"]]
        size = np.array([info["width"], info["height"]])
        points = np.array(note["keypoints"], np.float64).reshape(-1, 3)
        points[:, :2] = turned_points(points[:, :2], size, turn) * (points[:, 2:] > 0)
        note["keypoints"] = points.ravel().tolist()
        x, y, width, height = note["bbox"]
        corners = turned_points(np.array([[x, y], [x + width, y + height]]), size, turn)
        low = corners.min(axis=0)
        note["bbox"] = [*low.tolist(), height, width]
        note["segmentation"] = []


def turned_points(points: TimeArray, size_wh: IntArray, turn: int) -> TimeArray:
    """Return points (N, 2) of a picture in the picture that ``np.rot90`` makes of it."""
    x, y = points.T
    return np.stack([y, size_wh[0] - x] if turn == 1 else [size_wh[1] - y, x], axis=1)


def best_turn(pose: TopDownPose, image: ArrayImage, boxes: Boxes) -> Poses:
    """Return the poses of people, each shown as it is and turned both ways."""
    count = len(boxes.scores)
    if not count:
        return Poses.empty()
    people, turns = np.tile(np.arange(count), 3), np.repeat([0, *TURNS], count)
    owners = np.zeros(len(people), np.int64)
    keypoints, scores = pose.keypoints_of([image], owners, boxes.xyxy[people], turns)
    best = best_turns(people, turns, scores)
    return Poses.untracked(keypoints[best], scores[best], boxes.xyxy, boxes.scores)


def read_coco(coco_dir: Path, split: str) -> COCO:
    """Read the annotations of a split, without COCO's own output."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(coco_dir / "annotations" / f"person_keypoints_{split}.json"))


def measure_turned(
    coco_dir: Path, split: str, turn: int, images: int | None = None
) -> dict[str, float]:
    """Return AP with true boxes on pictures turned by ``turn``, as they are and by best turn."""
    coco = read_coco(coco_dir, split)
    if turn:
        turned(coco, turn)
    _, pose = models("dark", flip_test=False)
    results: dict[str, Rows] = {"as it is": [], "best turn": []}
    image_ids = list(coco.imgs)[:images]
    for image_id in image_ids:
        pixels = read_image(coco_dir / split / coco.imgs[image_id]["file_name"])
        image, boxes = ArrayImage(np.rot90(pixels, turn)), true_boxes(coco, image_id)
        results["as it is"] += detections(pose.with_boxes([image], [boxes])[0], image_id)
        results["best turn"] += detections(best_turn(pose, image, boxes), image_id)
    return {name: average_precision(coco, rows, image_ids) for name, rows in results.items()}


def average_precision(coco: COCO, rows: Rows, image_ids: Sequence[int]) -> float:
    """Return COCO's keypoint AP of results for some images."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(rows), "keypoints")
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def models(decoding: Decoding, *, flip_test: bool) -> tuple[YoloxDetector, TopDownPose]:
    """Return a detector with a low threshold, as AP wants, and the pose model behind it."""
    config = load_config(CONFIG, [WEIGHTS])
    files = pose_model_files(config)
    pose = config.models.pose_estimation
    low = pose.topdown.detector.model_copy(
        update={"score_threshold": 0.05, "nms_threshold": 0.65, "max_detections": 100}
    )
    topdown = pose.topdown.model_copy(update={"decoding": decoding, "flip_test": flip_test})
    detector = YoloxDetector(OnnxNetwork(files["detector"], low), low)
    return detector, TopDownPose(detector, OnnxNetwork(files["pose"], pose.onnx), topdown)


def measure(
    coco_dir: Path, split: str, decoding: Decoding, *, flip_test: bool, images: int | None = None
) -> dict[str, float]:
    """Return AP with true boxes and with the detector's, on the first ``images`` pictures."""
    coco = read_coco(coco_dir, split)
    detector, pose = models(decoding, flip_test=flip_test)
    results: dict[str, Rows] = {"true": [], "detector": []}
    image_ids = list(coco.imgs)[:images]
    for image_id in image_ids:
        info = coco.imgs[image_id]
        image = ArrayImage(read_image(coco_dir / split / info["file_name"]))
        boxes = {"true": true_boxes(coco, image_id), "detector": detector([image])[0]}
        for source, rows in results.items():
            rows += detections(pose.with_boxes([image], [boxes[source]])[0], image_id)
    return {source: average_precision(coco, rows, image_ids) for source, rows in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco", type=Path, default=ASSETS / "coco")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--images", type=int, help="only so many of each split; default: all")
    parser.add_argument(
        "--turn", type=int, choices=[0, 1, -1], help="quarter turns, true boxes only"
    )
    args = parser.parse_args()
    need(files=[args.coco])
    if args.turn is not None:
        found = measure_turned(args.coco, "val2017", args.turn, args.images)
        for name, ap in found.items():
            print(f"val2017 turned by {90 * args.turn} degrees, true boxes, {name}: AP {ap:.3f}")
        return
    table: list[dict[str, object]] = []
    print(f"{'split':10} {'boxes':9} {'decoding':15} {'flip':5} {'AP':>6} {'reference':>9}")
    for split, (decoding, flip) in product(("val2017", "train2017"), VARIANTS):
        found = measure(args.coco, split, decoding, flip_test=flip, images=args.images)
        for source, ap in found.items():
            reference = REFERENCE[split, source]
            print(f"{split:10} {source:9} {decoding:15} {flip!s:5} {ap:6.3f} {reference:9.3f}")
            row = {"split": split, "boxes": source, "decoding": decoding, "flip_test": flip}
            table.append({**row, "AP": ap})
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
