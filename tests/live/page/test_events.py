"""The event list and event view: filters, paging, reviews, clips, export."""

import csv
import io
import json
import re
import sqlite3
from dataclasses import replace
from datetime import datetime
from html import unescape

import pytest

from recognizer.live.errors import ADVICE, Reason
from recognizer.live.events import NearMiss
from recognizer.live.page.actions import _plain
from recognizer.live.page.english import ENGLISH
from recognizer.live.page.filters import cursor_of, fields_of
from recognizer.live.page.korean import KOREAN
from recognizer.live.page.timeline import plan, timeline
from recognizer.live.store_reads import Cursor, Filter, list_events, list_reviews, newer_event
from tests.live.page.recorded import UTC_S, YARD, client_of, live_event, site_of, token_of

ROW = re.compile(r'<tr data-event="([^"]+)">')
NEXT = re.compile(r'rel="next" href="([^"]+)"')


def ids(client, query=""):
    answer = client.get(f"/events{query}")
    assert answer.status_code == 200, answer.text
    return ROW.findall(answer.text)


def names(numbers):
    return [f"event-{n:05}" for n in numbers]


# --- list ----------------------------------------------------------------------------


def test_the_latest_event_is_first(browser):
    assert ids(browser) == names(range(11, -1, -1))


def test_every_filter_keeps_its_events_alone(browser, store):
    store.review("event-00003", "false_alarm", "admin", UTC_S)
    store.put([live_event(20, state="new", closed_by=None)], UTC_S)
    assert ids(browser, "?camera=yard") == names(range(11, 0, -2))
    assert ids(browser, "?class=Falldown&camera=hall") == names([20, 8, 2])
    assert ids(browser, "?state=new") == names([20])
    assert ids(browser, "?review=false_alarm") == names([3])
    assert ids(browser, "?review=none") == names([20, *range(11, 3, -1), 2, 1, 0])
    since = datetime.fromtimestamp(UTC_S + 600).isoformat(timespec="minutes")
    assert ids(browser, f"?from={since}") == names([20, 11, 10])
    assert ids(browser, f"?until={since}&camera=hall") == names([8, 6, 4, 2, 0])


