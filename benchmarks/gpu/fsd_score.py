"""AP and PCK of people whose boxes are given; those who are not labelled are not there."""

from typing import Any

import numpy as np

from samples.keypoint_ap import GroundTruth, Predictions, keypoint_ap, mean_confident_score


def average_precision(
    found: Any, scores: Any, true: Any, visible: Any, area: Any, image: Any
) -> tuple[float, float]:
    """Return COCO's AP and AP50.

    Args:
        found: (N, 17, 2) in one frame for the people of an image, as ``true``.
        scores: (N, 17) of the keypoints.
        true: (N, 17, 2).
        visible: (N, 17).
        area: (N,).
        image: (N,) which image a person is in.

    """
    counted = np.zeros(len(true), bool)
    boxes = np.zeros((len(true), 4))  # read only of people without keypoints
    labelled = np.concatenate([true, visible[..., None]], -1)
    stats = keypoint_ap(
        GroundTruth(image, labelled, area, boxes, crowd=counted, ignored=counted),
        Predictions(image, found, mean_confident_score(scores)),
    )
    return stats["AP"], stats["AP50"]


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
