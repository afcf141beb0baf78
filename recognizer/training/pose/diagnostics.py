"""Checks of train.check beside losses and gradients: heatmaps, data, cost, decoding."""

import contextlib
import io
import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

DataBatch = Mapping[str, Any]  # inputs and data_samples, as mmpose's loaders give them

# A target's peak is 1. Heatmaps that differ by less over all of a map hold no peak that decoding
# could find, and float32 sums of the head's 384 terms are good to about 1e-6 of them.
FLAT = 1e-4
# How much heatmaps differ from person to person, over how much they differ from place to place.
# At their start S-V1 and T give 0.04 (noise) to 0.16 (pictures); where nothing of the picture comes
# through only rounding is left, 1e-6 and less.
ALIKE = 1e-4


def has_heatmaps(model: "BaseModel") -> bool:
    """Return whether a network's head gives heatmaps; RTMO's gives scores, boxes and vectors."""
    return not hasattr(model.head, "prior_generator")


def heatmaps_of(model: "BaseModel", data_batch: DataBatch) -> Tensor:
    """Return the heatmaps (N, J, H, W) of a training batch, with the batch's own statistics.

    Running statistics of batch norms are still far from their values after some iterations, so
    the network stays in training mode; they are put back afterwards.
    """
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        data = model.data_preprocessor(data_batch, training=True)
        heatmaps = model(data["inputs"], None, mode="tensor")
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return torch.as_tensor(heatmaps).float()


def check_heatmaps(heatmaps: Tensor) -> tuple[list[int], float | None]:
    """Return the joints whose maps are flat for all people, and how alike people's maps are.

    Args:
        heatmaps: (N, J, H, W).

    Returns:
        the second is the standard deviation over people divided by that over places, None with
        less than two people or flat maps.

    """
    spread = heatmaps.amax((2, 3)) - heatmaps.amin((2, 3))  # (N, J)
    flat = [int(joint) for joint in (~(spread >= FLAT)).all(0).nonzero()]
    if len(heatmaps) < 2 or flat:
        return flat, None
    between = heatmaps.std(0, correction=0).square().mean().sqrt()
    within = heatmaps.std((2, 3), correction=0).square().mean().sqrt()
    return flat, float(between / within)


def data_lines(runner: "Runner", data_batch: DataBatch) -> list[str]:
    """Return the size of the training data."""
    loader = runner.train_dataloader
    labels = [sample.gt_instance_labels for sample in data_batch["data_samples"]]
    one_stage = bool(labels) and "keypoint_weights" not in labels[0]
    name, unit = ("keypoints_visible", "pictures") if one_stage else ("keypoint_weights", "people")
    shown = torch.cat([label[name] for label in labels]).gt(0).float().sum(1)
    people = f"{len(shown) / max(1, len(labels)):.1f} people per picture and " if one_stage else ""
    return [
        f"training data: {len(loader.dataset)} {unit}, {len(loader)} iterations per epoch of "
        f"{loader.batch_size}; {people}{shown.mean():.1f} labelled joints per person of the last "
        "batch"
    ]


def cost_lines(model: nn.Module, data_batch: DataBatch) -> list[str]:
    """Return the cost of the network, for pictures of this batch's size."""
    from recognizer.sdpose.cost import describe, network_cost
    from recognizer.sdpose.head import SDPoseHead

    if not isinstance(model.head, SDPoseHead):
        return []
    height, width = data_batch["inputs"][0].shape[-2:]
    return describe(network_cost(model, (width, height), model.head.cycles)).splitlines()


def validated(runner: "Runner") -> list[str]:
    """Decode and evaluate one batch of validation data."""
    loop = runner.val_loop
    if loop is None:
        return ["no validation: the config has no val_dataloader"]
    batch = next(iter(loop.dataloader))
    runner.model.eval()
    with torch.no_grad():
        outputs = runner.model.val_step(batch)
    loop.evaluator.process(data_samples=outputs, data_batch=batch)
    with contextlib.redirect_stdout(io.StringIO()):  # a table of the metrics below
        metrics = loop.evaluator.evaluate(len(outputs))
    scores = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
    unit = "people" if has_heatmaps(getattr(runner.model, "module", runner.model)) else "pictures"
    return [
        f"validation data: {len(loop.dataloader.dataset)} {unit}; {len(outputs)} of them decoded "
        f"and measured (the rest count as missed): {scores}"
    ]


def memory() -> str:
    """Return the peak of memory."""
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of the GPU's memory at most"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / 2**20:.2f} GiB of memory at most, all in all"
