"""The part of JSON Schema that our schema.json uses; an unknown keyword is an error."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
}
_ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description"}


def problems(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, where: str = "$"
) -> list[str]:
    """Return one text for every way in which a JSON value breaks a schema."""
    root = root or schema
    found: list[str] = []
    for keyword, expected in schema.items():
        if keyword == "$ref":
            name = expected.removeprefix("#/$defs/")
            found += problems(value, root["$defs"][name], root, where)
        elif keyword not in _ANNOTATIONS:
            found += [f"{where}: {text}" for text in _RULES[keyword](value, expected)]
    if isinstance(value, dict):
        found += _members(value, schema, root, where)
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += problems(item, schema["items"], root, f"{where}[{i}]")
    return found


def _members(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], where: str
) -> list[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    found: list[str] = []
    for key, item in value.items():
        if key in known:
            found += problems(item, known[key], root, f"{where}.{key}")
        elif others is False:
            found.append(f"{where}: {key} is not known")
        elif others is not True:
            found += problems(item, others, root, f"{where}.{key}")
    return found


def _type(value: object, kind: str) -> list[str]:
    fits = isinstance(value, _KINDS[kind]) and not isinstance(value, bool)
    return [] if fits else [f"expected {kind}, got {value!r}"]


def _unless(fits: object, text: str) -> list[str]:
    return [] if fits else [text]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RULES: dict[str, Callable[[Any, Any], list[str]]] = {
    "type": _type,
    "const": lambda v, w: _unless(v == w, f"expected {w!r}, got {v!r}"),
    "enum": lambda v, w: _unless(v in w, f"expected one of {w}, got {v!r}"),
    "minimum": lambda v, w: _unless(not _number(v) or v >= w, f"{v} is below {w}"),
    "exclusiveMinimum": lambda v, w: _unless(not _number(v) or v > w, f"{v} is not above {w}"),
    "maximum": lambda v, w: _unless(not _number(v) or v <= w, f"{v} is above {w}"),
    "minLength": lambda v, w: _unless(not isinstance(v, str) or len(v) >= w, "too short"),
    "pattern": lambda v, w: _unless(not isinstance(v, str) or re.search(w, v), f"{v!r} unlike {w}"),
    "minItems": lambda v, w: _unless(not isinstance(v, list) or len(v) >= w, "too few items"),
    "maxItems": lambda v, w: _unless(not isinstance(v, list) or len(v) <= w, "too many items"),
    "minProperties": lambda v, w: _unless(not isinstance(v, dict) or len(v) >= w, "too few keys"),
    "required": lambda v, w: _unless(
        not isinstance(v, dict) or set(w) <= set(v), f"missing {sorted(set(w) - set(v or {}))}"
    ),
    "properties": lambda v, w: [],
    "additionalProperties": lambda v, w: [],
    "items": lambda v, w: [],
}
