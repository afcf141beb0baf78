"""One run of the distillation measurement: a shipped config's model, trained step by step.

The loop is lighter than mmengine's Runner, whose hooks and loaders would take longer than a step
of this small network and cannot run several trainings at once. Model, losses, optimiser and
clipping are the shipped config's, and a step equals one ``train_step``. bfloat16 needs no loss
scaling, so there is none. On a GPU a whole step is one CUDA graph.
"""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.fsd_batch import Batch
from recognizer.openmmlab import scope
from recognizer.sdpose.training import load_pose_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "body_2d_keypoint" / "sdpose" / "coco"
LOSSES = ("vis", "kpt")  # of the distillation: visual tokens, keypoint tokens
ITEMS = ("heatmap_loss", "vis_dist_loss", "kpt_dist_loss")
EPOCHS = 300  # of the configs; their schedules are scaled from it
STARTS = ("published", "spread")


@dataclass(frozen=True)
class Kind:
    """A shipped config, and the losses whose teacher is detached.

    ``detached``: of ``LOSSES``. In every other loss the teacher gets its gradient, as shipped.
    """

    name: str
    config: str
    detached: tuple[str, ...] = ()


KINDS = (
    Kind("baseline", "stemnet"),
    Kind("fsd, teacher detached", "fsd", ("vis",)),
    Kind("fsd, gradient to teacher", "fsd"),
    Kind("fsd_best, teacher detached", "fsd_best", LOSSES),
    Kind("fsd_best, gradient to teacher", "fsd_best"),
    Kind("fsd_dynamic, teacher detached", "fsd_dynamic", ("vis",)),
    Kind("fsd_dynamic, gradient to teacher", "fsd_dynamic"),
    Kind("maskedkd, teacher detached", "maskedkd", ("vis",)),
    Kind("maskedkd, gradient to teacher", "maskedkd"),
)
"""Detached where the loss's own default is: the keypoint loss of all but fsd_best is SDPose's."""


@dataclass(frozen=True)
class Recipe:
    """What of a training does not come from the config.

    Attributes:
        rate: learning rate after the warm-up; the config's is for batches of 512.
        beta2: of Adam.
        warmup: iterations where the config says 500; others in proportion.
        half: compute in bfloat16.
        compiled: compile the transformer's blocks for training.
        depth: blocks, in dry runs; None as in the config.

    """

    rate: float = 1e-3
    beta2: float = 0.999
    warmup: int = 100
    half: bool = True
    compiled: bool = False
    depth: int | None = None


def configured(kind: Kind, recipe: Recipe, device: torch.device) -> Any:
    """Return a kind's shipped config with the changes that the measurement makes."""
    cfg = load_pose_config(CONFIGS / f"sdpose_s_v1_{kind.config}_coco_256x192.py")
    head = cfg.model.head
    for loss in LOSSES:
        head[f"loss_{loss}_token_dist"].detach_teacher = loss in kind.detached
    if recipe.depth:
        head.depth = recipe.depth
    optimiser = cfg.optim_wrapper.optimizer
    optimiser.update(lr=recipe.rate, betas=(0.9, recipe.beta2))
    if device.type == "cuda":  # the whole update in a graph, by one kernel
        optimiser.update(capturable=True, fused=True)
    cfg.model.train_cfg = {"compute_acc": False}
    return cfg


def first_weights(start: str, seed: int, recipe: Recipe) -> dict[str, Any]:
    """Return the weights that every kind starts from.

    ``published``: as SDPose initialises. ``spread``: as benchmarks.sdpose_overfit starts, which
    leaves the plateau of near-zero heatmaps sooner.

    Raises:
        ValueError: another start.

    """
    from mmpose.registry import MODELS

    from benchmarks.sdpose_overfit import spread_tokens

    if start not in STARTS:
        raise ValueError(f"start: expected one of {STARTS}, got {start!r}")
    torch.manual_seed(seed)
    cfg = configured(KINDS[0], recipe, torch.device("cpu"))
    with scope("mmpose"):
        model = MODELS.build(cfg.model)
    model.init_weights()
    if start == "spread":
        spread_tokens(model)
    return {name: value.clone() for name, value in model.state_dict().items()}


