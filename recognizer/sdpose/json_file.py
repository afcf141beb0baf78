"""Read JSON of COCO's kind strictly; name the kind of a file that is something else.

COCO's tools open the same file as UTF-8 and take the last of two equal keys; what they would
stumble over, or read otherwise, is refused here with the file's name.
"""

import codecs
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JsonObject = Mapping[str, Any]
"""An object of a JSON file, its values unchecked."""
# First bytes -> what such a file is, with what to do.
_HEADS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "gzip: unpack it"),
    (b"%PDF", "a PDF"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
)
_BOMS: tuple[tuple[bytes, str, str], ...] = (
    (codecs.BOM_UTF8, "UTF-8 with a byte order mark", "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "UTF-32", "utf-32"),
    (codecs.BOM_UTF16_LE, "UTF-16", "utf-16"),
    (codecs.BOM_UTF16_BE, "UTF-16", "utf-16"),
)
_HEAD_BYTES = 512
SPECIAL = "a pipe, socket or device: put a regular file there"
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def content_kind(head: bytes) -> str:
    """Return the kind of a file with these first bytes if they show it, else ""."""
    if not head.strip(b"\0 \t\r\n"):
        return "empty: copy or download it again" if not head else "only zeros or blanks: damaged"
    for start, kind in _HEADS:
        if head.startswith(start):
            return kind
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith(_PAGES):
        return "an HTML or XML page, such as a failed download leaves: download it again"
    return ""


def is_special(path: Path) -> bool:
    """Return whether a path is a pipe, socket or device: opening one may wait for ever.

    Raises:
        OSError: a path that cannot be looked at.

    """
    return path.exists() and not path.is_file() and not path.is_dir()


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no regular file, no JSON, another encoding than plain UTF-8, or one key twice in
            an object.

    """
    if is_special(path):
        raise ValueError(f"{path}: expected a JSON file, got {SPECIAL}")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if kind := content_kind(head):
        raise ValueError(f"{path}: not JSON: the file is {kind}")
    for mark, name, encoding in _BOMS:
        if head.startswith(mark):
            raise ValueError(
                f"{path}: expected JSON in plain UTF-8, which COCO's tools read, got {name}; "
                f'convert it: python -c "from pathlib import Path; p = Path({str(path)!r}); '
                f"p.write_bytes(p.read_text('{encoding}').encode())\""
            )
    text = _decoded(path)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {str(error)[:200]}") from error


def _decoded(path: Path) -> str:
    """Return the text alone: its bytes are let go before it is parsed."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected JSON in UTF-8, got byte {error.object[error.start]:#04x} at "
            f"{error.start}; convert it, such as with iconv -f <its encoding> -t UTF-8"
        ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {key[:80]!r} is there twice in one object; only one can count")
    return value
