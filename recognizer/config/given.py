"""What the user gave: a config file and the settings beside it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Given:
    """What the user typed: the config file, None for the shipped one, and ``key=value`` texts."""

    config: Path | None = None
    overrides: tuple[str, ...] = ()
