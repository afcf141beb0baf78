"""Who may do what: logins, sessions, roles, forged forms, the login limit."""

import sqlite3
from dataclasses import replace
from typing import get_args
from urllib.parse import quote

import pytest

from recognizer.live.page.auth import LOGINS, Access, LoginLimit, LoginLimitError
from recognizer.live.page.english import ENGLISH
from recognizer.live.page.korean import KOREAN
from recognizer.live.page.users import UserProblem, Users
from recognizer.live.store_reads import list_reviews
from tests.live.page.recorded import ADMIN, BASE, PASSWORD, client_of, log_in, site_of, token_of

PAGES = (
    "/",
    "/events",
    "/events/event-00001",
    "/near-misses",
    "/users",
    "/zones",
    "/zones/still",
    "/export.csv",
    "/export.jsonl",
)


@pytest.fixture
def users(tmp_path):
    return Users(tmp_path / "users.sqlite")


# --- logins --------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_visitor_is_led_to_the_login(guarded, path):
    answer = client_of(guarded).get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/login?next={quote(path, safe='')}"


@pytest.mark.parametrize("path", ["/api/cameras", "/api/stream", "/metrics"])
def test_a_script_without_a_login_gets_nothing(guarded, path):
    answer = client_of(guarded).get(path)
    assert answer.status_code == 401
    assert "hall" not in answer.text


def test_a_login_leads_on_and_a_logout_ends_it(guarded):
    client = client_of(guarded)
    before = client.get("/login").cookies["recognizer_session"]
    assert log_in(client) == 303
    assert client.cookies["recognizer_session"] != before, "the visitor's id would be known before"
    assert client.get("/events").status_code == 200
    copied = client.cookies["recognizer_session"]
    form = {"token": token_of(client, "/events")}
    assert client.post("/logout", data=form).headers["location"] == "/login"
    client.cookies.set("recognizer_session", copied)
    assert client.get("/events").status_code == 303


@pytest.mark.parametrize(
    ("name", "password"),
    [(ADMIN, "another password"), ("root", PASSWORD), (ADMIN, ""), ("", ""), ("a\0b", "\ud800")],
)
def test_a_wrong_login_is_refused(guarded, name, password):
    client = client_of(guarded)
    assert log_in(client, name, password.encode("utf-8", "replace").decode()) == 401
    assert client.get("/events").status_code == 303


def test_five_logins_a_minute_from_one_address(guarded):
    client = client_of(guarded, "192.0.2.1")
    assert [log_in(client, password="wrong password") for _ in range(LOGINS)] == [401] * LOGINS
    assert log_in(client) == 429, "the right password does not help"
    assert log_in(client_of(guarded, "192.0.2.2")) == 303


def test_a_header_does_not_change_the_address(guarded):
    client = client_of(guarded, "192.0.2.1")
    statuses = []
    for number in range(LOGINS + 1):
        client.headers["X-Forwarded-For"] = f"198.51.100.{number}"
        statuses.append(log_in(client, password="wrong password"))
    assert statuses == [401] * LOGINS + [429]


def test_the_limit_ends_after_a_minute():
    now = [0.0]
    limit = LoginLimit(lambda: now[0])
    for _ in range(LOGINS):
        limit.count("a")
        now[0] += 1
    with pytest.raises(LoginLimitError) as caught:
        limit.count("a")
    assert caught.value.wait_s == pytest.approx(55)
    limit.count("b")
    now[0] = 60.0
    limit.count("a")
    with pytest.raises(LoginLimitError):
        limit.count("a")


def test_a_session_ends_when_its_hours_are_over(users):
    now = [0.0]
    users.put("kim", "viewer", PASSWORD)
    access = Access(users, 3600, lambda: now[0])
    session = access.log_in("kim", PASSWORD, "a")
    now[0] = 3599
    assert access.user_of(session).name == "kim"
    now[0] = 3600
    assert access.user_of(session) is None


