"""Everything of ours that a config of mmaction2 may name: import it, and names are known."""

from recognizer.action import augmentation, body_transform, network, pose_dataset, transforms
from recognizer.action.mmaction import HOOKS, OPTIM_WRAPPERS
from recognizer.runner import hooks, seeding

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
