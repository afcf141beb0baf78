"""A run ends in time, whatever hangs, and at any moment."""

import json
import logging
import signal
import socket
import threading
import time

import pytest
import requests

from recognizer.command import heed_signals
from recognizer.live.logs import PatientLog
from recognizer.live.stopping import Closing, Work
from recognizer.live.store import Store
from recognizer.live.store_reads import outbox_depths
from tests.live.cameras import tcp_camera
from tests.live.events import event
from tests.live.test_realtime import start, write_config

LIMIT_S = 10.0  # 5 s, and some for a busy machine; one part after another takes 25 s


def silent(connection: socket.socket) -> None:
    """Take what comes and answer nothing."""
    while connection.recv(1 << 16):
        pass


def lines_until(process, text, timeout_s=150.0):
    """Return the output up to a line that holds a text."""
    lines, timer = [], threading.Timer(timeout_s, process.kill)
    timer.start()
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    timer.cancel()
    return "".join(lines)


def seconds_to_end(process, number):
    """Send a signal; return how long the process goes on, and the rest of its output."""
    start_s = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=150)
    return time.monotonic() - start_s, output


def sinks(hook_port, broker_port, ran):
    command = ["sh", "-c", f"touch {ran}; sleep 600"]
    return [
        {"name": "hook", "kind": "webhook", "url": f"http://127.0.0.1:{hook_port}/"},
        {"name": "broker", "kind": "mqtt", "host": "127.0.0.1", "port": broker_port},
        {"name": "away", "kind": "mqtt", "host": "127.0.0.1", "port": 9},
        {"name": "run", "kind": "command", "argv": command, "timeout_s": 600},
        {"name": "run2", "kind": "command", "argv": command, "timeout_s": 600},
    ]


