"""Pose networks as the modules that torch runs and that export writes: one and the same.

``RtmoGraph`` gives RTMO (Lu et al. 2024) mmdeploy's end2end contract, which rtmlib's files keep
too: suppression of double boxes is inside, and keypoints are decoded only for the boxes that
survive it. ``TopDownGraph`` gives any top-down heatmap network the contract of ``pose/topdown``.
Nothing here knows files, and nothing is built here: the networks come from ``openmmlab``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from recognizer.backends.network import ModelError
from recognizer.backends.suppression import Suppression, rank, survivors

STATIC_CANDIDATES, STATIC_PEOPLE, STATIC_ROUNDS = 512, 32, 16
"""What ``RtmoGraph.static`` holds for an image: boxes above the threshold, people, and rounds of
suppression, one for each box in the longest chain of boxes that depend on one another."""


class _Nms(torch.autograd.Function):
    """Greedy suppression: the operator NonMaxSuppression in a file, the same in torch here."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, rule: Suppression) -> Tensor:
        """Return (image, 0, box) of the boxes that stay (S, 3), boxes (B,N,4), scores (B,1,N)."""
        image, box = survivors(boxes, scores[:, 0], rule).nonzero(as_tuple=True)
        return torch.stack([image, torch.zeros_like(image), box], 1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, rule: Suppression) -> Any:
        """Write the operator."""
        most = g.op("Constant", value_t=torch.tensor([rule.max_detections], dtype=torch.int64))
        overlap = g.op("Constant", value_t=torch.tensor([rule.nms_threshold]))
        least = g.op("Constant", value_t=torch.tensor([rule.score_threshold]))
        return g.op("NonMaxSuppression", boxes, scores, most, overlap, least)


def suppressed(boxes: Tensor, scores: Tensor, rule: Suppression) -> tuple[Tensor, Tensor]:
    """Return scores and indices (B, K) of the boxes that stay, best first.

    K is the most that any image keeps, at least 1; what an image has fewer has score 0.

    Args:
        boxes: (B, N, 4) x1, y1, x2, y2.
        scores: (B, N), 0-1.
        rule: which boxes stay.

    """
    keep = _Nms.apply(boxes, scores.unsqueeze(1), rule)  # type: ignore[no-untyped-call]
    kept = torch.zeros_like(scores)
    kept[keep[:, 0], keep[:, 2]] = 1.0
    most = kept.sum(1).max().clamp(min=1).to(torch.int64)
    ranked, order = (scores * kept).sort(dim=1, descending=True)
    return ranked[:, :most], order[:, :most]