@pytest.mark.parametrize(
    "query",
    [
        *("state=begun", "review=yes", "from=yesterday", "until=9999-99-99", "after=x", "after=1~"),
        *("after=nan~e", "after=inf~e", f"camera={'x' * 201}", "from=0001-01-01T00:00"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(browser, query):
    answer = browser.get(f"/events?{query}")
    expected = {400, 200} if query.startswith("from=0001") else {400}  # a valid time long ago
    assert answer.status_code in expected


def test_all_10_000_events_come_page_by_page_once_each(large, live, tmp_path):
    client = client_of(site_of(large, live, tmp_path))
    found, place = [], "/events?camera=hall"
    while place:
        text = client.get(place).text
        page = ROW.findall(text)
        assert len(page) <= 50
        found += page
        following = NEXT.search(text)
        place = following and following[1].replace("&amp;", "&")
    assert found == names(range(9998, -1, -2))


def test_no_list_reads_all_events(large):
    """The database finds each page by an index, however many events there are."""
    with sqlite3.connect(f"file:{large.path}?mode=ro", uri=True) as db:
        for where in (
            "(start_utc_s, id) < (?, ?)",
            "camera = 'hall' AND (start_utc_s, id) < (?, ?)",
        ):
            plan_rows = db.execute(
                f"EXPLAIN QUERY PLAN SELECT id FROM events WHERE {where} "
                "ORDER BY start_utc_s DESC, id DESC LIMIT 51",
                (UTC_S, "e"),
            ).fetchall()
            text = " ".join(row[-1] for row in plan_rows)
            assert "USING" in text
            assert "INDEX events_by_" in text
            assert "TEMP B-TREE" not in text


def test_the_event_before_another_is_found_within_the_filter(store):
    here = Cursor(UTC_S + 60 * 4, "event-00004")
    assert newer_event(store.path, Filter(), here) == "event-00005"
    assert newer_event(store.path, Filter(camera="hall"), here) == "event-00006"
    assert newer_event(store.path, Filter(), Cursor(UTC_S + 60 * 11, "event-00011")) is None


def test_an_empty_list_says_so(browser):
    assert "No event fits the filter" in browser.get("/events?camera=attic").text


def test_near_misses_and_gaps_are_listed(browser, store):
    assert browser.get("/near-misses").text.count("None.") == 2
    miss = NearMiss("hall", "Fight", "door", 1.0, 2.5, UTC_S, UTC_S + 1.5, 0.57, "min_s")
    store.put([miss], UTC_S)
    store.put_gap("yard", UTC_S, UTC_S + 75, "timeout")
    store.put_gap("hall", UTC_S, None, "refused")
    text = browser.get("/near-misses").text
    for part in ("shortest duration", "0.57", "1.5 s", "1:15", "no answer", "goes on"):
        assert part in text
    assert "None." not in text


@pytest.mark.parametrize("texts", [ENGLISH, KOREAN])
def test_every_reason_of_a_gap_has_words(texts):
    assert set(texts.gap_reasons) == set(Reason)
    assert len(set(texts.gap_reasons.values())) == len(Reason)
    assert set(texts.camera_advice) == set(ADVICE)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "connection refused: check the port, and that the camera&#39;s server runs"),
        ("ko", "연결 거부: 포트 번호가 맞는지, 카메라의 서버가 실행 중인지 확인하세요."),
    ],
)
def test_an_error_of_a_camera_is_told_in_the_language_with_the_message_behind_it(
    browser, language, words
):
    browser.headers["Accept-Language"] = language
    text = browser.get("/").text
    assert words in text
    assert YARD.last_error.text in text
    hall, yard = browser.get("/api/cameras").json()
    assert hall["last_error"] is None
    assert yard["last_error"] == {"text": unescape(words), "message": YARD.last_error.text}


# --- view ----------------------------------------------------------------------------


def test_an_event_shows_what_is_known_of_it(browser, live):
    text = browser.get("/events/event-00008").text
    for part in ("Fall", "hall", "door", "polyline", "pose", "spoke", "0.91", "There is no clip"):
        assert part in text
    assert "6 of 13 windows reached the threshold 0.60" in text
    (live.folder / "event-00008.mp4").write_bytes(b"clip")
    assert "There is no clip" not in browser.get("/events/event-00008").text


def test_an_event_leads_to_its_neighbours_within_the_filter(browser):
    text = browser.get("/events/event-00004?camera=hall").text
    assert re.search(r'id="newer" href="/events/event-00006\?camera=hall"', text)
    assert re.search(r'id="older" href="/events/event-00002\?camera=hall"', text)


def test_an_event_without_windows_people_and_streams_is_shown(browser, store):
    bare = live_event(30, probabilities=(), people=(), streams={}, closed_by=None, state="new")
    store.put([bare], UTC_S)
    text = browser.get("/events/event-00030").text
    assert "No probabilities were kept" in text
    assert "It goes on." in text


def test_an_unknown_event_is_not_found(browser):
    assert browser.get("/events/event-99999").status_code == 404
    assert browser.get("/events/event-99999/clip").status_code == 404


