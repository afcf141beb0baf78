"""The page in Chromium: skeletons, reviews by key, new events, a narrow window."""

import re
import time
from pathlib import Path

import pytest

from recognizer.config.page import PageConfig
from recognizer.live.store_reads import list_reviews
from tests.live.page.browser import NEEDS_BROWSER, WIDE, quiet_page
from tests.live.page.recorded import ADMIN, PASSWORD, live_event, served

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = NEEDS_BROWSER
NARROW = {"width": 360, "height": 740}


@pytest.fixture
def server(store, live):
    with served(store, live) as running:
        yield running


@pytest.fixture
def page(chromium, server):
    """Return a page that must end without an error in its console."""
    with quiet_page(chromium, server.url) as opened:
        yield opened


def test_skeletons_are_drawn_on_black(page):
    page.goto("/")
    drawn = """() => { const c = document.querySelector('[data-camera="hall"] canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let light = 0; for (let i = 0; i < d.length; i += 4) light += d[i] > 100;
        return light / (d.length / 4); }"""
    page.wait_for_function(f"({drawn})() > 0", timeout=10_000)
    assert 0 < page.evaluate(drawn) < 0.2
    error = page.locator('[data-camera="yard"] .last-error')
    assert "connection refused" in error.locator('[data-field="last_error"]').inner_text()
    error.locator("summary").click()
    playwright.expect(error.locator('[data-field="error_message"]')).to_contain_text("rtsp://***@")


def test_events_are_reviewed_by_key(page, store):
    page.goto("/events")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("f")
    badge = page.locator('tr[data-event="event-00010"] [data-verdict]')
    playwright.expect(badge).to_have_text("false alarm")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("event-00010"))
    for key, number in (("c", 10), ("j", 9), ("u", 9), ("k", 10)):
        page.keyboard.press(key)
        page.wait_for_url(re.compile(f"event-{number:05}"))
        if key in "cu":
            name = {"c": "confirmed", "u": "unsure"}[key]
            playwright.expect(page.locator("#event [data-verdict]")).to_have_text(name)
            latest = page.locator("#decisions [data-verdict]").first
            playwright.expect(latest).to_have_text(name)
    verdicts = [one.verdict for one in list_reviews(store.path, "event-00010")]
    assert verdicts == ["false_alarm", "confirmed"]
    assert [one.verdict for one in list_reviews(store.path, "event-00009")] == ["unsure"]


def test_letters_in_a_field_are_letters(page, store):
    page.goto("/events/event-00003")
    page.locator("input[name=note]").fill("")
    page.locator("input[name=note]").type("cuff jk")
    page.wait_for_timeout(300)
    assert page.url.endswith("event-00003")
    assert list_reviews(store.path, "event-00003") == ()
    page.locator("button.confirm").click()
    playwright.expect(page.locator("#event [data-verdict]")).to_have_text("confirmed")
    assert list_reviews(store.path, "event-00003")[0].note == "cuff jk"


def test_a_new_event_is_announced(page, store):
    page.goto("/", wait_until="load")
    page.wait_for_timeout(1000)  # until the stream is open
    store.put([live_event(50)], time.time())
    playwright.expect(page.locator("#banner")).to_be_visible()
    page.locator("#banner-link").click()
    page.wait_for_url(re.compile("event-00050"))


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_nothing_is_wider_than_the_window(page, tmp_path: Path, viewport, language):
    page.set_viewport_size(viewport)
    for place in ("/", "/events", "/events/event-00008"):
        page.goto(f"{place}?lang={language}")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert page.locator("html").get_attribute("lang") == language


def test_a_reviewer_logs_in_decides_and_logs_out(chromium, store, live, tmp_path):
    (tmp_path / "secret").write_text(PASSWORD, encoding="utf-8")
    secret = {"file": str(tmp_path / "secret")}
    config = PageConfig.model_validate({"port": 0, "password": secret})
    with served(store, live, config) as server:
        page = chromium.new_context(viewport=NARROW, base_url=server.url).new_page()
        page.goto("/events/event-00003?camera=yard")
        page.locator("input[name=name]").fill(ADMIN)
        page.locator("input[name=password]").fill(PASSWORD)
        page.locator("button.primary").click()
        page.wait_for_url(re.compile(r"/events/event-00003\?camera=yard"))
        page.locator("button.refuse").click()
        playwright.expect(page.locator("#event [data-verdict]")).to_have_text("false alarm")
        page.goto("/users")
        page.locator("input[name=name][maxlength]").fill("kim")
        page.locator("input[name=password]").fill("another password")
        page.locator("button.primary").click()
        playwright.expect(page.locator("tbody tr")).to_have_count(2)
        page.locator("header .plain").click()
        page.wait_for_url(re.compile("/login"))
        page.goto("/events")
        page.wait_for_url(re.compile("/login"))
        page.context.close()
    assert list_reviews(store.path, "event-00003")[0].reviewer == ADMIN
