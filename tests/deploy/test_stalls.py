"""Servers that stall or send next to nothing: waited for, asked again, and given up."""

import contextlib
import logging
import threading
import time

import pytest

from deploy import download
from tests.deploy.bad_server import good, raw, serving
from tests.deploy.fetching import FILE, WEIGHTS, left, run

pytestmark = pytest.mark.usefixtures("own_files")


@contextlib.contextmanager
def stalling(*others):
    """Serve a body that stops in its middle with the connection open, then the other answers."""
    release = threading.Event()

    def stall(_request):
        yield raw("200 OK", WEIGHTS)[:90_000]
        release.wait(10)

    try:
        with serving(stall, *others) as server:
            yield server
    finally:
        release.set()


def test_a_body_that_stalls_is_fetched_again(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with stalling(good(WEIGHTS)) as server:
        assert run(tmp_path, server) == 0
    assert len(server.requests) == 2
    assert "broke off" in caplog.text
    assert "timed out" in caplog.text
    assert (tmp_path / FILE.file_name).read_bytes() == WEIGHTS


def test_a_body_that_drips_is_given_up(tmp_path, monkeypatch):
    """A byte now and then is no stall to the socket, and would take years."""
    monkeypatch.setattr(download, "MIN_BYTES_PER_S", 10_000)
    monkeypatch.setattr(download, "RATE_OVER_S", 0.3)

    def drip(_request):
        yield raw("200 OK", WEIGHTS)[:200]
        for at in range(200, 400):  # 6 s
            time.sleep(0.03)
            yield WEIGHTS[at : at + 1]

    start = time.monotonic()
    with serving(drip) as server, pytest.raises(ConnectionError, match="broke off: only") as caught:
        run(tmp_path, server)
    assert time.monotonic() - start < 4
    assert " bytes in 0 s" in str(caught.value)
    assert len(server.requests) == 3
    assert left(tmp_path) == []


def test_a_slow_body_that_is_fast_enough_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MIN_BYTES_PER_S", 1000)
    monkeypatch.setattr(download, "RATE_OVER_S", 0.1)
    body = raw("200 OK", WEIGHTS)

    def slow(_request):
        for at in range(0, len(body), 40_000):
            time.sleep(0.03)
            yield body[at : at + 40_000]

    with serving(slow) as server:
        assert run(tmp_path, server) == 0
    assert len(server.requests) == 1


def test_a_body_that_always_stalls_has_broken_off(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with stalling() as server, pytest.raises(ConnectionError, match="broke off") as caught:
        run(tmp_path, server)
    assert "no connection" not in str(caught.value)
    assert len(server.requests) == 3
    assert left(tmp_path) == []


def test_a_head_that_never_ends_is_given_up(tmp_path, monkeypatch):
    """Each byte starts the socket's own timeout anew."""
    monkeypatch.setattr(download, "HEADERS_S", 0.3)

    def drip(_request):
        yield b"HTTP/1.1 200 OK\r\nX: "
        for _ in range(100):  # 5 s
            time.sleep(0.05)
            yield b"x"

    start = time.monotonic()
    message = "broke off: no complete answer in 0.3 s"
    with serving(drip) as server, pytest.raises(ConnectionError, match=message):
        run(tmp_path, server)
    assert time.monotonic() - start < 4
    assert len(server.requests) == 3