def test_a_clip_is_sent_whole_and_in_parts(browser, live):
    (live.folder / "event-00001.mp4").write_bytes(bytes(range(100)))
    assert browser.get("/events/event-00001/clip").content == bytes(range(100))
    part = browser.get("/events/event-00001/clip", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    saved = browser.get("/events/event-00001/clip?download=1")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert browser.get("/events/event-00002/clip").status_code == 404


def test_the_curve_lies_in_its_square():
    one = live_event(1, probabilities=((0.5, 0.0), (4.0, 1.0), (7.5, 0.5)), peak_s=4.0)
    drawn = timeline(one, 0.6, 0.4)
    assert drawn.line == "6.67,100 53.33,0 100,50"
    assert (drawn.enter_y, drawn.leave_y, drawn.peak_x) == (40.0, 60.0, 53.33)
    assert drawn.ticks[0] == (0.0, 0)
    assert all(0 <= x <= 100 for x, _ in drawn.ticks)
    assert timeline(replace(one, probabilities=()), 0.6, 0.4) is None
    single = timeline(replace(one, probabilities=((0.0, 0.7),), end_s=one.start_s), 0.6, 0.4)
    assert single.line == "0,30 100,30"


def test_boxes_are_placed_in_the_picture_or_where_they_reach():
    one = live_event(1)
    assert plan(one, (640, 360)).width == 640
    assert plan(one, None).width == pytest.approx(315)
    assert plan(replace(one, people=()), None) is None


# --- reviews -------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["confirmed", "false_alarm", "unsure"])
def test_a_decision_is_kept(browser, store, verdict):
    form = {"token": token_of(browser, "/events"), "verdict": verdict, "note": " at the door "}
    answer = browser.post(
        "/events/event-00003/review", data={**form, "next": "/events?camera=hall"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/events?camera=hall")
    (kept,) = list_reviews(store.path, "event-00003")
    assert (kept.verdict, kept.reviewer, kept.note) == (verdict, "local", "at the door")


def test_a_script_is_answered_with_json(browser, store):
    headers = {"X-CSRF-Token": token_of(browser, "/events"), "Accept": "application/json"}
    answer = browser.post("/events/event-00003/review", data={"verdict": "unsure"}, headers=headers)
    assert answer.json() == {"verdict": "unsure", "name": "unsure"}
    assert len(list_reviews(store.path, "event-00003")) == 1


def test_a_decision_that_there_is_not_changes_nothing(browser, store):
    form = {"token": token_of(browser, "/events"), "verdict": "maybe"}
    assert browser.post("/events/event-00003/review", data=form).status_code == 400
    assert (
        browser.post("/events/event-00003/review", data={"token": form["token"]}).status_code == 400
    )
    too_long = {**form, "verdict": "unsure", "note": "x" * 201}
    assert browser.post("/events/event-00003/review", data=too_long).status_code == 400
    absent = browser.post("/events/none/review", data={**form, "verdict": "unsure"})
    assert absent.status_code == 404
    assert list_reviews(store.path, "event-00003") == ()


# --- export --------------------------------------------------------------------------


def test_all_events_of_the_filter_are_exported(large, live, tmp_path):
    client = client_of(site_of(large, live, tmp_path))
    rows = [json.loads(line) for line in client.get("/export.jsonl").text.splitlines()]
    assert [row["event_id"] for row in rows] == names(range(9999, -1, -1))
    text = client.get("/export.csv?camera=yard").content.decode("utf-8-sig")
    table = list(csv.DictReader(io.StringIO(text)))
    assert [row["event_id"] for row in table] == names(range(9999, 0, -2))
    assert float(table[0]["peak_probability"]) == pytest.approx(0.633)
    assert datetime.fromisoformat(table[0]["start"]).timestamp() == float(table[0]["start_utc_s"])


def test_no_cell_is_a_formula():
    assert _plain('=HYPERLINK("x")') == '\'=HYPERLINK("x")'
    assert (_plain(-1.5), _plain(None), _plain("hall")) == ("-1.5", "", "hall")


# --- addresses -----------------------------------------------------------------------


def test_a_place_in_the_list_is_read_exactly(store):
    cursor = list_events(store.path, None, None, 5).following
    assert cursor_of(f"{cursor.start_utc_s!r}~{cursor.event_id}") == cursor


def test_fields_return_to_the_address_they_came_from():
    fields = fields_of({"camera": "a b&c", "class": "Fight", "from": "2030-01-31T14:00"})
    assert fields.query == "camera=a+b%26c&class=Fight&from=2030-01-31T14%3A00"
