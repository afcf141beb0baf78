"""Everything of ours that a config of mmaction2 may name: import it, and names are known."""

from recognizer.action import network, pose_dataset, transforms

__all__ = ["network", "pose_dataset", "transforms"]
