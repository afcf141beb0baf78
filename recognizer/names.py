"""Compare and show file names as people read them.

é is one letter, whether a system stores it as one or two.
"""

import os
import unicodedata
from pathlib import Path


def nfc(text: str) -> str:
    """Return text with letters composed (Unicode NFC), as tables and keyboards write them."""
    return unicodedata.normalize("NFC", text)


def printable(text: str, keep: str = "") -> str:
    """Return text with control characters escaped: a line break becomes a backslash and an n.

    A file name may hold some: raw, they would break a line or steer the terminal.

    Args:
        text: any text.
        keep: control characters that stay.

    """
    return "".join(
        c if unicodedata.category(c) != "Cc" or c in keep else repr(c)[1:-1] for c in text
    )


def folded(name: str) -> str:
    """Return a name so that names which differ by composition or case alone are equal."""
    return nfc(name).casefold()


def as_on_disk(path: Path) -> Path:
    """Return a path with its parts as the disk has them, where they differ by composition alone.

    A keyboard writes Hangul composed, a folder that was copied from a Mac has it in parts. Parts
    that are there as they are, or under several such names, or not at all, stay.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    here = Path()
    for part in path.parts:
        if not (part.isascii() or os.path.lexists(here / part)):
            part = _same_name(here, part)
        here /= part
    return here


def _same_name(folder: Path, name: str) -> str:
    try:
        same = [other.name for other in folder.iterdir() if nfc(other.name) == nfc(name)]
    except OSError:  # no folder, or one that may not be read: opening the path raises
        return name
    return same[0] if len(same) == 1 else name
