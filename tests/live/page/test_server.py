"""The page over a real socket: new events as they come, the end, a port in use, header floods."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from http.client import HTTPConnection

import pytest

from recognizer.config.page import PageConfig
from recognizer.live.page import connections, visit
from recognizer.live.page.changes import MAX_STREAMS, Changes
from recognizer.live.page.connections import MAX_CONNECTIONS
from recognizer.live.page.server import PageError, PageServer
from tests.live.page.recorded import live_event, served


@pytest.fixture
def server(store, live):
    with served(store, live) as running:
        yield running


def connect(server):
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    return HTTPConnection(host, int(port), timeout=10)


def waiting(server):
    """Return a connection whose next lines are new events."""
    connection = connect(server)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.readline() == b": begun\n"
    answer.readline()
    return connection, answer


def get(server, path):
    connection = connect(server)
    connection.request("GET", path)
    answer = connection.getresponse()
    status = answer.status
    answer.read()
    connection.close()
    return status


def test_new_events_come_to_all_who_wait(server, store):
    streams = [waiting(server) for _ in range(3)]
    store.review("event-00001", "unsure", "kim", time.time())
    store.put([live_event(40), live_event(41)], time.time())
    for connection, answer in streams:
        for number in (40, 41):
            assert answer.readline() == b"event: new\n"
            data = json.loads(answer.readline().removeprefix(b"data: "))
            assert data["id"] == f"event-{number:05}"
            assert data["text"].startswith(("Fight · hall · ", "Fall · yard · ")[number % 2])
            answer.readline()
        connection.close()


def test_it_ends_within_two_seconds_whoever_is_connected(store, live):
    server = PageServer(PageConfig(port=0), store, live)
    server.start()
    connections = [waiting(server) for _ in range(5)]
    idle = connect(server)
    idle.connect()
    thread = next(t for t in threading.enumerate() if t.name == "page")
    server.stop()
    assert not thread.is_alive()
    assert all(answer.read() == b"" for _, answer in connections)
    with pytest.raises(ConnectionRefusedError):
        connect(server).connect()


def test_a_port_in_use_is_a_clear_error(store, live):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match=f"127.0.0.1 port {port}: expected a free port"):
            PageServer(PageConfig(port=port), store, live)


def test_an_address_of_another_machine_is_a_clear_error(store, live, tmp_path):
    (tmp_path / "secret").write_text("a long password")
    config = PageConfig.model_validate(
        {"host": "192.0.2.1", "password": {"file": str(tmp_path / "secret")}}
    )
    with pytest.raises(PageError, match="expected an address of this machine"):
        PageServer(config, store, live)


def test_a_port_is_free_again_after_the_end(store, live):
    with served(store, live) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        assert get(first, "/healthz") == 200
    again = PageServer(PageConfig(port=port), store, live)
    again.start()
    assert get(again, "/healthz") == 200
    again.stop()


@pytest.mark.parametrize(
    "flood",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000_000,
        b"GET /" + b"a" * 1_000_000,
        b"\x16\x03\x01\x02\x00" * 1000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: -1\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999999\r\n\r\nx",
    ],
    ids=["headers", "long header", "long path", "TLS", "contradictory", "cut off"],
)
def test_a_flood_is_cut_off_and_others_are_answered(server, flood):
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        try:
            raw.sendall(flood)
        except ConnectionError:
            flood = b""  # the server closed before it had all
        assert get(server, "/healthz") == 200
        raw.settimeout(0.5)
        try:
            answer = raw.recv(100)
        except (TimeoutError, ConnectionError):
            answer = b""
        assert answer == b"" or answer.split(b" ")[1] in {b"400", b"413", b"431"}
    assert get(server, "/events") == 200


def address(server):
    host, port = server.url.removeprefix("http://").strip("/").split(":")
    return host, int(port)


def is_closed(raw):
    raw.settimeout(10)
    try:
        return raw.recv(1) == b""
    except ConnectionError:
        return True


def test_connections_that_send_nothing_keep_no_other_from_its_answer(server):
    beginnings = (b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"GET /")
    idle = []
    for number in range(2 * MAX_CONNECTIONS):
        raw = socket.create_connection(address(server), timeout=10)
        raw.sendall(beginnings[number % 3])
        idle.append(raw)
    assert get(server, "/events") == 200
    assert all(is_closed(raw) for raw in idle[: MAX_CONNECTIONS // 2]), "the oldest made room"
    for raw in idle:
        raw.close()


def test_streams_survive_a_flood_of_connections(server, store):
    connection, answer = waiting(server)
    idle = [socket.create_connection(address(server)) for _ in range(MAX_CONNECTIONS + 20)]
    assert get(server, "/healthz") == 200
    store.put([live_event(60)], time.time())
    assert answer.readline() == b"event: new\n"
    for raw in idle:
        raw.close()
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nX: y",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /he",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\nname=",
    ],
    ids=["nothing", "a head", "a second head", "a body"],
)
def test_a_request_that_does_not_end_is_closed(server, monkeypatch, sent):
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    monkeypatch.setattr(visit, "BODY_S", 0.3)
    with socket.create_connection(address(server), timeout=20) as raw:
        raw.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := raw.recv(4096):
                received += part
    assert (b"413" in received) == sent.startswith(b"POST")
    assert get(server, "/healthz") == 200


def test_streams_are_limited_and_handed_back(server):
    streams = [waiting(server) for _ in range(MAX_STREAMS)]
    assert status_of_stream(server) == 503
    assert get(server, "/healthz") == 200
    for connection, answer in streams:
        answer.close()
        connection.close()
    end_s = time.monotonic() + 30
    while status_of_stream(server) != 200:
        assert time.monotonic() < end_s, "those who left are still counted"
        time.sleep(0.2)


def status_of_stream(server):
    """Return the status of one more stream, which is closed at once."""
    connection = connect(server)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    answer.close()
    connection.close()
    return answer.status


def test_none_waits_any_more_after_the_end():
    async def enters():
        changes = Changes()
        first = changes.enter()
        changes.close()
        await asyncio.wait_for(first.wait(), 5)
        return changes.enter()

    assert asyncio.run(enters()) is None