class RtmoGraph(nn.Module):
    """Images -> ``dets`` (B, K, 5), ``keypoints`` (B, K, 17, 3), in network pixels.

    K is the most boxes that any image of the batch keeps, at least 1; what an image has fewer is
    filled with boxes of score 0. ``dets`` are x1, y1, x2, y2, score, best first.

    Args:
        model: mmpose's BottomupPoseEstimator with an RTMOHead, in eval mode.
        rule: which boxes stay.
        uint8: take images (B, H, W, 3) uint8 in place of (B, 3, H, W) float32; BGR 0-255 in both.
        dtype: what backbone, neck and head run in. Boxes and keypoints are decoded in float32: a
            float16 is half a pixel wrong beyond 512 pixels, a bfloat16 four.

    Raises:
        ModelError: the model is no RTMO of 17 keypoints.

    """

    outputs = ("dets", "keypoints")
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        rule: Suppression,
        *,
        uint8: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        head = model.head
        if type(head).__name__ != "RTMOHead" or head.num_keypoints != 17:
            raise ModelError(f"expected an RTMO of 17 keypoints, got {type(head).__name__}")
        self.backbone, self.neck = model.backbone, model.neck
        self.layers, self.decoder = head.head_module, head.dcc
        self.strides, self.padding = tuple(head.featmap_strides), head.bbox_padding
        own = head.prior_generator
        self.offsets = tuple(
            (stride - 1) / 2 if own.centralize_points else own.offset * stride
            for stride in self.strides
        )
        self.rule, self.uint8, self.dtype = rule, uint8, dtype
        if dtype != torch.float32:
            for part in (self.backbone, self.neck, self.layers):
                part.to(dtype)
            self.neck.sincos_pos_enc = _CastPositions(self.neck.sincos_pos_enc, dtype)
        mean, std = _normalisation(model)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.to_rgb = bool(getattr(model.data_preprocessor, "_channel_conversion", False))
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``dets`` and ``keypoints``."""
        pixels = self._prepared(images)
        size = pixels.shape[2:]
        found = self._predictions(pixels)
        scores, boxes = found[:2]
        ranked, order = suppressed(boxes, scores, self.rule)
        return self._people(found, ranked, order, size)

    def static(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs of ``forward`` in shapes that no image changes, for a CUDA graph.

        K is ``max_detections`` or ``STATIC_PEOPLE``, whatever is less. The last value, a bool,
        says whether these are the people that ``forward`` finds; where it is False there were
        more candidates or people than these shapes hold.
        """
        pixels = self._prepared(images)
        size = pixels.shape[2:]
        found = self._predictions(pixels)
        scores, boxes = found[:2]
        count = min(scores.shape[1], STATIC_CANDIDATES)
        likely = (scores > self.rule.score_threshold).sum(1)
        best = rank(boxes, scores, self.rule, count, STATIC_ROUNDS)
        people = min(self.rule.max_detections, STATIC_PEOPLE, count)
        fits = (likely <= count).all() & (best.kept.sum(1) <= people).all() & best.settled
        fits = fits & scores.isfinite().all()  # else ``forward`` shows what is wrong
        first = best.kept.int().sort(dim=1, descending=True, stable=True).indices[:, :people]
        ranked = (best.scores * best.kept).gather(1, first)
        dets, keypoints = self._people(found, ranked, best.order.gather(1, first), size)
        return dets, keypoints, fits

    def _people(
        self, found: tuple[Tensor, ...], ranked: Tensor, order: Tensor, size: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Return ``dets`` and ``keypoints`` of the rows ``order`` (B, K), scored ``ranked``."""
        _, boxes, visible, vectors, cells = found
        boxes = _taken(boxes, order)
        keypoints = self._decode(boxes, _taken(vectors, order), cells[order])
        visible = _taken(visible, order).unsqueeze(-1)
        edge = _edge(size, boxes)
        boxes = torch.minimum(boxes.clamp(min=0), edge)
        return torch.cat([boxes, ranked.unsqueeze(-1)], -1), torch.cat([keypoints, visible], -1)

    def _prepared(self, images: Tensor) -> Tensor:
        """Return what the backbone takes, (B, 3, H, W)."""
        pixels = images.float().permute(0, 3, 1, 2) if self.uint8 else images
        if self.to_rgb:
            pixels = pixels.flip(1)
        return (pixels - self.mean) / self.std

    def _predictions(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return scores (B,N), boxes (B,N,4), visibility (B,N,17), vectors (B,N,C), cells (N,2)."""
        features = self.backbone(pixels.to(self.dtype))
        for i, level in enumerate(self.neck.use_encoder_idx):
            # What the neck takes in an export; on a fixed size it would be a constant.
            table = _sine_table(features[level], self.neck.sincos_pos_enc.dim_t)
            setattr(self.neck, f"pos_enc_{i}", table)
        maps = self.layers(self.neck(features))
        cells, strides = _cells(maps[0], self.strides, self.offsets)  # (N, 2), (N, 1)
        scores, boxes, visible, vectors = (_flat(maps[i]).float() for i in (0, 1, 3, 4))
        centres = boxes[..., :2] * strides + cells
        halves = boxes[..., 2:].exp() * strides / 2
        boxes = torch.cat([centres - halves, centres + halves], -1)
        return scores[..., 0].sigmoid(), boxes, visible.sigmoid(), vectors, cells

    def _decode(self, boxes: Tensor, vectors: Tensor, cells: Tensor) -> Tensor:
        """Return keypoints (B, K, 17, 2) of boxes (B,K,4), vectors (B,K,C), cells (B,K,2)."""
        corners = boxes.reshape(-1, 4)
        centre = (corners[:, :2] + corners[:, 2:]) / 2
        scale = (corners[:, 2:] - corners[:, :2]) * self.padding
        points: Tensor = self.decoder.forward_test(
            vectors.reshape(-1, vectors.shape[-1]),
            torch.cat([centre, scale], 1),
            cells.reshape(-1, 2),
        )
        return points.reshape(boxes.shape[0], boxes.shape[1], 17, 2)


def _edge(size: torch.Size, boxes: Tensor) -> Tensor:
    """Return the network's (width, height, width, height) as the boxes' type, (4,)."""
    height, width = size
    sides = (width, height, width, height)
    if torch.onnx.is_in_onnx_export():  # an input of any size: the sides are part of the graph
        return torch.stack(
            [torch.as_tensor(n, dtype=boxes.dtype, device=boxes.device) for n in sides]
        )
    return torch.cat([boxes.new_full((1,), float(n)) for n in sides])


def _taken(values: Tensor, order: Tensor) -> Tensor:
    """Return rows (B, K, C) of values (B, N, C) by order (B, K)."""
    return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _flat(maps: list[Tensor]) -> Tensor:
    """Return (B, N, C) of one map (B, C, h, w) per level."""
    return torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1)


