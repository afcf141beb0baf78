"""The five losses that pull the tokens of one SDPose cycle towards those of the next.

SDPose (CVPR 2024) runs the same transformer several times; the tokens of an earlier cycle (the
student) learn from those of the next (the teacher). TokenDistilLoss is its loss, the others
weight it: by the foreground (after FSD-BEV, ECCV 2024), the foreground more and more as training
goes on, by joint, or by leaving tokens out (masked distillation). Registered with mmpose.

All are called in the same way, ``loss(student, teacher, heatmaps, grid, visible)``, and share one
scale: ``loss_weight`` times the mean over batch, tokens and channels of the squared difference
where every weight is 1. They count in float32 whatever comes in, and NaN in gives NaN out.
"""

import math
from typing import Any, TypeVar

import torch
from torch import nn

from recognizer.openmmlab import load_mmpose
from recognizer.sdpose.foreground import foreground_weights, joint_peaks, token_foreground

load_mmpose()
from mmengine.logging import MessageHub  # noqa: E402
from mmpose.registry import MODELS  # noqa: E402

T = TypeVar("T")
_PEAK_FLOOR = 0.05  # a joint that the teacher does not see at all still counts this much
_TINY = 1e-30  # keeps 0 / 0 at 0; below any sum of weights of a visible person


def token_error(student: Any, teacher: Any) -> Any:
    """Return the mean over channels of the squared difference: (N, T) float32 of (N, T, D)."""
    return (student.float() - teacher.float()).square().mean(-1)


# --- what all have in common -------------------------------------------------------


