"""What visitors do: log in and out, review, export, change users."""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import get_args

from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from recognizer.live.page import formats
from recognizer.live.page.auth import LOCAL_USER, LoginLimitError
from recognizer.live.page.filters import MAX_TEXT, checked_text
from recognizer.live.page.users import ROLES, UserError, UserProblem
from recognizer.live.page.views import asked, event_of
from recognizer.live.page.visit import RefusedError, Visit, safe_place, set_session, wants_json
from recognizer.live.store import Verdict
from recognizer.live.store_reads import MAX_PAGE, EventRow, Filter, list_events

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def login_page(visit: Visit) -> Response:
    """Show the login."""
    place = safe_place(visit.request.query_params.get("next", "/"))
    if visit.user is not None:
        return RedirectResponse(place, 303)
    return visit.page("login.html", place="login", next_place=place, problem=None)


def log_in(visit: Visit) -> Response:
    """Check a name and a password, and begin a session with a new id."""
    place = safe_place(visit.form.get("next", "/"))
    client = visit.request.client
    try:
        session_id = visit.site.access.log_in(
            visit.form.get("name", ""),
            visit.form.get("password", ""),
            client.host if client else "",
        )
    except LoginLimitError as error:
        wait_s = math.ceil(error.wait_s)
        problem = visit.texts.too_many_logins.format(seconds=wait_s)
        response = visit.page("login.html", 429, place="login", next_place=place, problem=problem)
        response.headers["Retry-After"] = str(wait_s)
        return response
    except UnicodeError:
        session_id = None
    if session_id is None:
        problem = visit.texts.wrong_login
        return visit.page("login.html", 401, place="login", next_place=place, problem=problem)
    response = RedirectResponse(place, 303)
    set_session(visit, response, session_id)
    return response


def log_out(visit: Visit) -> Response:
    """End the session; the browser gets a new id."""
    visit.site.access.log_out(visit.session_id)
    response = RedirectResponse("/login", 303)
    set_session(visit, response, visit.site.access.new_id())
    return response


def review(visit: Visit) -> Response:
    """Write what the visitor decided about an event."""
    one = event_of(visit)
    verdict = _verdict(visit)
    try:
        note = checked_text(visit.form.get("note", "").strip())
        user = visit.user or LOCAL_USER
        visit.site.store.review(one.event_id, verdict, user.name, time.time(), note)
    except (ValueError, UnicodeError) as error:
        raise RefusedError(400, visit.texts.bad_request) from error
    except KeyError as error:
        raise RefusedError(404, visit.texts.not_found) from error
    if wants_json(visit.request):
        return JSONResponse({"verdict": verdict, "name": visit.texts.verdicts[verdict]})
    return RedirectResponse(safe_place(visit.form.get("next", "/events")), 303)


def _verdict(visit: Visit) -> Verdict:
    for verdict in get_args(Verdict):
        if visit.form.get("verdict") == verdict:
            known: Verdict = verdict
            return known
    raise RefusedError(400, visit.texts.bad_request)


# --- export --------------------------------------------------------------------------


def export_json_lines(visit: Visit) -> Response:
    """Send the events of the filter, one JSON object a line."""
    return _export(visit, "jsonl", "application/x-ndjson", _json_lines, "")


def export_csv(visit: Visit) -> Response:
    """Send the events of the filter as a table."""
    head = "\ufeff" + _csv_line([*EventRow.__slots__, "start", "end"])  # marked as UTF-8
    return _export(visit, "csv", "text/csv; charset=utf-8", _csv_lines, head)


Lines = Callable[[Sequence[EventRow]], str]


def _export(visit: Visit, suffix: str, kind: str, lines: Lines, start: str) -> Response:
    _, chosen, _ = asked(visit)
    headers = {"Content-Disposition": f'attachment; filename="events.{suffix}"'}
    parts = map(lines, _parts(visit.site.store.path, chosen))
    return StreamingResponse(chain([start], parts), media_type=kind, headers=headers)


def _parts(path: Path, chosen: Filter) -> Iterator[Sequence[EventRow]]:
    after = None
    while True:
        page = list_events(path, chosen, after, MAX_PAGE)
        yield page.events
        after = page.following
        if after is None:
            return


def _values(row: EventRow) -> dict[str, object]:
    return asdict(row) | {"start": formats.iso(row.start_utc_s), "end": formats.iso(row.end_utc_s)}


def _json_lines(rows: Sequence[EventRow]) -> str:
    return "".join(json.dumps(_values(row), ensure_ascii=False) + "\n" for row in rows)


def _csv_lines(rows: Sequence[EventRow]) -> str:
    return "".join(_csv_line([_plain(v) for v in _values(row).values()]) for row in rows)


def _csv_line(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()


def _plain(value: object) -> str:
    """Return a value as text that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    is_formula = isinstance(value, str) and text.startswith(_FORMULA)
    return f"'{text}" if is_formula else text


# --- users ---------------------------------------------------------------------------


def users_page(visit: Visit) -> Response:
    """Show the users to an administrator."""
    return _users_page(visit, None)


def _users_page(visit: Visit, problem: UserProblem | None) -> Response:
    users = visit.site.access.users
    if users is None:
        raise RefusedError(404, visit.texts.not_found)
    status = 200 if problem is None else 400
    text = None if problem is None else visit.texts.user_problems[problem]
    return visit.page(
        "users.html", status, place="users", users=users.all(), roles=ROLES, problem=text
    )


def change_user(visit: Visit) -> Response:
    """Add, change or remove a user; the user's sessions end."""
    users = visit.site.access.users
    if users is None:
        raise RefusedError(404, visit.texts.not_found)
    name = visit.form.get("name", "")[: MAX_TEXT + 1]
    try:
        name.encode("utf-8")
        if "remove" in visit.form:
            users.remove(name)
        else:
            users.put(name, visit.form.get("role", ""), visit.form.get("password", ""))
    except UnicodeError:
        return _users_page(visit, "name")
    except UserError as error:
        return _users_page(visit, error.problem)
    visit.site.access.end_sessions(name)
    return RedirectResponse("/users", 303)
