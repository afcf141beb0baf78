"""Every key of the config in turn misspelt, mistyped, out of range, doubled, or '1e-3'.

The cases come from the schema, so that a new key is tried without anybody thinking of it.
Each file holds the section of the key, without sections beside it, and another one, with one key
a line, written here, so that the line of the mistake is known without asking the code under test.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from recognizer.config.file import ConfigError, known_keys, load_config
from recognizer.config.schema import Config

CONFIG = Config()
DATA = CONFIG.model_dump(mode="json")
SCHEMA = Config.model_json_schema()
KEYS = [key for key in known_keys()]
BEFORE = "visualize"  # a section of every file
# Texts and lists of texts of which none is out of range.
ANY_TEXT = re.compile(
    r"\.(model_path|config_file|checkpoint_path|video_suffixes|include|cfg_options|checkpoint"
    r"|config_files|second_opinion)$"
)


def schema_of(key: str) -> list[dict[str, Any]]:
    """Return the alternatives that the JSON schema allows for a key."""
    node = SCHEMA
    for part in key.split("."):
        node = node["properties"][part]
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    return node.get("anyOf", [node])


def value_of(key: str) -> Any:
    value: Any = DATA
    for part in key.split("."):
        value = value[part]
    return value


def is_section(key: str) -> bool:
    return any("properties" in option for option in schema_of(key))


LEAVES = [key for key in KEYS if not is_section(key)]
NUMBERS = [k for k in LEAVES if any(o.get("type") in {"number", "integer"} for o in schema_of(k))]
WITH_RANGE = [
    k
    for k in LEAVES
    if not ANY_TEXT.search(k)
    and not all(o.get("type") in {"boolean", "null"} for o in schema_of(k))
]
LISTS_OF_NUMBERS = [
    k
    for k in LEAVES
    if any(
        p.get("type") in {"number", "integer"}
        for o in schema_of(k)
        for p in o.get("prefixItems", [])
    )
]


def lay_out(data: dict[str, Any], lines: dict[str, int], out: list[str], prefix: str = "") -> None:
    indent = "  " * prefix.count(".")
    for name, value in data.items():
        out.append(f"{indent}{name}:")
        lines[prefix + name] = len(out)
        if isinstance(value, dict) and value:
            lay_out(value, lines, out, f"{prefix}{name}.")
        else:
            out[-1] += f" {value.text if isinstance(value, Raw) else json.dumps(value)}"


class Raw:
    """YAML that is written as it stands."""

    def __init__(self, text: str) -> None:
        self.text = text


def with_value(key: str, value: Any, name: str | None = None) -> tuple[list[str], int, str]:
    """Return the file's lines, the changed line's number and the changed key."""
    *parents, last = key.split(".")
    kept = (BEFORE, key.partition(".")[0])
    data = json.loads(json.dumps({part: DATA[part] for part in DATA if part in kept}))
    section = data
    for part, inner in zip(parents, [*parents, last][1:], strict=True):
        section = section[part]
        for other in [k for k, v in section.items() if isinstance(v, dict) and k != inner]:
            del section[other]
    old = section.copy()
    section.clear()
    for k, v in old.items():
        section[name if name and k == last else k] = value if k == last else v
    changed = ".".join([*parents, name or last])
    lines: dict[str, int] = {}
    out: list[str] = []
    lay_out(data, lines, out)
    return out, lines[changed], changed


def refuse(path: Path) -> tuple[float, list[str]]:
    """Return the CPU seconds until a file is refused, and the messages."""
    start = time.thread_time()
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return time.thread_time() - start, str(caught.value).splitlines()


def check_refused(folder: Path, case: tuple[list[str], int, str], says: str = "") -> None:
    out, line, key = case
    path = folder / "config.yaml"
    path.write_text("\n".join(out), encoding="utf-8")
    seconds, messages = refuse(path)
    # A second try: a garbage collection of the whole process may fall into the first.
    assert seconds < 2 or refuse(path)[0] < 2
    for text in messages:
        assert text.startswith(f"{path}:{line}: {key}"), text
        assert "Input should" not in text, text
    assert says in messages[0], messages[0]
    # One message for the one mistake; the items of a list may each have their own.
    assert len(messages) == 1 or isinstance(value_of(key), list | None)


def misspelt(name: str) -> str:
    return name[:-2] + name[-1] + name[-2] if len(name) > 4 and name[-1] != name[-2] else name + "x"


def wrong_type(key: str) -> Any:
    if is_section(key):
        return 3
    kinds = {option.get("type") for option in schema_of(key)}
    if {"array", "string"} <= kinds or key == "models.fetch":  # one name may stand without [...]
        return 3
    if kinds & {"array", "object"}:
        return "word"
    return 3 if kinds & {"string"} and not kinds & {"number", "integer"} else "word"


# By the key's last word: what only this project's own rules forbid.
SPECIAL = {
    "device": ["gpu", "cuda", "cuda:-1", "cuda:x", "CPU"],
    "dataset": ["", "..", "a/b", "a" * 101],
    "shard": ["0/16", "17/16", "a/b", "3", "3/16/2", "-1/4", "1/0", " 1/2", "1/10001", ""],
    "source_regex": ["(", "no group", "(two)(groups)"],
    "classes": [{}, {"a": 0}, {"a": 1, "b": 2}, {"a": 0, "b": 0}],
    "dark_blur_kernel": [4],
    "gpus": [[-1]],
    "mirror": ["", "ftp://host", "http://host", "host/path"],
    "host": ["", "0.0.0.0", "cameras.example", "h" * 254],  # without a password
    "ray_address": ["", "head", "ray://head:10001", "head:", ":6379", "head:port"],
    "admin": ["", "..", "a/b", "a" * 101],
    "password": [{}, {"env": "NAME", "file": "path"}],
    "metrics_token": [{}, {"env": "NAME", "file": "path"}],
}


def out_of_range(key: str) -> list[Any]:
    wrong: list[Any] = []
    for option in schema_of(key):
        wrong += beyond_limits(option)
        if "enum" in option or "const" in option:
            wrong.append("nonsense")
        if option.get("format") == "path":
            wrong += ["", "a\0b"]
        if option.get("type") == "array":
            wrong += [[[]], [{}]]
        if "prefixItems" in option:
            wrong += [[-1], [10**6] * 7]
    return wrong + SPECIAL.get(key.rpartition(".")[2], [])


def beyond_limits(option: dict[str, Any]) -> list[Any]:
    wrong: list[Any] = []
    if "minimum" in option:
        wrong.append(option["minimum"] - 1)
    if "maximum" in option:
        wrong.append(option["maximum"] + 1)
    if "exclusiveMinimum" in option:
        wrong += [option["exclusiveMinimum"], option["exclusiveMinimum"] - 1]
    if option.get("type") == "number":
        wrong += [Raw(".nan"), Raw(".inf"), Raw("-.inf")]
    return wrong


def test_the_schema_was_read():
    assert len(LEAVES) >= 85
    assert len(NUMBERS) >= 45
    assert len(LISTS_OF_NUMBERS) == 9


def test_the_untouched_file_loads(tmp_path):
    out: list[str] = []
    lay_out(DATA, {}, out)
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(out))
    assert load_config(path).tracking == CONFIG.tracking


@pytest.mark.parametrize("key", KEYS)
def test_misspelt(tmp_path, key):
    last = key.rpartition(".")[2]
    case = with_value(key, value_of(key), misspelt(last))
    check_refused(tmp_path, case, f"did you mean '{last}'?")


@pytest.mark.parametrize("key", KEYS)
def test_wrong_type(tmp_path, key):
    for value in (wrong_type(key), Raw("[{}]")):
        case = with_value(key, value)
        check_refused(tmp_path, case, "expected")


@pytest.mark.parametrize("key", WITH_RANGE)
def test_out_of_range(tmp_path, key):
    values = out_of_range(key)
    assert values, "no value out of range is known: extend SPECIAL or ANY_TEXT"
    for value in values:
        check_refused(tmp_path, with_value(key, value), "expected")


@pytest.mark.parametrize("key", KEYS)
def test_duplicated(tmp_path, key):
    out, line, _ = with_value(key, value_of(key))
    depth = len(out[line - 1]) - len(out[line - 1].lstrip())
    block = [out[line - 1]]
    for text in out[line:]:  # a section comes with all that stands in it
        if len(text) - len(text.lstrip()) <= depth:
            break
        block.append(text)
    again = line - 1 + len(block)
    case = ([*out[:again], *block, *out[again:]], again + 1, key)
    check_refused(tmp_path, case, f"stands twice (first on line {line})")


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("text", ["1e-3", "'0.5'"])
def test_number_that_is_text(tmp_path, key, text):
    check_refused(tmp_path, with_value(key, Raw(text)), "is text in YAML, write a plain number")


@pytest.mark.parametrize("key", LISTS_OF_NUMBERS)
def test_number_that_is_text_in_a_list(tmp_path, key):
    items = value_of(key) or [640, 640]
    case = with_value(key, Raw(f"[1e-3, {', '.join(map(str, items[1:]))}]"))
    check_refused(tmp_path, case, "is text in YAML, write a plain number")
