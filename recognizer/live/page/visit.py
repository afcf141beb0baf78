"""A request and who sends it: reading, refusing, and answering."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from recognizer.live.page.languages import texts_for
from recognizer.live.page.site import Site
from recognizer.live.page.texts import Texts
from recognizer.live.page.users import Role, User
from recognizer.live.store_schema import StoreError

SESSION, LANGUAGE, TOKEN_HEADER = "recognizer_session", "recognizer_language", "x-csrf-token"
MAX_BODY, MAX_FIELDS, BODY_S = 64 * 1024, 50, 10.0
_YEAR_S = 365 * 24 * 3600
logger = logging.getLogger(__name__)


class RefusedError(RuntimeError):
    """A request that is not answered: an HTTP status, and why in the visitor's language."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a visitor.

    Attributes:
        site: the page.
        request: the request.
        session_id: the visitor's id.
        user: who it is, None: not logged in.
        texts: of the visitor's language.
        form: fields of the form that was sent.

    """

    site: Site
    request: Request
    session_id: str
    user: User | None
    texts: Texts
    form: Mapping[str, str]

    def may(self, role: Role) -> bool:
        """Return whether the visitor has a role or one above it."""
        return self.user is not None and self.user.may(role)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page of a template, with what all pages show."""
        other = "en" if self.texts.language == "ko" else "ko"
        text = self.site.templates.get_template(template).render(
            t=self.texts,
            user=self.user,
            is_open=self.site.access.users is None,
            token=self.site.access.token(self.session_id),
            other_language=other,
            language_url=_with_language(self.request, other),
            may_review=self.may("reviewer"),
            may_admin=self.may("admin"),
            **values,
        )
        return HTMLResponse(text, status)

    def refusal(self, error: RefusedError) -> Response:
        """Return the answer to a request that is refused; a person without a login gets one."""
        if wants_json(self.request):
            return JSONResponse({"error": error.text}, error.status)
        if error.status == 401:
            return RedirectResponse(f"/login?next={quoted(_place(self.request))}", 303)
        return self.page(
            "error.html", error.status, place="error", text=error.text, code=error.status
        )


def wants_json(request: Request) -> bool:
    """Return whether a script asks, not a person."""
    is_api = request.url.path.startswith("/api/")
    return is_api or "application/json" in request.headers.get("accept", "")


def _with_language(request: Request, language: str) -> str:
    """Return the place of a page that is asked for again in another language."""
    path = request.url.path if request.method == "GET" else "/"
    pairs = [(k, v) for k, v in request.query_params.multi_items() if k != "lang"]
    query = "&".join(f"{quoted(k)}={quoted(v)}" for k, v in [*pairs, ("lang", language)])
    return f"/{quoted(path.lstrip('/'), '/')}?{query}"


def quoted(text: str, safe: str = "") -> str:
    """Return a text as it may stand in an address."""
    return quote(text, safe, errors="replace")


Handler = Callable[[Visit], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(site: Site, handler: Handler, role: Role | None) -> Endpoint:
    """Return what answers a route: checks role, form and token, then calls the handler.

    Args:
        site: the page.
        handler: makes the answer, in a thread of its own.
        role: who may ask; None: everyone.

    """

    async def answer(request: Request) -> Response:
        body = await _body(request) if request.method == "POST" else b""
        return await run_in_threadpool(_answer, site, handler, role, request, body)

    return answer


async def _body(request: Request) -> bytes | None:
    """Return the body, None: too large, too slow or cut off."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    return None
    except (ClientDisconnect, TimeoutError):
        return None
    return bytes(body)


def _answer(
    site: Site, handler: Handler, role: Role | None, request: Request, body: bytes | None
) -> Response:
    try:
        visit = visit_of(site, request, _fields(body or b""))
    except StoreError as error:
        logger.error("page: %s", error)
        return PlainTextResponse("The users' database cannot be read. The log says why.\n", 503)
    try:
        if body is None:
            raise RefusedError(413, visit.texts.bad_request)
        _check_role(visit, role)
        if request.method == "POST":
            _check_origin(visit)
        response = handler(visit)
    except RefusedError as error:
        response = visit.refusal(error)
    except StoreError as error:
        logger.error("page: %s", error)
        response = visit.refusal(RefusedError(503, visit.texts.failed))
    _set_cookies(visit, response)
    return response


def visit_of(site: Site, request: Request, form: Mapping[str, str]) -> Visit:
    """Return a request with who sends it."""
    sent = request.cookies.get(SESSION, "")
    session_id = sent if site.access.is_id(sent) else site.access.new_id()
    chosen = request.query_params.get("lang") or request.cookies.get(LANGUAGE)
    texts = texts_for(chosen, request.headers.get("accept-language", ""))
    return Visit(site, request, session_id, site.access.user_of(session_id), texts, form)


def _fields(body: bytes) -> dict[str, str]:
    try:
        text = body.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:  # no form: its token is missing, which is refused
        return {}


def _check_role(visit: Visit, role: Role | None) -> None:
    if role is None:
        return
    if visit.user is None:
        raise RefusedError(401, visit.texts.not_logged_in)
    if not visit.user.may(role):
        raise RefusedError(403, visit.texts.forbidden)


def _check_origin(visit: Visit) -> None:
    """Refuse a form that does not come from a page of ours."""
    headers = visit.request.headers
    token = headers.get(TOKEN_HEADER) or visit.form.get("token", "")
    if not visit.site.access.token_fits(visit.session_id, token):
        raise RefusedError(403, visit.texts.old_form)
    origin = headers.get("origin")
    if origin is not None and _host(origin) != headers.get("host"):
        raise RefusedError(403, visit.texts.forbidden)


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _place(request: Request) -> str:
    """Return where a visitor goes on after the login."""
    if request.method != "GET":
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def safe_place(text: str) -> str:
    """Return a place within this page, whatever a link asks for."""
    inside = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return quoted(text, "/?&=%~:+,-._") if inside else "/"


def _set_cookies(visit: Visit, response: Response) -> None:
    request = visit.request
    if request.cookies.get(SESSION) != visit.session_id and "set-cookie" not in response.headers:
        set_session(visit, response, visit.session_id)
    chosen = request.query_params.get("lang")
    if chosen in {"en", "ko"}:
        response.set_cookie(
            LANGUAGE, chosen, max_age=_YEAR_S, path="/", httponly=True, samesite="strict"
        )


def set_session(visit: Visit, response: Response, session_id: str) -> None:
    """Give the visitor an id in a cookie that no script and no other site can use."""
    response.set_cookie(
        SESSION,
        session_id,
        max_age=int(visit.site.config.session_hours * 3600),
        path="/",
        secure=visit.site.config.behind_tls,
        httponly=True,
        samesite="strict",
    )
