"""The parts that every request of the page shares."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recognizer.config.alerts import RulesConfig
from recognizer.config.page import PageConfig
from recognizer.live.drawn_zones import ZoneBook
from recognizer.live.page.auth import Access
from recognizer.live.page.changes import Changes
from recognizer.live.page.health import Metrics
from recognizer.live.page.state import LiveState
from recognizer.live.page.users import Users
from recognizer.live.store import Store

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Site:
    """What the page shows, who may see it, and how it is drawn.

    Attributes:
        config: the page's section of the config.
        rules: thresholds, to draw them.
        store: events and reviews.
        live: the running program.
        access: users and sessions.
        changes: wakes those who wait for new events.
        metrics: figures for monitoring.
        zones: of the cameras, to draw them.
        metrics_token: what a monitor must send where the page has users; None: it gets nothing.
        templates: of the pages.

    """

    config: PageConfig
    rules: RulesConfig
    store: Store
    live: LiveState
    access: Access
    changes: Changes
    metrics: Metrics
    zones: ZoneBook
    metrics_token: str | None
    templates: Environment


def make_site(
    config: PageConfig,
    store: Store,
    live: LiveState,
    rules: RulesConfig,
    metrics: Metrics,
    zones: ZoneBook,
) -> Site:
    """Return the parts of a page; users are kept beside the store.

    Raises:
        ValueError: no secret where the config says that one is.
        StoreError: the users' database cannot be used.

    """
    users = None
    if config.password is not None:
        users = Users(store.path.with_name(store.path.stem + "-users.sqlite"))
        users.put_first(config.admin, config.password.read())
    changes = Changes()
    store.listen(changes.announce)
    return Site(
        config=config,
        rules=rules,
        store=store,
        live=live,
        access=Access(users, config.session_hours * 3600),
        changes=changes,
        metrics=metrics,
        zones=zones,
        metrics_token=config.metrics_token.read() if config.metrics_token else None,
        templates=Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ),
    )
