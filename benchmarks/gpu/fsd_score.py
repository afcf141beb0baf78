"""AP and PCK of people whose boxes are given.

AP follows COCO's keypoint evaluation (OKS, matching within an image by descending score, ten
thresholds from 0.5 to 0.95, 101 recall levels) over labelled people; crowds and people without
keypoints, which COCO leaves unjudged, are not there.
"""

from typing import Any

import numpy as np

from recognizer.skeleton import OKS_SIGMAS

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SURE = 0.2  # keypoints scored below do not count in a person's score


def oks(found: Any, true: Any, visible: Any, area: Any) -> Any:
    """Return the similarity of F found people (F, K, 2) to T true ones (T, K, 2): (F, T)."""
    squared = ((found[:, None] - true[None]) ** 2).sum(-1)  # (F, T, K)
    spread = (2 * OKS_SIGMAS) ** 2 * 2 * (area[None, :, None] + np.spacing(1))
    labelled = visible[None] > 0
    count = np.maximum(labelled.sum(-1), 1)
    return (np.exp(-squared / spread) * labelled).sum(-1) / count


def person_scores(scores: Any) -> Any:
    """Return the mean of each person's sure keypoints (N,), 0 without any: as CocoMetric."""
    sure = scores > SURE
    return (scores * sure).sum(1) / np.maximum(sure.sum(1), 1)


def average_precision(
    found: Any, scores: Any, true: Any, visible: Any, area: Any, image: Any
) -> tuple[float, float]:
    """Return AP and AP50.

    Args:
        found: (N, 17, 2) in one frame for the people of an image, as ``true``.
        scores: (N, 17) of the keypoints.
        true: (N, 17, 2).
        visible: (N, 17).
        area: (N,).
        image: (N,) which image a person is in.

    """
    confidence = person_scores(scores)
    hits, order = [], []
    for each in np.unique(image):
        rows = np.flatnonzero(image == each)
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
        similar = oks(found[rows], true[rows], visible[rows], area[rows])
        hits.append(np.stack([match(similar, threshold) for threshold in THRESHOLDS], 1))
        order.append(confidence[rows])
    ranked = np.argsort(-np.concatenate(order), kind="stable")
    matched = np.concatenate(hits)[ranked]  # (N, 10) bool
    values = [precision(matched[:, t]) for t in range(len(THRESHOLDS))]
    return float(np.mean(values)), float(values[0])


def match(similar: Any, threshold: float) -> Any:
    """Return which found people (F,), best first, get a true one (F, T): each its most similar."""
    taken = np.zeros(similar.shape[1], bool)
    got = np.zeros(similar.shape[0], bool)
    for row, values in enumerate(similar):
        free = np.where(taken, -1.0, values)
        best = len(free) - 1 - int(free[::-1].argmax())  # COCO takes the last of equal ones
        if free[best] >= min(threshold, 1 - 1e-10):
            taken[best] = got[row] = True
    return got


def precision(matched: Any) -> float:
    """Return the mean over recall levels of the precision, as many true as found people."""
    right = np.cumsum(matched)
    recall = right / len(matched)
    share = right / np.arange(1, len(matched) + 1)
    share = np.maximum.accumulate(share[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(np.where(places < len(share), share[np.minimum(places, len(share) - 1)], 0).mean())


def in_image(points: Any, origin: Any) -> Any:
    """Return places of crops (N, 17, 2) in their images; origin (N, 4): x, y, scale x, y."""
    return (points + 0.5) / origin[:, None, 2:] - 0.5 + origin[:, None, :2]


def figures(points: Any, scores: Any, notes: dict[str, Any]) -> dict[str, float]:
    """Return AP, AP50 and PCK of keypoints in crops (N, 17, 2) beside ``People.notes``."""
    from benchmarks.gpu.fsd_data import pck

    origin, visible = notes["origin"], notes["visible"]
    area = notes["area"] / origin[:, 2] / origin[:, 3]
    found, true = in_image(points, origin), in_image(notes["keypoints"], origin)
    ap, ap50 = average_precision(found, scores, true, visible, area, notes["image"])
    return {"ap": ap, "ap50": ap50, "pck": pck(points, notes["keypoints"], visible)}
