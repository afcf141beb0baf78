"""Batch normalisation of a batch in which one item stands for several equal ones.

A training batch of skeletons holds many absent persons, all zeros and hence all equal in every
layer. Computing one of them is enough if the statistics count it as often as it was there;
outputs, gradients and running statistics are then those of the batch written out.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def supports(norm: Any) -> bool:
    """Say whether ``batch_norm`` does what this module would do."""
    return (
        type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
    )


def batch_norm(x: Tensor, norms: Sequence[BatchNorm], repeats: int, *, update: bool) -> Tensor:
    """Normalise the channels of several BatchNorm modules, side by side in ``x``, at once.

    Args:
        x: (P, C, H, W), fastest in channels_last.
        norms: modules that ``supports`` accepts, with C channels together.
        repeats: how many equal items of the full batch the last item of ``x`` stands for.
        update: whether running statistics take part in this call.

    Raises:
        ValueError: one value per channel in training, as in nn.BatchNorm2d.

    """
    weight, bias = joined(norms, "weight"), joined(norms, "bias")
    first = norms[0]
    if not first.training:
        mean, var = joined(norms, "running_mean"), joined(norms, "running_var")
        return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, first.eps)
    count = (x.shape[0] + repeats - 1) * x.shape[2] * x.shape[3]
    if count < 2:
        raise ValueError(
            f"batch norm: expected more than 1 value per channel in training, got {tuple(x.shape)}"
        )
    mean, var = _statistics(x.detach(), repeats)
    if update:
        _update(norms, mean, var * (count / (count - 1)))
    y: Tensor = _Weighted.apply(x, weight, bias, mean, var, repeats, first.eps)  # type: ignore[no-untyped-call]
    return y


def joined(modules: Sequence[nn.Module], name: str) -> Tensor:
    """Return a parameter or buffer of several modules, end to end."""
    values = [getattr(module, name) for module in modules]
    return values[0] if len(values) == 1 else torch.cat(values)


def as_affine(norms: Sequence[BatchNorm]) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C,) of several BatchNorm modules in eval mode, side by side."""
    scale = joined(norms, "weight") * torch.rsqrt(joined(norms, "running_var") + norms[0].eps)
    return scale, joined(norms, "bias") - joined(norms, "running_mean") * scale


class _Weighted(torch.autograd.Function):
    """Normalise by statistics of this very batch, whose last item counts ``repeats`` times."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *rest: float
    ) -> Tensor:
        ctx.repeats, ctx.eps = rest
        ctx.save_for_backward(x, weight, mean, var)
        return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, ctx.eps)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        inverse = torch.rsqrt(var + ctx.eps)
        # The gradient of an item that stands for several is already the sum over them. CUDA's
        # kernel wants mean and inverse deviation a second time, as saved ones.
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, mean, inverse, False, ctx.eps, [False, True, True]
        )
        count = (x.shape[0] + ctx.repeats - 1) * x.shape[2] * x.shape[3]
        scale = weight * inverse
        # d/dx of the statistics: -scale / count * (grad_bias + normalised x * grad_weight).
        slope = -scale * inverse * grad_weight / count
        shift = -scale * grad_bias / count - slope * mean
        scale, slope, shift = (
            value.to(x.dtype).view(1, -1, 1, 1) for value in (scale, slope, shift)
        )
        grad_x = torch.addcmul(shift, x, slope)
        if ctx.repeats > 1:
            grad_x[-1] *= ctx.repeats
        grad_x.addcmul_(grad, scale)
        return grad_x, grad_weight, grad_bias, None, None, None, None


def _statistics(x: Tensor, repeats: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance (C,) of the batch with its last item repeated."""
    if repeats == 1 or len(x) == 1:
        return _moments(x)
    mean, var = _moments(x[:-1])
    last_mean, last_var = _moments(x[-1:])
    share = repeats / (len(x) - 1 + repeats)
    difference = last_mean - mean
    # Chan, Golub, LeVeque (1979): the moments of a union, without losing digits.
    var = var.lerp(last_var, share) + difference.square() * (share * (1 - share))
    return mean + difference * share, var


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    exact = torch.promote_types(x.dtype, torch.float32)
    if x.device.type == "cpu":
        # Ten times faster than var_mean; the buffers only say in which type to answer.
        buffers = torch.zeros(2, x.shape[1], dtype=exact)
        mean, var = torch.batch_norm_update_stats(x, buffers[0], buffers[1], 0.0)
        return mean, var
    var, mean = torch.var_mean(x.to(exact), (0, 2, 3), correction=0)
    return mean, var


def _update(norms: Sequence[Any], mean: Tensor, var: Tensor) -> None:
    start = 0
    with torch.no_grad():
        for norm in norms:
            part = slice(start, start + norm.num_features)
            start = part.stop
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean[part].to(norm.running_mean.dtype), norm.momentum)
            norm.running_var.lerp_(var[part].to(norm.running_var.dtype), norm.momentum)
