"""The zones' page: who may draw, what is refused in words, what the rules get."""

import json
import re

import pytest
from starlette.testclient import TestClient

from recognizer.config.alerts import LiveZoneConfig, RulesConfig
from recognizer.config.page import PageConfig
from recognizer.live.drawn_zones import ZoneBook
from recognizer.live.page.app import make_app
from recognizer.live.page.health import Metrics
from recognizer.live.page.site import make_site
from tests.live.page.recorded import (
    BASE,
    PASSWORD,
    client_of,
    log_in,
    site_of,
    token_of,
)

CORNERS = [[0.1, 0.1], [0.6, 0.1], [0.6, 0.9]]
SCREEN = LiveZoneConfig.model_validate(
    {"name": "screen", "kind": "ignore", "camera": "hall", "polygon": [[0, 0], [1, 0], [0, 1]]}
)


def form(client, **changed):
    fields = {"camera": "hall", "zone": "", "name": "door", "kind": "include"}
    fields |= {"polygon": json.dumps(CORNERS), "token": token_of(client, "/zones"), **changed}
    return client.post("/zones", data=fields)


def drawn(site, camera="hall"):
    return site.zones.drawn(camera)


def test_a_zone_is_drawn_changed_and_removed_and_the_rules_get_it(browser, site):
    current = site.zones.current("hall")
    answer = form(browser, name=" door ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/zones?camera=hall")
    (one,) = drawn(site)
    assert (one.author, one.zone.kind) == ("local", "include")
    assert current.now == (one.zone,)
    assert one.zone.polygon == tuple(map(tuple, CORNERS))
    text = browser.get("/zones?camera=hall").text
    assert one.zone_id in text
    assert "local, 20" in text
    form(browser, zone=one.zone_id, name="gate", kind="rest")
    assert [(o.name, o.kind) for o in current.now] == [("gate", "rest")]
    assert [o.zone_id for o in drawn(site)] == [one.zone_id]
    form(browser, zone=one.zone_id, remove="1")
    assert current.now == drawn(site) == ()
    assert "Everyone in the picture counts" in browser.get("/zones").text


def test_zones_of_the_config_are_shown_and_cannot_be_edited(store, live, tmp_path):
    site = site_of(store, live, tmp_path, zones=[SCREEN])
    client = client_of(site)
    text = client.get("/zones?camera=hall").text
    assert "screen" in text
    assert "from the config" in text
    assert "data-edit" not in text
    assert "screen" not in client.get("/zones?camera=yard").text
    form(client)
    assert [one.name for one in site.zones.current("hall").now] == ["screen", "door"]


@pytest.mark.parametrize(
    ("changed", "english", "korean"),
    [
        ({"name": ""}, "1 to 60 visible", "1~60자"),
        ({"name": "x" * 61}, "1 to 60 visible", "1~60자"),
        ({"name": "a\nb"}, "1 to 60 visible", "1~60자"),
        ({"kind": "forbidden"}, "Choose one of the kinds", "종류를 하나"),
        ({"polygon": "[[0,0],[1,1]]"}, "3 to 100 corners", "3~100개"),
        ({"polygon": "[[0,0],[1,1],[1,0],[0,1]]"}, "Two sides cross", "교차"),
        ({"polygon": "[[0,0],[1,0],[0,0],[0,1]]"}, "at the same place", "같은 위치"),
        ({"polygon": "[[0,0],[0.5,0.5],[1,1]]"}, "on one line", "한 직선"),
        ({"polygon": "[[0,0],[2,0],[0,1]]"}, "outside the picture", "화면 밖"),
        ({"polygon": "[[0,0],[NaN,0],[0,1]]"}, "outside the picture", "화면 밖"),
        ({"polygon": "[" * 15_000}, "cannot be read", "읽을 수 없"),
        ({"polygon": "door"}, "cannot be read", "읽을 수 없"),
        ({"zone": "none"}, "removed meanwhile", "그사이 삭제"),
        ({"zone": "none", "remove": "1"}, "removed meanwhile", "그사이 삭제"),
    ],
)
def test_what_is_wrong_is_shown_beside_the_form_in_both_languages(
    browser, site, changed, english, korean
):
    for language, words in (("en", english), ("ko", korean)):
        browser.headers["Accept-Language"] = language
        answer = form(browser, **changed)
        assert answer.status_code == 400
        assert words in re.search(r'class="problem" role="alert">([^<]*)<', answer.text)[1]
    assert drawn(site) == ()


def test_what_was_drawn_is_kept_when_the_name_is_wrong(browser):
    text = form(browser, name="", kind="rest").text
    assert "[[0.1, 0.1], [0.6, 0.1], [0.6, 0.9]]" in text
    assert '<option value="rest" selected ' in text


def test_only_administrators_draw(guarded):
    guarded.access.users.put("lee", "reviewer", PASSWORD)
    reviewer = client_of(guarded)
    log_in(reviewer, "lee")
    assert reviewer.get("/zones").status_code == 403
    assert reviewer.get("/zones/still?camera=hall").status_code == 403
    fields = {"camera": "hall", "zone": "", "name": "door", "kind": "include"}
    fields |= {"polygon": json.dumps(CORNERS), "token": token_of(reviewer, "/events")}
    assert reviewer.post("/zones", data=fields).status_code == 403
    assert 'href="/zones"' not in reviewer.get("/events").text
    assert client_of(guarded).get("/zones").headers["location"].startswith("/login")
    admin = client_of(guarded)
    log_in(admin)
    assert form(admin, token="0" * 64).status_code == 403
    assert drawn(guarded) == ()
    assert form(admin).status_code == 303
    assert drawn(guarded)[0].author == "admin"


def test_no_zone_for_a_camera_that_there_is_not(browser, site):
    for name in ("attic", "", "../hall"):
        assert form(browser, camera=name).status_code == 404
        assert browser.get("/zones", params={"camera": name}).status_code == 404
    assert drawn(site, "attic") == ()


def test_no_picture_while_the_config_permits_skeletons_alone(browser, live):
    live.stills["hall"] = b"a picture"
    assert browser.get("/zones/still?camera=hall").status_code == 404
    assert "/zones/still" not in browser.get("/zones").text


def test_the_last_frame_where_the_config_permits_it(store, live):
    config = PageConfig(skeleton_only=False)
    site = make_site(config, store, live, RulesConfig(), Metrics(live, store.path), ZoneBook(store))
    client = TestClient(make_app(site), base_url=BASE)
    assert "/zones/still?camera=hall" in client.get("/zones").text
    assert client.get("/zones/still?camera=hall").status_code == 404, "no frame yet"
    live.stills["hall"] = b"a picture"
    answer = client.get("/zones/still?camera=hall")
    assert (answer.content, answer.headers["content-type"]) == (b"a picture", "image/jpeg")


def test_a_hostile_name_is_text(browser):
    form(browser, name="<script>alert(1)</script>\"'")
    text = browser.get("/zones").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
