"""Fine-tune PP-TinyPose on square crops of people at any angle.

    python -m samples.small_pose.train_pose --data output/small_pose --weights ../shared/assets/weights \
        --minutes 100 --out output/small_pose/pose.onnx

``--start`` goes on from an earlier ``--out``. The file is written every 10 minutes and holds the
averaged weights.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from annotation.teacher_labels import PERSON
from recognizer.skeleton import OKS_SIGMAS
from samples.small_pose import starts
from samples.small_pose.average import Average, layers
from samples.small_pose.crops import (
    CROP,
    STRIDE,
    Crops,
    CropSampler,
    crop_placement,
    person_of,
    stacked,
    targets,
)
from samples.small_pose.augment import moved, turn, warped
from samples.small_pose.data import TRAIN, VAL, Data, load
from samples.small_pose.decode import decoded
from samples.small_pose.graph import TrainableGraph

CHANCES = {
    "fight_surv": 0.4, "coco": 0.25, "falls": 0.13, "bed_falls": 0.12, "videos": 0.05,
    "multiview_falls": 0.05,
}  # fmt: skip
MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])
_EVERY_S = 480.0
_WARM_UP = 100


def normalised(images: Tensor) -> Tensor:
    """Return BGR pictures (B, S, S, 3) of 8 bits as the network's input (B, 3, S, S)."""
    rgb = images.flip(-1).float()
    return ((rgb - MEAN) / STD).permute(0, 3, 1, 2).contiguous()


def loss(network: TrainableGraph, batch: Crops) -> Tensor:
    """Return the weighted mean square of what the heatmaps lack."""
    seen = network(normalised(torch.from_numpy(batch.images)))
    wrong = (seen - torch.from_numpy(batch.heatmaps)).square().mean((2, 3))
    weights = torch.from_numpy(batch.weights)
    return (wrong * weights).sum() / weights.sum().clamp(min=1) * 1000


def validation(data: Data, group: str, degrees: float, most: int = 250) -> tuple[Crops, np.ndarray]:
    """Return crops of people held out, not augmented, and the places (N, 17, 4) that are right.

    The places are x, y in the crop, weight, and OKS's scale, square pixels.
    """
    posed = (data.labels.kinds == PERSON) & (data.labels.keypoints[..., 2] > 0).any(2)
    chosen = posed & ((data.splits == VAL) & (data.groups == group))[:, None]
    pairs = np.argwhere(chosen)
    pairs = pairs[:: max(1, -(-len(pairs) // most))]
    parts, right = [], []
    for row, who in pairs.tolist():
        person = person_of(data, row, who)
        placement = crop_placement(person, turn(degrees, 1.0, False))
        there = moved(person, placement)
        parts.append((warped(data.pictures[row], placement, CROP), *targets(there)))
        scale = np.full((17, 1), there.areas[0], np.float32)
        right.append(np.concatenate([there.keypoints[0], scale], 1))
    return stacked(parts), np.stack(right)


@torch.no_grad()
def similarity(network: TrainableGraph, crops: Crops, right: np.ndarray) -> float:
    """Return the mean OKS of the decoded heatmaps."""
    found = []
    for start in range(0, len(crops.images), 50):
        images = torch.from_numpy(crops.images[start : start + 50])
        found.append(decoded(network(normalised(images)))[..., :2].numpy() * STRIDE)
    square = ((np.concatenate(found) - right[..., :2]) ** 2).sum(-1)
    alike = np.exp(-square / (2 * right[..., 3] * (2 * np.asarray(OKS_SIGMAS)) ** 2))
    known = right[..., 2] > 0
    return float(((alike * known).sum(1) / known.sum(1)).mean())


def main() -> int:
    """Train for the time that is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of the public files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--start", type=Path, help="an earlier --out to go on from")
    parser.add_argument("--rate", type=float, default=2e-3, help="of a layer's size")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    public = given.weights / "pp_tinypose_256x192.onnx"
    model = onnx.load(given.start) if given.start else starts.pose(public, CROP, CROP)
    network = TrainableGraph(model)
    train(network, load(given.data), given)
    return 0


def train(network: TrainableGraph, data: Data, given: argparse.Namespace) -> None:
    """Train and write."""
    sampler = CropSampler(data, TRAIN, CHANCES, given.seed)
    tests = {
        f"{group}@{degrees}": validation(data, group, degrees)
        for group in ("fight_surv", "falls", "coco")
        for degrees in (0, 90)
    }
    optimiser = torch.optim.AdamW(layers(network), given.rate, weight_decay=0.0)
    average = Average(network)
    begun = written = time.monotonic()
    length, step, losses = given.minutes * 60, 0, []
    done = 0.0
    report(network, tests, 0, 0.0, given.out)
    while done < 1:
        rise = min(1.0, (step + 1) / _WARM_UP)
        for group in optimiser.param_groups:
            group["lr"] = given.rate * group["size"] * rise * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        value = loss(network, sampler.draw(given.batch))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update(network)
        losses.append(value.item())
        step += 1
        now = time.monotonic()
        done = (now - begun) / length
        if now - written > _EVERY_S or done >= 1:
            written = now
            report(average.model, tests, step, float(np.mean(losses)), given.out)
            losses.clear()
            onnx.save(average.model.trained(), str(given.out))


def report(network: TrainableGraph, tests: dict, step: int, value: float, out: Path) -> None:
    """Append how far the training is to the log beside the file."""
    row = {"step": step, "loss": round(value, 4)}
    row |= {name: round(similarity(network, *test), 4) for name, test in tests.items()}
    with out.with_suffix(".log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
