"""Fine-tune YOLOX-nano to find people at any angle, standing, fallen and lying.

    python -m samples.small_pose.train_detector --data output/small_pose \
        --weights ../shared/assets/weights --minutes 60 --out output/small_pose/detector.onnx

The file is written every 8 minutes and holds the exponential moving average of the weights.
``--start`` fine-tunes an earlier ``--out``; it does not resume that training.
``--device cuda:0 --workers 8`` trains on a GPU.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from annotation.teacher_labels import PERSON, Labels
from recognizer.geometry import nms
from recognizer.types import FloatArray, ImageArray
from samples.one_line_errors import one_line_errors
from samples.small_pose import starts, training
from samples.small_pose.augment import Placement, cut, moved, recoloured, turn, warped
from samples.small_pose.data import SIDE, SLOTS, TRAIN, VAL, Data, load
from samples.small_pose.detector_loss import cells_of, loss
from samples.small_pose.files import read_network
from samples.small_pose.graph import TrainableGraph
from samples.small_pose.matching import count_boxes, total
from samples.small_pose.sampling import probabilities
from samples.small_pose.starts import DETECTOR_SIDE

SAMPLING_WEIGHTS = {
    "fight_surv": 0.33, "coco": 0.25, "falls": 0.15, "bed_falls": 0.15, "videos": 0.06,
    "multiview_falls": 0.06,
}  # fmt: skip
_TESTED = ("fight_surv", "falls", "coco")
_MAX_GRAD_NORM = 10.0
_MOSAIC = 0.1  # probability of a picture to be one
_SCORE_THRESHOLD = 0.3


class PictureSampler:
    """Draw augmented pictures with their people.

    Args:
        data: pictures and labels.
        weights: of the data sets, see ``sampling.probabilities``.
        seed: of all that is random.

    Raises:
        ValueError: a data set for training without a weight, or no pictures for training.

    """

    def __init__(self, data: Data, weights: Mapping[str, float], seed: int) -> None:
        self._data, self._rng = data, np.random.default_rng(seed)
        self._probabilities = probabilities(data.groups, data.splits == TRAIN, weights)

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return pictures (B, 3, 416, 416), boxes (B, M, 4) and kinds (B, M)."""
        images, boxes, kinds = [], np.zeros((count, SLOTS, 4), np.float32), []
        for i in range(count):
            image, labels = self._mosaic() if self._rng.random() < _MOSAIC else self._one()
            labels = labels[np.argsort(labels.kinds, kind="stable")[:SLOTS]]
            boxes[i, : len(labels.kinds)] = labels.boxes
            kinds.append(np.pad(labels.kinds, (0, SLOTS - len(labels.kinds))))
            images.append(recoloured(image, self._rng))
        pictures = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        return pictures, torch.from_numpy(boxes), torch.from_numpy(np.stack(kinds).astype(np.int64))

    def _one(self) -> tuple[ImageArray, Labels]:
        rng, data = self._rng, self._data
        row = int(rng.choice(len(data.groups), p=self._probabilities))
        labels, size = data.of(row), data.sizes_wh[row].astype(np.float64)
        degrees = rng.uniform(-180, 180) if rng.random() < 0.3 else float(rng.normal(0, 6))
        scale = DETECTOR_SIDE / size.max() * float(np.exp(rng.uniform(-0.3, 0.4)))
        linear = turn(degrees, scale, bool(rng.random() < 0.5))
        middle = size / 2
        people = np.flatnonzero(labels.kinds == PERSON)
        if len(people) and rng.random() < 0.6:
            box = labels.boxes[int(rng.choice(people))]
            middle = (box[:2] + box[2:]).astype(np.float64) / 2
        target = DETECTOR_SIDE / 2 + rng.uniform(-0.2, 0.2, 2) * DETECTOR_SIDE
        placement = Placement(linear, target - linear @ middle)
        width, height = data.sizes_wh[row]
        image = warped(data.pictures[row, :height, :width], placement, DETECTOR_SIDE)
        return image, cut(moved(labels, placement), (DETECTOR_SIDE, DETECTOR_SIDE))

    def _mosaic(self) -> tuple[ImageArray, Labels]:
        """Return four pictures in one, at half their size."""
        half = DETECTOR_SIDE // 2
        whole = np.empty((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.uint8)
        parts = []
        for x, y in ((0, 0), (half, 0), (0, half), (half, half)):
            image, labels = self._one()
            placement = Placement(np.eye(2) / 2, np.zeros(2))
            whole[y : y + half, x : x + half] = warped(image, placement, half)
            boxes = labels.boxes / 2 + np.array([x, y, x, y], np.float32)
            parts.append((boxes, labels.keypoints, labels.scores, labels.kinds, labels.areas))
        return whole, Labels(*(np.concatenate(values) for values in zip(*parts, strict=True)))


# --- how good it is -----------------------------------------------------------------


def upright(data: Data, row: int, degrees: float) -> tuple[ImageArray, Labels]:
    """Return a picture as the detector sees it, letterboxed at the top left; maybe turned."""
    width, height = data.sizes_wh[row]
    scale = DETECTOR_SIDE / SIDE
    if degrees:
        linear = turn(degrees, scale * SIDE / float(np.hypot(width, height)) * 1.2, False)
        middle = np.array([width, height]) / 2
        placement = Placement(linear, DETECTOR_SIDE / 2 - linear @ middle)
    else:
        placement = Placement(np.eye(2) * DETECTOR_SIDE / max(width, height), np.zeros(2))
    image = warped(data.pictures[row, :height, :width], placement, DETECTOR_SIDE)
    return image, cut(moved(data.of(row), placement), (DETECTOR_SIDE, DETECTOR_SIDE))


@torch.no_grad()
def found_people(
    network: TrainableGraph, pictures: list[ImageArray], threshold: float
) -> list[tuple[FloatArray, FloatArray]]:
    """Return boxes (N, 4) and scores (N,) of each picture."""
    found, device = [], next(network.parameters()).device
    for start in range(0, len(pictures), 8):
        batch = torch.from_numpy(np.stack(pictures[start : start + 8])).permute(0, 3, 1, 2)
        cells = cells_of(network(batch.float().to(device)), (DETECTOR_SIDE, DETECTOR_SIDE))
        pairs = zip(cells.boxes.cpu().numpy(), cells.scores.cpu().numpy(), strict=True)
        for boxes, scores in pairs:
            rows = np.flatnonzero(scores >= threshold)
            kept = rows[nms(boxes[rows], scores[rows], 0.6)]
            found.append((boxes[kept], scores[kept]))
    return found


def recall_and_precision(
    network: TrainableGraph, views: list[tuple[ImageArray, Labels]], threshold: float
) -> tuple[float, float]:
    """Return recall and precision of the boxes from this score on, as ``matching`` counts them."""
    found = found_people(network, [picture for picture, _ in views], threshold)
    counts = total(
        count_boxes(boxes, scores, labels)
        for (boxes, scores), (_, labels) in zip(found, views, strict=True)
    )
    return counts.recall, counts.precision


def figures(
    tests: Mapping[str, list[tuple[ImageArray, Labels]]], network: TrainableGraph
) -> dict[str, list[float]]:
    """Return recall and precision at a score of 0.3, by the test's name."""
    return {
        name: [round(v, 3) for v in recall_and_precision(network, views, _SCORE_THRESHOLD)]
        for name, views in tests.items()
    }


def views_of(data: Data, most: int = 100) -> dict[str, list[tuple[ImageArray, Labels]]]:
    """Return pictures that are held out, upright and turned, by name."""
    tests = {}
    for group in _TESTED:
        rows = np.flatnonzero((data.groups == group) & (data.splits == VAL))
        rows = rows[:: max(1, -(-len(rows) // most))]
        for degrees in (0, 90):
            tests[f"{group}@{degrees}"] = [upright(data, int(row), degrees) for row in rows]
    return tests


def batch_loss(network: TrainableGraph, batch: training.Batch) -> Tensor:
    """Return the loss of what ``PictureSampler`` draws; the network computes in bfloat16."""
    pictures, boxes, kinds = batch
    with torch.autocast(pictures.device.type, torch.bfloat16):
        raw = network(pictures.contiguous(memory_format=torch.channels_last))
    return loss(raw.float(), boxes, kinds, DETECTOR_SIDE)


@one_line_errors
def main() -> int:
    """Train for the time that is given."""
    given = training.parser(__doc__, minutes=60, learning_rate=5e-4, batch=12).parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    public = given.weights / "yolox_nano.onnx"
    model = read_network(given.start) if given.start else starts.detector(public)
    data = load(given.data)

    def draw_from(seed: int) -> Callable[[], training.Batch]:
        sampler = PictureSampler(data, SAMPLING_WEIGHTS, seed)
        return lambda: sampler.draw(given.batch)

    drawn = training.batches(draw_from, given.seed, given.workers)
    network = TrainableGraph(model).to(given.device)
    measure = partial(figures, views_of(data))
    training.train(network, given, drawn, batch_loss, measure, max_grad_norm=_MAX_GRAD_NORM)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
