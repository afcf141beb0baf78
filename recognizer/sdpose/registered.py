"""Everything of ours that a config of mmpose may name: import it, and names are known."""

from recognizer.openmmlab import load_mmpose
from recognizer.runner import hooks, seeding
from recognizer.sdpose import head, losses, stem
from recognizer.sdpose import hooks as monitoring

load_mmpose()
from mmpose.registry import HOOKS, OPTIM_WRAPPERS  # noqa: E402

hooks.override_registered(HOOKS, OPTIM_WRAPPERS)

__all__ = ["head", "hooks", "losses", "monitoring", "seeding", "stem"]
