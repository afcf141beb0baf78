"""The five losses that pull the tokens of one SDPose cycle towards those of the next.

SDPose (CVPR 2024) runs the same transformer several times; the tokens of an earlier cycle (the
student) learn from those of the next (the teacher). TokenDistilLoss is its loss, the others
weight it: by the foreground (after FSD-BEV, ECCV 2024), the foreground more and more as training
goes on, by joint, or by leaving tokens out (masked distillation). Registered with mmpose.

All are called in the same way, ``loss(student, teacher, heatmaps, grid, visible)``, and share one
scale: ``loss_weight`` times the mean over batch, tokens and channels of the squared difference
where every weight is 1. They compute in float32 whatever the input type; NaN in gives NaN out.
"""

import math
from typing import NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from recognizer.runner.engine import MessageHub
from recognizer.sdpose.foreground import foreground_weights, joint_peaks, token_foreground
from recognizer.sdpose.mmpose import MODELS

T = TypeVar("T")
Grid = tuple[int, int]
_PEAK_FLOOR = 0.05  # the least weight of a joint: one that the teacher does not see at all
_TINY = 1e-30  # keeps 0 / 0 at 0; below any sum of weights of a visible person


class Guidance(NamedTuple):
    """The inputs that weight the tokens' errors; None where they were not given."""

    heatmaps: Tensor | None  # (N, J, H, W)
    grid: Grid | None
    visible: Tensor | None  # (N, J)


def token_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over channels of the squared difference: (N, T) float32 of (N, T, D)."""
    return (student.float() - teacher.float()).square().mean(-1)


# --- checks and scale ----------------------------------------------------------------


class _DistilLoss(nn.Module):
    """Base of the losses: checks the input and scales the output of ``weigh``."""

    def __init__(self, loss_weight: float, detach_teacher: bool) -> None:
        super().__init__()
        self.loss_weight = self._number("loss_weight", loss_weight)
        self.detach_teacher = bool(detach_teacher)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        heatmaps: Tensor | None = None,
        grid: Grid | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
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
        if student.ndim != 3 or student.shape != teacher.shape or not student.numel():
            self._refuse(
                "student and teacher of one shape (N, T, D), none of them 0",
                f"{tuple(student.shape)} and {tuple(teacher.shape)}",
            )
        with torch.autocast(student.device.type, enabled=False):
            error = token_error(student, teacher.detach() if self.detach_teacher else teacher)
            return self.loss_weight * self.weigh(error, Guidance(heatmaps, grid, visible))

    def weigh(self, error: Tensor, guide: Guidance) -> Tensor:
        """Return the weighted mean of the tokens' errors (N, T)."""
        return error.mean()

    def _refuse(self, expected: str, got: object, name: str = "") -> NoReturn:
        label = f"{name}: " if name else ""
        raise ValueError(f"{type(self).__name__}: {label}expected {expected}, got {got}")

    def _option(self, name: str, value: T, fits: bool, expected: str) -> T:
        """Return an option's value if it fits; NaN never does: it compares false with all."""
        if not fits:
            self._refuse(expected, repr(value), name)
        return value

    def _number(self, name: str, value: float, *, above_zero: bool = False) -> float:
        fits = (value > 0 if above_zero else value >= 0) and value < math.inf
        return self._option(name, value, fits, f"a number {'>' if above_zero else '>='} 0")

    def _heatmaps(self, error: Tensor, guide: Guidance) -> Tensor:
        """Return the heatmaps if they fit the tokens: of a grid, or one for each joint."""
        heatmaps, (count, tokens) = guide.heatmaps, error.shape
        if heatmaps is None:
            self._refuse("the teacher's (N, J, H, W)", None, "heatmaps")
        if heatmaps.ndim != 4 or len(heatmaps) != count or not heatmaps.numel():
            self._refuse(f"({count}, J, H, W)", tuple(heatmaps.shape), "heatmaps")
        if guide.grid is None and heatmaps.shape[1] != tokens:
            joints = f"{heatmaps.shape[1]}; for visual tokens pass their grid"
            self._refuse(f"one for each of {tokens} keypoint tokens", joints, "heatmaps")
        return heatmaps

    def _foreground(
        self, error: Tensor, guide: Guidance, threshold: float = 0.1, temperature: float = 1.0
    ) -> Tensor:
        """Return the foreground share (N, gh * gw) of each visual token's cell."""
        grid, tokens = guide.grid, error.shape[1]
        if grid is None or len(grid) != 2 or grid[0] * grid[1] != tokens:
            self._refuse(f"(gh, gw) with gh * gw = {tokens}", repr(grid), "grid")
        cells = int(grid[0]), int(grid[1])
        return token_foreground(self._heatmaps(error, guide), cells, threshold, temperature)

    def _visibility(self, error: Tensor, visible: Tensor | None) -> Tensor:
        """Return the joints' weights (N, J), float32, without gradient; 1 where none are given."""
        if visible is None:
            return torch.ones_like(error)
        if visible.shape != error.shape:
            expected = f"{tuple(error.shape)}, a weight for each keypoint token"
            self._refuse(expected, tuple(visible.shape), "visible")
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
        self._option("dist_type", dist_type, dist_type == "L2", "'L2'")


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
        detach_teacher: give the teacher no gradient; True let the distillation outgrow the
            heatmap loss within 520 steps (see TokenDistilLoss).

    """

    def __init__(  # noqa: PLR0913 - the options of published configs
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
        self.foreground_weight = self._number("foreground_weight", foreground_weight)
        self.background_weight = self._number("background_weight", background_weight)
        self.threshold = self._number("threshold", threshold, above_zero=True)
        self.temperature = self._number("temperature", temperature, above_zero=True)
        self.use_spatial_weight = bool(use_spatial_weight)

    def weigh(self, error: Tensor, guide: Guidance) -> Tensor:
        """Return the mean of the errors (N, P), each times its token's weight."""
        if not self.use_spatial_weight:
            return error.mean()
        foreground = self._foreground(error, guide, self.threshold, self.temperature)
        inside, outside = self.weights()
        return (foreground_weights(foreground, inside, outside) * error).mean()

    def weights(self) -> tuple[Tensor | float, Tensor | float]:
        """Return the weights of foreground and background."""
        return self.foreground_weight, self.background_weight


