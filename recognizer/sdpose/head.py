"""SDPoseHead: the transformer, its cycles, and the losses between them.

In training every cycle predicts heatmaps, and the tokens of a cycle learn from those of the
next one. Inference reads cycle 1 and computes no other: what the later cycles know has gone into
the shared blocks. Of the last block only the keypoint tokens are computed then, because nothing
reads the others.

Source: SDPose (CVPR 2024); interface and flip test as in mmpose's HeatmapHead.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from recognizer.runner.engine import Registry, Section
from recognizer.sdpose.mmpose import (
    KEYPOINT_CODECS,
    MODELS,
    BaseHead,
    PixelData,
    flip_heatmaps,
)
from recognizer.sdpose.transformer import TokenTransformer

_INIT = (
    {"type": "TruncNormal", "std": 0.02, "layer": ["Linear", "Conv2d"]},
    {"type": "Constant", "val": 1, "layer": ["LayerNorm"]},
)
_LOSS = {"type": "KeypointMSELoss", "use_target_weight": True}
_HEAD_WIDTH = 2  # the hidden layer of the heatmap head, in widths of a token
_PCK_THRESHOLD = 0.05


class CycleOutput(NamedTuple):
    """What one cycle gives; the tokens are the raw residual stream."""

    heatmaps: Tensor  # (B, J, Hh, Wh)
    keypoint_tokens: Tensor  # (B, J, D)
    visual_tokens: Tensor  # (B, P, D), row by row of the grid


@MODELS.register_module()
class SDPoseHead(BaseHead):
    """Feature map (B, C, H, W) -> heatmaps (B, J, Hh, Wh).

    Args:
        in_channels: C.
        feature_size: (width, height) of the feature map.
        heatmap_size: (width, height) of the heatmaps.
        patch_size: (rows, columns) of the feature map in one visual token.
        num_keypoints: J.
        embed_dims: D, the width of a token.
        depth: transformer blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the blocks' MLP, in D.
        cycles: runs over the blocks in training.
        loss: config of the heatmap loss, used on every cycle.
        loss_vis_token_dist: config of the distillation loss of the visual tokens; None: none.
        loss_kpt_token_dist: the same for the keypoint tokens.
        decoder: config of the codec that finds keypoints in heatmaps; None: ``predict`` fails.
        init_cfg: mmengine's initialisation; None: as published.

    Raises:
        ValueError: sizes that do not divide, or distillation with a single cycle.

    """

    def __init__(  # noqa: PLR0913
        self,
        in_channels: int = 256,
        feature_size: Sequence[int] = (48, 64),
        heatmap_size: Sequence[int] = (48, 64),
        patch_size: Sequence[int] = (4, 3),
        num_keypoints: int = 17,
        embed_dims: int = 192,
        depth: int = 12,
        num_heads: int = 8,
        mlp_ratio: float = 3.0,
        cycles: int = 2,
        loss: Section = _LOSS,
        loss_vis_token_dist: Section | None = None,
        loss_kpt_token_dist: Section | None = None,
        decoder: Section | None = None,
        init_cfg: Section | Sequence[Section] | None = None,
    ) -> None:
        super().__init__(init_cfg=list(_INIT) if init_cfg is None else init_cfg)
        self._grid = _grid(feature_size, patch_size)
        _check_widths(embed_dims, num_heads, depth)
        _check_cycles(cycles, loss_vis_token_dist or loss_kpt_token_dist)
        self.in_channels, self.num_keypoints, self.cycles = in_channels, num_keypoints, cycles
        self.feature_size = (feature_size[0], feature_size[1])
        self.heatmap_size = (heatmap_size[0], heatmap_size[1])
        self.transformer = TokenTransformer(
            in_channels=in_channels,
            patch_size=(patch_size[0], patch_size[1]),
            grid=self._grid,
            num_keypoints=num_keypoints,
            dims=embed_dims,
            depth=depth,
            heads=num_heads,
            hidden=round(embed_dims * mlp_ratio),
        )
        self.heatmap_head = nn.Sequential(
            nn.LayerNorm(embed_dims),
            nn.Linear(embed_dims, _HEAD_WIDTH * embed_dims),
            nn.LayerNorm(_HEAD_WIDTH * embed_dims),
            nn.Linear(_HEAD_WIDTH * embed_dims, heatmap_size[0] * heatmap_size[1]),
        )
        self.loss_module = MODELS.build(dict(loss))
        self.loss_vis_token_dist = _build(MODELS, loss_vis_token_dist)
        self.loss_kpt_token_dist = _build(MODELS, loss_kpt_token_dist)
        self.decoder = _build(KEYPOINT_CODECS, decoder)

    @property
    def grid(self) -> tuple[int, int]:
        """The visual tokens' (rows, columns)."""
        return self._grid

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Return the heatmaps (B, J, Hh, Wh) of cycle 1, in training mode too.

        Raises:
            ValueError: a feature map of another size.

        """
        sequence = self.transformer.embed(self._features(feats))
        return self._heatmaps(self.transformer.cycle(sequence, first=self.num_keypoints))

    def run_cycles(self, feats: Sequence[Tensor], cycles: int) -> list[CycleOutput]:
        """Return what each of the first ``cycles`` cycles gives. Raises as ``forward``."""
        sequence = self.transformer.embed(self._features(feats))  # (B, J + P, D)
        outputs = []
        for _ in range(cycles):
            sequence = self.transformer.cycle(sequence)
            keypoints = sequence[:, : self.num_keypoints]
            visual = sequence[:, self.num_keypoints :]
            outputs.append(CycleOutput(self._heatmaps(keypoints), keypoints, visual))
        return outputs

    def loss(
        self,
        feats: Sequence[Tensor],
        batch_data_samples: Sequence[Any],
        train_cfg: Section | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss items of a batch.

        ``heatmap_loss`` is the sum over cycles; ``vis_dist_loss`` and ``kpt_dist_loss`` are sums
        over neighbouring cycles, the later one being the teacher, and are there when their losses
        are. ``acc_pose`` is the accuracy of cycle 1 (PCK at .05 of the heatmap), unless
        ``train_cfg`` says ``compute_acc=False``.

        Raises:
            ValueError: targets of another shape than the heatmaps, or a feature map of another
                size.

        """
        target = torch.stack([sample.gt_fields.heatmaps for sample in batch_data_samples])
        visible = torch.cat(
            [sample.gt_instance_labels.keypoint_weights for sample in batch_data_samples]
        )  # (B, J)
        expected = (self.num_keypoints, self.heatmap_size[1], self.heatmap_size[0])
        if tuple(target.shape[1:]) != expected or visible.shape[1:] != target.shape[1:2]:
            raise ValueError(
                f"SDPoseHead: expected target heatmaps {expected} (keypoints, height, width) and "
                f"as many keypoint weights, got {tuple(target.shape[1:])} and "
                f"{tuple(visible.shape[1:])}; match num_keypoints, heatmap_size and the codec"
            )
        outputs = self.run_cycles(feats, self.cycles)
        losses = {
            "heatmap_loss": _total(
                self.loss_module(output.heatmaps.float(), target, visible) for output in outputs
            )
        }
        if self.loss_vis_token_dist is not None:
            losses["vis_dist_loss"] = _total(
                self.loss_vis_token_dist(
                    student.visual_tokens,
                    teacher.visual_tokens,
                    heatmaps=teacher.heatmaps,
                    grid=self.grid,
                    visible=visible,
                )
                for student, teacher in pairwise(outputs)
            )
        if self.loss_kpt_token_dist is not None:
            losses["kpt_dist_loss"] = _total(
                self.loss_kpt_token_dist(
                    student.keypoint_tokens,
                    teacher.keypoint_tokens,
                    heatmaps=teacher.heatmaps,
                    grid=None,
                    visible=visible,
                )
                for student, teacher in pairwise(outputs)
            )
        if (train_cfg or {}).get("compute_acc", True):
            losses["acc_pose"] = pose_accuracy(outputs[0].heatmaps.detach(), target, visible > 0)
        return losses

    def predict(
        self,
        feats: Sequence[Tensor] | list[Sequence[Tensor]],
        batch_data_samples: Sequence[Any],
        test_cfg: Section | None = None,
    ) -> list[Any] | tuple[list[Any], list[PixelData]]:
        """Return the keypoints of a batch, as mmpose's HeatmapHead does, from one cycle.

        ``test_cfg``: flip_test (``feats`` is then [of the images, of the flipped images]),
        flip_mode, shift_heatmap, output_heatmaps.

        Raises:
            ValueError: a flip test without the two sets of features.

        """
        test_cfg = test_cfg or {}
        if test_cfg.get("flip_test", False):
            if not isinstance(feats, list) or len(feats) != 2:
                raise ValueError(
                    "SDPoseHead: flip_test expects [features, features of the flipped images], "
                    f"got {type(feats).__name__} of {len(feats)}"
                )
            flipped = flip_heatmaps(
                self.forward(feats[1]).float(),
                flip_mode=test_cfg.get("flip_mode", "heatmap"),
                flip_indices=batch_data_samples[0].metainfo["flip_indices"],
                shift_heatmap=test_cfg.get("shift_heatmap", False),
            )
            heatmaps = (self.forward(feats[0]).float() + flipped) * 0.5
        else:
            # NumPy, which decodes, has no bfloat16.
            heatmaps = self.forward(cast("Sequence[Tensor]", feats)).float()
        keypoints = self.decode(heatmaps)
        if test_cfg.get("output_heatmaps", False):
            return keypoints, [PixelData(heatmaps=each) for each in heatmaps.detach()]
        return keypoints

    def _features(self, feats: Sequence[Tensor]) -> Tensor:
        width, height = self.feature_size
        features = feats[-1]
        if tuple(features.shape[1:]) != (self.in_channels, height, width):
            raise ValueError(
                f"SDPoseHead: expected a feature map {(self.in_channels, height, width)} "
                f"(channels, height, width), got {tuple(features.shape[1:])}; "
                "match the input size, in_channels and feature_size"
            )
        return features

    def _heatmaps(self, keypoint_tokens: Tensor) -> Tensor:
        width, height = self.heatmap_size
        return torch.unflatten(self.heatmap_head(keypoint_tokens), -1, (height, width))


