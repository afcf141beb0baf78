"""Delivery: order, back-off, giving up, independence of sinks, stopping."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.config.alerts import AlertsConfig, CommandSink, WebhookSink
from recognizer.live.sinks.command import Command
from recognizer.live.sinks.deliver import BackOff, Delivery
from recognizer.live.sinks.mqtt_topics import Entity
from recognizer.live.sinks.opening import open_deliveries
from recognizer.live.sinks.sink import SinkError
from recognizer.live.sinks.webhook import Webhook
from recognizer.live.store import Store
from recognizer.live.store_reads import outbox_depths
from tests.live.broker import Listener, broker, free_port
from tests.live.events import UTC_S, event, file_sink, whole
from tests.live.http_server import Answer, FrigateServer, serving

FAST = BackOff(first_s=0.01, most_s=0.05)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "events.db", [file_sink(tmp_path, "one"), file_sink(tmp_path, "two")])
    yield opened
    opened.close()


class Recorder:
    """A sink that fails as it is set, and keeps what arrives."""

    def __init__(self, *failures):
        self.failures, self.keys, self.closed = list(failures), [], False

    def send(self, notice):
        if self.failures and (error := self.failures.pop(0)) is not None:
            raise error
        self.keys.append(notice.key)

    def close(self):
        self.closed = True


def until(done, timeout_s=10.0):
    end_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def pending(store, sink):
    return {d.sink: d.pending for d in outbox_depths(store.path)}.get(sink, 0)


def test_notices_arrive_in_order_whatever_fails(store):
    sink = Recorder(*[SinkError("away")] * 3, None, SinkError("away"))
    store.put(whole("e1"), UTC_S)
    delivery = Delivery(store, "one", sink, FAST)
    delivery.start()
    store.put(whole("e2"), UTC_S)
    until(lambda: not pending(store, "one"))
    assert delivery.alive
    assert delivery.stop()
    assert not delivery.alive
    assert sink.closed
    assert sink.keys == [f"{e}:{n}" for e in ("e1", "e2") for n in range(3)]


def test_what_was_written_last_is_sent_before_the_end(store):
    class Slow(Recorder):
        def send(self, notice):
            time.sleep(0.1)
            super().send(notice)

    sink = Slow()
    delivery = Delivery(store, "one", sink)
    delivery.start()
    store.put(whole("e1"), UTC_S)
    assert delivery.stop()
    assert pending(store, "one") == 0
    assert len(sink.keys) == 3


def test_a_new_notice_is_sent_at_once(store):
    sink = Recorder()
    delivery = Delivery(store, "one", sink)
    delivery.start()
    time.sleep(0.2)
    start_s = time.monotonic()
    store.put([event()], UTC_S)
    until(lambda: sink.keys)
    assert time.monotonic() - start_s < 2.0  # it looks by itself only every 5 s
    delivery.stop()


def test_a_notice_that_will_never_be_taken_is_given_up_and_the_next_is_sent(store):
    sink = Recorder(SinkError("refused", final=True))
    store.put(whole("e1"), UTC_S)
    delivery = Delivery(store, "one", sink, FAST)
    delivery.start()
    until(lambda: len(sink.keys) == 2)
    until(lambda: not pending(store, "one"))
    delivery.stop()
    (one, two) = outbox_depths(store.path)
    assert (one.dead, one.last_error) == (1, "refused")
    assert two.pending == 3


def test_after_a_day_away_all_that_waited_so_long_is_given_up_at_once(store):
    now = [UTC_S]
    store.put(whole("e1"), UTC_S)
    sink = Recorder(*[SinkError("away")] * 1000)
    delivery = Delivery(store, "one", sink, FAST, lambda: now[0], lambda: now[0])
    delivery.start()
    until(lambda: len(sink.failures) < 997)
    assert pending(store, "one") == 3
    now[0] += 23 * 3600
    store.put([event("e2")], now[0])
    left = len(sink.failures)
    until(lambda: len(sink.failures) < left - 3)
    assert pending(store, "one") == 4
    now[0] += 2 * 3600
    until(lambda: pending(store, "one") == 1)
    delivery.stop()
    assert store.next_notice("one").key == "e2:0"
    assert {d.sink: d.dead for d in outbox_depths(store.path)}["one"] == 3


def test_notices_written_while_the_program_was_off_are_not_given_up_at_the_first_failure(store):
    store.put(whole("e1"), UTC_S)
    sink = Recorder(SinkError("away"))
    delivery = Delivery(store, "one", sink, FAST, lambda: UTC_S + 10 * 86400)
    delivery.start()
    until(lambda: len(sink.keys) == 3)
    delivery.stop()


def test_a_clock_that_is_set_gives_up_nothing(store):
    now = [0.0]  # of a machine without a battery
    store.put(whole("e1"), now[0])
    sink = Recorder(*[SinkError("away")] * 1000)
    delivery = Delivery(store, "one", sink, FAST, lambda: now[0])
    delivery.start()
    until(lambda: len(sink.failures) < 997)
    now[0] = UTC_S
    left = len(sink.failures)
    until(lambda: len(sink.failures) < left - 3)
    assert pending(store, "one") == 3
    delivery.stop()


def test_a_sink_that_hangs_costs_the_others_nothing_and_stops_in_time(store):
    release = threading.Event()

    class Hanging(Recorder):
        def send(self, notice):
            release.wait(60)

    hanging, other = Hanging(), Recorder()
    deliveries = [Delivery(store, "one", hanging), Delivery(store, "two", other)]
    for delivery in deliveries:
        delivery.start()
    store.put(whole("e1"), UTC_S)
    until(lambda: len(other.keys) == 3)
    start_s = time.monotonic()
    assert [delivery.stop() for delivery in deliveries] == [False, True]
    assert time.monotonic() - start_s < 7.5  # 5 s, and some for a busy machine
    assert store.next_notice("one").key == "e1:0"
    release.set()


@pytest.mark.parametrize("kind", ["command", "webhook"])
def test_real_sinks_stop_in_time_while_they_send(store, kind):
    with serving(lambda _: Answer(body=b"x" * 1000, drip_s=0.2)) as served:
        hook = WebhookSink(name="one", url=served.url)
        sink = Command(["sleep", "60"], 60.0) if kind == "command" else Webhook(hook)
        delivery = Delivery(store, "one", sink)
        delivery.start()
        store.put([event()], UTC_S)
        time.sleep(0.5)
        assert delivery.stop()
    assert store.next_notice("one").key == "e1:0"


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_grow_from_one_to_sixty_seconds(failures, chance):
    wait_s = BackOff().wait_s(failures, chance)
    assert 0.8 * min(60, 2 ** (failures - 1)) <= wait_s <= 1.2 * min(60, 2 ** (failures - 1))


def test_all_sinks_of_a_config_get_an_event(tmp_path):
    """One event through a file, a webhook, Frigate, a program and a real broker at once."""
    server, port, out = FrigateServer("hall"), free_port(), tmp_path / "out"
    with broker(port), serving(lambda _: Answer()) as hook, serving(server.answer) as nvr:
        listener = Listener(port)
        config = AlertsConfig.model_validate(
            {
                "store": {"path": str(tmp_path / "events.db")},
                "sinks": [
                    {"kind": "jsonl", "name": "file", "path": str(tmp_path / "events.jsonl")},
                    {"kind": "webhook", "name": "hook", "url": hook.url},
                    {"kind": "frigate", "name": "nvr", "url": nvr.url},
                    {"kind": "command", "name": "run", "argv": ["tee", "-a", str(out)]},
                    {"kind": "mqtt", "name": "home", "host": "127.0.0.1", "port": port},
                ],
            }
        )
        store = Store(config.store.path, config.sinks)
        deliveries = open_deliveries(config.sinks, store, [Entity("hall", "Fight")])
        for delivery in deliveries:
            delivery.start()
        store.put(whole("e1"), UTC_S)
        until(lambda: not outbox_depths(store.path), 20.0)
        assert all(delivery.stop() for delivery in deliveries)
        store.close()
        assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3
        assert out.read_text() == (tmp_path / "events.jsonl").read_text()
        assert len(hook.requests) == 3
        assert [e["end_time"] for e in server.events.values()] == [UTC_S + 3.5]
        assert listener.wait("recognizer/hall/Fight/state", 4)[-1] == "OFF"
        listener.close()


def test_command_config_takes_a_list():
    with pytest.raises(ValueError, match="argv"):
        CommandSink.model_validate({"name": "run", "argv": "rm -rf /"})
