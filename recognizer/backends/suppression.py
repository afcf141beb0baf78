"""Greedy non-maximum suppression of boxes, for a whole batch at once.

Greedy suppression walks down the scores: a box stays unless a better one that stays overlaps it.
That rule has one solution, and repeating it for all boxes at the same time reaches it: after n
rounds every box is settled that depends on fewer than n others. So few large operations do it, and
nothing has to be read back from a GPU between them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_PAIRS = 2**24
"""Most pairs of boxes that are compared at once: 64 MiB for each float32 of a pair."""


@dataclass(frozen=True)
class Suppression:
    """Which boxes of one image stay.

    Attributes:
        score_threshold: boxes scored at most this are dropped, 0-1.
        nms_threshold: of two boxes that overlap by more (IoU, 0-1) the better scored stays.
        max_detections: most boxes that stay.

    """

    score_threshold: float
    nms_threshold: float
    max_detections: int


class Ranked(NamedTuple):
    """The best boxes of each image, best first, and which of them stay."""

    order: Tensor  # (B, T) their rows
    scores: Tensor  # (B, T)
    kept: Tensor  # (B, T) bool
    settled: Tensor  # () bool: no further round would change anything


def survivors(boxes: Tensor, scores: Tensor, rule: Suppression) -> Tensor:
    """Return which boxes stay, (B, N) bool, of boxes (B, N, 4) x1 y1 x2 y2 and scores (B, N)."""
    stay = torch.zeros_like(scores, dtype=torch.bool)
    most = int((scores > rule.score_threshold).sum(1).max()) if scores.numel() else 0
    if not most:
        return stay
    together = max(1, _PAIRS // most**2)
    for start in range(0, len(boxes), together):
        part = slice(start, start + together)
        found = rank(boxes[part], scores[part], rule, most, None)
        stay[part] = stay[part].scatter(1, found.order, found.kept)
    return stay


def rank(
    boxes: Tensor, scores: Tensor, rule: Suppression, count: int, rounds: int | None
) -> Ranked:
    """Return the ``count`` best boxes of each image and which of them stay.

    Args:
        boxes: (B, N, 4) x1 y1 x2 y2.
        scores: (B, N), at least 0; those that are NaN are dropped.
        rule: which stay.
        count: how many are compared, T, at most N; those beyond are dropped.
        rounds: how often the rule is applied; None: until nothing changes, which asks the device
            after every round.

    """
    # What is no number comes last, not first as a sort has it: it must not crowd out the others.
    known = torch.where(scores.isnan(), 0.0, scores)
    ranked, order = known.sort(dim=1, descending=True, stable=True)
    ranked, order = ranked[:, :count], order[:, :count]
    likely = ranked > rule.score_threshold
    corners = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
    # [b, i, j]: box i, if it stays, drops the worse box j. What is not a number drops, too.
    drops = (overlaps(corners) <= rule.nms_threshold).logical_not_().triu_(1)
    kept, before, done = likely, likely, 0
    while rounds is None or done < rounds:
        before, kept, done = kept, likely & ~(drops & kept.unsqueeze(2)).any(1), done + 1
        if rounds is None and torch.equal(before, kept):
            break
    settled = (before == kept).all()
    return Ranked(order, ranked, kept & (kept.cumsum(1) <= rule.max_detections), settled)


def overlaps(boxes: Tensor) -> Tensor:
    """Return the intersections over union (B, T, T) of boxes (B, T, 4) with each other."""
    low, high = boxes[..., :2], boxes[..., 2:]
    top_left = torch.maximum(low.unsqueeze(2), low.unsqueeze(1))
    bottom_right = torch.minimum(high.unsqueeze(2), high.unsqueeze(1))
    shared = (bottom_right - top_left).clamp(min=0).prod(-1)
    areas = (high - low).prod(-1)
    return shared / (areas.unsqueeze(2) + areas.unsqueeze(1) - shared).clamp(min=1e-12)