class _DistilLoss(nn.Module):
    """Checks what comes in and scales what goes out; ``weigh`` is the loss itself."""

    def __init__(self, loss_weight: float, detach_teacher: bool) -> None:
        super().__init__()
        self.loss_weight = _at_least_zero(self, "loss_weight", loss_weight)
        self.detach_teacher = bool(detach_teacher)

    def forward(
        self,
        student: Any,
        teacher: Any,
        heatmaps: Any = None,
        grid: tuple[int, int] | None = None,
        visible: Any = None,
    ) -> Any:
        """Return the loss, a float32 scalar.

        Args:
            student: (N, T, D) tokens of a cycle, any floating type.
            teacher: (N, T, D) tokens of the next cycle.
            heatmaps: (N, J, H, W) of the teacher's cycle; needed where the loss weights by them.
            grid: (gh, gw) of visual tokens, gh * gw = T; None for keypoint tokens.
            visible: (N, J) weights of the joints, None for 1.

        Raises:
            ValueError: shapes that do not fit together, or a missing input.

        """
        name = type(self).__name__
        if student.ndim != 3 or student.shape != teacher.shape or not student.numel():
            raise ValueError(
                f"{name}: expected student and teacher of one shape (N, T, D), none of them 0, "
                f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        with torch.autocast(student.device.type, enabled=False):
            error = token_error(student, teacher.detach() if self.detach_teacher else teacher)
            return self.loss_weight * self.weigh(error, heatmaps, grid, visible)

    def weigh(self, error: Any, heatmaps: Any, grid: tuple[int, int] | None, visible: Any) -> Any:
        """Return the weighted mean of the tokens' errors (N, T)."""
        return error.mean()


def _at_least_zero(owner: Any, name: str, value: float) -> float:
    return _option(owner, name, value, 0 <= value < math.inf, "a number >= 0")


def _above_zero(owner: Any, name: str, value: float) -> float:
    return _option(owner, name, value, 0 < value < math.inf, "a number > 0")


def _option(owner: Any, name: str, value: T, fits: bool, expected: str) -> T:
    """Return the value if it fits; NaN fits nothing, because every comparison with it is false."""
    if not fits:
        raise ValueError(f"{type(owner).__name__}: {name}: expected {expected}, got {value!r}")
    return value


def _checked_grid(owner: Any, error: Any, heatmaps: Any, grid: Any) -> tuple[int, int]:
    """Return the grid if the visual tokens (N, P) and the heatmaps fit it."""
    name = type(owner).__name__
    tokens = error.shape[1]
    if grid is None or len(grid) != 2 or grid[0] * grid[1] != tokens:
        raise ValueError(f"{name}: grid: expected (gh, gw) with gh * gw = {tokens}, got {grid!r}")
    _check_heatmaps(name, error, heatmaps)
    return int(grid[0]), int(grid[1])


def _check_joints(owner: Any, error: Any, heatmaps: Any) -> None:
    """Raise ValueError unless there is one heatmap for each keypoint token (N, J)."""
    name = type(owner).__name__
    _check_heatmaps(name, error, heatmaps)
    if heatmaps.shape[1] != error.shape[1]:
        raise ValueError(
            f"{name}: heatmaps: expected one for each of {error.shape[1]} keypoint tokens, got "
            f"{heatmaps.shape[1]}; for visual tokens pass their grid"
        )


def _check_heatmaps(name: str, error: Any, heatmaps: Any) -> None:
    if heatmaps is None:
        raise ValueError(f"{name}: heatmaps: expected the teacher's (N, J, H, W), got None")
    if heatmaps.ndim != 4 or len(heatmaps) != len(error) or not heatmaps.numel():
        raise ValueError(
            f"{name}: heatmaps: expected ({len(error)}, J, H, W), got {tuple(heatmaps.shape)}"
        )


def _visibility(owner: Any, error: Any, visible: Any) -> Any:
    """Return the joints' weights (N, J), float32, without gradient; 1 where none are given."""
    if visible is None:
        return torch.ones_like(error)
    if visible.shape != error.shape:
        raise ValueError(
            f"{type(owner).__name__}: visible: expected {tuple(error.shape)}, a weight for each "
            f"keypoint token, got {tuple(visible.shape)}"
        )
    return visible.detach().to(error)


# --- the losses --------------------------------------------------------------------


@MODELS.register_module()
class TokenDistilLoss(_DistilLoss):
    """Mean squared difference of the tokens (SDPose's own loss, as a mean over all of N, T, D).

    Args:
        loss_weight: factor of the loss.
        dist_type: 'L2', the only one there is.
        detach_teacher: give the teacher no gradient. False is what the public SDPose and the
            shipped configs do: both cycles then move towards each other. With True, distillation
            outgrew the heatmap loss in all four foreground and masked configs, within 250 to 520
            steps of 32 people from the published start; with False in none within 554 (one seed:
            docs/gpu/nvidia_h200/fsd.md). A teacher, the same blocks once more, may run ahead.

    """

    def __init__(
        self, loss_weight: float = 5e-6, dist_type: str = "L2", detach_teacher: bool = False
    ) -> None:
        super().__init__(loss_weight, detach_teacher)
        _option(self, "dist_type", dist_type, dist_type == "L2", "'L2'")


@MODELS.register_module()
class ForegroundTokenDistilLoss(_DistilLoss):
    """The token loss, times ``foreground_weight`` on people and ``background_weight`` elsewhere.

    For visual tokens; needs the teacher's heatmaps and the grid. The weighted errors are divided
    by the number of tokens, not by the sum of the weights: a weight of 2 doubles a token's
    gradient, whatever the other tokens are.

    Args:
        loss_weight: factor of the loss.
        foreground_weight: of a token whose cell is all foreground.
        background_weight: of a token whose cell is all background.
        threshold: the heatmap's value on the border of the foreground.
        temperature: how soft the border is; 0.5 is sharp, 2 is soft.
        use_spatial_weight: False makes every weight 1.
        detach_teacher: as in TokenDistilLoss: see there what True did.

    """

    def __init__(  # noqa: PLR0913 - the options of the guides
        self,
        loss_weight: float = 5e-6,
        foreground_weight: float = 2.0,
        background_weight: float = 0.5,
        threshold: float = 0.1,
        temperature: float = 1.0,
        use_spatial_weight: bool = True,
        detach_teacher: bool = True,
    ) -> None:
        super().__init__(loss_weight, detach_teacher)
        self.foreground_weight = _at_least_zero(self, "foreground_weight", foreground_weight)
        self.background_weight = _at_least_zero(self, "background_weight", background_weight)
        self.threshold = _above_zero(self, "threshold", threshold)
        self.temperature = _above_zero(self, "temperature", temperature)
        self.use_spatial_weight = bool(use_spatial_weight)

    def weigh(self, error: Any, heatmaps: Any, grid: tuple[int, int] | None, visible: Any) -> Any:
        """Return the mean of the errors (N, P), each times its token's weight."""
        if not self.use_spatial_weight:
            return error.mean()
        cells = _checked_grid(self, error, heatmaps, grid)
        foreground = token_foreground(heatmaps, cells, self.threshold, self.temperature)
        inside, outside = self.weights()
        return (foreground_weights(foreground, inside, outside) * error).mean()

    def weights(self) -> tuple[Any, Any]:
        """Return the weights of foreground and background."""
        return self.foreground_weight, self.background_weight


@MODELS.register_module()
class DynamicForegroundDistilLoss(ForegroundTokenDistilLoss):
    """The foreground loss whose weights grow from 1 between two epochs.

    The epoch is the number of completed ones: what ``set_epoch`` was last given or, where nobody
    ever called it, what mmengine keeps in the current MessageHub, which is that of the runner
    built last. So a run needs no hook for it, and a resumed one goes on where it was.

    Args:
        loss_weight: factor of the loss.
        start_epoch: up to here it is exactly the token loss.
        end_epoch: from here on the weights are the two below.
        max_fg_weight: weight of the foreground at the end.
        min_bg_weight: weight of the background at the end.
        threshold, temperature, detach_teacher: as in ForegroundTokenDistilLoss.

    """

    def __init__(  # noqa: PLR0913 - the options of the guides
        self,
        loss_weight: float = 5e-6,
        start_epoch: float = 50,
        end_epoch: float = 150,
        max_fg_weight: float = 3.0,
        min_bg_weight: float = 0.3,
        threshold: float = 0.1,
        temperature: float = 1.0,
        detach_teacher: bool = True,
    ) -> None:
        _at_least_zero(self, "max_fg_weight", max_fg_weight)
        _at_least_zero(self, "min_bg_weight", min_bg_weight)
        super().__init__(
            loss_weight, max_fg_weight, min_bg_weight, threshold, temperature, True, detach_teacher
        )
        self.start_epoch = _at_least_zero(self, "start_epoch", start_epoch)
        fits = start_epoch <= end_epoch < math.inf
        self.end_epoch = _option(self, "end_epoch", end_epoch, fits, f">= {start_epoch}")
        self.epoch: float | None = None
        # In a buffer, so that torch.compile does not compile anew for each epoch's weights.
        self.register_buffer("current", torch.ones(2), persistent=False)

    def set_epoch(self, epoch: float) -> None:
        """Set the number of completed epochs; from now on nothing else does.

        Raises:
            ValueError: a negative number or none.

        """
        self.epoch = _at_least_zero(self, "epoch", epoch)

    def progress(self) -> float:
        """Return how far the weights have come, in [0, 1]."""
        epoch = self.epoch
        if epoch is None:
            epoch = float(MessageHub.get_current_instance().get_info("epoch", 0))
        if epoch <= self.start_epoch:
            return 0.0
        if epoch >= self.end_epoch:
            return 1.0
        return (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def weights(self) -> tuple[Any, Any]:
        """Return the weights of foreground and background at this epoch, as tensors."""
        done = self.progress()
        inside = 1.0 + done * (self.foreground_weight - 1.0)
        outside = 1.0 - done * (1.0 - self.background_weight)
        current: Any = self.current
        current[0], current[1] = inside, outside
        return current[0], current[1]


@MODELS.register_module()
class AdaptiveForegroundDistilLoss(_DistilLoss):
    """The token loss of keypoint tokens with a learnt weight for each joint.

    A joint's weight grows with its peak in the teacher's heatmap and with what is learnt; per
    person the weights have mean 1 over the visible joints. A second term, the mean of -log of the
    learnt weights, keeps each of them away from 0: without it the joints that are hard to match
    would simply be switched off.

    Weight decay would pull the learnt weights together. An optimizer that has any must except
    them (mmengine wants ``weight_decay`` spelt out for that, 0 too)::

        optim_wrapper = dict(
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1),
            paramwise_cfg=dict(custom_keys={'keypoint_logits': dict(decay_mult=0)}),
        )

    Args:
        loss_weight: factor of the loss.
        num_keypoints: J; as many parameters are learnt, none without guidance.
        use_keypoint_guidance: False makes the weights of all visible joints 1.
        balance: factor of the second term.
        detach_teacher: as in TokenDistilLoss: see there what True did.

    """

    def __init__(
        self,
        loss_weight: float = 5e-6,
        num_keypoints: int = 17,
        use_keypoint_guidance: bool = True,
        balance: float = 1.0,
        detach_teacher: bool = True,
    ) -> None:
        super().__init__(loss_weight, detach_teacher)
        whole = isinstance(num_keypoints, int) and num_keypoints > 0
        self.num_keypoints = num_keypoints
        _option(self, "num_keypoints", num_keypoints, whole, "a whole number > 0")
        self.balance = _at_least_zero(self, "balance", balance)
        self.use_keypoint_guidance = bool(use_keypoint_guidance)
        if self.use_keypoint_guidance:
            self.keypoint_logits = nn.Parameter(torch.zeros(num_keypoints))

    def keypoint_weights(self) -> Any:
        """Return the learnt weights (J,): positive, with sum J."""
        return self.num_keypoints * self.keypoint_logits.float().softmax(0)

    def weigh(self, error: Any, heatmaps: Any, grid: tuple[int, int] | None, visible: Any) -> Any:
        """Return the mean of the visible joints' errors (N, J), weighted, and the second term."""
        if error.shape[1] != self.num_keypoints:
            raise ValueError(
                f"{type(self).__name__}: expected {self.num_keypoints} keypoint tokens, got "
                f"{error.shape[1]}; set num_keypoints, or use another loss for visual tokens"
            )
        shown = _visibility(self, error, visible)
        total = shown.sum()
        if not self.use_keypoint_guidance:
            return (shown * error).sum() / total.clamp(min=1.0)
        _check_joints(self, error, heatmaps)
        raw = shown * self.keypoint_weights() * (joint_peaks(heatmaps) + _PEAK_FLOOR)  # (N, J)
        weights = raw * (shown.sum(1) / raw.sum(1).clamp(min=_TINY)).unsqueeze(1)
        mean_error = ((shown * error).sum() / total.clamp(min=_TINY)).detach()
        surprise = -(self.keypoint_logits.float().log_softmax(0) + math.log(self.num_keypoints))
        return (weights * error).sum() / total.clamp(min=1.0) + (
            self.balance * mean_error * surprise.mean()
        )


@MODELS.register_module()
class MaskedTokenDistilLoss(_DistilLoss):
    """The token loss over a part of the tokens of each sample.

    Which tokens are left out at random is drawn by torch's own generator of the tokens' device:
    it follows from the run's seed, and from epoch and process where the runner seeds anew at each
    epoch as ours does, so a resumed run draws as one that was never stopped.

    Args:
        loss_weight: factor of the loss.
        mask_ratio: part of the tokens that is left out, in [0, 1); one always stays.
        mask_strategy: 'random', or 'importance': the lowest in the teacher's heatmaps are left
            out, visual tokens by their cell's foreground, keypoint tokens by their joint's peak
            times its visibility.
        detach_teacher: as in TokenDistilLoss: see there what True did.

    """

    def __init__(
        self,
        loss_weight: float = 1e-5,
        mask_ratio: float = 0.3,
        mask_strategy: str = "random",
        detach_teacher: bool = True,
    ) -> None:
        super().__init__(loss_weight, detach_teacher)
        self.mask_ratio, self.mask_strategy = mask_ratio, mask_strategy
        _option(self, "mask_ratio", mask_ratio, 0 <= mask_ratio < 1, "a number in [0, 1)")
        known = mask_strategy in ("random", "importance")
        _option(self, "mask_strategy", mask_strategy, known, "'random' or 'importance'")

    def weigh(self, error: Any, heatmaps: Any, grid: tuple[int, int] | None, visible: Any) -> Any:
        """Return the mean of the errors (N, T) that are kept."""
        tokens = error.shape[1]
        left_out = min(round(self.mask_ratio * tokens), tokens - 1)
        if self.mask_strategy == "random":
            scores = torch.rand_like(error)
        elif grid is not None:
            cells = _checked_grid(self, error, heatmaps, grid)
            scores = token_foreground(heatmaps, cells, threshold=0.1, temperature=1.0)
        else:
            _check_joints(self, error, heatmaps)
            scores = joint_peaks(heatmaps) * _visibility(self, error, visible)
        lowest = scores.argsort(dim=1, stable=True)[:, :left_out]  # the first of equal ones
        kept = torch.ones_like(error).scatter(1, lowest, 0.0)
        # Products, not a selection: NaN in a token or a score shows, kept or not.
        return ((kept + 0.0 * scores) * error).sum() / (len(error) * (tokens - left_out))
