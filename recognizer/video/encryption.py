"""Tell whether a video that cannot be decoded is encrypted, and by what."""

import re
from pathlib import Path
from typing import BinaryIO

_REMEDY = "decrypt it, or export it again without protection"
_HEAD_BYTES, _INDEX_BYTES = 1 << 22, 1 << 26
_MOST_BOXES, _LARGEST = 10_000, 1 << 42
_TS_SYNC = 0x47
_TS_PACKETS = 20_000
_TS_SCRAMBLED_SHARE = 0.2
# Sample entries of encrypted tracks, with the box that says how (ISO/IEC 14496-12, 8.12).
_MOV = re.compile(rb"(encv|drmi).{70,4096}?sinf", re.DOTALL)
_MOV_NAMES = {b"encv": "Common Encryption", b"drmi": "FairPlay"}
# Content Encryption Object and its extended form (ASF specification, 3.14 and 3.15).
_ASF_MARKS = (
    bytes.fromhex("fbb31122 23bd d211 b4b7 00a0c955fc6e"),
    bytes.fromhex("14e68a29 2226 174c b935 dae07ee9289c"),
)
# ContentEncodings, ContentEncoding and in it ContentEncryption (RFC 9559, 5.1.4.1.31).
_MATROSKA = re.compile(rb"\x6d\x80.{1,8}\x62\x40.{1,64}?\x50\x35", re.DOTALL)


def encrypted(path: Path, format_name: str) -> str:
    """Say how a file is encrypted and what to do, or nothing where no sign of it is found."""
    with path.open("rb") as file:
        head = _index(file) if "mp4" in format_name else file.read(_HEAD_BYTES)
    scheme = _scheme(head, format_name)
    return f"encrypted ({scheme}); {_REMEDY}" if scheme else ""


def _index(file: BinaryIO) -> bytes:
    """Return an mp4's box moov, wherever it stands, or nothing where the boxes are damaged."""
    for _ in range(_MOST_BOXES):
        header = file.read(16)
        size, name, read = int.from_bytes(header[:4], "big"), header[4:8], len(header)
        if size == 1:
            size = int.from_bytes(header[8:], "big")
        if name == b"moov":
            rest = min(size or _INDEX_BYTES, _INDEX_BYTES) - read
            return header[8:] + file.read(max(rest, 0))
        if not 8 <= size < _LARGEST:  # up to the end of the file, or no box
            break
        file.seek(size - read, 1)
    return b""


def _scheme(head: bytes, format_name: str) -> str:
    if "mp4" in format_name:
        found = _MOV.search(head)
        return _MOV_NAMES[found[1]] if found else ""
    if format_name == "asf" and any(mark in head for mark in _ASF_MARKS):
        return "Windows Media DRM"
    if format_name == "mpegts" and _is_scrambled(head):
        return "scrambled transport stream"
    if "matroska" in format_name and _MATROSKA.search(head[:65536]):
        return "Matroska ContentEncryption"
    return ""


def _is_scrambled(head: bytes) -> bool:
    """Tell whether many packets carry scrambling bits (ISO/IEC 13818-1, 2.4.3.3)."""
    for size in (188, 192, 204):
        start = head.find(_TS_SYNC)
        stop = min(len(head) - 4, start + size * _TS_PACKETS)
        packets = [head[at : at + 4] for at in range(start, stop, size)]
        if packets and all(p[0] == _TS_SYNC for p in packets[:8]):
            return sum(p[3] >> 7 for p in packets) > _TS_SCRAMBLED_SHARE * len(packets)
    return False
