"""Tell whether a video that cannot be decoded is encrypted, and by what."""

import os
import re
from pathlib import Path

_REMEDY = "decrypt it, or export it again without protection"
_HEAD_BYTES = 1 << 26
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
        head = file.read(_HEAD_BYTES)
        if len(head) == _HEAD_BYTES:  # the index of a long mp4 stands at its end
            file.seek(-_HEAD_BYTES, os.SEEK_END)
            head += file.read()
    scheme = _scheme(head, format_name)
    return f"encrypted ({scheme}); {_REMEDY}" if scheme else ""


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
        packets = [head[at : at + 4] for at in range(start, len(head) - 4, size)][:_TS_PACKETS]
        if packets and all(p[0] == _TS_SYNC for p in packets[:8]):
            return sum(p[3] >> 7 for p in packets) > _TS_SCRAMBLED_SHARE * len(packets)
    return False
