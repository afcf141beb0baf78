"""Suppression of a batch at once, against the textbook's loop over one box after the other."""

import pytest

torch = pytest.importorskip("torch")

from recognizer.backends import suppression  # noqa: E402
from recognizer.backends.graphs import RtmoGraph  # noqa: E402
from recognizer.backends.suppression import Suppression, overlaps, rank, survivors  # noqa: E402


def crowd(images, boxes, seed=0, spread=60.0):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, boxes, 2, generator=random) * spread
    size = torch.rand(images, boxes, 2, generator=random) * 40 + 1
    scores = torch.rand(images, boxes, generator=random)
    return torch.cat([corner, corner + size], -1), scores


def iou(a, b):
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in range(2))
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / max(sum(areas) - shared, 1e-12)


def greedy(boxes, scores, rule):
    """Return the rows that stay, best first."""
    rows = sorted(range(len(scores)), key=lambda row: -scores[row])  # stable: ties by row
    kept = []
    for row in rows:
        if scores[row] <= rule.score_threshold or len(kept) == rule.max_detections:
            break
        if all(iou(boxes[other], boxes[row]) <= rule.nms_threshold for other in kept):
            kept.append(row)
    return kept


RULES = [
    Suppression(0.3, 0.45, 100),
    Suppression(0.0, 0.05, 100),
    Suppression(0.5, 0.9, 4),
    Suppression(1.0, 0.5, 10),
    Suppression(0.2, 0.0, 1),
    Suppression(0.1, 1.0, 1000),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("together", [None, 1])
def test_those_stay_that_a_loop_keeps(rule, together, monkeypatch):
    if together:  # images of their own
        monkeypatch.setattr(suppression, "_PAIRS", together)
    boxes, scores = crowd(3, 70)
    scores[1, ::3] = scores[1, 0]  # ties: the first row wins
    scores[2] = scores[2] * (scores[2] > 0.9)  # few candidates
    stay = survivors(boxes, scores, rule)
    for i in range(3):
        expected = greedy(boxes[i].double().tolist(), scores[i].tolist(), rule)
        assert stay[i].nonzero().flatten().tolist() == sorted(expected)


def test_nobody_and_nothing():
    rule = Suppression(0.5, 0.5, 10)
    boxes, scores = crowd(2, 5)
    assert not survivors(boxes, scores * 0, rule).any()
    assert survivors(boxes[:, :0], scores[:, :0], rule).shape == (2, 0)
    broken = boxes.clone()
    broken[0, 0] = float("nan")  # what overlaps by no number is dropped, or drops
    assert survivors(broken, scores, rule).shape == (2, 5)


@pytest.mark.parametrize("seed", range(8))
def test_boxes_on_a_grid_scores_in_steps_and_no_numbers(seed):
    """Equal boxes, boxes without area, ties, scores that are NaN or infinite."""
    random = torch.Generator().manual_seed(seed)
    corner, size = (torch.randint(0, n, (3, 90, 2), generator=random).float() for n in (20, 9))
    boxes = torch.cat([corner, corner + size], -1)
    scores = torch.randint(0, 7, (3, 90), generator=random).float() / 7
    scores[torch.rand(3, 90, generator=random) < 0.2] = float("nan")
    scores[torch.rand(3, 90, generator=random) < 0.05] = float("inf")
    for rule in RULES:
        stay = survivors(boxes, scores, rule)
        fixed = rank(boxes, scores, rule, 90, 90)
        assert fixed.settled
        same = torch.zeros_like(stay).scatter(1, fixed.order, fixed.kept)
        assert torch.equal(same, stay)
        for i in range(3):
            plain = scores[i].nan_to_num(nan=-1.0, posinf=float("inf")).tolist()
            expected = greedy(boxes[i].double().tolist(), plain, rule)
            assert stay[i].nonzero().flatten().tolist() == sorted(expected)


def test_few_rounds_say_whether_they_were_enough():
    # Box i overlaps only its neighbours: each hangs on all before it.
    left = torch.arange(20.0) * 6
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], 1)[None]
    scores = torch.linspace(0.9, 0.5, 20)[None]
    rule = Suppression(0.3, 0.2, 100)
    every_other = torch.arange(20) % 2 == 0
    exact = rank(boxes, scores, rule, 20, None)
    assert exact.settled
    assert torch.equal(exact.kept[0], every_other)
    short, long = (rank(boxes, scores, rule, 20, rounds) for rounds in (5, 25))
    assert not short.settled
    assert torch.equal(short.kept[0, :5], every_other[:5])
    assert long.settled
    assert torch.equal(long.kept[0], every_other)


def test_overlaps_are_those_of_pairs():
    boxes, _ = crowd(2, 9)
    found = overlaps(boxes)
    for i in range(2):
        rows = boxes[i].double().tolist()
        expected = torch.tensor([[iou(a, b) for b in rows] for a in rows])
        torch.testing.assert_close(found[i], expected, rtol=1e-5, atol=1e-6)


class Found(RtmoGraph):
    """An RTMO without a network: what it predicts is given."""

    def __init__(self, rule, found):
        torch.nn.Module.__init__(self)
        self.rule, self._found = rule, found

    def _prepared(self, images):
        return images

    def _predictions(self, pixels):
        return self._found

    def _decode(self, boxes, vectors, cells):
        return boxes[..., None, :2] + vectors.unflatten(-1, (17, 2))


def people(dets, points, least):
    """Return the people of one image as rows; equal scores may come in any order."""
    rows = torch.cat([dets, points.flatten(1)], 1)[dets[:, 4] > least]
    return sorted(map(tuple, rows.tolist()))


# Which of four crowds, of 15 to 700 boxes, fit into the fixed shapes by each rule.
FITTING = (
    (True, True, False, False),
    (True, False, False, False),
    (True, True, True, True),
    (True, True, True, True),
    (True, True, False, False),
    (True, False, False, False),
)


@pytest.mark.parametrize(("rule", "fitting"), zip(RULES, FITTING, strict=True))
def test_fixed_shapes_hold_the_people_of_free_ones_or_say_that_they_do_not(rule, fitting):
    """Up to 700 boxes, equal ones, ties, boxes without area; nothing wrong passes for right."""
    random = torch.Generator().manual_seed(0)
    crowds = ((15, 300), (40, 9), (700, 60), (700, 2))
    for (boxes_each, edge), expected_fit in zip(crowds, fitting, strict=True):
        corner, size = (
            torch.randint(0, most, (2, boxes_each, 2), generator=random).float()
            for most in (400, edge)
        )
        scores = (torch.rand(2, boxes_each, generator=random) * 20).floor() / 20
        vectors = torch.rand(2, boxes_each, 34, generator=random)
        found = (
            scores,
            torch.cat([corner, corner + size], -1),
            vectors[..., :17],
            vectors,
            torch.zeros(boxes_each, 2),
        )
        graph = Found(rule, found)
        dets, points = graph.forward(torch.zeros(2, 3, 640, 640))
        fixed, fixed_points, fits = graph.static(torch.zeros(2, 3, 640, 640))
        least = rule.score_threshold
        assert bool(fits) == expected_fit
        for i in range(2 if fits else 0):
            expected = people(dets[i], points[i], least)
            assert people(fixed[i], fixed_points[i], least) == expected
    scores[0, 0] = float("nan")  # forward shows it, and so its user refuses it
    assert not graph.static(torch.zeros(2, 3, 640, 640))[2]
    assert graph.forward(torch.zeros(2, 3, 640, 640))[0].isnan().any()
