"""The graph convolution of ST-GCN, joints first: what the joints exchange is never kept whole.

mmaction2 makes K * C' channels per joint and then sums them over the graph. The sum over the
graph and the sum over channels commute, so here the joints are mixed first, in C channels
(C <= C' in all published configs), and one product over K * C follows. Both run on a few
frames at a time, so that the mixed joints stay in the processor's cache: on a CPU, writing
them out costs more than computing them, which is why backward computes them again.
"""

from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = 1 << 20
"""How much of the mixed joints is held at once on a CPU: about one core's cache."""


def graph_conv(x: Tensor, adjacency: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """Return ``sum over k, v, c of adjacency[k, v, w] weight[k, c, d] x[p, c, t, v] + offset``.

    Args:
        x: (P, C, T, V), fastest in channels_last.
        adjacency: (K, V, V), from joint v to joint w.
        weight: (K, C, D).
        offset: (V, D), added to every frame.

    Returns:
        (P, D, T, V), channels_last.

    """
    people, _, frames, joints = x.shape
    subsets, channels, wide = weight.shape
    mix = adjacency.permute(2, 0, 1).reshape(joints * subsets, joints)
    rows = x.permute(0, 2, 3, 1)
    dense = weight.reshape(subsets * channels, wide)
    if torch.onnx.is_in_onnx_export():
        mixed = (mix @ rows).reshape(people, frames, joints, subsets * channels)
        return (mixed @ dense + offset).permute(0, 3, 1, 2)
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        rows, mix, dense, offset = (value.to(kind) for value in (rows, mix, dense, offset))
    rows = rows.reshape(people * frames, joints, channels)
    y: Tensor = _JointsFirst.apply(rows, mix, dense, offset)  # type: ignore[no-untyped-call]
    return y.view(people, frames, joints, wide).permute(0, 3, 1, 2)


class _JointsFirst(torch.autograd.Function):
    """``(mix @ rows[i]) @ dense + offset`` for every frame i, in chunks of frames.

    rows (F, V, C), mix (V * K, V), dense (K * C, D), offset (V, D) -> (F, V, D).
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mix: Tensor, dense: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(rows, mix, dense)
        frames, joints, _ = rows.shape
        y = rows.new_empty(frames, joints, dense.shape[1])
        with torch.autocast(rows.device.type, enabled=False):
            for part in _chunks(rows, dense):
                mixed = torch.matmul(mix, rows[part])
                y[part] = offset
                y[part].view(-1, y.shape[2]).addmm_(mixed.view(-1, dense.shape[0]), dense)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows, mix, dense = ctx.saved_tensors
        _, joints, channels = rows.shape
        grad = grad.contiguous()
        # Sums over thousands of frames: never in less than float32.
        exact = torch.promote_types(rows.dtype, torch.float32)
        grad_mix = torch.zeros_like(mix, dtype=exact)
        grad_dense = torch.zeros_like(dense, dtype=exact)
        grad_rows = torch.empty_like(rows)
        with torch.autocast(rows.device.type, enabled=False):
            for part in _chunks(rows, dense):
                flat = grad[part].view(-1, dense.shape[1])
                mixed = torch.matmul(mix, rows[part]).view(-1, dense.shape[0])
                grad_dense += mixed.t() @ flat
                grad_mixed = (flat @ dense.t()).view(-1, mix.shape[0], channels)
                grad_mix += torch.bmm(grad_mixed, rows[part].transpose(1, 2)).sum(0)
                torch.bmm(
                    mix.t().expand(len(grad_mixed), joints, -1), grad_mixed, out=grad_rows[part]
                )
        return (
            grad_rows,
            grad_mix.to(mix.dtype),
            grad_dense.to(dense.dtype),
            grad.sum(0, dtype=exact).to(grad.dtype),
        )


def _chunks(rows: Tensor, dense: Tensor) -> list[slice]:
    """Return slices over the frames, one for all of them where memory is not cached by a core."""
    frames, joints, _ = rows.shape
    size = frames
    if rows.device.type == "cpu":
        size = max(1, _CHUNK_BYTES // (joints * dense.shape[0] * rows.element_size()))
    return [slice(start, min(start + size, frames)) for start in range(0, frames, size)]
