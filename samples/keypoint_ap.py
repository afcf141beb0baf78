"""COCO's keypoint AP of arrays, by pycocotools."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CONFIDENT = 0.2  # keypoints scored below do not count in a person's score
_FAR = -1e4  # pixels: stands for keypoints that are not finite


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated people, as arrays.

    Attributes:
        images: (N,) integer id of each one's image.
        keypoints: (N, 17, 3): x, y in pixels and above 0 where labelled.
        areas: (N,) square pixels, the scale of OKS.
        boxes: (N, 4) x1 y1 x2 y2: what the similarity to people without keypoints is counted by.
        crowd: (N,) whether any number of predictions may match it; ignored.
        ignored: (N,) whether a match counts neither way; people without keypoints are too.

    """

    images: NDArray[Any]
    keypoints: NDArray[Any]
    areas: NDArray[Any]
    boxes: NDArray[Any]
    crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted people: images (N,), keypoints (N, 17, 2) in pixels and scores (N,)."""

    images: NDArray[Any]
    keypoints: NDArray[Any]
    scores: NDArray[Any]


def mean_confident_score(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the mean (N,) of each person's confident scores (N, 17), 0 without: as CocoMetric."""
    confident = scores > CONFIDENT
    mean: NDArray[Any] = (scores * confident).sum(1) / np.maximum(confident.sum(1), 1)
    return mean


def keypoint_ap(truth: GroundTruth, predictions: Predictions) -> dict[str, float]:
    """Return AP, AP50 and AR over people of all sizes, NaN without people to find.

    Of an image the 20 best scored predictions count. Keypoints that are not finite are wrong.
    """
    images = [{"id": int(i)} for i in np.union1d(truth.images, predictions.images)]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _indexed(images, _annotations(truth)),
            _indexed(images, _results(predictions)),
            "keypoints",
        )
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = {"AP": evaluation.stats[0], "AP50": evaluation.stats[1], "AR": evaluation.stats[5]}
    return {name: float(value) if value >= 0 else float("nan") for name, value in stats.items()}


def _indexed(images: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Any:
    """Return a COCO object of one category; ids count from 1, as 0 means unmatched there."""
    coco = COCO()
    numbered = [{**row, "id": i, "category_id": 1} for i, row in enumerate(rows, 1)]
    categories = [{"id": 1, "name": "person"}]
    coco.dataset = {"images": images, "categories": categories, "annotations": numbered}
    coco.createIndex()
    return coco


def _annotations(truth: GroundTruth) -> list[dict[str, Any]]:
    labelled = (truth.keypoints[..., 2] > 0).sum(-1)
    counts = np.where(truth.ignored, 0, labelled)  # COCOeval ignores people with 0 keypoints
    return [
        {
            "image_id": int(image),
            "keypoints": points.ravel().tolist(),
            "area": float(area),
            "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
            "iscrowd": int(crowd),
            "num_keypoints": int(count),
        }
        for image, points, area, box, crowd, count in zip(
            truth.images,
            truth.keypoints,
            truth.areas,
            truth.boxes,
            truth.crowd,
            counts,
            strict=True,
        )
    ]


def _results(predictions: Predictions) -> list[dict[str, Any]]:
    points = predictions.keypoints
    points = np.where(np.isfinite(points).all(-1, keepdims=True), points, _FAR)
    points = np.pad(points, [(0, 0), (0, 0), (0, 1)])  # COCOeval reads rows of x, y, score
    areas = np.ptp(points[..., :2], 1).prod(-1)
    return [
        {
            "image_id": int(image),
            "keypoints": one.ravel().tolist(),
            "score": float(score),
            "area": float(area),
        }
        for image, one, score, area in zip(
            predictions.images, points, predictions.scores, areas, strict=True
        )
    ]
