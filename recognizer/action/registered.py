"""Everything of ours that a config of mmaction2 may name: import it, and names are known."""

from recognizer.action import (
    augmentation,
    body_transform,
    hooks,
    network,
    pose_dataset,
    seeding,
    transforms,
)

__all__ = [
    "augmentation",
    "body_transform",
    "hooks",
    "network",
    "pose_dataset",
    "seeding",
    "transforms",
]
