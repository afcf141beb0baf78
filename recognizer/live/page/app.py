"""The page as an ASGI application."""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recognizer.live.page import actions, formats, health, views, zones
from recognizer.live.page.changes import new_events
from recognizer.live.page.site import FOLDER, Site
from recognizer.live.page.users import Role
from recognizer.live.page.visit import Endpoint, Handler, RefusedError, endpoint, visit_of
from recognizer.live.store_reads import EventRow
from recognizer.live.store_schema import StoreError

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would lack their origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuse other host names where there is no login, and set the headers of every answer.

    Without the first, a site elsewhere could let its own name mean 127.0.0.1 and read the page.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._is_open = app, site.access.users is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        app: ASGIApp = self._app
        if self._is_open and not is_loopback_host(Headers(scope=scope).get("host", "")):
            app = PlainTextResponse("expected a request for 127.0.0.1 or localhost\n", 421)
        await app(scope, receive, with_headers)


def is_loopback_host(host: str) -> bool:
    """Return whether a Host header names this machine alone."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def make_app(site: Site) -> Starlette:
    """Return the page."""

    def route(
        path: str, handler: Handler, role: Role | None = "viewer", method: str = "GET"
    ) -> Route:
        return Route(path, endpoint(site, handler, role), methods=[method])

    return Starlette(
        routes=[
            route("/", views.cameras),
            route("/events", views.events),
            route("/events/{event_id}", views.event),
            route("/events/{event_id}/clip", views.clip),
            route("/events/{event_id}/review", actions.review, "reviewer", "POST"),
            route("/near-misses", views.near_misses),
            route("/export.jsonl", actions.export_json_lines),
            route("/export.csv", actions.export_csv),
            route("/api/cameras", views.camera_states),
            Route("/api/stream", _stream(site)),
            route("/login", actions.login_page, None),
            route("/login", actions.log_in, None, "POST"),
            route("/logout", actions.log_out, None, "POST"),
            route("/zones", zones.zones_page, "admin"),
            route("/zones", zones.change_zone, "admin", "POST"),
            route("/zones/still", zones.still, "admin"),
            route("/users", actions.users_page, "admin"),
            route("/users", actions.change_user, "admin", "POST"),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz(site)),
            Route("/metrics", _metrics(site)),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
        ],
        middleware=[Middleware(Guard, site=site)],
        exception_handlers={HTTPException: _http_error(site)},
    )


def _http_error(site: Site) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        try:
            return await run_in_threadpool(_refusal, site, request, status)
        except StoreError:
            return PlainTextResponse(f"{status}\n", status)

    return answer


def _refusal(site: Site, request: Request, status: int) -> Response:
    visit = visit_of(site, request, {})
    text = visit.texts.not_found if status == 404 else visit.texts.bad_request
    return visit.refusal(RefusedError(status, text))


def _stream(site: Site) -> Endpoint:
    """Return what sends new events as they come."""

    async def answer(request: Request) -> Response:
        try:
            visit = await run_in_threadpool(visit_of, site, request, {})
        except StoreError:
            return PlainTextResponse("the users' database cannot be read\n", 503)
        if visit.user is None:
            return PlainTextResponse(f"{visit.texts.not_logged_in}\n", 401)
        changed = site.changes.enter()
        if changed is None:
            return PlainTextResponse("too many browsers wait for events\n", 503)

        def may_see() -> bool:
            return site.access.user_of(visit.session_id) is not None

        def text_of(row: EventRow) -> str:
            name = visit.texts.named(visit.texts.classes, row.class_name)
            return f"{name} · {row.camera} · {formats.moment(row.start_utc_s)}"

        lines = new_events(site.store.path, site.changes, changed, may_see, text_of)
        return StreamingResponse(lines, media_type="text/event-stream")

    return answer


# --- health: without cookies, for machines -------------------------------------------


async def _healthz(request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _readyz(site: Site) -> Endpoint:
    async def answer(request: Request) -> Response:
        reason = await run_in_threadpool(health.not_ready, site.live, site.store.path)
        return PlainTextResponse(f"{reason or 'ready'}\n", 200 if reason is None else 503)

    return answer


def _metrics(site: Site) -> Endpoint:
    """Return what sends the figures: for the token, where the page has users."""

    async def answer(request: Request) -> Response:
        if not _may_monitor(site, request):
            headers = {"WWW-Authenticate": "Bearer"}
            return PlainTextResponse("expected the bearer token of metrics_token\n", 401, headers)
        text = await run_in_threadpool(site.metrics.text)
        return Response(text, headers={"Content-Type": health.CONTENT_TYPE})

    return answer


def _may_monitor(site: Site, request: Request) -> bool:
    if site.access.users is None:
        return True
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    expected = (site.metrics_token or "").encode()
    is_right = hmac.compare_digest(token.encode("utf-8", "replace"), expected)
    return bool(expected) and scheme.lower() == "bearer" and is_right
