"""Everything of ours that a config of mmaction2 may name: import it, and names are known."""

from recognizer.action import network

__all__ = ["network"]
