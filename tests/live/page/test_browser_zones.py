"""Zones drawn in Chromium by mouse, by keyboard and by touch; the pictures of docs/.

With RECOGNIZER_SCREENSHOTS set to a folder, the pages are photographed there, as for docs/.
"""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from recognizer.config.alerts import LiveZoneConfig, RulesConfig
from recognizer.config.page import PageConfig
from recognizer.live.drawn_zones import ZoneBook, checked_zone, list_drawn
from recognizer.live.page.server import PageServer
from tests.live.page.browser import NEEDS_BROWSER, WIDE, quiet_page
from tests.live.page.recorded import Recorded, live_event

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = NEEDS_BROWSER
NARROW = {"width": 390, "height": 844}
SCREEN = LiveZoneConfig.model_validate(
    {
        "name": "screen",
        "kind": "ignore",
        "camera": "hall",
        "polygon": [[0.8, 0.05], [0.97, 0.05], [0.97, 0.3], [0.8, 0.3]],
    }
)


@pytest.fixture
def served(store, live):
    server = PageServer(PageConfig(port=0), store, live, zones=ZoneBook(store, [SCREEN]))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(chromium, served):
    with quiet_page(chromium, served.url) as opened:
        yield opened


def at(page, x, y):
    """Return the place in the window of a place in the picture."""
    box = page.locator("#stage").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def saved(store):
    return [(o.zone.name, o.zone.kind, o.zone.polygon) for o in list_drawn(store.path)]


def near(corners):
    return [pytest.approx(corner, abs=0.005) for corner in corners]


def test_a_zone_is_drawn_moved_renamed_and_removed_by_mouse(page, store):
    page.goto("/zones")
    playwright.expect(page.locator("#drawing polygon")).to_have_count(1)
    for corner in ((0.1, 0.2), (0.5, 0.2), (0.5, 0.9), (0.1, 0.9), (0.1, 0.2)):
        page.mouse.click(*at(page, *corner))
    playwright.expect(page.locator("#zone-state")).to_have_text("Corners: 4, closed")
    page.mouse.move(*at(page, 0.5, 0.9))
    page.mouse.down()
    page.mouse.move(*at(page, 0.65, 0.8), steps=4)
    page.mouse.up()
    page.locator("#zone-form input[name=name]").fill("door")
    page.locator("#zone-form button.primary").click()
    playwright.expect(page.locator(".zone-list li")).to_have_count(2)
    page.reload()
    playwright.expect(page.locator("#drawing polygon")).to_have_count(2)
    playwright.expect(page.locator(".zone-list li").first).to_contain_text("from the config")
    ((name, kind, polygon),) = saved(store)
    assert (name, kind) == ("door", "include")
    assert list(polygon) == near([(0.1, 0.2), (0.5, 0.2), (0.65, 0.8), (0.1, 0.9)])
    page.locator("[data-edit]").click()
    page.locator("#zone-form input[name=name]").fill("gate")
    page.locator("#zone-form select").select_option("rest")
    page.locator("#zone-form button.primary").click()
    playwright.expect(page.locator(".zone-list li").nth(1)).to_contain_text("gate")
    assert saved(store) == [("gate", "rest", polygon)]
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator(".zone-list form button").click()
    playwright.expect(page.locator(".zone-list li")).to_have_count(1)
    assert saved(store) == []


def test_a_zone_is_drawn_by_keyboard_alone(page, store):
    page.goto("/zones?camera=yard")
    page.locator("#stage").focus()
    for keys in (
        ["Space", "Space", "Shift+ArrowDown", "Shift+ArrowDown", "ArrowLeft"],
        ["Space", "Delete", "Escape"],  # given up
        ["Space", "Shift+ArrowLeft", "Space", "Shift+ArrowRight", "Space", "Shift+ArrowDown"],
        ["Shift+ArrowDown", "Shift+ArrowDown", "Space", "Delete", "Shift+Tab", "ArrowUp"],
        ["Enter"],
    ):
        for key in keys:
            page.keyboard.press(key)
    playwright.expect(page.locator("#zone-state")).to_have_text("Corners: 3, closed")
    page.keyboard.type("door")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".zone-list li")).to_have_count(1)
    page.reload()
    playwright.expect(page.locator(".zone-list li")).to_contain_text("door")
    ((name, kind, polygon),) = saved(store)
    assert (name, kind) == ("door", "ignore")
    assert list(polygon) == near([(0.35, 0.4), (0.5, 0.39), (0.6, 0.55)])


