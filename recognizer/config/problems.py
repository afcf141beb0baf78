"""pydantic's errors in plain words: what was expected, what came."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_EXPECTED = {
    "literal_error": "{expected}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "text of the form {pattern}",
    "list_type": "a list, such as [a, b]",
    "tuple_type": "a list of numbers, such as [1, 2]",
    "missing": "a longer list",
    "too_long": "a list of {max_length}",
    "dict_type": "'name: value' lines",
    "model_type": "a section of 'key: value' lines",
    "model_attributes_type": "a section of 'key: value' lines",
    "union_tag_not_found": "the key {discriminator}, which is missing",
    "union_tag_invalid": "as {discriminator} one of {expected_tags}",
    "dataclass_type": "an object",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
_SECRET = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^'\",}\s]*")
_SECRET_KEYS = {"password", "secret", "token", "metrics_token"}
_JSON_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false"}


def expectation(problem: ErrorDetails) -> str:
    """Return what was expected, "" for a key that is not known."""
    kind = problem["type"]
    if kind == "extra_forbidden":
        return ""
    if kind in {"model_type", "model_attributes_type"} and is_secret(problem["loc"]):
        return "{env: NAME} or {file: path}, where the secret stands"
    if kind == "missing" and isinstance(problem["loc"][-1], str):
        return f"the key {problem['loc'][-1]}, which is missing"
    if kind in _EXPECTED:
        return _EXPECTED[kind].format(**problem.get("ctx", {}))
    return problem["msg"].removeprefix("Value error, ")


def first_problem(error: ValidationError) -> str:
    """Return an error's first problem in one line: key, what was expected, what came."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the whole text"
    kind, value = problem["type"], problem["input"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: unknown key"
    if kind in {"model_type", "model_attributes_type"} and is_secret(problem["loc"]):
        return "{env: NAME} or {file: path}, where the secret stands"
    if kind == "missing" and isinstance(problem["loc"][-1], str):
        return f"{key}: the key is missing"
    expected = expectation(problem).removeprefix("expected ")
    came = json_kind(value) if value is None or isinstance(value, dict | list) else shown(value)
    return f"{key}: expected {expected}, got {came}"


def is_secret(key: Sequence[int | str]) -> bool:
    """Return whether a key is that of a secret, whose value no message repeats."""
    return bool(key) and key[-1] in _SECRET_KEYS


def masked(text: str) -> str:
    """Return a text without what an address in it may hold: passwords, and tokens in paths."""
    return _SECRET.sub(lambda found: f"{found['scheme']}...", text)


def shown(value: object) -> str:
    """Return a value for a message, masked, at most 80 characters."""
    return masked(repr(value))[:80]


def json_kind(value: Any) -> str:
    """Return the kind of a value as JSON calls it, such as ``an object``."""
    return "null" if value is None else _JSON_KINDS.get(type(value), "a number")
