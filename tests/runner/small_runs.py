"""Trainings of one weight that take a moment, by the runner that all trainings run on."""

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from torch.utils.data import DataLoader

from recognizer.runner.hooks import PlainCheckpointHook
from recognizer.runner.run import SafeRunner, global_state
from recognizer.sdpose import hooks  # noqa: F401


class OneWeight(BaseModel):
    """Its losses are the targets; SGD with momentum moves the weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, target, mode="tensor"):
        if mode == "predict":
            return [None]
        own = 0 * self.weight.square().sum()
        return {
            "heatmap_loss": target.mean() + own,
            "vis_dist_loss": target.mean() * 1e-5,
            "kpt_dist_loss": target.mean() * 1e-8,
        }


class GivenAP(BaseMetric):
    """Gives one AP after another."""

    def __init__(self, values):
        super().__init__(prefix="coco")
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {"AP": next(self.values)}


def loader(losses):
    return DataLoader([{"target": torch.tensor(float(value))} for value in losses], batch_size=1)


def train(folder, losses, aps, *, resume=False, load_from=None, epochs=None):
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
