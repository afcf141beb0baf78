"""Chromium for the tests of the page, where it is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

CHROMIUM = shutil.which("chromium")
NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
WIDE: "ViewportSize" = {"width": 1280, "height": 900}


@contextmanager
def quiet_page(chromium: "Browser", url: str) -> "Iterator[Page]":
    """Give a page that must end without an error in its console."""
    context = chromium.new_context(viewport=WIDE, locale="en-US", base_url=url)
    messages: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda m: messages.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: messages.append(str(error)))
    yield opened
    context.close()
    assert messages == []
