"""From a YAML file and ``--set a.b=c`` to a validated ``Config``.

Unknown keys, wrong types and values out of range are refused with file, line and key
before any work. PyYAML alone lets the last of two equal keys win and expands aliases
without limit; both are refused here. Relative paths in the file are relative to the
file; those of ``--set`` to the shell's folder.
"""

import difflib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recognizer.config.problems import expectation, is_secret, masked, shown
from recognizer.config.schema import Config, Given
from recognizer.config.types import ShellText
from recognizer.installation import FILES, PROJECT, SHIPPED_CONFIG

KeyPath = tuple[str | int, ...]
_MAX_BYTES = 100_000  # PyYAML takes 1.4 s for that; ours has 10,000
_MAX_DIGITS = 100
_ONE_WORD = re.compile(r"([^\s:]{1,40}):(?!/)([^\s:]{1,40})(?!\S)")  # what YAML takes for one word

_TEXT, _INTEGER, _DATE = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "timestamp"))


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
        shipped = FILES / path
        hint = f"; to begin with, copy {shipped}" if shipped.is_file() else ""
        raise FileNotFoundError(f"configuration: expected a YAML file, found none at {path}{hint}")
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
        raise ConfigError(f"{path}{line}: not readable YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply") from error
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise ConfigError(
            f"{path}: a tag such as !!int that its value does not fit: {error}"
        ) from error


class _Loader(yaml.SafeLoader):
    """Reads plain YAML; aliases, which can make a small file endless, are refused."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported; write it out", problem_mark=mark
            )
        return super().compose_node(parent, index)


def _parse(text: str, path: Path) -> YamlSource:
    lines: dict[KeyPath, int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlSource(path, {}, lines)
        _walk(node, (), lines, path)
        data = loader.construct_document(node)
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {data!r:.80}")
    return YamlSource(path, data, lines)


def _walk(node: yaml.Node, key: KeyPath, lines: dict[KeyPath, int], path: Path) -> None:
    """Note the line of every key; refuse what PyYAML would take silently."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            child = (*key, _plain_key(key_node, path))
            line = key_node.start_mark.line + 1
            if child in lines:
                dotted = ".".join(str(part) for part in child)
                raise ConfigError(
                    f"{path}:{line}: {dotted}: stands twice (first on line {lines[child]}); "
                    "remove one"
                )
            lines[child] = line
            _walk(value_node, child, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*key, i)] = item.start_mark.line + 1
            _walk(item, (*key, i), lines, path)
    else:
        _check_scalar(node, path)


def _plain_key(node: yaml.Node, path: Path) -> str:
    if node.tag != _TEXT:  # 1, no, null, << or [a, b]: none is a name of ours
        line, came = node.start_mark.line + 1, str(node.value)
        raise ConfigError(f"{path}:{line}: {came:.40}: expected text as key; put it in quotes")
    return str(node.value)


