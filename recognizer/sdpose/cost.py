"""The cost of an SDPose network: parameters, multiply-adds, and the GFLOPs of papers.

Two ways of counting are in use and they differ by up to 60 %. ``macs_with_attention`` is what the
arithmetic is: one multiply-add of every convolution, matrix product and attention. The GFLOPs
published for SDPose come from mmcv's counter, which sees modules only: no attention, but batch
norms, layer norms and ReLUs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """One image through a network, in multiply-adds (MACs) unless named otherwise."""

    cycles: int
    parameters: int  # trainable
    parameters_with_table: int  # and the frozen position table, a parameter where published
    macs_with_attention: int
    macs_without_attention: int
    macs_inference: int  # what inference really runs, with attention: one cycle, trimmed
    published_gflops: float  # mmcv's way: multiply-adds, called FLOPs there, in 1e9


def network_cost(model: Any, input_size_wh: tuple[int, int] = (192, 256), cycles: int = 1) -> Cost:
    """Count what ``cycles`` cycles of one image cost.

    Args:
        model: a TopdownPoseEstimator with an SDPoseHead; its mode is left as it was.
        input_size_wh: (width, height) of the image.
        cycles: how many, each with its heatmaps.

    Raises:
        ValueError: fewer cycles than 1, or a size that does not fit the network.

    """
    if cycles < 1:
        raise ValueError(f"network_cost: expected cycles >= 1, got {cycles}")
    first = next(model.parameters())
    width, height = input_size_wh
    image = torch.zeros(1, 3, height, width, device=first.device, dtype=first.dtype)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _published_count(model) as published:
            total, attention = _macs(
                lambda: model.head.run_cycles(model.extract_feat(image), cycles)
            )
        with torch.no_grad():
            inference, _ = _macs(lambda: model(image, None, mode="tensor"))
    finally:
        model.train(training)
    parameters = sum(each.numel() for each in model.parameters() if each.requires_grad)
    rows, columns = model.head.grid
    return Cost(
        cycles=cycles,
        parameters=parameters,
        parameters_with_table=parameters + rows * columns * model.head.transformer.table.shape[-1],
        macs_with_attention=total,
        macs_without_attention=total - attention,
        macs_inference=inference,
        published_gflops=sum(published) / 1e9,
    )


def describe(cost: Cost) -> str:
    """Return the cost as a few lines to read, counted both ways."""
    cycles = f"{cost.cycles} cycle{'s' if cost.cycles > 1 else ''}"
    return "\n".join(
        [
            f"parameters: {cost.parameters:,} trainable "
            f"({cost.parameters_with_table:,} with the frozen position table)",
            f"GMACs of {cycles}: {cost.macs_with_attention / 1e9:.3f} with attention, "
            f"{cost.macs_without_attention / 1e9:.3f} without",
            f"GFLOPs of {cycles} as published (mmcv's counter, which sees no attention): "
            f"{cost.published_gflops:.3f}",
            f"GMACs that inference runs, with attention: {cost.macs_inference / 1e9:.3f}",
        ]
    )


def _macs(run: Callable[[], object]) -> tuple[int, int]:
    """Return the multiply-adds of a call, and how many of them are attention's."""
    # Only this backend is made of operations that the counter knows on every device: its two
    # matrix products per attention are the only batched ones in the network.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    batched = counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0)
    return counter.get_total_flops() // 2, batched // 2


@contextmanager
def _published_count(model: Any) -> Iterator[list[int]]:
    """Collect what mmcv's counter adds up while the block runs, module call by module call."""
    counts: list[int] = []
    linear = model.head.transformer.patch_embedding

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts.append(_published(module, inputs[0], output, biased=module is not linear))

    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.Upsample)
    hooks = [
        module.register_forward_hook(count) for module in model.modules() if type(module) in kinds
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def _published(module: nn.Module, given: Tensor, output: Tensor, *, biased: bool) -> int:
    """Return mmcv's count of one call. ``biased``: the published module counts its bias."""
    if isinstance(module, nn.Conv2d):
        macs = output.numel() * module.weight[0].numel()
        # The patch embedding is a Linear where it was counted, and those are without bias.
        return macs + (output.numel() if biased and module.bias is not None else 0)
    if isinstance(module, nn.Linear):
        return given.numel() * module.out_features
    if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
        return 2 * given.numel()
    return output.numel()
