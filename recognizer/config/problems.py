"""pydantic's errors in plain words: what was expected, what came."""

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
    "dataclass_type": "an object",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
_JSON_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false"}


def expectation(problem: ErrorDetails) -> str:
    """Return what was expected, "" for a key that is not known."""
    kind = problem["type"]
    if kind == "extra_forbidden":
        return ""
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
    if kind == "missing" and isinstance(problem["loc"][-1], str):
        return f"{key}: the key is missing"
    expected = expectation(problem).removeprefix("expected ")
    came = json_kind(value) if value is None or isinstance(value, dict | list) else f"{value!r:.80}"
    return f"{key}: expected {expected}, got {came}"


def json_kind(value: Any) -> str:
    """Return the kind of a value as JSON calls it, such as ``an object``."""
    return "null" if value is None else _JSON_KINDS.get(type(value), "a number")
