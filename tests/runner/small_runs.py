"""Trainings of one weight that take a moment, by the runner that all trainings run on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from torch import Tensor
from torch.utils.data import DataLoader

from recognizer.runner.hooks import PlainCheckpointHook
from recognizer.runner.run import SafeRunner, global_state
from recognizer.sdpose import hooks  # noqa: F401


class OneWeight(BaseModel):  # type: ignore[misc]  # mmengine has no types
    """Its losses are the targets; SGD with momentum moves the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, target: Tensor, mode: str = "tensor") -> Any:
        if mode == "predict":
            return [None]
        own = 0 * self.weight.square().sum()
        return {
            "heatmap_loss": target.mean() + own,
            "vis_dist_loss": target.mean() * 1e-5,
            "kpt_dist_loss": target.mean() * 1e-8,
        }


class GivenAP(BaseMetric):  # type: ignore[misc]  # mmengine has no types
    """Gives one AP after another."""

    def __init__(self, values: Iterable[float]) -> None:
        super().__init__(prefix="coco")
        self.values = iter(values)

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {"AP": next(self.values)}


def loader(losses: Iterable[float]) -> DataLoader[dict[str, Tensor]]:
    targets: Any = [{"target": torch.tensor(float(value))} for value in losses]
    return DataLoader(targets, batch_size=1)


def train(
    folder: Path,
    losses: Sequence[float],
    aps: Sequence[float],
    *,
    resume: bool = False,
    load_from: str | None = None,
    epochs: int | None = None,
) -> Path:
    """Train one epoch for each AP, or to ``epochs``; the hooks are those of SDPose's configs."""
    with global_state():
        runner = SafeRunner(
            model=OneWeight(),
            work_dir=str(folder),
            train_dataloader=loader(losses),
            train_cfg={"by_epoch": True, "max_epochs": epochs or len(aps)},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
            val_dataloader=loader([0.0]),
            val_cfg={"type": "ValLoop"},
            val_evaluator=Evaluator([GivenAP(aps)]),
            custom_hooks=[
                {"type": "TrainingMonitorHook"},
                {"type": "DetailedLossLogHook", "interval": 2},
                {"type": PlainCheckpointHook},
            ],
            default_hooks={
                "logger": {"type": "LoggerHook", "interval": 2},
                "checkpoint": {
                    "type": "CheckpointHook",
                    "interval": 1,
                    "save_best": "coco/AP",
                    "rule": "greater",
                },
            },
            log_processor={"type": "LogProcessor", "window_size": 1, "num_digits": 4},
            experiment_name=str(folder).replace("/", "_"),
            resume=resume,
            load_from=load_from,
        )
        runner.train()
    return folder
