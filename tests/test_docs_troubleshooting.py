"""docs/troubleshooting.md quotes messages as the source has them."""

import ast
import re

import pytest

from tests.test_docs import ROOT, text_of

PAGE = text_of(ROOT / "docs" / "troubleshooting.md")
QUOTED = re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]+ \|$", PAGE, re.M)
FOLDERS = ("recognizer", "annotation", "deploy", "tools")
FILLED = "\0"  # what a message fills in


def messages_of(source):
    """Return the texts of a module, each with a mark where values go."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(re.sub(r"%[sdr]|%\.\d[gf]", FILLED, node.value))
        elif isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else FILLED for p in node.values)
            found.append("".join(parts))
    return found


def is_quoted(message, texts):
    """Tell whether one of the texts is the message; ... stands for any of its end or middle."""
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    return any(re.fullmatch(pattern, text, re.S) for text in texts)


@pytest.fixture(scope="module")
def messages():
    files = [ROOT / "main.py", *(f for name in FOLDERS for f in (ROOT / name).rglob("*.py"))]
    return [text for file in files for text in messages_of(text_of(file))]


def test_every_row_is_read():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    assert len(QUOTED) == len(rows) - rows.count("| message | cause | remedy |") >= 35


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message, messages):
    assert len(message.replace("...", "").strip(" :;,.")) >= 12, "too short to mean one message"
    assert is_quoted(message, messages)


def test_a_message_that_changed_is_found():
    texts = messages_of(
        'def f(a):\n    raise ValueError(f"{a}: expected a cat, "\n  f"got {a!r}; go")'
    )
    assert is_quoted("...: expected a cat, got ...; go", texts)
    assert is_quoted("...: expected a cat, got ...", texts)
    assert not is_quoted("...: expected a dog, got ...", texts)
    assert not is_quoted("expected a cat", texts)
