"""A store with few events and one with 10,000, and browsers without a login."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from recognizer.live.page.site import Site
from recognizer.live.store import Store
from tests.live.page.browser import CHROMIUM
from tests.live.page.recorded import Recorded, client_of, live_event, site_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a store with 12 events."""
    made = Store(tmp_path / "events.sqlite")
    made.put([live_event(n) for n in range(12)], time.time())
    yield made
    made.close()


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return a store with 10,000 events, which stay as they are."""
    made = Store(tmp_path_factory.mktemp("large") / "events.sqlite")
    made.put([live_event(n) for n in range(10_000)], time.time())
    yield made
    made.close()


@pytest.fixture
def live(tmp_path: Path) -> Recorded:
    """Return a running program."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return Recorded(folder)


@pytest.fixture
def site(store: Store, live: Recorded, tmp_path: Path) -> Site:
    """Return a page on a loopback address, without a password."""
    return site_of(store, live, tmp_path)


@pytest.fixture
def guarded(store: Store, live: Recorded, tmp_path: Path) -> Site:
    """Return a page with a password."""
    return site_of(store, live, tmp_path, with_password=True, token="the token of the monitor")


@pytest.fixture
def browser(site: Site) -> TestClient:
    """Return a browser at the page without a password."""
    return client_of(site)


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """Return a browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()
