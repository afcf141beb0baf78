"""Text on pictures, in any script: which font has which letter, and one function that draws.

Fonts come with packages (DejaVu Sans with matplotlib, NanumGothic with koreanize-matplotlib),
so that a container without fonts writes Hangul too. Letters that neither has are looked up in
the system's fonts; one that no font has is written as its code point, ``[U+0E01]``.
"""

import logging
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from recognizer.names import nfc

logger = logging.getLogger(__name__)

Color = tuple[int, int, int]
"""Blue, green, red, 0 to 255."""
Rectangle = tuple[int, int, int, int]
"""Left, top, right and bottom, pixels; right and bottom are outside."""

# Package, regular font and bold font, in the order in which they are asked.
_PACKAGED = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf", "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"),
    ("koreanize_matplotlib", "fonts/NanumGothic.ttf", "fonts/NanumGothicBold.ttf"),
)
_SYSTEM_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
_OUTLINES = {"glyf", "CFF ", "CFF2"}
_JOINERS = "\u200c\u200d"  # they change how the letters beside them look
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)
_ASCENT, _DESCENT = 1.0, 0.28  # of a line, in font sizes
_BLACK: Color = (0, 0, 0)
_CHARS = 4096
_MOST_LETTERS = 2000  # wider than any picture; of a longer text the middle is not measured


@dataclass(frozen=True, slots=True)
class TextStyle:
    """How text looks.

    Attributes:
        size_px: font size; capital letters are about 0.73 of it high.
        color: of the letters.
        bold: bold letters, where the font has them.

    """

    size_px: int
    color: Color = (255, 255, 255)
    bold: bool = False

    @property
    def height(self) -> int:
        """Height of a line, pixels; the same for every text."""
        return self.baseline + round(_DESCENT * self.size_px)

    @property
    def baseline(self) -> int:
        """Distance of the baseline from the top of the line, pixels."""
        return round(_ASCENT * self.size_px)


def draw_text(
    canvas: NDArray[np.uint8], text: str, place: tuple[int, int], style: TextStyle
) -> None:
    """Write a line of text into a picture; what lies outside of it is cut off.

    Args:
        canvas: (H, W, 3) uint8, BGR; it is changed.
        text: any text.
        place: left and top of the line, pixels.
        style: size, colour and form.

    """
    mask, (left, top) = _mask(text, style), place
    height, width = canvas.shape[:2]
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + mask.shape[1], width), min(top + mask.shape[0], height)
    if x1 >= x2 or y1 >= y2:
        return
    share = mask[y1 - top : y2 - top, x1 - left : x2 - left, None].astype(np.uint16)
    patch = canvas[y1:y2, x1:x2]
    mixed = patch * (255 - share) + np.array(style.color, np.uint16) * share
    patch[:] = (mixed + 127) // 255


