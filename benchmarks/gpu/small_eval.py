"""How good a pose network is: COCO's keypoint AP, without pycocotools, and people found.

The GPU's machine has no pycocotools; a test compares both on COCO's own pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu.small_choice import CROWD, PERSON, Labels
from benchmarks.gpu.small_data import Data
from benchmarks.gpu.small_network import SmallPose
from recognizer.geometry import box_iou, nms, oks
from recognizer.types import FloatArray

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 20  # of an image, as COCO's keypoint evaluation counts them
_CANDIDATES = 100


@dataclass(frozen=True, eq=False)
class Seen:
    """People of one picture: boxes (N, 4), keypoints (N, 17, 3) and scores (N,), best first."""

    boxes: FloatArray
    keypoints: FloatArray
    scores: FloatArray


@torch.no_grad()
def look(
    network: SmallPose,
    pictures: NDArray[np.uint8],
    device: str,
    batch: int = 32,
    *,
    again: bool = True,
) -> list[Seen]:
    """Return who is seen in pictures (N, S, S, 3); the first places if not ``again``."""
    found = []
    for start in range(0, len(pictures), batch):
        part = torch.from_numpy(np.ascontiguousarray(pictures[start : start + batch]))
        found += _look(network, part.to(device).permute(0, 3, 1, 2).float(), again)
    return found


def _look(network: SmallPose, pictures: Tensor, again: bool) -> list[Seen]:
    cells = network(pictures)
    best = cells.scores.topk(_CANDIDATES, 1)
    images = torch.arange(len(pictures), device=pictures.device)[:, None].expand(-1, _CANDIDATES)
    image, cell = images.flatten(), best.indices.flatten()
    boxes = cells.boxes[image, cell]
    both = network.poses(boxes, cells.features[image, cell], cells.detail, image)
    keypoints = both[int(again)]
    keypoints = torch.cat([keypoints[..., :2], keypoints[..., 2:].sigmoid()], -1)
    shape = (len(pictures), _CANDIDATES)
    arrays = [part.float().cpu().numpy().reshape(*shape, *part.shape[1:])
              for part in (boxes, keypoints, best.values.flatten())]  # fmt: skip
    return [_apart(*(a[i] for a in arrays)) for i in range(len(pictures))]


def _apart(boxes: FloatArray, keypoints: FloatArray, scores: FloatArray) -> Seen:
    kept = nms(boxes, scores, 0.65)
    kept = kept[scores[kept] > 0.01][:30]
    return Seen(boxes[kept], keypoints[kept], scores[kept])


def average_precision(seen: Sequence[Seen], labels: Labels) -> dict[str, float]:
    """Return COCO's AP and AR over pictures, and the share of people found.

    Args:
        seen: of each picture.
        labels: with one more axis, the pictures. People without keypoints and doubts are
            ignored, as COCO does with people whose keypoints nobody labelled.

    """
    rows = [_match(one, _picture(labels, i)) for i, one in enumerate(seen)]
    scores = np.concatenate([r[0] for r in rows])
    hit = np.concatenate([r[1] for r in rows], 1)
    skipped = np.concatenate([r[2] for r in rows], 1)
    count = sum(r[3] for r in rows)
    order = np.argsort(-scores, kind="stable")
    values = [_area_under(hit[t, order], skipped[t, order], count) for t in range(len(hit))]
    precision, recall = np.mean(values, 0) if count else (float("nan"), float("nan"))
    found = [_found(one, _picture(labels, i)) for i, one in enumerate(seen)]
    people = max(1, sum(n for _, n in found))
    return {"AP": float(precision), "AP50": float(values[0][0]), "AR": float(recall),
            "found": sum(n for n, _ in found) / people, "people": float(count)}  # fmt: skip


def _picture(labels: Labels, i: int) -> Labels:
    rows = np.flatnonzero(labels.kinds[i])
    return Labels(labels.boxes[i][rows], labels.keypoints[i][rows], labels.scores[i][rows],
                  labels.kinds[i][rows], labels.areas[i][rows])  # fmt: skip


def _match(
    seen: Seen, there: Labels
) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.bool_], int]:
    """Match as COCO does: the best scored first, to whom it resembles most and who is free.

    Returns:
        Scores (N,), hits and rows that do not count (10, N), and the number of people.

    """
    rank = seen.scores * _mean_score(seen.keypoints)
    order = np.argsort(-rank, kind="stable")[:_MOST]
    known = there.keypoints[..., 2] > 0
    counts = (there.kinds == PERSON) & known.any(1)
    rows = np.argsort(~counts, kind="stable")  # those who do not count come last
    alike = _alike(seen.keypoints[order], there)[:, rows]
    counts, crowd = counts[rows], there.kinds[rows] == CROWD
    hit = np.zeros((len(_THRESHOLDS), len(order)), bool)
    skipped = np.zeros_like(hit)
    for t, threshold in enumerate(_THRESHOLDS):
        taken = np.zeros(len(rows), bool)
        for d in np.flatnonzero(alike.max(1, initial=0) >= threshold):
            free = (~taken | crowd) & (alike[d] >= threshold)
            wanted = free & counts if (free & counts).any() else free
            if wanted.any():
                best = int(np.argmax(np.where(wanted, alike[d], -1)))
                taken[best] = True
                hit[t, d], skipped[t, d] = counts[best], not counts[best]
    return rank[order], hit, skipped, int(counts.sum())


def _mean_score(keypoints: FloatArray) -> FloatArray:
    """Return (N,) mean score of the confident keypoints, as top-down models are ranked."""
    sure = keypoints[..., 2] > 0.2
    total = (keypoints[..., 2] * sure).sum(1)
    return np.asarray(total / np.maximum(sure.sum(1), 1), np.float32)


def _alike(keypoints: FloatArray, there: Labels) -> NDArray[np.floating]:
    """Return OKS (N, M); to people without keypoints the overlap with their doubled box."""
    visible = np.repeat((there.keypoints[..., 2] > 0)[None], len(keypoints), 0)
    areas = np.repeat(there.areas[None], len(keypoints), 0)
    alike = oks(keypoints[..., :2], there.keypoints[..., :2], visible, areas)
    half = there.boxes[:, 2:] - there.boxes[:, :2]
    low, high = there.boxes[:, :2] - half, there.boxes[:, 2:] + half
    everything = np.ones((len(keypoints), 1, 17), bool)
    for m in np.flatnonzero(~visible[0].any(-1)) if len(keypoints) else ():
        outside = np.maximum(low[m] - keypoints[..., :2], 0)
        outside += np.maximum(keypoints[..., :2] - high[m], 0)
        alike[:, m : m + 1] = oks(outside, np.zeros((1, 17, 2)), everything, areas[:, m : m + 1])
    return alike


def _area_under(
    hit: NDArray[np.bool_], skipped: NDArray[np.bool_], count: int
) -> tuple[float, float]:
    """Return the mean of precision at 101 recalls, and the largest recall."""
    hit = hit[~skipped]
    if not len(hit) or not count:
        return 0.0, 0.0
    right = np.cumsum(hit)
    recall = right / count
    precision = right / np.arange(1, len(hit) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALLS, side="left")
    padded = np.append(precision, 0)
    return float(padded[np.minimum(at, len(precision))].mean()), float(recall[-1])


def _found(seen: Seen, there: Labels, threshold: float = 0.3) -> tuple[int, int]:
    """Return how many people have a box of some score on them, and how many there are."""
    people = there.boxes[there.kinds == PERSON]
    boxes = seen.boxes[seen.scores >= threshold]
    if not len(people) or not len(boxes):
        return 0, len(people)
    return int((box_iou(people, boxes).max(1) > 0.5).sum()), len(people)


def turned(data: Data) -> Data:
    """Return the pictures and labels turned by a quarter, against the clock."""
    side = data.pictures.shape[1]
    pictures = np.ascontiguousarray(np.rot90(data.pictures, 1, (1, 2)))
    seen = data.labels
    x, y = seen.keypoints[..., 0], seen.keypoints[..., 1]
    keypoints = np.stack([y, side - x, seen.keypoints[..., 2]], -1)
    b = seen.boxes
    boxes = np.stack([b[..., 1], side - b[..., 2], b[..., 3], side - b[..., 0]], -1)
    labels = Labels(boxes, keypoints, seen.scores, seen.kinds, seen.areas)
    return Data(pictures, labels, data.splits, data.groups)