class Run:
    """A kind in training.

    Args:
        kind: what is trained.
        recipe: as above.
        batch: the tensors that every step reads; the caller fills them.

    """

    def __init__(self, kind: Kind, recipe: Recipe, batch: Batch) -> None:
        from mmengine.optim import build_optim_wrapper
        from mmpose.registry import MODELS

        self.kind, self.recipe, self.device = kind, recipe, batch.images.device
        cfg = configured(kind, recipe, self.device)
        with scope("mmpose"):
            self.model: Any = MODELS.build(cfg.model).to(self.device)
            self.optimizer = build_optim_wrapper(self.model, cfg.optim_wrapper).optimizer
        if self.device.type == "cuda":
            self.model.backbone.to(memory_format=torch.channels_last)
            rate = torch.tensor(recipe.rate, device=self.device)
            for group in self.optimizer.param_groups:
                group["lr"] = rate  # one tensor, which the graph reads
        self.clip = cfg.optim_wrapper.get("clip_grad")
        self.warmup = recipe.warmup * cfg.param_scheduler[0].end / 500
        self.drops = [each / EPOCHS for each in cfg.param_scheduler[1].milestones]
        self._images, self._samples = batch.images, samples_of(batch)
        self.sums = torch.zeros(len(ITEMS) + 1, device=self.device)
        self.peak = torch.zeros((), device=self.device)
        self._watch_tokens()
        self._growing = self._hold_weights()
        self._blocks = [(block, block.forward) for block in self.model.head.transformer.blocks]
        self.graph: Any = None
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.done = torch.cuda.Event() if self.stream else None

    def reset(self, weights: dict[str, Any]) -> None:
        """Start anew from these weights; graph and memory stay."""
        _, unexpected = self.model.load_state_dict(weights, strict=False)
        if unexpected:
            raise ValueError(f"{self.kind.name}: weights for {unexpected[:3]}, which it has not")
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name not in weights:  # learnt weights of the joints
                    parameter.zero_()
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
        self.read()

    def set_progress(self, step: int, progress: float) -> None:
        """Set rate and epoch for a step, ``progress`` in [0, 1] of the configs' 300 epochs."""
        warm = min(1.0, 0.001 + 0.999 * step / max(1.0, self.warmup))
        rate = self.recipe.rate * warm * 0.1 ** sum(progress >= drop for drop in self.drops)
        groups = self.optimizer.param_groups
        if isinstance(groups[0]["lr"], torch.Tensor):
            groups[0]["lr"].fill_(rate)
        else:
            for group in groups:
                group["lr"] = rate
        for loss in self._growing:
            loss.set_epoch(progress * EPOCHS)
            type(loss).weights(loss)  # writes its buffer, which the graph reads

    def step(self) -> None:
        """Take one step on what the batch's tensors hold."""
        if self.graph is None:
            self.compute()
        else:
            self.graph.replay()

    def compute(self) -> None:
        """Forward, backward, clipping, update; add the losses to the sums."""
        kind = self.device.type
        autocast: Any = contextlib.nullcontext()
        if self.recipe.half:
            autocast = torch.autocast(kind, torch.bfloat16, cache_enabled=False)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast:
            losses = self.model(self._images, self._samples, mode="loss")
        total, _ = self.model.parse_losses(losses)
        total.backward()
        if self.clip:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, **self.clip)
        self.optimizer.step()
        items = [losses[name].detach().float() for name in ITEMS]
        self.sums += torch.stack([*items, torch.ones_like(items[0])])

    def capture(self) -> None:
        """Record a step as a CUDA graph; changes the weights: reset afterwards."""
        if self.stream is None:
            raise RuntimeError("expected a CUDA device to record a graph on, got a CPU")
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self.compute()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph, stream=self.stream):
            self.compute()
        self.graph = graph

    def run_plainly(self) -> None:
        """Go on without graph and compiled blocks, after one of them has failed."""
        self.graph, self.recipe = None, replace(self.recipe, compiled=False)
        self.train(True)

    def read(self) -> dict[str, float]:
        """Return mean losses and the largest token since the last reading."""
        *sums, count = self.sums.tolist()
        result = {name: value / max(count, 1) for name, value in zip(ITEMS, sums, strict=True)}
        result["max_token"] = self.peak.item()
        self.sums.zero_()
        self.peak.zero_()
        return result

    def heatmaps(self, images: Any) -> Any:
        """Return (B, 17, 64, 48) float32 with flip test, as the config's test_cfg says."""
        from mmpose.models.utils.tta import flip_heatmaps

        from recognizer.skeleton import FLIP_INDEX

        autocast: Any = contextlib.nullcontext()
        if self.recipe.half:
            autocast = torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)
        with torch.no_grad(), autocast:
            plain, mirrored = (
                self.model(each, None, mode="tensor").float() for each in (images, images.flip(-1))
            )
        mirrored = flip_heatmaps(
            mirrored, flip_mode="heatmap", flip_indices=FLIP_INDEX.tolist(), shift_heatmap=True
        )
        return (plain + mirrored) / 2

    def train(self, training: bool) -> None:
        """Go into training or evaluation; compiled blocks are for training alone."""
        self.model.train(training)
        for block, plain in self._blocks:
            if training and self.recipe.compiled:
                block.forward = torch.compile(plain, dynamic=False)
            elif "forward" in vars(block):
                del block.forward

    def _watch_tokens(self) -> None:
        """Keep the largest absolute token of all cycles in ``peak``: running away shows there."""
        run = self.model.head.run_cycles

        def watched(feats: Any, cycles: int) -> Any:
            outputs = run(feats, cycles)
            for output in outputs:
                for tokens in (output.visual_tokens, output.keypoint_tokens):
                    torch.maximum(self.peak, tokens.detach().abs().amax().float(), out=self.peak)
            return outputs

        self.model.head.run_cycles = watched

    def _hold_weights(self) -> list[Any]:
        """Let dynamic losses read their weights from the buffer, which ``set_progress`` writes."""
        head = self.model.head
        losses = (head.loss_vis_token_dist, head.loss_kpt_token_dist)
        growing = [loss for loss in losses if hasattr(loss, "set_epoch")]
        for loss in growing:
            loss.weights = lambda loss=loss: (loss.current[0], loss.current[1])
        return growing


def samples_of(batch: Batch) -> list[Any]:
    """Return mmpose's data samples whose targets are the batch's own tensors."""
    from mmengine.structures import InstanceData, PixelData
    from mmpose.structures import PoseDataSample

    samples = []
    for heatmaps, weights in zip(batch.heatmaps, batch.weights, strict=True):
        sample = PoseDataSample(metainfo={})
        sample.gt_fields = PixelData(heatmaps=heatmaps)
        sample.gt_instance_labels = InstanceData(keypoint_weights=weights[None])
        samples.append(sample)
    return samples