def test_sigterm_ends_all_that_hangs_at_once_within_five_seconds(tmp_path):
    store, ran = tmp_path / "events.sqlite3", tmp_path / "ran"
    earlier = Store(store)
    earlier.put([event("e1")], 1.0)  # left open: its end is a notice for every sink
    earlier.close()
    scratch = tmp_path / "clips" / ".scratch" / "0.mp4"  # of a killed run
    scratch.parent.mkdir(parents=True)
    scratch.write_bytes(b"x")
    with tcp_camera(silent) as camera, tcp_camera(silent) as hook, tcp_camera(silent) as broker:
        config = write_config(
            tmp_path,
            [
                {"name": "a", "url": f"rtsp://127.0.0.1:{camera}/x"},
                {"name": "b", "url": f"http://127.0.0.1:{camera}/x"},
            ],
            alerts={"store": {"path": str(store)}, "sinks": sinks(hook, broker, ran)},
        )
        process = start(config)
        output = lines_until(process, "events go to")
        url = next(line.split()[-1] for line in output.splitlines() if "page is at" in line)
        with requests.get(url + "api/stream", stream=True, timeout=10) as stream:
            assert stream.status_code == 200
            until_s = time.monotonic() + 20
            while not ran.exists():
                assert time.monotonic() < until_s
                time.sleep(0.05)
            took_s, rest = seconds_to_end(process, signal.SIGTERM)
    assert took_s < LIMIT_S, rest
    assert process.returncode == 3, rest
    assert "away at the end: a" in rest
    assert "Traceback" not in rest
    assert not scratch.exists()
    waiting = {one.sink: one.pending for one in outbox_depths(store)}
    assert waiting == {"hook": 1, "broker": 1, "away": 1, "run": 1, "run2": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
def test_a_signal_while_networks_load_ends_as_at_any_other_time(tmp_path, after_s, number):
    config = write_config(tmp_path, [{"name": "a", "url": "rtsp://127.0.0.1:9/x"}])
    code = (
        "import sys, main\n"
        "start = main.start\n"
        "def begin(mode, *, debug):\n"
        "    start(mode, debug=debug)\n"
        "    print('begun', flush=True)\n"
        "main.start = begin\n"
        "sys.exit(main.main(sys.argv[1:]))\n"
    )
    process = start(config, code)
    lines_until(process, "begun")
    time.sleep(after_s)
    assert process.poll() is None
    _, output = seconds_to_end(process, number)
    assert process.returncode in (0, 3), output
    assert "stopped" in output
    assert "Traceback" not in output


def test_a_network_that_takes_too_long_does_not_delay_the_end(tmp_path):
    """A process whose networks open for a minute."""
    code = (
        "import sys, time, main\n"
        "import recognizer.live.run as run\n"
        "def slow(config):\n"
        "    print('opening', flush=True)\n"
        "    time.sleep(60)\n"
        "run._open_networks = slow\n"
        "sys.exit(main.main(sys.argv[1:]))\n"
    )
    config = write_config(tmp_path, [{"name": "a", "url": "rtsp://127.0.0.1:9/x"}])
    process = start(config, code)
    lines_until(process, "opening")
    took_s, output = seconds_to_end(process, signal.SIGTERM)
    assert took_s < LIMIT_S
    assert process.returncode == 0
    assert "stopped before cameras were read" in output


def test_a_second_signal_while_the_first_one_is_noted_does_not_hang(monkeypatch):
    """The second one's handler runs within the first one's, which holds the event's lock."""
    lock, noted = threading.Lock(), []

    class Interrupted(threading.Event):
        def set(self):
            assert lock.acquire(blocking=False), "set again within set: a real event hangs here"
            signal.raise_signal(signal.SIGINT)
            noted.append("set")
            lock.release()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        heed_signals()
        monkeypatch.setattr(signal.getsignal(signal.SIGTERM), "stop", Interrupted())
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert noted == ["set"]


def test_parts_stop_at_once_and_what_they_use_behind_them():
    ended, both = [], threading.Barrier(2, timeout=20)

    def stop(until_s):
        both.wait()  # breaks where one is stopped after the other
        ended.append("part")

    with Closing("last", lambda: ended.append("last")) as closing:
        closing.add("a", stop)
        closing.add("b", stop)
        closing.until_s = time.monotonic() + 30
    assert ended == ["part", "part", "last"]


def test_a_part_that_fails_is_no_secret_and_costs_no_other():
    ended = []

    def fails(until_s):
        raise OSError("no")

    with pytest.raises(OSError, match="no"), Closing("last", lambda: ended.append(1)) as closing:
        closing.add("a", fails)
    assert ended == [1]


def test_work_gives_its_result_or_its_error():
    done = Work("a", lambda: 3)
    done.wait(threading.Event())
    assert done.is_over
    assert done.result() == 3
    failed = Work("b", lambda: json.loads("{"))
    failed.wait_until(time.monotonic() + 5)
    with pytest.raises(ValueError, match="property name"):
        failed.result()


def test_a_log_that_is_read_no_more_holds_up_nothing(tmp_path):
    """A full pipe, from the first line on: no byte of it is read."""
    config = write_config(tmp_path, [{"name": "a", "url": "rtsp://127.0.0.1:9/x"}])
    code = (
        "import fcntl, os, sys, main\n"
        "fcntl.fcntl(2, 1031, 4096)\n"  # F_SETPIPE_SZ
        "os.write(2, b'x' * 4096)\n"
        "sys.exit(main.main(sys.argv[1:]))\n"
    )
    process = start(config, code)
    until_s = time.monotonic() + 100
    while not (tmp_path / "events.sqlite3").exists():
        assert time.monotonic() < until_s
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) == 3
    process.stdout.close()


def test_lines_that_nothing_reads_are_dropped_and_counted():
    written, release = [], threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record):
            release.wait(60)
            written.append(record.getMessage())

    root = logging.getLogger()
    kept, root.handlers = root.handlers, [Stuck()]
    try:
        with PatientLog(lines=3):
            for number in range(50):
                root.warning("line %d", number)
            release.set()
            until_s = time.monotonic() + 20
            while len(written) < 3:
                assert time.monotonic() < until_s
                time.sleep(0.01)
            root.warning("last")
    finally:
        root.handlers = kept
    assert written[0] == "line 0"
    assert written[-1] == "last"
    (text,) = [one for one in written if "were dropped" in one]
    assert int(text.split()[0]) == 51 - (len(written) - 1)
