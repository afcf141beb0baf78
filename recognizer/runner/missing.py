"""What to say of a checkpoint that is not there: which ones are."""

import difflib
import re
from pathlib import Path

_MOST_NAMES = 12
_NUMBER = re.compile(r"\d+")


def missing_checkpoint(path: Path) -> str:
    """Return the message for a checkpoint that was named and is not there."""
    folder = path.parent
    if path.is_dir():
        text, folder = f"expected a checkpoint, got the folder {path}", path
    else:
        text = f"expected a checkpoint at {path}, found none"
    if not folder.is_dir():
        return f"{text}; there is no folder {folder}"
    names = sorted((file.name for file in folder.glob("*.pth")), key=_by_number)
    if not names:
        return f"{text}; no *.pth is in {folder}"
    near = difflib.get_close_matches(path.name, names, 1, 0.75)
    hint = f"; did you mean {near[0]}?" if near else ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{text}; {folder} holds {', '.join(names[-_MOST_NAMES:])}{more}{hint}"


def _by_number(name: str) -> tuple[str, int]:
    numbers = _NUMBER.findall(name)
    return _NUMBER.sub("", name), int(numbers[-1]) if numbers else -1
