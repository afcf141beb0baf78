"""How good a pose network is: COCO's keypoint AP and the share of people found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from annotation.teacher_labels import CROWD, DOUBT, PERSON, Labels
from benchmarks.gpu._coco_ap import GroundTruth, Predictions, keypoint_ap, mean_confident_score
from benchmarks.gpu.small_data import Data
from benchmarks.gpu.small_network import SmallPose
from recognizer.geometry import box_iou, nms
from recognizer.types import FloatArray

_CANDIDATES = 100


@dataclass(frozen=True, eq=False)
class Detections:
    """People of one picture: boxes (N, 4), keypoints (N, 17, 3) and scores (N,), best first."""

    boxes: FloatArray
    keypoints: FloatArray
    scores: FloatArray


@torch.no_grad()
def predict(
    network: SmallPose,
    pictures: NDArray[np.uint8],
    device: str,
    batch: int = 32,
    *,
    again: bool = True,
) -> list[Detections]:
    """Return the people in pictures (N, S, S, 3); the first places if not ``again``."""
    found = []
    for start in range(0, len(pictures), batch):
        part = torch.from_numpy(np.ascontiguousarray(pictures[start : start + batch]))
        found += _predict_batch(network, part.to(device).permute(0, 3, 1, 2).float(), again)
    return found


def _predict_batch(network: SmallPose, pictures: Tensor, again: bool) -> list[Detections]:
    cells = network(pictures)
    best = cells.scores.topk(_CANDIDATES, 1)
    images = torch.arange(len(pictures), device=pictures.device)[:, None].expand(-1, _CANDIDATES)
    image, cell = images.flatten(), best.indices.flatten()
    boxes = cells.boxes[image, cell]
    both = network.poses(boxes, cells.features[image, cell], cells.detail, image)
    keypoints = both[int(again)]
    keypoints = torch.cat([keypoints[..., :2], keypoints[..., 2:].sigmoid()], -1)
    shape = (len(pictures), _CANDIDATES)
    arrays = [
        part.float().cpu().numpy().reshape(*shape, *part.shape[1:])
        for part in (boxes, keypoints, best.values.flatten())
    ]
    return [_apart(*(a[i] for a in arrays)) for i in range(len(pictures))]


def _apart(boxes: FloatArray, keypoints: FloatArray, scores: FloatArray) -> Detections:
    kept = nms(boxes, scores, 0.65)
    kept = kept[scores[kept] > 0.01][:30]
    return Detections(boxes[kept], keypoints[kept], scores[kept])


def average_precision(detections: Sequence[Detections], labels: Labels) -> dict[str, float]:
    """Return COCO's AP and AR over pictures, and the share of people found.

    Args:
        detections: of each picture.
        labels: with one more axis, the pictures. People without keypoints and doubts are
            ignored, as COCO does with people without labelled keypoints.

    """
    truth = _ground_truth(labels)
    counted = ~truth.ignored & ~truth.crowd & (truth.keypoints[..., 2] > 0).any(-1)
    found = [_found(one, labels, i) for i, one in enumerate(detections)]
    people = max(1, sum(n for _, n in found))
    share = sum(n for n, _ in found) / people
    stats = keypoint_ap(truth, _predictions(detections))
    return {**stats, "found": share, "people": float(counted.sum())}


def _ground_truth(labels: Labels) -> GroundTruth:
    images, rows = np.nonzero(labels.kinds)
    kinds = labels.kinds[images, rows]
    return GroundTruth(
        images,
        labels.keypoints[images, rows],
        labels.areas[images, rows],
        labels.boxes[images, rows],
        crowd=kinds == CROWD,
        ignored=kinds == DOUBT,
    )


def _predictions(detections: Sequence[Detections]) -> Predictions:
    """Return all people, ranked as top-down models are: by the box and the mean keypoint."""
    keypoints = np.concatenate([one.keypoints for one in detections])
    scores = np.concatenate([one.scores for one in detections])
    images = np.repeat(np.arange(len(detections)), [len(one.scores) for one in detections])
    ranks = scores * mean_confident_score(keypoints[..., 2])
    return Predictions(images, keypoints[..., :2], ranks)


def _found(
    detections: Detections, labels: Labels, i: int, threshold: float = 0.3
) -> tuple[int, int]:
    """Return how many people of picture i have a box of some score on them, and how many are."""
    people = labels.boxes[i][labels.kinds[i] == PERSON]
    boxes = detections.boxes[detections.scores >= threshold]
    if not len(people) or not len(boxes):
        return 0, len(people)
    return int((box_iou(people, boxes).max(1) > 0.5).sum()), len(people)


def turned(data: Data) -> Data:
    """Return the pictures and labels turned by a quarter, against the clock."""
    side = data.pictures.shape[1]
    pictures = np.ascontiguousarray(np.rot90(data.pictures, 1, (1, 2)))
    upright = data.labels
    x, y = upright.keypoints[..., 0], upright.keypoints[..., 1]
    keypoints = np.stack([y, side - x, upright.keypoints[..., 2]], -1)
    b = upright.boxes
    boxes = np.stack([b[..., 1], side - b[..., 2], b[..., 3], side - b[..., 0]], -1)
    labels = Labels(boxes, keypoints, upright.scores, upright.kinds, upright.areas)
    return Data(pictures, labels, data.splits, data.groups)