def test_a_zone_is_drawn_by_touch_in_a_narrow_window_and_its_error_is_shown(
    chromium, served, store
):
    context = chromium.new_context(
        viewport=NARROW, has_touch=True, is_mobile=True, locale="ko-KR", base_url=served.url
    )
    page = context.new_page()
    page.goto("/zones")
    for corner in ((0.2, 0.2), (0.7, 0.8), (0.7, 0.2), (0.2, 0.8)):
        page.touchscreen.tap(*at(page, *corner))
    page.locator("#close-zone").tap()
    page.locator("#zone-form input[name=name]").fill("문")
    page.locator("#zone-form button.primary").tap()
    playwright.expect(page.locator("[role=alert]:visible")).to_contain_text("교차")
    playwright.expect(page.locator("#zone-form input[name=name]")).to_have_value("문")
    playwright.expect(page.locator("#zone-state")).to_contain_text("4")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    photograph(page, "zones-narrow")
    context.close()
    assert saved(store) == []


def test_a_program_that_does_not_answer_is_shown_until_it_does(chromium, served):
    page = chromium.new_page(locale="en-US", base_url=served.url)
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.route("**/api/cameras", lambda route: route.abort())
    page.goto("/zones")
    playwright.expect(page.locator("#no-answer")).to_be_visible()
    page.unroute("**/api/cameras")
    playwright.expect(page.locator("#no-answer")).to_be_hidden()
    page.close()
    assert failures == []


def photograph(page, name):
    folder = os.environ.get("RECOGNIZER_SCREENSHOTS")
    if folder:
        box, size = page.locator("body").bounding_box(), page.viewport_size
        short = box["height"] < size["height"]  # without the empty part below
        page.screenshot(path=Path(folder) / f"{name}.png", clip=box if short else None)


def test_pages_with_10000_events_in_a_wide_and_a_narrow_window(chromium, large, tmp_path):
    live = Recorded(tmp_path)
    book = ZoneBook(large, [SCREEN])
    for kind, name, corners in (
        ("include", "door", "[[0.08,0.2],[0.45,0.15],[0.5,0.95],[0.05,0.95]]"),
        ("rest", "bench", "[[0.55,0.6],[0.78,0.6],[0.78,0.95],[0.55,0.95]]"),
    ):
        if not any(one.zone.name == name for one in book.drawn("hall")):
            book.add("hall", checked_zone(name, kind, corners), "kim", live_event(0).start_utc_s)
    server = PageServer(PageConfig(port=0), large, live, rules=RulesConfig(), zones=book)
    server.start()
    try:
        for size, suffix in ((WIDE, ""), (NARROW, "-narrow")):
            context = chromium.new_context(viewport=size, locale="en-US", base_url=server.url)
            page = context.new_page()
            for name, place in (
                ("live-cameras", "/"),
                ("live-events", "/events"),
                ("live-event", "/events/event-09900"),
                ("live-zones", "/zones"),
            ):
                begun_s = time.perf_counter()
                page.goto(place, wait_until="load")
                took_ms = 1000 * (time.perf_counter() - begun_s)
                sys.stdout.write(f"\n{name}{suffix}: loaded in {took_ms:.0f} ms")
                page.wait_for_timeout(1500)
                if name == "live-zones":
                    page.locator("[data-edit]").first.click()
                overflow = "document.documentElement.scrollWidth - window.innerWidth"
                assert page.evaluate(overflow) <= 0, name
                photograph(page, name + suffix)
            context.close()
        page = chromium.new_page(base_url=server.url)
        page.goto("/events")
        for _ in range(5):
            page.locator("a[rel=next]").click()
            page.wait_for_url(re.compile("after="))
            assert page.locator("tr[data-event]").count() == 50
        page.close()
    finally:
        server.stop()