@dataclass(frozen=True, slots=True)
class Tag:
    """Text on a plate of one colour; ``left`` and ``top`` are where the plate should be, pixels."""

    text: str
    left: int
    top: int
    style: TextStyle
    ground: Color

    def box(self, size_wh: tuple[int, int]) -> Rectangle:
        """Return left, top, right and bottom of the plate, all of it inside the picture."""
        width, height = size_wh
        wide = min(text_width(self.text, self.style) + 2 * self._pad, width)
        high = min(self.style.height, height)
        left = min(max(self.left, 0), width - wide)
        top = min(max(self.top, 0), height - high)
        return left, top, left + wide, top + high

    def draw(self, canvas: NDArray[np.uint8]) -> None:
        """Draw into a picture (H, W, 3) uint8 BGR; text is shortened to its width."""
        height, width = canvas.shape[:2]
        left, top, right, bottom = self.box((width, height))
        canvas[top:bottom, left:right] = self.ground
        text = fit_text(self.text, self.style, max(width - 2 * self._pad, 1))
        draw_text(canvas, text, (left + self._pad, top), self.style)

    def placed(
        self,
        places: Iterable[tuple[int, int]],
        taken: Sequence[Rectangle],
        size_wh: tuple[int, int],
    ) -> "Tag":
        """Return the tag at the first place where it covers no other, here if there is none.

        Args:
            places: left and top to try after the tag's own, pixels.
            taken: the boxes of the others.
            size_wh: of the picture, pixels.

        """
        if not taken:
            return self
        left, top, right, bottom = self.box(size_wh)  # the text is measured once
        wide_high = np.array([right - left, bottom - top])
        corners = np.array([(self.left, self.top), *places])
        starts = np.clip(corners, 0, np.array(size_wh) - wide_high)[:, None]
        others = np.array(taken)
        apart = (starts >= others[:, 2:]) | (others[:, :2] >= starts + wide_high)
        free = np.flatnonzero(apart.any(-1).all(-1))
        if not len(free):
            return self
        left, top = corners[free[0]].tolist()
        return replace(self, left=left, top=top)

    @property
    def _pad(self) -> int:
        return max(2, self.style.size_px // 4)


def readable_on(ground: Color) -> Color:
    """Return black or white, whichever is easier to read on a colour."""
    bright = 0.114 * ground[0] + 0.587 * ground[1] + 0.299 * ground[2] > 110
    return _BLACK if bright else (255, 255, 255)


def text_width(text: str, style: TextStyle) -> int:
    """Return how wide a line of text is, pixels; of more than 2000 letters, their ends' width."""
    return int(_mask(_without_middle(text), style).shape[1]) if text else 0


def fit_text(text: str, style: TextStyle, room_px: int) -> str:
    """Return the text, or its beginning and end around an ellipsis, as wide as there is room."""
    text = _without_middle(text)
    if text_width(text, style) <= room_px:
        return text
    letters = nfc(text)
    low, high = 0, len(letters)  # the most letters that fit are in [low, high)
    while high - low > 1:
        kept = (low + high) // 2
        if text_width(_shortened(letters, kept), style) <= room_px:
            low = kept
        else:
            high = kept
    return _shortened(letters, low)


def _without_middle(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else _shortened(text, _MOST_LETTERS - 1)


def _shortened(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return text[:head] + "…" + text[len(text) - (kept - head) :]


def readable(text: str) -> str:
    """Return text in which every character can be shown.

    Composed (NFC); control characters, bytes that are no text and letters that no font has
    become their code points, such as ``[U+0E01]``; marks without a form are dropped.
    """
    return "".join(_shown(c) for c in nfc(text))


def font_files() -> tuple[Path, ...]:
    """Return the fonts that the texts so far need: the packaged, then those of the system."""
    used = {path for path in map(_font_of, _asked_for) if path is not None}
    packaged = tuple(regular for regular, _ in _packaged_fonts())
    return (*packaged, *(path for path in _system_fonts() if path in used))


# --- which font --------------------------------------------------------------------

_asked_for: set[str] = set()  # characters that no packaged font has
_warned: set[str] = set()  # scripts


@lru_cache(maxsize=1)
def _packaged_fonts() -> tuple[tuple[Path, Path], ...]:
    """Return (regular, bold) of the packages that are installed."""
    found = []
    for package, regular, bold in _PACKAGED:
        spec = find_spec(package)  # of a top-level package: finds it without importing it
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            if Path(folder, regular).is_file():
                found.append((Path(folder, regular), Path(folder, bold)))
    if not found:
        raise FileNotFoundError(
            "expected the fonts of matplotlib and koreanize-matplotlib, found none; run "
            "pip install -r requirements/base.txt"
        )
    return tuple(found)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """Return the system's font files, upright and regular ones first."""
    if not _asked_for:
        return ()
    folders = [Path(folder).expanduser() for folder in _SYSTEM_FOLDERS]
    found = {
        p for f in folders if f.is_dir() for p in f.rglob("*") if p.suffix.lower() in _SUFFIXES
    }
    odd = ("bold", "italic", "oblique", "light", "thin", "black")
    return tuple(sorted(found, key=lambda p: (any(o in p.name.lower() for o in odd), str(p))))


@lru_cache(maxsize=512)
def _characters(path: Path) -> frozenset[int]:
    """Return the code points of a font; of bitmap and unreadable fonts none."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return (
                frozenset(font.getBestCmap() or ()) if _OUTLINES & set(font.keys()) else frozenset()
            )
    except (TTLibError, OSError, ValueError, KeyError, AssertionError) as error:
        logger.debug("%s: not a usable font: %s", path, error)
        return frozenset()


@lru_cache(maxsize=_CHARS)
def _font_of(char: str) -> Path | None:
    """Return the first font that has a character, None without one."""
    for regular, _ in _packaged_fonts():
        if ord(char) in _characters(regular):
            return regular
    _asked_for.add(char)
    if len(_asked_for) == 1:
        _system_fonts.cache_clear()
    return next((path for path in _system_fonts() if ord(char) in _characters(path)), None)


@lru_cache(maxsize=_CHARS)
def _shown(char: str) -> str:
    """Return a character as it is shown: itself, its code point, or nothing."""
    code, category = ord(char), unicodedata.category(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"[0x{code - 0xDC00:02X}]"
    if code in _VARIATION_SELECTORS or (category == "Cf" and char not in _JOINERS):
        return ""
    if category in {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}:
        return f"[U+{code:04X}]"
    if _font_of(char) is None:
        if char in _JOINERS:
            return ""
        _warn(unicodedata.name(char, "unnamed").partition(" ")[0], f"[U+{code:04X}]")
        return f"[U+{code:04X}]"
    return char


def _warn(script: str, shown: str) -> None:
    """Say it once for each script."""
    if script in _warned:
        return
    _warned.add(script)
    logger.warning(
        "no font for %s letters: pictures show code points such as %s; install one, such as Noto "
        "Sans (Debian: fonts-noto-core, fonts-noto-cjk)",
        script,
        shown,
    )


def _runs(text: str) -> Iterator[tuple[Path, str]]:
    """Yield the text in parts of one font each.

    Blanks and signs between letters of one font stay with them: right-to-left words keep
    their order only inside one part.
    """
    fonts = [_font_of(char) for char in text]
    before: Path | None = None
    for i, char in enumerate(text):
        if char.isalnum():
            before = fonts[i]
        elif before is not None:
            after = next((fonts[k] for k in range(i, len(text)) if text[k].isalnum()), None)
            if after == before and ord(char) in _characters(before):
                fonts[i] = before
    for font, group in groupby(zip(fonts, text, strict=True), key=lambda pair: pair[0]):
        if font is not None:
            yield font, "".join(char for _, char in group)


# --- pixels ------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _loaded(path: Path, size_px: int, bold: bool) -> ImageFont.FreeTypeFont:
    bolder = dict(_packaged_fonts()).get(path)
    chosen = bolder if bold and bolder is not None and bolder.is_file() else path
    return ImageFont.truetype(str(chosen), size_px)


@lru_cache(maxsize=1)
def _direction() -> str | None:
    """Return the direction of a line: a path reads from the left, whatever its first letter."""
    return "ltr" if features.check("raqm") else None


@lru_cache(maxsize=64)  # the words of one frame; captions of large pictures are large
def _mask(text: str, style: TextStyle) -> NDArray[np.uint8]:
    """Return how much of each pixel the letters cover, (height, width), 0 to 255."""
    parts = [
        (_loaded(font, style.size_px, style.bold), part) for font, part in _runs(readable(text))
    ]
    direction = _direction()
    widths = [font.getlength(part, direction=direction) for font, part in parts]
    image = Image.new("L", (max(1, math.ceil(sum(widths))), style.height))
    draw = ImageDraw.Draw(image)
    left = 0.0
    for (font, part), width in zip(parts, widths, strict=True):
        place = (left, style.baseline)
        draw.text(place, part, fill=255, font=font, anchor="ls", direction=direction)
        left += width
    return np.asarray(image, np.uint8)