@pytest.mark.parametrize(
    "place", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nX: 1", "evil"]
)
def test_a_login_leads_nowhere_else(guarded, place):
    client = client_of(guarded)
    form = {"token": token_of(client), "name": ADMIN, "password": PASSWORD, "next": place}
    assert client.post("/login", data=form).headers["location"] == "/"


def test_an_ipv6_network_counts_as_one_address():
    limit = LoginLimit(lambda: 0.0)
    for number in range(LOGINS):
        limit.count(f"2001:db8::{number}")
    with pytest.raises(LoginLimitError):
        limit.count("2001:db8::ffff:1")
    limit.count("2001:db8:0:1::1")


def test_a_damaged_users_database_stops_no_program(guarded, tmp_path):
    client = client_of(guarded)
    assert log_in(client) == 303
    (tmp_path / "events-users.sqlite").write_bytes(b"no database" * 1000)
    for path in ("/events", "/login", "/api/cameras", "/api/stream"):
        assert client.get(path).status_code == 503
    assert client.get("/nothing").status_code == 404
    assert client.get("/healthz").status_code == 200


# --- cookies -------------------------------------------------------------------------


def test_no_script_and_no_other_site_gets_the_cookie(guarded):
    client = client_of(guarded)
    form = {"token": token_of(client), "name": ADMIN, "password": PASSWORD}
    for answer in (client_of(guarded).get("/login"), client.post("/login", data=form)):
        flags = {flag.strip().lower() for flag in answer.headers["set-cookie"].split(";")}
        assert {"httponly", "samesite=strict", "path=/"} <= flags
        assert "secure" not in flags


def test_behind_tls_the_cookie_is_sent_by_https_alone(guarded):
    config = guarded.config.model_copy(update={"behind_tls": True})
    answer = client_of(replace(guarded, config=config)).get("/login")
    assert "; secure" in answer.headers["set-cookie"].lower()


# --- roles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "review", "users_page"),
    [("viewer", 403, 403), ("reviewer", 303, 403), ("admin", 303, 200)],
)
def test_each_role_does_what_it_may(guarded, store, role, review, users_page):
    guarded.access.users.put("kim", role, PASSWORD)
    client = client_of(guarded)
    assert log_in(client, "kim") == 303
    text = client.get("/events/event-00001").text
    assert ('class="review"' in text) == (role != "viewer")
    form = {"token": token_of(client, "/events"), "verdict": "confirmed"}
    assert client.post("/events/event-00001/review", data=form).status_code == review
    assert client.get("/users").status_code == users_page
    expected = [] if role == "viewer" else ["kim"]
    assert [one.reviewer for one in list_reviews(store.path, "event-00001")] == expected
    add = {"token": form["token"], "name": "lee", "role": "admin", "password": PASSWORD}
    assert client.post("/users", data=add).status_code == (303 if role == "admin" else 403)
    assert (guarded.access.users.get("lee") is not None) == (role == "admin")


def test_an_administrator_changes_users(guarded):
    admin, kim = client_of(guarded), client_of(guarded)
    log_in(admin)
    token = token_of(admin, "/users")
    add = {"token": token, "name": "kim", "role": "reviewer", "password": PASSWORD}
    assert admin.post("/users", data=add).status_code == 303
    assert log_in(kim, "kim") == 303
    assert (
        admin.post("/users", data={"token": token, "name": "kim", "remove": "1"}).status_code == 303
    )
    assert kim.get("/events").status_code == 303, "the session ends with the user"


@pytest.mark.parametrize(("language", "texts"), [("en", ENGLISH), ("ko", KOREAN)])
def test_what_is_wrong_with_a_user_is_told_in_the_language(guarded, language, texts):
    admin = client_of(guarded)
    log_in(admin)
    add = {"token": token_of(admin, "/users"), "name": "kim", "password": PASSWORD}
    shown = set()
    for problem, wrong in (
        ("role", {"role": "owner"}),
        ("password", {"password": "short", "role": "viewer"}),
        ("name", {"name": ""}),
        ("name", {"name": "a\nb"}),
        ("hash", {"password": "$argon2id$v=19$broken"}),
        ("last_admin", {"name": ADMIN, "remove": "1"}),
        ("last_admin", {"name": ADMIN, "role": "viewer"}),
    ):
        answer = admin.post("/users", data={**add, **wrong}, headers={"Accept-Language": language})
        assert answer.status_code == 400
        assert f'role="alert">{texts.user_problems[problem]}</p>' in answer.text
        shown.add(problem)
    assert shown == set(texts.user_problems) == set(get_args(UserProblem))