def pose_accuracy(heatmaps: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """Return mmpose's ``pose_pck_accuracy`` without leaving the device; a scalar.

    The share of present keypoints whose peak is near the target's, averaged over the keypoints
    that are present in the batch at all; 0 without any.

    Args:
        heatmaps: (B, J, Hh, Wh).
        target: (B, J, Hh, Wh).
        present: (B, J) bool.

    """
    height, width = heatmaps.shape[-2:]
    # mmpose divides x by the height and y by the width; kept, so that logs compare.
    x, y = (_peaks(heatmaps) - _peaks(target)).unbind(-1)
    distance = torch.hypot(x / height, y / width)  # (B, J)
    near = ((distance < _PCK_THRESHOLD) & present).sum(0)  # (J,)
    count = present.sum(0)
    share: Tensor = near / count.clamp(min=1)
    return share.sum() / (count > 0).sum().clamp(min=1)


def _peaks(heatmaps: Tensor) -> Tensor:
    """Return x, y of each heatmap's maximum, (B, J, 2); -1, -1 where nothing is above 0."""
    value, index = heatmaps.flatten(2).max(-1)  # (B, J)
    place = torch.stack([index % heatmaps.shape[-1], index // heatmaps.shape[-1]], -1)
    return torch.where((value > 0)[..., None], place, -1).float()


def _grid(feature_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, int]:
    (width, height), (rows, columns) = feature_size, patch_size
    if height % rows or width % columns:
        raise ValueError(
            f"SDPoseHead: expected a feature map of whole patches, got {height} rows x {width} "
            f"columns in patches of {rows} x {columns}"
        )
    return height // rows, width // columns


def _check_cycles(cycles: int, distillation: Section | None) -> None:
    least = 1 if distillation is None else 2
    if cycles < least:
        raise ValueError(
            f"SDPoseHead: expected cycles >= {least} "
            f"({'without' if distillation is None else 'with'} distillation losses), got {cycles}"
        )


def _check_widths(embed_dims: int, num_heads: int, depth: int) -> None:
    if embed_dims % num_heads:
        raise ValueError(
            f"SDPoseHead: expected embed_dims divisible by num_heads, "
            f"got {embed_dims} and {num_heads}"
        )
    if depth < 1:
        raise ValueError(f"SDPoseHead: expected depth >= 1, got {depth}")


def _build(registry: Registry, config: Section | None) -> Any:
    return None if config is None else registry.build(dict(config))


def _total(items: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(items)).sum()
