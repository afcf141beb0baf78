"""The lock of a run in object storage: who holds it, who takes it over, who is refused."""

import json
import signal
import subprocess
import sys

import pytest

from recognizer.runs import object_lock
from recognizer.runs.object_lock import ALL
from recognizer.runs.object_lock import object_lock as lock
from recognizer.storage.objects import StoreError
from tests import object_server
from tests.object_server import BUCKET

ADDRESS = f"s3://{BUCKET}/out"
SHARD = "03-of-16"
HOLDER = """
import sys
from recognizer.runs.object_lock import object_lock
with object_lock(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(monkeypatch):
    with object_server.reached(monkeypatch, retries=False) as server:
        yield server


@pytest.fixture
def start(store):
    """Return a function that starts a process which holds a lock, and waits until it does."""
    running = []

    def run(name):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, ADDRESS, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        (SHARD, SHARD, True),
        (SHARD, "02-of-16", False),
        (SHARD, ALL, True),
        (ALL, SHARD, True),
        (ALL, ALL, True),
    ],
)
def test_two_runs_of_one_part_exclude_each_other(store, first, second, refused):
    with lock(ADDRESS, first):
        before = dict(store.objects)
        if refused:
            with (
                pytest.raises(BlockingIOError, match="another run is at work"),
                lock(ADDRESS, second),
            ):
                pass
            assert store.objects == before
        else:
            with lock(ADDRESS, second):
                assert len(store.objects) == 2
    assert store.objects == {}


def test_the_message_names_the_owner_and_the_command_that_removes_a_stale_lock(store, start):
    process = start(ALL)
    with pytest.raises(BlockingIOError) as caught, lock(ADDRESS, SHARD):
        pass
    text = str(caught.value)
    assert f"process {process.pid}, since 20" in text
    assert f"remove the object {ADDRESS}/.locks/all: aws s3 rm {ADDRESS}/.locks/all" in text


def test_the_command_that_removes_a_lock_can_be_typed_as_it_is(store):
    address = f"s3://{BUCKET}/of a; test"
    with lock(address, ALL), pytest.raises(BlockingIOError) as caught, lock(address, ALL):
        pass
    assert str(caught.value).endswith(f": aws s3 rm '{address}/.locks/all'")


@pytest.mark.parametrize("second", [ALL, SHARD])
def test_the_lock_of_a_killed_process_of_this_machine_is_taken_over(store, start, second):
    process = start(second if second == SHARD else SHARD)
    process.kill()
    process.wait()
    assert list(store.objects) == [f"out/.locks/{SHARD}"]
    with lock(ADDRESS, second):
        assert list(store.objects) == [f"out/.locks/{second}"]
    assert store.objects == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_terminated_removes_its_lock(store, start, number):
    before = signal.signal(number, signal.SIG_DFL)  # that of tests under nohup is inherited
    try:
        process = start(ALL)
    finally:
        signal.signal(number, before)
    process.send_signal(number)
    assert process.wait(60) != 0
    assert store.objects == {}


def test_a_signal_while_the_lock_is_made_leaves_none(store, monkeypatch):
    put = object_lock.put_object

    def put_and_stop(*arguments):
        put(*arguments)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(object_lock, "put_object", put_and_stop)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), lock(ADDRESS, ALL):
        pass
    assert store.objects == {}
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_lock_is_removed_leaves_none(store, monkeypatch, number):
    delete = object_lock.delete_object

    def stop_and_delete(*arguments):
        signal.raise_signal(number)
        delete(*arguments)

    monkeypatch.setattr(object_lock, "delete_object", stop_and_delete)
    with lock(ADDRESS, ALL):
        assert store.objects
    assert store.objects == {}


def test_a_process_that_ignores_a_closed_terminal_goes_on(store, start):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(ALL)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    process.communicate("", timeout=60)
    assert process.returncode == 0


OF_NO_OWNER = [b"{}", b"\xff", b"[" * 100_000, b"null"]


@pytest.mark.parametrize("change", [{"place": "another machine"}, {"process": "1"}, *OF_NO_OWNER])
def test_a_lock_whose_owner_cannot_be_seen_stays(store, start, change):
    process = start(ALL)
    process.kill()
    process.wait()
    key = f"out/.locks/{ALL}"
    value = json.loads(store.objects[key])
    is_garbage = isinstance(change, bytes)
    store.objects[key] = change if is_garbage else json.dumps({**value, **change}).encode()
    before = dict(store.objects)
    with pytest.raises(BlockingIOError, match="wait for it or stop it"), lock(ADDRESS, ALL):
        pass
    assert store.objects == before


def test_of_two_that_take_over_one_lock_one_goes_on(store, start, monkeypatch):
    process = start(ALL)
    process.kill()
    process.wait()
    own = object_lock._own()
    other = json.dumps({**object_lock.asdict(own), "token": "other"}).encode()
    put = object_lock.put_object

    def second(address, key, data, replaced=None):
        if replaced is not None:  # between this run's look and its put
            store.objects[f"out/{key}"] = other
        return put(address, key, data, replaced)

    monkeypatch.setattr(object_lock, "put_object", second)
    with pytest.raises(BlockingIOError, match=f"process {own.process}"), lock(ADDRESS, ALL):
        pass
    assert store.objects == {f"out/.locks/{ALL}": other}


def test_a_store_that_refuses_is_named_and_a_lock_that_stays_is_logged(store, caplog):
    store.refused = (403, "AccessDenied")
    with pytest.raises(StoreError, match="credentials in the environment"), lock(ADDRESS, ALL):
        pass
    assert caplog.text == ""
    store.refused = None
    with lock(ADDRESS, ALL):
        store.refused = (404, "NoSuchBucket")
    assert f"the lock {ADDRESS}/.locks/all could not be removed" in caplog.text
