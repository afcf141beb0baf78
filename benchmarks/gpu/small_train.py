"""Training of the small network: steps, the moving average of its weights, and how fast it runs."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.small_augment import Batch, Pool, Strength, augment
from benchmarks.gpu.small_loss import losses
from benchmarks.gpu.small_network import Cells, SmallPose, start_layers

_WARM_UP = 0.03  # of the training
_AVERAGE = 1000  # steps over which weights are averaged, at most


@dataclass(frozen=True)
class Recipe:
    """How the network is trained."""

    batch: int = 128
    rate: float = 1.5e-3  # of new layers
    rate_start: float = 4e-4  # of the layers that begin with YOLOX-nano's weights
    decay: float = 0.05
    clip: float = 10.0
    strength: Strength = field(default_factory=Strength)


@dataclass(frozen=True)
class Mode:
    """How the GPU computes: its number type, the order of channels, and recorded launches."""

    name: str
    bf16: bool = True
    channels_last: bool = True
    graph: bool = False


# channels_last is left out: the first step takes 10 s (H200, cuDNN 9.19) and the others are slower.
MODES = (
    Mode("bf16", channels_last=False),
    Mode("bf16, CUDA graph", channels_last=False, graph=True),
)
PLAIN = Mode("fp32", bf16=False, channels_last=False)


class _Flat(nn.Module):
    """The network with a tuple as its answer: what CUDA graphs can record."""

    def __init__(self, network: SmallPose) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        cells = self.network(x)
        return cells.boxes, cells.logits, cells.features, cells.detail


class Trainer:
    """A network in training.

    Args:
        network: on the device.
        pool: what it learns from.
        recipe: rates and batch.
        mode: see ``Mode``.

    """

    def __init__(self, network: SmallPose, pool: Pool, recipe: Recipe, mode: Mode) -> None:
        self.network, self.pool, self.recipe, self.mode = network, pool, recipe, mode
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = 0
        self._optimizer = _optimizer(network, recipe)
        self._forward = self._recorded() if mode.graph else network
        order = torch.channels_last if mode.channels_last else torch.contiguous_format
        network.to(memory_format=order)  # type: ignore[call-overload]

    def _cast(self) -> Any:
        if not self.mode.bf16:
            return nullcontext()
        device = "cuda" if self.pool.pictures.is_cuda else "cpu"
        return torch.autocast(device, torch.bfloat16, cache_enabled=not self.mode.graph)

    def _recorded(self) -> Callable[[Tensor], Cells]:
        """Return the network's forward and backward pass as CUDA graphs."""
        if self.mode.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        side = self.pool.pictures.shape[-1]
        device = self.pool.pictures.device
        example = torch.rand(self.recipe.batch, 3, side, side, device=device)
        with self._cast():
            flat: Any = torch.cuda.make_graphed_callables(
                _Flat(self.network), (self._order(example),), allow_unused_input=True
            )  # the poses' perceptrons are not recorded
        return lambda x: Cells(*flat(x))

    def _order(self, pictures: Tensor) -> Tensor:
        if self.mode.channels_last:
            return pictures.contiguous(memory_format=torch.channels_last)
        return pictures.contiguous()

    def backward(self) -> dict[str, Tensor]:
        """Compute the losses of a fresh batch and their gradients."""
        batch = augment(self.pool, self.recipe.batch, self.recipe.strength)
        batch = Batch(self._order(batch.pictures), *batch.labels())
        with self._cast():
            parts = losses(self.network, batch, self._forward)
        torch.stack(list(parts.values())).sum().backward()
        return parts

    def step(self, progress: float) -> dict[str, Tensor]:
        """Learn from one batch; ``progress`` is the part of the training that is over."""
        factor = min(1.0, progress / _WARM_UP) * (0.02 + 0.98 * _cosine(progress))
        for group in self._optimizer.param_groups:
            group["lr"] = group["base"] * max(factor, 1e-3)
        parts = self.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        # A step whose gradients are not finite is left out, on the device, without waiting for it.
        self._optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=not self.mode.graph)
        self.steps += 1
        self._update_average()
        return parts

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(1 - 1 / _AVERAGE, self.steps / (self.steps + 10))
        own = [p.detach() for p in self.network.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), own, 1 - keep)

    def state(self) -> dict[str, Any]:
        """Return all that a later call needs to go on."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where an earlier call ended."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _optimizer(network: SmallPose, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW: weights of old and new layers at their rates, biases without decay."""
    old = {id(p) for layer in start_layers(network) for p in layer.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault((id(parameter) in old, parameter.dim() > 1), []).append(parameter)
    rates = [
        {
            "params": members,
            "base": recipe.rate_start if is_old else recipe.rate,
            "weight_decay": recipe.decay if decays else 0.0,
        }
        for (is_old, decays), members in groups.items()
    ]
    return torch.optim.AdamW(rates, lr=recipe.rate, fused=True)


def measure(network: SmallPose, pool: Pool, recipe: Recipe, mode: Mode, steps: int) -> float:
    """Return the milliseconds of a training step; nothing is learnt."""
    trainer = Trainer(copy.deepcopy(network), pool, recipe, mode)
    spans = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        trainer.backward()
        trainer.network.zero_grad(set_to_none=not mode.graph)
        if pool.pictures.is_cuda:
            torch.cuda.synchronize()
        spans.append((time.perf_counter() - start) * 1000)
    return sorted(spans[3:])[steps // 2]
