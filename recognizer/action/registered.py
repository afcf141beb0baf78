"""Everything of ours that a config of mmaction2 may name: import it, and names are known."""

from recognizer.action import augmentation, body_transform, network, pose_dataset, transforms
from recognizer.openmmlab import load_mmaction
from recognizer.runner import hooks, seeding

load_mmaction()
from mmaction.registry import HOOKS, OPTIM_WRAPPERS  # noqa: E402

hooks.override_registered(HOOKS, OPTIM_WRAPPERS)

__all__ = [
    "augmentation",
    "body_transform",
    "hooks",
    "network",
    "pose_dataset",
    "seeding",
    "transforms",
]
