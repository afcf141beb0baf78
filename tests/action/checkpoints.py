"""Checkpoints as mmengine saves them, with seeded random weights that nothing leaves at rest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine import Config
from mmengine.runner import save_checkpoint

from recognizer.action.features import FeatureSettings, from_pipeline, network_input
from recognizer.openmmlab import scope
from tests.action.clips import plain_steps, real_samples

BACKBONE: dict[str, Any] = {
    "gcn_adaptive": "init",
    "gcn_with_res": True,
    "tcn_type": "mstcn",
    "graph_cfg": {"layout": "coco", "mode": "spatial"},
    "num_stages": 4,
    "base_channels": 64,
    "inflate_stages": [2],
    "down_stages": [2],
}
META = {"service": "fight", "classes": ["NonFight", "Fight"], "window_s": 2.0, "threshold": 0.4}


def train_config(
    feats: Sequence[str] = ("b",),
    width: int = 12,
    classes: int = 2,
    kind: str = "STGCN",
    clip_len: int = 24,
    ann_file: Path | str = "",
) -> Any:
    """Return a config of the guide's model, narrower and shorter unless told."""
    backbone = {"type": kind, **BACKBONE, "base_channels": width}
    head: dict[str, Any] = {
        "type": "GCNHead",
        "num_classes": classes,
        "in_channels": 2 * width,
        "dropout": 0.3,
        "loss_cls": {"type": "CrossEntropyLoss", "class_weight": [1.0] * classes},
    }
    dataset: dict[str, Any] = {"type": "PoseDataset", "ann_file": str(ann_file)}
    dataset["pipeline"] = plain_steps(list(feats), clip_len=clip_len)
    backbone["in_channels"] = 3 * len(feats)
    return Config(
        {
            "model": {"type": "RecognizerGCN", "backbone": backbone, "cls_head": head},
            "test_dataloader": {"batch_size": 1, "dataset": dataset},
        }
    )


def random_recognizer(config: Any, seed: int = 0) -> Any:
    """Return mmaction2's recognizer with random weights that tells real clips apart.

    Its norms hold the statistics of real clips under those weights, and its head's bias puts
    their mean at probability 1/2: a network at rest would answer the same to everything.
    """
    from mmaction.registry import MODELS

    with scope("mmaction"):
        network = MODELS.build(config.model.to_dict())
    generator = torch.Generator().manual_seed(seed)
    clips = real_slots(from_pipeline(config.test_dataloader.dataset.pipeline))
    head = network.cls_head.fc
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(("weight", "bias", ".A", "PA")):
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network.train().backbone(clips)
        features = network.eval().backbone(clips).mean((1, 3, 4))
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
        head.weight.div_((features @ head.weight.t()).std())
        head.bias.copy_(-(features @ head.weight.t()).mean(0))
    return network


def real_slots(settings: FeatureSettings, number: int = 6) -> torch.Tensor:
    """Return (N, num_person, T, V, C) of real clips, absent people zeros."""
    clips = []
    for sample in real_samples()[-number:]:
        persons = torch.from_numpy(network_input(sample, settings))
        empty = torch.zeros(settings.num_person - len(persons), *persons.shape[1:])
        clips.append(torch.cat([persons, empty]))
    return torch.stack(clips)


def save(path: Path, config: Any, seed: int = 0, meta: Mapping[str, Any] | None = META) -> Path:
    """Save a checkpoint as mmengine's Runner does; return its path."""
    network = random_recognizer(config, seed)
    about = {"cfg": config.pretty_text, "epoch": 1, **({"recognizer": meta} if meta else {})}
    save_checkpoint({"meta": about, "state_dict": network.state_dict()}, str(path))
    return path
