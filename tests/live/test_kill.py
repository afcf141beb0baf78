"""A process killed while it writes and delivers events: nothing is lost or doubled."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recognizer.live.sinks.deliver import Delivery
from recognizer.live.sinks.jsonl import JsonLines
from recognizer.live.store import Store
from recognizer.live.store_reads import outbox_depths
from tests.live.events import UTC_S, file_sink, rows

ROOT = Path(__file__).resolve().parents[2]


def killed(folder, name, after_s):
    """Start the writer, kill it, and return the keys that it had written."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.live.store_writer", str(folder), name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout.readline() == "started\n"
        time.sleep(after_s)
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split("\n")
    return lines[:-1]  # the last may be cut


def check_kills(folder, count):
    """Kill a writer at random moments; nothing it wrote is lost or doubled, in store or sink."""
    chance, printed = random.Random(count), []
    for number in range(count):
        printed += killed(folder, f"w{number}", chance.uniform(0.0, 0.3))
    path, sinks = folder / "events.db", [file_sink(folder, "one"), file_sink(folder, "two")]
    store = Store(path, sinks)
    store.close_left_open(UTC_S)
    deliveries = [Delivery(store, sink.name, JsonLines(sink.path)) for sink in sinks]
    for delivery in deliveries:
        delivery.start()
    while any(depth.pending for depth in outbox_depths(path)):
        time.sleep(0.05)
    assert all(delivery.stop() for delivery in deliveries)
    store.close()
    updates = rows(path, "SELECT event_id || ':' || revision FROM event_updates ORDER BY rowid")
    written = [key for (key,) in updates]
    assert set(printed) <= set(written)
    assert rows(path, "SELECT count(*) FROM events WHERE state != 'end'") == [(0,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    for sink in sinks:
        lines = [json.loads(line)["key"] for line in sink.path.read_text().splitlines()]
        assert len(lines) == len(set(lines))
        assert lines == written
    return len(written)


def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path):
    assert check_kills(tmp_path, 5) > 0


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_50_times_kill_9(tmp_path):
    assert check_kills(tmp_path, 50) > 100
