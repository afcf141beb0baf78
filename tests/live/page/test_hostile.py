"""Hostile requests and names: nothing fails, nothing outside is read, nothing is executed."""

import random
import re
from dataclasses import replace
from urllib.parse import quote

import pytest

from recognizer.live.errors import Reason
from recognizer.live.page.visit import MAX_BODY
from recognizer.live.store import Store
from recognizer.live.values import CameraError
from tests.live.page.recorded import (
    HALL,
    PASSWORD,
    YARD,
    Recorded,
    client_of,
    live_event,
    log_in,
    site_of,
    token_of,
)

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"
PATHS = (
    "/",
    "/events",
    "/events/{}",
    "/events/{}/clip",
    "/export.csv",
    "/export.jsonl",
    "/static/{}",
)
OUTSIDE = (
    *("../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd"),
    *("....//....//etc/passwd", "/etc/passwd", "..\\..\\etc\\passwd", "%00", "..%00/etc/passwd"),
    *("app.py", "../app.py", "..%2fapp.py", "..%5capp.py", "%252e%252e%252fapp.py"),
)
INSIDE = re.compile("root:|import |SQLite format")


@pytest.fixture
def harsh(site):
    """Return a browser that raises nothing: an error is answered with 500, as by the server."""
    client = client_of(site)
    client._transport.raise_server_exceptions = False
    return client


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("path", ["/static/{}", "/events/{}/clip", "/events/{}", "/{}"])
def test_no_path_leads_outside(harsh, live, outside, path):
    (live.folder.parent / "secret.mp4").write_bytes(b"root:")
    for name in (outside, "../secret", "..%2fsecret"):
        answer = harsh.get(path.format(name))
        assert answer.status_code in {200, 303, 400, 404}
        assert not INSIDE.search(answer.text)


def test_files_of_the_page_are_sent(harsh):
    assert harsh.get("/static/page.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    "name", [HOSTILE, "=cmd|' /C calc'!A0", "\u202eevil", "a" * 100, "%s%n{0}"]
)
def test_a_hostile_camera_name_is_text(tmp_path, name):
    live = Recorded(
        tmp_path, [replace(HALL, name=name, last_error=CameraError(Reason.OTHER, name)), YARD]
    )
    store = Store(tmp_path / "events.sqlite")
    store.put([live_event(1, camera=name, class_name=name, zone=name)], 0.0)
    client = client_of(site_of(store, live, tmp_path))
    for path in ("/", "/events", f"/events?camera={quote(name)}", "/events/event-00001"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "49" not in re.findall(r"&amp;(\d+)", answer.text)
    assert client.get("/api/cameras").json()[0]["name"] == name
    assert client.get("/metrics").status_code == 200
    assert client.get("/export.csv").status_code == 200
    store.close()


def test_no_answer_shows_credentials(guarded, store):
    client = client_of(guarded)
    log_in(client)
    token = {"Authorization": "Bearer the token of the monitor"}
    paths = (
        "/",
        "/events",
        "/events/event-00001",
        "/users",
        "/api/cameras",
        "/metrics",
        "/export.csv",
    )
    for path in paths:
        text = client.get(path, headers=token).text
        assert client.get(path, headers=token).status_code == 200
        assert not re.search(r"://(?!\*\*\*@)[^/\s\"<]*@", text)
        assert PASSWORD not in text
        assert "argon2" not in text


def test_every_answer_has_the_headers_that_bind_the_browser(harsh):
    for path in ("/", "/events", "/nothing", "/static/page.js", "/healthz", "/events/none"):
        headers = harsh.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_no_page_needs_another_host_or_inline_code(harsh):
    for path in ("/", "/events", "/events/event-00001", "/zones", "/nothing"):
        text = harsh.get(path).text
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text)
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)


def test_a_large_form_is_refused(harsh):
    form = {"token": token_of(harsh, "/events"), "verdict": "unsure", "note": "x" * MAX_BODY}
    assert harsh.post("/events/event-00001/review", data=form).status_code == 413
    many = "&".join(f"a{n}=1" for n in range(1000))
    assert harsh.post("/events/event-00001/review", content=many).status_code == 403


def test_methods_that_there_are_not_are_refused(harsh):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert harsh.request(method, "/events").status_code == 405
    assert harsh.get("/events/event-00001/review").status_code == 405


def test_many_and_long_headers_change_nothing(harsh):
    flood = {f"X-Flood-{n}": "x" * 100 for n in range(2000)} | {"Cookie": "a=" + "b" * 100_000}
    assert harsh.get("/events", headers=flood).status_code == 200
    for name in ("Cookie", "Accept-Language", "Accept", "Range", "Origin", "If-None-Match"):
        for value in ("\xff\xfe", ";" * 5000, "=;=;=", "," * 5000, "bytes=-1--2"):
            answer = harsh.get("/events", headers={name: value.encode("latin-1")})
            assert answer.status_code == 200, (name, value[:10])


def test_1000_random_requests_get_no_error_of_the_server(harsh, store, tmp_path):
    random_ = random.Random(7)
    letters = [
        *"abc./\\%&=?#~<>'\"\0\n\r;:{}[]()|-_ 0189",
        "é",
        "한",
        "\U0001f600",
        "\u202e",
        "\xff",
    ]
    names = (
        "camera",
        "class",
        "state",
        "review",
        "from",
        "until",
        "after",
        "lang",
        "next",
        "download",
        "camera",
    )
    token = token_of(harsh, "/events")

    def text(most: int = 40) -> str:
        if random_.random() < 0.2:
            return random_.choice([*OUTSIDE, HOSTILE, "' OR 1=1 --", "1e400~x", "9" * 400, "-1~e"])
        return "".join(random_.choices(letters, k=random_.randrange(most)))

    for _ in range(1000):
        path = random_.choice(
            [*PATHS, "/{}", "/login", "/api/cameras", "/zones", "/zones/still", "/near-misses"]
        )
        path = path.format(quote(text(), safe=random_.choice(["", "/", "/."])))
        query = "&".join(f"{random_.choice(names)}={quote(text())}" for _ in range(3))
        if random_.random() < 0.3:
            fields = ["verdict", "note", "next", "name", "password", "zone", "kind", "polygon"]
            body = {random_.choice(fields): text(), "camera": random_.choice(["hall", text()])}
            path = random_.choice(
                ["/events/event-00001/review", "/login", "/users", "/logout", "/zones", path]
            )
            answer = harsh.post(f"{path}?{query}", data={**body, "token": token})
        else:
            answer = harsh.get(f"{path}?{query}", headers={"Cookie": quote(text())})
        assert answer.status_code < 500, (answer.request.url, answer.text[:200])
        assert not INSIDE.search(answer.text)