def _cells(
    maps: list[Tensor], strides: tuple[int, ...], offsets: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Return the centres (N, 2) and strides (N, 1) of all cells, in network pixels."""
    centres, sizes = [], []
    for one, stride, offset in zip(maps, strides, offsets, strict=True):
        y, x = _grid(one)
        centre = torch.stack([x, y], -1) * stride + offset
        centres.append(centre)
        sizes.append(torch.full_like(centre[:, :1], float(stride)))
    return torch.cat(centres), torch.cat(sizes)


def _grid(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each cell of a map (B, C, h, w), each (h * w,)."""
    height, width = feature.shape[2], feature.shape[3]
    rows = torch.arange(height, dtype=torch.float32, device=feature.device)
    columns = torch.arange(width, dtype=torch.float32, device=feature.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return y.flatten(), x.flatten()


def _sine_table(feature: Tensor, periods: Tensor) -> Tensor:
    """Return the neck's position table (1, h * w, D) for a map, in the map's type.

    mmpose interleaves rows' and columns' halves: (D / 2, 2) transposed and flattened.
    """
    angles = [where.unsqueeze(-1) / periods.float() for where in _grid(feature)]
    halves = [torch.cat([angle.cos(), angle.sin()], -1) for angle in angles]  # (h * w, D / 2)
    return torch.cat(halves, -1).unsqueeze(0).to(feature.dtype)


def _normalisation(model: Any) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (1, 3, 1, 1) that the model's pictures are given."""
    own = model.data_preprocessor
    if not getattr(own, "_enable_normalize", False):
        return torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    return own.mean.detach().float()[None].cpu(), own.std.detach().float()[None].cpu()


class _CastPositions(nn.Module):
    """mmpose's position table, computed in float32 and given in a shorter type."""

    def __init__(self, positions: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.positions, self.dtype = positions.float(), dtype

    @property
    def dim_t(self) -> Tensor:
        """The periods of the sines."""
        periods: Tensor = self.positions.dim_t
        return periods

    def forward(self, size: Any) -> Tensor:
        """Return the table for a map of this (height, width)."""
        table: Tensor = self.positions(size=size)
        return table.to(self.dtype)


class TopDownGraph(nn.Module):
    """Crops (B, 3, H, W) -> ``heatmaps`` (B, 17, h, w), or RTMPose's two SimCC vectors, float32.

    Args:
        model: mmpose's TopdownPoseEstimator, in eval mode; SDPose runs one cycle then.
        uint8: take crops (B, H, W, 3) uint8 BGR and normalise them inside, in place of
            normalised RGB float32.
        dtype: what the network runs in.

    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: Any, *, uint8: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        # SimCC: a vector over the columns and one over the rows, in place of a map.
        simcc = hasattr(model.head, "simcc_split_ratio")
        self.outputs = ("simcc_x", "simcc_y") if simcc else ("heatmaps",)
        self.neck = model.neck if getattr(model, "with_neck", False) else nn.Identity()
        self.uint8, self.dtype = uint8, dtype
        for part in (self.backbone, self.neck, self.head):
            part.to(dtype)
        mean, std = _normalisation(model)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.eval()

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the outputs, a single one by itself."""
        if self.uint8:
            crops = (crops.float().permute(0, 3, 1, 2).flip(1) - self.mean) / self.std
        found = self.head(self.neck(self.backbone(crops.to(self.dtype))))
        return tuple(part.float() for part in found) if len(self.outputs) > 1 else found.float()
