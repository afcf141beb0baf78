"""Text on pictures: two names never look alike, nothing is lost in silence, all of it fits."""

import logging
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer import text as text_module
from recognizer.draw import draw_caption
from recognizer.text import Tag, TextStyle, draw_text, fit_text, readable, text_width

STYLE = TextStyle(20)
ROOT = Path(__file__).resolve().parents[1]


def pixels(text, style=STYLE, width=400):
    canvas = np.zeros((style.height, width, 3), np.uint8)
    draw_text(canvas, text, (0, 0), style)
    return canvas


NAMES = [
    "싸움",
    "정상",
    "복도",
    "Fight",
    "FightX",
    "бой",
    "μάχη",
    "戰鬪",
    "東京",
    "けんか",
    "قتال",
    "שדה",
    "ต่อสู้",
    "लड़ाई",
    "打架",
    "a\nb",
    "a\tb",
    "\udce9.mp4",
    "\udcea.mp4",
    "é",
]


@pytest.mark.parametrize("size_px", [12, 20, 47])
def test_no_two_names_look_alike(size_px):
    style = TextStyle(size_px)
    drawn = {name: pixels(name, style).tobytes() for name in NAMES}
    assert len(set(drawn.values())) == len(NAMES)
    assert pixels("", style).tobytes() not in drawn.values()


@pytest.mark.parametrize("name", ["싸움", "복도.mp4"])
def test_hangul_is_letters_and_no_boxes(name):
    """Each syllable has its own form: what stands for a missing letter would repeat."""
    forms = [pixels(char, TextStyle(30)).tobytes() for char in name]
    assert len(set(forms)) == len(set(name))
    assert readable(name) == name


def test_both_codings_of_a_name_look_the_same():
    name = "정상/복도 é.mp4"
    assert (pixels(unicodedata.normalize("NFD", name)) == pixels(name)).all()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Fight/복도.mp4", "Fight/복도.mp4"),
        ("a\nb\0", "a[U+000A]b[U+0000]"),
        ("\udce9t\udce9.mp4", "[0xE9]t[0xE9].mp4"),
        ("a\u202eb\ufeff\ufe0f", "ab"),
        ("\ue000", "[U+E000]"),
        ("\U000e0fff", "[U+E0FFF]"),
        ("", ""),
    ],
    ids=["hangul", "control", "bytes", "invisible", "private", "unassigned", "nothing"],
)
def test_what_cannot_be_shown_becomes_its_code_point(text, shown):
    assert readable(text) == shown


def test_letters_that_no_font_has_are_reported_once(caplog, monkeypatch):
    monkeypatch.setattr(text_module, "_system_fonts", lambda: ())
    for cache in (text_module._font_of, text_module._shown):
        cache.cache_clear()
    text_module._warned.clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert readable("ก ข") == "[U+0E01] [U+0E02]"
        assert [r.message.count("THAI") for r in caplog.records] == [1]
        assert "fonts-noto" in caplog.text
    finally:
        for cache in (text_module._font_of, text_module._shown):
            cache.cache_clear()


def test_a_font_of_the_system_is_asked_for_what_the_packaged_ones_lack(monkeypatch):
    packaged = text_module._packaged_fonts()
    monkeypatch.setattr(text_module, "_packaged_fonts", lambda: packaged[:1])
    monkeypatch.setattr(text_module, "_system_fonts", lambda: (packaged[1][0],))
    text_module._font_of.cache_clear()
    try:
        assert text_module._font_of("싸") == packaged[1][0]
        assert text_module.font_files() == (packaged[0][0], packaged[1][0])
    finally:
        text_module._font_of.cache_clear()


def test_right_to_left_words_keep_their_order():
    """In one run of one font; a path still begins at the left."""
    first, both = pixels("Fight/سلام"), pixels("Fight/سلام بك")
    shared = text_width("Fight/", STYLE)
    assert (first[:, :shared] == both[:, :shared]).all()
    assert (first != both).any()
    assert not pixels("سلام/a")[:, text_width("سلام/a", STYLE) :].any()


@pytest.mark.parametrize(
    "name", ["Subject_1/아주 긴 이름의 비디오 파일입니다.mp4  3.24 s", "x" * 300, "가" * 99]
)
@pytest.mark.parametrize("room", [1, 12, 60, 200])
def test_long_names_keep_both_ends(name, room):
    short = fit_text(name, STYLE, room)
    assert text_width(short, STYLE) <= room or short == "…"
    head, _, tail = short.partition("…")
    assert name.startswith(head)
    assert name.endswith(tail)
    assert len(head) - len(tail) in {0, 1}
    assert fit_text(name, STYLE, 10_000) == name


@given(
    text=st.text(max_size=30),
    size=st.tuples(st.integers(1, 60), st.integers(1, 80)),
    place=st.tuples(st.integers(-100, 100), st.integers(-100, 100)),
)
@settings(max_examples=60, deadline=None)
def test_any_text_at_any_place(text, size, place):
    canvas = np.full((*size, 3), 90, np.uint8)
    draw_text(canvas, text, place, STYLE)
    Tag(text, *place, TextStyle(12), (0, 0, 255)).draw(canvas)
    assert canvas.shape == (*size, 3)


@pytest.mark.parametrize("place", [(-50, -50), (190, 50), (300, 300), (100, 90), (-3, 99)])
def test_a_tag_lies_inside_the_picture_with_all_its_letters(place):
    def tagged(where):
        canvas = np.full((100, 200, 3), 90, np.uint8)
        tag = Tag("Fight 0.98", *where, STYLE, (0, 0, 255))
        tag.draw(canvas)
        return canvas, tag.box((200, 100))

    middle, _ = tagged((40, 40))
    canvas, (left, top, right, bottom) = tagged(place)
    assert 0 <= left < right <= 200
    assert 0 <= top < bottom <= 100
    assert (canvas != 90).any(axis=2).sum() == (middle != 90).any(axis=2).sum()
    assert canvas.sum(dtype=int) == middle.sum(dtype=int)


def test_captions_of_two_hangul_names_differ():
    image = np.full((360, 640, 3), 60, np.uint8)
    one, other = draw_caption(image, "싸움/1.mp4"), draw_caption(image, "정상/1.mp4")
    assert (one != other).any()
    assert (one[300:] > 200).any()


def test_finding_fonts_imports_no_matplotlib():
    code = (
        "import sys; from recognizer.text import readable; assert readable('싸움') == '싸움'; "
        "assert not {'matplotlib', 'koreanize_matplotlib', 'cv2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_fonts_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(text_module, "find_spec", lambda name: None)
    text_module._packaged_fonts.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"requirements/base\.txt"):
            text_module._packaged_fonts()
    finally:
        text_module._packaged_fonts.cache_clear()