def test_without_a_password_everyone_is_the_local_administrator(browser):
    assert browser.get("/events").status_code == 200
    assert browser.get("/users").status_code == 404


# --- users' database -----------------------------------------------------------------


def test_no_password_is_kept_as_it_is(users, tmp_path):
    users.put("kim", "viewer", PASSWORD)
    data = (tmp_path / "users.sqlite").read_bytes()
    assert b"$argon2id$" in data
    assert PASSWORD.encode() not in data
    assert (tmp_path / "users.sqlite").stat().st_mode & 0o077 == 0


def test_the_config_gives_the_first_administrator_a_password_or_its_hash(users, tmp_path):
    users.put_first(ADMIN, PASSWORD)
    assert users.check(ADMIN, PASSWORD).role == "admin"
    other = Users(tmp_path / "other.sqlite")
    other.put("kim", "viewer", "another password")
    users.put_first(ADMIN, "a changed password")
    assert users.check(ADMIN, PASSWORD) is None
    with sqlite3.connect(tmp_path / "other.sqlite") as db:
        (hashed,) = db.execute("SELECT hash FROM users").fetchone()
    users.put_first(ADMIN, hashed)
    assert users.check(ADMIN, "another password").role == "admin"
    assert users.check(ADMIN, hashed) is None


def test_a_restart_keeps_users(guarded, store, live, tmp_path):
    guarded.access.users.put("kim", "reviewer", PASSWORD)
    again = site_of(store, live, tmp_path, with_password=True)
    assert [user.name for user in again.access.users.all()] == [ADMIN, "kim"]


def test_a_missing_secret_is_named(store, live, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.live.page.recorded.PASSWORD", " short")
    with pytest.raises(ValueError, match="password: expected 8 to 1024 characters"):
        site_of(store, live, tmp_path, with_password=True)


# --- forged forms --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/events/event-00001/review", {"verdict": "confirmed"}),
        ("/login", {"name": ADMIN, "password": PASSWORD}),
        ("/logout", {}),
        ("/users", {"name": "kim", "role": "admin", "password": PASSWORD}),
    ],
)
def test_a_form_without_the_visitors_token_is_refused(guarded, store, path, form):
    client, other = client_of(guarded), client_of(guarded)
    log_in(client)
    for token in ("", "0" * 64, "\ud800", token_of(other)):
        sent = {**form, "token": token.encode("utf-8", "replace").decode()}
        assert client.post(path, data=sent).status_code == 403
    assert client.post(path, data=form).status_code == 403
    assert client.post(path, json={**form, "token": token_of(client, "/events")}).status_code == 403
    assert list_reviews(store.path, "event-00001") == ()
    assert guarded.access.users.get("kim") is None


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["]
)
def test_a_form_of_another_site_is_refused(browser, origin):
    form = {"token": token_of(browser, "/events"), "verdict": "confirmed"}
    path = "/events/event-00001/review"
    assert browser.post(path, data=form, headers={"Origin": origin}).status_code == 403
    assert browser.post(path, data=form, headers={"Origin": BASE}).status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8740", "127.0.0.1.evil.example", ""]
)
def test_a_foreign_name_for_this_machine_is_refused_without_a_login(browser, host):
    answer = browser.get("/events", headers={"Host": host})
    assert (answer.status_code, "hall" in answer.text) == (421, False)


@pytest.mark.parametrize("host", ["localhost:8740", "127.0.0.1", "[::1]:8740"])
def test_every_name_of_this_machine_is_answered(browser, host):
    assert browser.get("/events", headers={"Host": host}).status_code == 200
