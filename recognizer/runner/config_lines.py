"""Problems of a config, and the lines or options of it that mend them, for error messages.

A change is a dotted path below the config, such as ``train_dataloader.dataset.pipeline.1.feats``,
with its value.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recognizer.runner.engine import Changes, Section


@dataclass(frozen=True)
class ConfigProblem:
    """A key of a config that would have no effect.

    Attributes:
        key: its name or dotted path.
        message: the reason, and where the key belongs.
        changes: what to write in its place, by dotted path.

    """

    key: str
    message: str
    changes: Changes = field(default_factory=dict)


def describe_problems(faults: Sequence[ConfigProblem], *, as_options: bool) -> str:
    """Return the faults and what to write in their place, as lines of a config or options."""
    text = "".join(f"\n  {fault.key}: {fault.message}" for fault in faults)
    changes: Changes = {}
    for fault in faults:
        for place, value in fault.changes.items():
            changes[place] = _joined(changes.get(place), value)
    if not changes:
        return text
    text += "\nwrite in their place"
    if any("did you mean" in fault.message and " or " in fault.message for fault in faults):
        text += ", of several places those that you mean"
    options = config_options(changes) if as_options else None
    if options is not None:
        return f"{text}:\n  --cfg-options {options}"
    where = " in a config of your own with this one as _base_" if as_options else ""
    lines = "".join(f"\n  {line}" for line in config_lines(changes))
    return f"{text}{where}:{lines}"


def config_lines(changes: Section) -> list[str]:
    """Return the lines of a child config that make the changes.

    Keys of one section become one line, for a second assignment would take the place of the
    first. Items of lists cannot be inherited: they are changed in the base's own.
    """
    nested: Changes = {}
    items = []
    for place, value in changes.items():
        parts = place.split(".")
        if any(part.isdigit() for part in parts):
            if isinstance(value, Mapping):  # assigned, not merged
                value = {key: one for key, one in value.items() if key != "_delete_"}
            items.append(f"_base_{''.join(map(_step, parts))} = {as_python(value)}")
            continue
        section = nested
        for part in parts[:-1]:
            section = section.setdefault(part, {})
        section[parts[-1]] = _joined(section.get(parts[-1]), value)
    return [f"{key} = {as_python(value)}" for key, value in nested.items()] + items


def config_options(changes: Section) -> str | None:
    """Return the ``--cfg-options`` that make the changes; None if only a config file can."""
    words = []
    for place, value in changes.items():
        if isinstance(value, Mapping):
            below = config_options({f"{place}.{key}": one for key, one in value.items()})
        else:
            below = shlex.quote(f"{place}={_as_option(value)}")
            below = None if _holds_mappings(value) else below
        if below is None:
            return None
        words.append(below)
    return " ".join(words)


def as_python(value: object) -> str:
    """Return a value in the style of configs: ``dict(a=1)`` where the keys are names."""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return f"dict({', '.join(f'{key}={as_python(one)}' for key, one in value.items())})"
        return f"{{{', '.join(f'{key!r}: {as_python(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_python, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(as_python, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _joined(one: object, other: object) -> object:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {**one, **other}
    return other


def _step(part: str) -> str:
    return f"[{part}]" if part.isdigit() else f".{part}"


def _holds_mappings(value: object) -> bool:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(isinstance(each, Mapping) or _holds_mappings(each) for each in value)
    return False


def _as_option(value: object) -> str:
    if isinstance(value, list | tuple):
        inner = ",".join(map(_as_option, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return str(value)