def _check_scalar(node: yaml.Node, path: Path) -> None:
    line = node.start_mark.line + 1
    if node.tag == _INTEGER and len(node.value) > _MAX_DIGITS:
        raise ConfigError(f"{path}:{line}: expected a number of at most {_MAX_DIGITS} digits")
    if node.tag == _DATE:
        raise ConfigError(f"{path}:{line}: '{node.value}' is a date in YAML; put it in quotes")


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides and validate.

    Args:
        path: the YAML file; relative paths in it are relative to its folder.
        overrides: texts such as ``annotation.workers=2``; the value is read as YAML, and
            relative paths in it are relative to the shell's folder.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: anything that cannot be used, with file, line and key.
        TypeError: no path.

    """
    path = Path(path)
    source = read_yaml(path)
    data = source.data
    for text in overrides:
        _apply_override(data, text)
    try:
        config = Config.model_validate(data, context={"folder": _folder(path)})
    except ValidationError as error:
        shell_keys = {tuple(text.split("=", 1)[0].strip().split(".")) for text in overrides}
        raise ConfigError(_explain(error, source, shell_keys)) from error
    own = None if path.resolve() == SHIPPED_CONFIG else path
    return config.with_given(Given(own, tuple(overrides)))


def _folder(path: Path) -> Path:
    """Return what relative paths of a config are relative to: its folder.

    That of the shipped one is configs/ of the project, also where its file is in site-packages.
    """
    return PROJECT / "configs" if path.resolve() == SHIPPED_CONFIG else path.absolute().parent


def _apply_override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set {masked(text)}: expected key.path=value, such as annotation.workers=2"
        )
    value = value.strip()
    try:
        parsed = parse_yaml(f"value: {value}", Path(f"--set {key}")).data["value"]
    except ConfigError:
        parsed = value  # a path or name that happens not to be YAML, such as "a: b"
    if isinstance(parsed, str) and value[:1] not in {"'", '"'}:
        parsed = value  # YAML would cut "data #2" and "&x y" short
    target = data
    for part in parts[:-1]:
        child = target.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {masked(text)}: {part} is a value, not a section")
        target = child
    target[parts[-1]] = _from_shell(parsed)


def _from_shell(value: object) -> object:
    if isinstance(value, str):
        return ShellText(value)
    if isinstance(value, list):
        return [_from_shell(item) for item in value]
    if isinstance(value, dict):
        return {key: _from_shell(item) for key, item in value.items()}
    return value


_MAX_PROBLEMS = 20  # that one message names


def _explain(error: ValidationError, source: YamlSource, shell_keys: set[tuple[str, ...]]) -> str:
    """Return one line per key: its place, the expected value, the one that came."""
    expectations: dict[KeyPath, list[str]] = {}
    came: dict[KeyPath, str] = {}
    for problem in error.errors(include_url=False):
        key = _real_key(problem["loc"], source.data)
        expected = expectation(problem)
        name, colon, rest = expected.partition(": ")
        if colon and name.isidentifier():  # a section's own check, which names the key it is about
            key, expected = (*key, name), rest
        # The members of a union ('auto' or a number) each complain about the same key.
        expectations.setdefault(key, []).append(expected)
        came_now = _unknown(key) if problem["type"] == "extra_forbidden" else _came(problem)
        came[key] = max(came.get(key, ""), came_now, key=len)  # the member that has advice
    lines = []
    for key, texts in list(expectations.items())[:_MAX_PROBLEMS]:
        dotted = ".".join(str(part) for part in key) or "the whole file"
        expected = " or ".join(dict.fromkeys(t.removeprefix("expected ") for t in texts if t))
        text = (f"expected {expected}" if expected else "") + came[key]
        lines.append(f"{_where(key, source, shell_keys)}: {dotted}: {text}")
    if len(expectations) > _MAX_PROBLEMS:
        lines.append(f"and {len(expectations) - _MAX_PROBLEMS} more")
    return "\n".join(lines)


def _where(key: KeyPath, source: YamlSource, shell_keys: set[tuple[str, ...]]) -> str:
    made_there = key not in source.lines
    for shell in shell_keys:
        if key[: len(shell)] == shell or (made_there and shell[: len(key)] == key):
            return "--set"
    return source.where(key)


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


def _came(problem: ErrorDetails) -> str:
    """Return the value that came, and how to write the one that was probably meant."""
    kind, value = problem["type"], problem["input"]
    if is_secret(problem["loc"]) and value is not None:
        return ""
    if isinstance(value, dict) and kind == "value_error":
        return ""  # a section's own check says itself what came
    if value is None:
        return f"; got nothing{_space_missing(problem['loc'][-1])}"
    if isinstance(value, str) and kind in {"int_type", "float_type"}:
        number = _number(value)
        if number is not None:
            return f"; '{value}' is text in YAML, write a plain number such as {number}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"; got {value}, as YAML reads it; put it in quotes if it is text"
    advice = _space_missing(value) if kind in {"dict_type", "model_type"} else ""
    return f"; got {shown(value)}{advice}"


def _space_missing(text: object) -> str:
    """Return that ``name:value`` is one word to YAML, where that was written; else nothing."""
    found = _ONE_WORD.match(text) if isinstance(text, str) else None
    return (
        "" if found is None else f"; YAML wants a space after the colon: '{found[1]}: {found[2]}'"
    )


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def _unknown(key: KeyPath) -> str:
    return f"unknown key{_space_missing(key[-1]) or _did_you_mean(key)}"


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
