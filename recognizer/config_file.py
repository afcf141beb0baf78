"""From a YAML file and ``--set a.b=c`` to a validated ``Config``.

Unknown keys, wrong types and values out of range are refused with file, line and key
before any work. PyYAML alone lets the last of two equal keys win and expands aliases
without limit; both are refused here. Relative paths in the file are relative to the
file; those of ``--set`` to the shell's folder.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from recognizer.config import Config, ShellText

KeyPath = tuple[str | int, ...]
_MAX_BYTES = 1_000_000


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names file, line and key."""


@dataclass(frozen=True, slots=True)
class YamlSource:
    """Data of one YAML file and the line (from 1) of every key in it."""

    path: Path
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """Return ``file:line`` of a key, or of the nearest parent that stands in the file."""
        for stop in range(len(key), 0, -1):
            if key[:stop] in self.lines:
                return f"{self.path}:{self.lines[key[:stop]]}"
        return str(self.path)


def read_yaml(path: Path) -> YamlSource:
    """Read a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: not YAML, not a mapping, duplicate keys, aliases, too large or too deep.

    """
    if not path.is_file():
        raise FileNotFoundError(f"configuration: expected a YAML file, found none at {path}")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path}: expected at most {_MAX_BYTES} bytes of configuration")
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from error


def parse_yaml(text: str, path: Path) -> YamlSource:
    """Parse YAML text; ``path`` is only used in messages. Raises as ``read_yaml``."""
    try:
        return _parse(text, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except ConfigError:
        raise
    except ValueError as error:  # such as the date 2026-13-45
        raise ConfigError(f"{path}: {error}") from error


def _parse(text: str, path: Path) -> YamlSource:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: aliases (*name) are not supported; write it out")
    lines: dict[KeyPath, int] = {}
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None:
        _walk(node, (), lines, path)
    data = yaml.safe_load(text)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got a {type(data).__name__}")
    return YamlSource(path, data, lines)


def _walk(node: yaml.Node, key: KeyPath, lines: dict[KeyPath, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{path}:{line}: expected a plain word as key")
            child = (*key, str(key_node.value))
            if child in lines:
                dotted = ".".join(str(part) for part in child)
                raise ConfigError(
                    f"{path}:{line}: key '{dotted}' stands twice (first on line {lines[child]}); "
                    "remove one"
                )
            lines[child] = line
            _walk(value_node, child, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*key, i)] = item.start_mark.line + 1
            _walk(item, (*key, i), lines, path)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides and validate.

    Args:
        path: the YAML file; relative paths in it are relative to its folder.
        overrides: texts such as ``annotation.workers=2``; the value is read as YAML, and
            relative paths in it are relative to the shell's folder.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: anything that cannot be used, with file, line and key.

    """
    source = read_yaml(path.absolute())
    data = source.data
    for text in overrides:
        _apply_override(data, text)
    try:
        return Config.model_validate(data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        shell_keys = {tuple(text.split("=", 1)[0].strip().split(".")) for text in overrides}
        raise ConfigError(_explain(error, source, shell_keys)) from error


def _apply_override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {text}: expected key.path=value, such as annotation.workers=2")
    try:
        parsed = parse_yaml(f"value: {value}", Path(f"--set {key}")).data["value"]
    except ConfigError:
        parsed = value  # a path or name that happens not to be YAML, such as "a: b"
    target = data
    for part in parts[:-1]:
        child = target.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {text}: {part} is a value, not a section")
        target = child
    target[parts[-1]] = _from_shell(parsed)


def _from_shell(value: Any) -> Any:
    if isinstance(value, str):
        return ShellText(value)
    if isinstance(value, list):
        return [_from_shell(item) for item in value]
    if isinstance(value, dict):
        return {key: _from_shell(item) for key, item in value.items()}
    return value


def _explain(error: ValidationError, source: YamlSource, shell_keys: set[tuple[str, ...]]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key: KeyPath = tuple(str(p) if not isinstance(p, int) else p for p in problem["loc"])
        key = _real_key(key, source.data)
        dotted = ".".join(str(part) for part in key) or "(whole file)"
        from_shell = any(key[: len(s)] == s for s in shell_keys)
        where = "--set" if from_shell else source.where(key)
        if problem["type"] == "extra_forbidden":
            text = f"unknown key{_did_you_mean(key)}"
        else:
            text = problem["msg"].removeprefix("Value error, ") + _hint(problem["input"])
        lines.append(f"{where}: {dotted}: {text}")
    return "\n".join(dict.fromkeys(lines))


def _real_key(loc: KeyPath, data: Any) -> KeyPath:
    """Drop the parts that pydantic adds for unions ('literal', 'constrained-int')."""
    key: list[str | int] = []
    for part in loc:
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            key.append(part)
        elif not isinstance(data, dict):
            break
    return tuple(key)


def _hint(value: Any) -> str:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            pass
        else:
            return f"; '{value}' is text in YAML, write a plain number such as {float(value)!r}"
    return f"; got {value!r}" if not isinstance(value, dict) else ""


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return the dotted names of all keys, sections included."""
    names: list[str] = []
    for name, info in section.model_fields.items():
        names.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names += known_keys(info.annotation, f"{prefix}{name}.")
    return names


def _did_you_mean(key: KeyPath) -> str:
    """Suggest a sibling with a similar name, else the same name elsewhere in the tree."""
    parent = ".".join(str(part) for part in key[:-1])
    last = str(key[-1])
    names = known_keys()
    siblings = [n.rpartition(".")[2] for n in names if n.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(last, siblings, n=1, cutoff=0.6)
    elsewhere = [n for n in names if n.rpartition(".")[2] == last]
    guess = close or elsewhere[:1]
    return f"; did you mean '{guess[0]}'?" if guess else f"; known here: {', '.join(siblings)}"
