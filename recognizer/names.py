"""Compare names as people read them: é is one letter, whether a system stores it as one or two."""

import unicodedata


def nfc(text: str) -> str:
    """Return text with letters composed (Unicode NFC), as tables and keyboards write them."""
    return unicodedata.normalize("NFC", text)


def folded(name: str) -> str:
    """Return a name so that names which differ by composition or case alone are equal."""
    return nfc(name).casefold()
