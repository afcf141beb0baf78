"""Import this module to register every type of ours that a config of mmpose may name."""

from recognizer.runner import hooks, seeding
from recognizer.sdpose import head, losses, rtmo, rtmo_head, stem
from recognizer.sdpose import hooks as monitoring
from recognizer.sdpose.mmpose import HOOKS, OPTIM_WRAPPERS

hooks.override_registered(HOOKS, OPTIM_WRAPPERS)

__all__ = ["head", "hooks", "losses", "monitoring", "rtmo", "rtmo_head", "seeding", "stem"]
