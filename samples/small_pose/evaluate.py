"""Keypoint AP of any pose model of stage 1 on the pictures that the training held out.

    python -m samples.small_pose.evaluate samples/models/small_pose.onnx --data output/small_pose

``--detector`` names the detector of a top-down network. Pictures are shown to stage 1's own classes
as they were stored (at most 640 pixels). People in CCTV pictures are the teacher's, those of COCO
are annotated. Each data set is measured upright and turned by a quarter. Recall and precision are
of boxes, by ``samples.small_pose.matching``.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from annotation.teacher_labels import CROWD, DOUBT, Labels
from recognizer.models import DETECTOR, PoseEstimator, open_pose_model
from recognizer.types import ImageArray
from samples.keypoint_ap import GroundTruth, Predictions, keypoint_ap, mean_confident_score
from samples.one_line_errors import one_line_errors
from samples.small_pose.augment import Placement, moved, turn
from samples.small_pose.data import VAL, Data, load
from samples.small_pose.matching import count_boxes, total


def view(data: Data, row: int, *, turned: bool) -> tuple[ImageArray, Labels]:
    """Return a picture without its padding, and its labels."""
    width, height = (int(side) for side in data.sizes_wh[row])
    picture, labels = np.asarray(data.pictures[row, :height, :width]), data.of(row)
    if not turned:
        return np.ascontiguousarray(picture), labels
    placement = Placement(turn(-90, 1.0, False), np.array([0.0, width]))
    return np.ascontiguousarray(np.rot90(picture)), moved(labels, placement)


def measure(model: PoseEstimator, views: list[tuple[ImageArray, Labels]]) -> dict[str, float]:
    """Return COCO's AP and AR, and recall and precision of the boxes that stage 1 keeps."""
    found = [model(picture) for picture, _ in views]
    labels = [labels for _, labels in views]
    images = np.repeat(np.arange(len(labels)), [len(one.kinds) for one in labels])
    kinds = np.concatenate([one.kinds for one in labels])
    truth = GroundTruth(
        images,
        np.concatenate([one.keypoints for one in labels]),
        np.concatenate([one.areas for one in labels]),
        np.concatenate([one.boxes for one in labels]),
        crowd=kinds == CROWD,
        ignored=kinds == DOUBT,
    )
    scores = np.concatenate(
        [one.box_scores * mean_confident_score(one.keypoint_scores) for one in found]
    )
    predictions = Predictions(
        np.repeat(np.arange(len(found)), [len(one.box_scores) for one in found]),
        np.concatenate([one.keypoints for one in found]),
        scores,
    )
    counts = total(
        count_boxes(poses.boxes, poses.box_scores, one)
        for poses, one in zip(found, labels, strict=True)
    )
    boxes = {"recall": counts.recall, "precision": counts.precision, "people": float(counts.people)}
    return {**keypoint_ap(truth, predictions), **boxes}


@one_line_errors
def main() -> int:
    """Print one line of JSON for each data set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--detector", type=Path, default=Path(DETECTOR))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--groups", nargs="+", default=["fight_surv", "falls", "coco"])
    parser.add_argument("--most", type=int, default=160, help="pictures of a data set")
    given = parser.parse_args()
    data = load(given.data)
    for group in given.groups:
        rows = np.flatnonzero((data.groups == group) & (data.splits == VAL))
        rows = rows[:: max(1, -(-len(rows) // given.most))]
        for turned in (False, True):
            model = open_pose_model(given.model, detector=given.detector, threads=1)
            views = [view(data, int(row), turned=turned) for row in rows]
            figures = measure(model, views)
            rounded = {name: round(value, 3) for name, value in figures.items()}
            line = {"group": group, "turned": turned, "pictures": len(rows), **rounded}
            sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
