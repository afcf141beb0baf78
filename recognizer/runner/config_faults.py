"""Say in plain words what of a training config, or of an option, mmengine could not take."""

import ast
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from recognizer.runner.config_places import at
from recognizer.runner.config_source import read_base_files

_BASES = re.compile(r"^_base_\s*=\s*(.+)$", re.MULTILINE)
_MOST = 20  # files that name one another


def unread(path: Path, error: BaseException) -> str:
    """Return why a config file cannot be read."""
    if isinstance(error, RecursionError):
        circle = _circle(path, [path.resolve()])
        if circle:
            names = " -> ".join(each.name for each in circle)
            return f"its _base_ leads back to itself ({names}): name another file there"
    if "lazy_import" in str(error) and (bases := read_base_files(path)):
        named = f'"{bases[0]}"' if len(bases) == 1 else repr(bases)
        return (
            "it imports by `with read_base()` a config that inherits by _base_, and mmengine does "
            f"not mix the two; write _base_ = {named} in place of read_base()"
        )
    return f"{type(error).__name__}: {in_words(error)}"


def _circle(path: Path, chain: list[Path]) -> list[Path]:
    """Return the files from one to itself by ``_base_``, [] where no chain comes back."""
    try:
        text = path.read_text(encoding="utf-8")
        named = [ast.literal_eval(found) for found in _BASES.findall(text)[:1]]
    except (OSError, ValueError, SyntaxError):
        return []
    for base in named[0] if named and isinstance(named[0], list | tuple) else named:
        below = (path.parent / str(base)).resolve()
        if below in chain:
            return [*chain[chain.index(below) :], below]
        if len(chain) < _MOST and (found := _circle(below, [*chain, below])):
            return found
    return []


def not_merged(cfg: Config, changes: Mapping[str, Any], error: Exception) -> str:
    """Return which option cannot be put into a config, and why."""
    for key, value in changes.items():
        held = at(cfg, key)
        if isinstance(held, Mapping) and not isinstance(value, Mapping):
            kind = f" ({held['type']})" if held.get("type") else ""
            below = next(iter(held), "type")
            return (
                f"{key}={value}: a section{kind} stands there, and {value!r} is none; change a "
                f"key of it, such as {key}.{below}=..."
            )
        try:
            cfg.copy().merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AssertionError, AttributeError) as own:
            return f"{key}={value}: {in_words(own)}"
    return in_words(error)


def in_words(error: BaseException) -> str:
    """Return what an exception says; of one without words the line of code that raised it."""
    text = str(error).strip()
    if text and not text.endswith(":"):
        return text
    inner = error
    while text and (below := inner.__cause__ or inner.__context__):  # mmengine put words before it
        inner = below
    frames = traceback.extract_tb(inner.__traceback__)
    if not frames:
        return text
    last = frames[-1]
    return f"{text} `{last.line}` ({Path(last.filename).name}, line {last.lineno})".strip()
