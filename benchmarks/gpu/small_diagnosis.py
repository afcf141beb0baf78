"""Where the small network is wrong: found or not, placed well or not, and by how much.

    python -m benchmarks.gpu.small_diagnosis small.pth --data .gpu/data/small

Boxes and poses are measured apart: a person counts as matched from an overlap of 0.5 on, whatever
its pose, and the errors of its keypoints are those of the best matching box. Prints JSON.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotation.teacher_labels import PERSON, Labels
from benchmarks.gpu.small_data import CCTV_VAL, COCO_TRAIN, COCO_VAL, TRAIN, Data, load
from benchmarks.gpu.small_eval import Detections, average_precision, predict
from benchmarks.gpu.small_network import SmallPose, load_start
from recognizer.geometry import box_iou
from recognizer.skeleton import KEYPOINT_NAMES, OKS_SIGMAS
from recognizer.types import FloatArray

_OVERLAP = 0.5
_PCK = 0.2  # of the longer side of a person's box; also half of it
_MOST = 160


def found(detections: Sequence[Detections], labels: Labels, score: float) -> dict[str, float]:
    """Return recall and precision of boxes of some score, at an overlap of 0.5.

    Boxes on doubts and crowds count neither way.
    """
    hits = people = wrong = 0
    for one, kinds, boxes in zip(detections, labels.kinds, labels.boxes, strict=True):
        kept = one.boxes[one.scores >= score]
        overlap = box_iou(boxes, kept) >= _OVERLAP if len(kept) else np.zeros((len(boxes), 0), bool)
        people += int((kinds == PERSON).sum())
        hits += int(overlap[kinds == PERSON].any(1).sum())
        wrong += int((~overlap[kinds > 0].any(0)).sum())
    return {"recall": hits / max(1, people), "precision": hits / max(1, hits + wrong)}


def pairs(
    detections: Sequence[Detections], labels: Labels
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return matched people's true and found keypoints (P, 17, 3), scales and sides (P, 2).

    Of the boxes that lie on a person the best scored is taken.
    """
    there, here, sizes = [], [], []
    for i, one in enumerate(detections):
        known = (labels.keypoints[i][..., 2] > 0).any(-1) & (labels.kinds[i] == PERSON)
        for m in np.flatnonzero(known):
            box = labels.boxes[i, m]
            rows = np.flatnonzero(box_iou(box[None], one.boxes)[0] >= _OVERLAP)
            if len(rows):
                best = rows[one.scores[rows].argmax()]
                there.append(labels.keypoints[i, m])
                here.append(one.keypoints[best])
                sizes.append([labels.areas[i, m], (box[2:] - box[:2]).max()])
    shape = (-1, len(OKS_SIGMAS), 3)
    return (np.reshape(there, shape), np.reshape(here, shape), np.reshape(sizes, (-1, 2)))


def placed(detections: Sequence[Detections], labels: Labels) -> dict[str, Any]:
    """Return OKS and PCK of matched people, and each keypoint's offset and similarity.

    ``offset``: median of x and y, in sides of a person's box; it shows a wrong decoding.
    ``pck``: share within a tenth of the longer side.
    """
    there, here, sizes = pairs(detections, labels)
    if not len(there):
        return {"matched": 0}
    alike, known = _alike(there, here, sizes), there[..., 2] > 0
    away = (here[..., :2] - there[..., :2]) / sizes[:, None, 1:]
    far = np.linalg.norm(away, axis=-1)
    person = (alike * known).sum(1) / known.sum(1)
    each = {
        name: {
            "similarity": float(alike[:, k][known[:, k]].mean()),
            "pck": float((far[:, k][known[:, k]] < _PCK / 2).mean()),
            "offset": [float(v) for v in np.median(away[:, k][known[:, k]], 0)],
        }
        for k, name in enumerate(KEYPOINT_NAMES)
        if known[:, k].any()
    }
    return {
        "matched": len(there),
        "oks": float(person.mean()),
        "oks_median": float(np.median(person)),
        "pck@0.2": float((far[known] < _PCK).mean()),
        "pck@0.1": float((far[known] < _PCK / 2).mean()),
        "keypoints": each,
    }


def _alike(there: FloatArray, here: FloatArray, sizes: FloatArray) -> NDArray[np.floating[Any]]:
    variance = (2 * np.asarray(OKS_SIGMAS)) ** 2 * sizes[:, :1]
    away = ((here[..., :2] - there[..., :2]) ** 2).sum(-1)
    return np.asarray(np.exp(-away / (2 * variance)))


def diagnose(network: SmallPose, data: Data) -> dict[str, Any]:
    """Return AP, boxes found by threshold and errors of the poses, before and after moving them."""
    detections = predict(network, data.pictures, "cpu")
    first = predict(network, data.pictures, "cpu", again=False)
    return {
        "people": int((data.labels.kinds == PERSON).sum()),
        **average_precision(detections, data.labels),
        "AP_first": average_precision(first, data.labels)["AP"],
        "boxes": {
            str(s): found(detections, data.labels, s) for s in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
        },
        "pose": placed(detections, data.labels),
        "pose_first": {k: v for k, v in placed(first, data.labels).items() if k != "keypoints"},
    }


def main() -> int:
    """Print the diagnosis of some weights on learnt and held-out pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path, help="small.pth, or start.npz for the start")
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    network = SmallPose()
    if given.weights.suffix == ".npz":
        load_start(network, np.load(given.weights))
    else:
        state = torch.load(given.weights, weights_only=True)["state_dict"]
        network.load_state_dict({name: value.float() for name, value in state.items()})
    network.eval()
    data = load(given.data)
    splits = {
        "COCO train2017": COCO_TRAIN,
        "COCO val2017": COCO_VAL,
        "CCTV learnt": TRAIN,
        "CCTV held out": CCTV_VAL,
    }
    for name, number in splits.items():
        result = diagnose(network, data.part(number).spread(_MOST))
        print(json.dumps({name: result}, indent=1), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