@MODELS.register_module()
class DynamicForegroundDistilLoss(ForegroundTokenDistilLoss):
    """The foreground loss with weights that grow from 1 between two epochs.

    The epoch is the number of completed ones: the last value of ``set_epoch`` or, if that was
    never called, the one in mmengine's current MessageHub, that of the runner built last. So a
    run needs no hook for it, and a resumed one goes on where it was.

    Args:
        loss_weight: factor of the loss.
        start_epoch: up to here it is exactly the token loss.
        end_epoch: from here on the weights are the two below.
        max_fg_weight: weight of the foreground at the end.
        min_bg_weight: weight of the background at the end.
        threshold, temperature, detach_teacher: as in ForegroundTokenDistilLoss.

    """

    current: Tensor

    def __init__(  # noqa: PLR0913 - the options of published configs
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
        self._number("max_fg_weight", max_fg_weight)
        self._number("min_bg_weight", min_bg_weight)
        super().__init__(
            loss_weight, max_fg_weight, min_bg_weight, threshold, temperature, True, detach_teacher
        )
        self.start_epoch = self._number("start_epoch", start_epoch)
        fits = start_epoch <= end_epoch < math.inf
        self.end_epoch = self._option("end_epoch", end_epoch, fits, f">= {start_epoch}")
        self.epoch: float | None = None
        # In a buffer, so that torch.compile does not compile anew for each epoch's weights.
        self.register_buffer("current", torch.ones(2), persistent=False)

    def set_epoch(self, epoch: float) -> None:
        """Set the number of completed epochs; from now on nothing else does.

        Raises:
            ValueError: a negative number or none.

        """
        self.epoch = self._number("epoch", epoch)

    def progress(self) -> float:
        """Return the progress of the weights from 1 to their end, in [0, 1]."""
        epoch = self.epoch
        if epoch is None:
            epoch = float(MessageHub.get_current_instance().get_info("epoch", 0))
        if epoch <= self.start_epoch:
            return 0.0
        if epoch >= self.end_epoch:
            return 1.0
        return (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def weights(self) -> tuple[Tensor | float, Tensor | float]:
        """Return the weights of foreground and background at this epoch, as tensors."""
        done = self.progress()
        inside = 1.0 + done * (self.foreground_weight - 1.0)
        outside = 1.0 - done * (1.0 - self.background_weight)
        self.current[0], self.current[1] = inside, outside
        return self.current[0], self.current[1]


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
        detach_teacher: give the teacher no gradient; True let the distillation outgrow the
            heatmap loss within 520 steps (see TokenDistilLoss).

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
        self._option("num_keypoints", num_keypoints, whole, "a whole number > 0")
        self.balance = self._number("balance", balance)
        self.use_keypoint_guidance = bool(use_keypoint_guidance)
        if self.use_keypoint_guidance:
            self.keypoint_logits = nn.Parameter(torch.zeros(num_keypoints))

    def keypoint_weights(self) -> Tensor:
        """Return the learnt weights (J,): positive, with sum J."""
        return self.num_keypoints * self.keypoint_logits.float().softmax(0)

    def weigh(self, error: Tensor, guide: Guidance) -> Tensor:
        """Return the mean of the visible joints' errors (N, J), weighted, and the second term."""
        if error.shape[1] != self.num_keypoints:
            remedy = "set num_keypoints, or use another loss for visual tokens"
            self._refuse(f"{self.num_keypoints} keypoint tokens", f"{error.shape[1]}; {remedy}")
        shown = self._visibility(error, guide.visible)
        total = shown.sum()
        if not self.use_keypoint_guidance:
            return (shown * error).sum() / total.clamp(min=1.0)
        peaks = joint_peaks(self._heatmaps(error, guide._replace(grid=None)))
        raw = shown * self.keypoint_weights() * (peaks + _PEAK_FLOOR)  # (N, J)
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
        detach_teacher: give the teacher no gradient; True let the distillation outgrow the
            heatmap loss within 520 steps (see TokenDistilLoss).

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
        self._option("mask_ratio", mask_ratio, 0 <= mask_ratio < 1, "a number in [0, 1)")
        known = mask_strategy in ("random", "importance")
        self._option("mask_strategy", mask_strategy, known, "'random' or 'importance'")

    def weigh(self, error: Tensor, guide: Guidance) -> Tensor:
        """Return the mean of the errors (N, T) that are kept."""
        tokens = error.shape[1]
        left_out = min(round(self.mask_ratio * tokens), tokens - 1)
        if self.mask_strategy == "random":
            scores = torch.rand_like(error)
        elif guide.grid is not None:
            scores = self._foreground(error, guide)
        else:
            peaks = joint_peaks(self._heatmaps(error, guide))
            scores = peaks * self._visibility(error, guide.visible)
        lowest = scores.argsort(dim=1, stable=True)[:, :left_out]  # the first of equal ones
        kept = torch.ones_like(error).scatter(1, lowest, 0.0)
        # Products, not a selection: NaN in a token or a score shows, kept or not.
        return ((kept + 0.0 * scores) * error).sum() / (len(error) * (tokens - left_out))
