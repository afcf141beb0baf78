"""Fine-tune PP-TinyPose on square crops of people at any angle.

    python -m samples.small_pose.train_pose --data output/small_pose \
        --weights ../shared/assets/weights --minutes 100 --out output/small_pose/pose.onnx

The file is written every 8 minutes and holds the exponential moving average of the weights.
``--start`` fine-tunes an earlier ``--out``; it does not resume that training.
``--device cuda:0 --workers 8`` trains on a GPU.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from annotation.teacher_labels import PERSON
from recognizer.geometry import oks
from recognizer.imagenet import MEAN_RGB, STD_RGB
from recognizer.types import FloatArray
from samples.one_line_errors import one_line_errors
from samples.small_pose import starts, training
from samples.small_pose.augment import moved, turn, warped
from samples.small_pose.crops import (
    CROP,
    STRIDE,
    Crops,
    CropSampler,
    crop_placement,
    stacked,
    targets,
)
from samples.small_pose.data import TRAIN, VAL, Data, load
from samples.small_pose.decode import decoded
from samples.small_pose.files import read_network
from samples.small_pose.graph import TrainableGraph

SAMPLING_WEIGHTS = {
    "fight_surv": 0.4, "coco": 0.25, "falls": 0.13, "bed_falls": 0.12, "videos": 0.05,
    "multiview_falls": 0.05,
}  # fmt: skip
_TESTED = ("fight_surv", "falls", "coco")
_MAX_GRAD_NORM = 5.0


def normalised(images: Tensor) -> Tensor:
    """Return BGR pictures (B, S, S, 3) of 8 bits as the network's input (B, 3, S, S)."""
    rgb = images.flip(-1).float()
    mean, std = (torch.tensor(each, device=images.device) for each in (MEAN_RGB, STD_RGB))
    return ((rgb - mean) / std).permute(0, 3, 1, 2).contiguous()


def loss(network: TrainableGraph, batch: training.Batch) -> Tensor:
    """Return the weighted mean squared error of the heatmaps.

    Args:
        network: what is trained.
        batch: images, heatmaps and weights, as ``Crops`` has them.

    """
    images, heatmaps, weights = batch
    wrong = (network(normalised(images)) - heatmaps).square().mean((2, 3))
    value: Tensor = (wrong * weights).sum() / weights.sum().clamp(min=1) * 1000
    return value


def tensors(crops: Crops) -> training.Batch:
    """Return crops as ``loss`` takes them."""
    return [torch.from_numpy(part) for part in (crops.images, crops.heatmaps, crops.weights)]


def validation(data: Data, group: str, degrees: float, most: int = 250) -> tuple[Crops, FloatArray]:
    """Return crops of people held out, not augmented, and the places (N, 17, 4) that are right.

    The places are x, y in the crop, weight, and OKS's scale, square pixels.
    """
    posed = (data.labels.kinds == PERSON) & (data.labels.keypoints[..., 2] > 0).any(2)
    chosen = posed & ((data.splits == VAL) & (data.groups == group))[:, None]
    pairs = np.argwhere(chosen)
    pairs = pairs[:: max(1, -(-len(pairs) // most))]
    parts, right = [], []
    for row, who in pairs.tolist():
        person = data.person(row, who)
        placement = crop_placement(person, turn(degrees, 1.0, False))
        there = moved(person, placement)
        parts.append((warped(data.pictures[row], placement, CROP), *targets(there)))
        scale = np.full((17, 1), there.areas[0], np.float32)
        right.append(np.concatenate([there.keypoints[0], scale], 1))
    return stacked(parts), np.stack(right)


@torch.no_grad()
def mean_oks(network: TrainableGraph, crops: Crops, right: FloatArray) -> float:
    """Return the mean OKS of the decoded heatmaps."""
    found, device = [], next(network.parameters()).device
    for start in range(0, len(crops.images), 50):
        images = torch.from_numpy(crops.images[start : start + 50]).to(device)
        places = decoded(network(normalised(images)))[..., :2]
        found.append(places.cpu().numpy() * STRIDE)
    pairs = zip(np.concatenate(found)[:, None], right[:, None], strict=True)  # (1, 17, ...) each
    return float(np.mean([_oks_of_pair(*pair) for pair in pairs]))


def _oks_of_pair(found: FloatArray, right: FloatArray) -> float:
    return float(oks(found, right[..., :2], right[None, ..., 2] > 0, right[:, :1, 3])[0, 0])


@one_line_errors
def main() -> int:
    """Train for the time that is given."""
    given = training.parser(__doc__, minutes=100, learning_rate=2e-3, batch=32).parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    public = given.weights / "pp_tinypose_256x192.onnx"
    model = read_network(given.start) if given.start else starts.pose(public, CROP, CROP)
    data = load(given.data)

    def draw_from(seed: int) -> Callable[[], training.Batch]:
        sampler = CropSampler(data, TRAIN, SAMPLING_WEIGHTS, seed)
        return lambda: tensors(sampler.draw(given.batch))

    drawn = training.batches(draw_from, given.seed, given.workers)
    network = TrainableGraph(model).to(given.device)
    tests = {
        f"{group}@{degrees}": validation(data, group, degrees)
        for group in _TESTED
        for degrees in (0, 90)
    }
    measure = partial(mean_oks_of, tests)
    training.train(network, given, drawn, loss, measure, max_grad_norm=_MAX_GRAD_NORM)
    return 0


def mean_oks_of(
    tests: dict[str, tuple[Crops, FloatArray]], network: TrainableGraph
) -> dict[str, float]:
    """Return ``mean_oks`` by the test's name."""
    return {name: round(mean_oks(network, *test), 4) for name, test in tests.items()}


if __name__ == "__main__":
    raise SystemExit(main())
