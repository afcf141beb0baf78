"""What monitoring asks: alive, ready, figures."""

import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recognizer.config.alerts import JsonLinesSink
from recognizer.live.page.health import Metrics
from recognizer.live.store import Store
from tests.live.page.recorded import HALL, Recorded, client_of, live_event, site_of

MONITOR = {"Authorization": "Bearer the token of the monitor"}


def figures(text):
    """Return name -> labels -> value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_the_program_is_alive_and_ready(browser, live):
    assert browser.get("/healthz").text == "ok\n"
    assert browser.get("/readyz").status_code == 200
    live.is_ready = False
    answer = browser.get("/readyz")
    assert (answer.status_code, "networks are not loaded" in answer.text) == (503, True)
    assert browser.get("/healthz").status_code == 200


def test_frames_above_the_rate_are_not_dropped_ones(browser):
    hall = browser.get("/api/cameras").json()[0]
    assert (hall["name"], hall["drops"]) == ("hall", 4)
    assert re.search(r'data-field="drops">4</dd>', browser.get("/").text)


def test_a_sink_whose_thread_died_is_named(browser, live):
    live.dead = ["hook", "log"]
    answer = browser.get("/readyz")
    assert answer.status_code == 503
    assert answer.text.endswith("start anew: hook, log\n")


def test_a_damaged_store_is_not_ready_and_fails_no_page_with_500(browser, store):
    store.close()
    for name in ("-wal", "-shm"):
        store.path.with_name(store.path.name + name).unlink(missing_ok=True)
    store.path.write_bytes(b"no database" * 500)
    assert browser.get("/readyz").status_code == 503
    assert browser.get("/events").status_code == 503
    found = figures(browser.get("/metrics").text)
    assert found["recognizer_store_readable"] == {(): 0.0}
    assert found["recognizer_camera_fps"][(("camera", "hall"),)] == 12.4


def test_the_figures_are_those_of_cameras_and_store(tmp_path):
    live = Recorded(tmp_path, [HALL])
    sink = JsonLinesSink(name="log", path=tmp_path / "log.jsonl")
    store = Store(tmp_path / "events.sqlite", [sink])
    store.put([live_event(n, revision=0) for n in range(6)], time.time())
    metrics = Metrics(live, store.path, ("log", "mqtt"))
    metrics.observe_lag("pose", 0.07)
    metrics.observe_lag("sent", 0.4)
    found = figures(metrics.text().decode())
    hall = ("camera", "hall")
    assert found["recognizer_camera_fps"] == {(hall,): 12.4}
    assert found["recognizer_frames_total"] == {(hall,): 5000}
    assert found["recognizer_drops_total"] == {
        (hall, ("cause", "stale")): 3,
        (hall, ("cause", "queue_full")): 1,
        (hall, ("cause", "rate")): 900,
    }
    assert found["recognizer_reconnects_total"] == {(hall, ("reason", "timeout")): 2}
    assert found["recognizer_last_frame_age_seconds"] == {(hall,): 0.1}
    assert found["recognizer_camera_state"][(hall, ("state", "streaming"))] == 1
    assert sum(found["recognizer_camera_state"].values()) == 1
    assert found["recognizer_outbox_depth"] == {
        (("sink", "log"), ("status", "pending")): 6,
        (("sink", "log"), ("status", "dead")): 0,
        (("sink", "mqtt"), ("status", "pending")): 0,
        (("sink", "mqtt"), ("status", "dead")): 0,
    }
    assert found["recognizer_events"] == {
        (("class", "Fight"), ("state", "end")): 4,
        (("class", "Falldown"), ("state", "end")): 2,
    }
    assert found["recognizer_disk_free_bytes"][()] > 0
    buckets = found["recognizer_lag_seconds_bucket"]
    assert buckets[(("le", "0.05"), ("stage", "pose"))] == 0
    assert buckets[(("le", "0.1"), ("stage", "pose"))] == 1
    assert found["recognizer_lag_seconds_count"][(("stage", "sent"),)] == 1
    store.close()


def test_two_programs_have_figures_of_their_own(store, live):
    one, other = Metrics(live, store.path), Metrics(live, store.path)
    one.observe_lag("score", 1.0)
    assert "recognizer_lag_seconds_count" not in figures(other.text().decode())


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}]
)
def test_figures_need_the_token_where_the_page_has_users(guarded, header):
    client = client_of(guarded)
    assert client.get("/metrics", headers=header).status_code == 401
    assert client.get("/metrics", headers=MONITOR).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_without_a_token_in_the_config_no_token_fits(store, live, tmp_path):
    client = client_of(site_of(store, live, tmp_path, with_password=True))
    for header in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
        assert client.get("/metrics", headers=header).status_code == 401
