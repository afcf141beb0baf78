"""Files, webhooks, Frigate and commands, each against a real peer."""

import hashlib
import hmac
import json
import sys
import threading
import time
from pathlib import Path

import pytest

from recognizer.config.alerts import FrigateSink, SecretConfig, WebhookSink
from recognizer.live.sinks.command import Command
from recognizer.live.sinks.frigate import Frigate
from recognizer.live.sinks.http import MAX_ANSWER
from recognizer.live.sinks.jsonl import JsonLines
from recognizer.live.sinks.sink import SinkError, notice_bytes
from recognizer.live.sinks.webhook import Webhook
from recognizer.live.store import Store
from tests.live.broker import free_port
from tests.live.events import UTC_S, file_sink, notice, whole
from tests.live.http_server import Answer, FrigateServer, serving

SECRET = "correct horse battery"


# --- JSON lines ------------------------------------------------------------------------


def keys_after_first(path):
    return [json.loads(line)["key"] for line in path.read_text().splitlines()[1:]]


def keys(path):
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def test_every_notice_is_a_line_once(tmp_path):
    path = tmp_path / "log" / "events.jsonl"
    sink = JsonLines(path)
    for number in (0, 1, 1):
        sink.send(notice("update", number))
    JsonLines(path).send(notice("update", 1))  # a process that was killed before it was marked
    assert keys(path) == ["e1:0", "e1:1"]
    assert json.loads(path.read_text().splitlines()[0])["event"]["camera"] == "hall"


@pytest.mark.parametrize("left", [b'{"key": "e1:0", "ev', b'{"key": "e0:2"}\n{"key": "e1:0"'])
def test_half_a_line_is_replaced(tmp_path, left):
    path = tmp_path / "events.jsonl"
    path.write_bytes(left)
    JsonLines(path).send(notice())
    assert keys(path)[-1] == "e1:0"
    assert len(keys(path)) == 1 + left.count(b"\n")


def test_a_file_that_is_moved_away_is_made_again(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JsonLines(path)
    sink.send(notice())
    path.rename(tmp_path / "events.1")
    sink.send(notice("end", 1))
    assert keys(path) == ["e1:1"]


def test_lines_of_another_program_stay(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("hello\n[]\n")
    JsonLines(path).send(notice())
    assert path.read_text().startswith("hello\n[]\n{")
    path.write_text("without an end")
    JsonLines(path).send(notice())
    assert path.read_text().startswith("without an end\n{")
    assert keys_after_first(path) == ["e1:0"]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be written"):
        JsonLines(tmp_path / "file" / "events.jsonl").send(notice())
    with pytest.raises(SinkError, match="cannot be written: Is a directory"):
        JsonLines(tmp_path).send(notice())


# --- webhook ---------------------------------------------------------------------------


def webhook(url, **other):
    values = {"name": "hook", "url": url + "/in/token?k=1", "timeout_s": 1.0, **other}
    return Webhook(WebhookSink(**values), lambda: UTC_S)


def test_a_notice_is_posted_and_signed(monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with serving(lambda _: Answer(204, b"")) as served:
        webhook(served.url, secret=SecretConfig(env="HOOK_SECRET")).send(notice())
    (request,) = served.requests
    assert (request.method, request.path) == ("POST", "/in/token?k=1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == json.loads(request.body)["key"] == "e1:0"
    assert request.headers["x-recognizer-timestamp"] == str(int(UTC_S))
    digest = hmac.new(SECRET.encode(), b"1800000000." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-recognizer-signature"] == f"sha256={digest}"
    assert SECRET not in str(request)


def test_every_try_has_the_same_key_and_body():
    answers = iter([Answer(503), Answer(200)])
    with serving(lambda _: next(answers)) as served:
        sink = webhook(served.url)
        with pytest.raises(SinkError, match="got 503") as caught:
            sink.send(notice())
        sink.send(notice())
    assert not caught.value.final
    first, second = served.requests
    assert (first.headers["idempotency-key"], first.body) == (
        second.headers["idempotency-key"],
        second.body,
    )


@pytest.mark.parametrize(
    ("status", "final"), [(400, True), (413, True), (404, False), (429, False)]
)
def test_what_a_server_will_never_take_is_final(status, final):
    with serving(lambda _: Answer(status)) as served, pytest.raises(SinkError) as caught:
        webhook(served.url).send(notice())
    assert caught.value.final == final


def test_redirects_are_not_followed():
    with serving(lambda _: Answer()) as other:
        to = {"Location": other.url}
        with (
            serving(lambda _: Answer(307, headers=to)) as served,
            pytest.raises(SinkError, match="redirect, which is not followed"),
        ):
            webhook(served.url).send(notice())
        assert other.requests == []


def test_the_body_of_a_redirect_is_not_read():
    to = {"Location": "/other"}
    slow = Answer(302, b"x" * 100, headers=to, drip_s=0.2)
    with serving(lambda _: slow) as served:
        start_s = time.monotonic()
        with pytest.raises(SinkError, match="redirect, which is not followed"):
            webhook(served.url).send(notice())
        assert time.monotonic() - start_s < 10  # the body takes 20 s
    assert len(served.requests) == 1


def test_a_long_answer_is_not_read():
    with (
        serving(lambda _: Answer(body=b"x" * (MAX_ANSWER + 1))) as served,
        pytest.raises(SinkError, match="at most 65536 bytes"),
    ):
        webhook(served.url).send(notice())


@pytest.mark.parametrize("answer", [Answer(delay_s=3.0), Answer(body=b"x" * 30, drip_s=0.3)])
def test_a_slow_server_costs_a_bounded_time(answer):
    with serving(lambda _: answer) as served:
        start_s = time.monotonic()
        with pytest.raises(SinkError, match=r"no answer|not over in time"):
            webhook(served.url).send(notice())
        assert time.monotonic() - start_s < 2.5


def test_errors_show_neither_path_nor_secret(monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    sink = webhook(f"http://127.0.0.1:{free_port()}", secret=SecretConfig(env="HOOK_SECRET"))
    with pytest.raises(SinkError, match="no answer: ConnectionError") as caught:
        sink.send(notice())
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__} {sink!r}"
    assert "token" not in shown
    assert SECRET not in shown


def test_the_environment_gives_neither_proxy_nor_password(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login kim password hunter2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(lambda _: Answer()) as served:
        webhook(served.url).send(notice())
    assert "authorization" not in served.requests[0].headers


# --- Frigate -----------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "events.db", [file_sink(tmp_path)])
    opened.put(whole("e1"), UTC_S)
    yield opened
    opened.close()


def frigate(url, store, **other):
    return Frigate("nvr", FrigateSink(name="nvr", url=url, timeout_s=1.0, **other), store)


def test_an_event_is_created_and_ended(store, monkeypatch):
    monkeypatch.setenv("FRIGATE_TOKEN", SECRET)
    server = FrigateServer("hall")
    with serving(server.answer) as served:
        sink = frigate(served.url + "/", store, token=SecretConfig(env="FRIGATE_TOKEN"))
        for number, state in enumerate(("new", "update", "end")):
            sink.send(notice(state, number))
    ((remote_id, event),) = server.events.items()
    assert store.remote_id("nvr", "e1") == remote_id
    assert (event["camera"], event["label"], event["score"]) == ("hall", "fight", 0.9)
    assert (event["duration"], event["end_time"]) == (None, UTC_S + 3.5)
    assert {r.headers["authorization"] for r in served.requests} == {f"Bearer {SECRET}"}


def test_a_created_event_whose_answer_was_lost_is_found_again(store):
    server = FrigateServer("hall")
    with serving(server.answer) as served:

        def lose_the_first(request):
            answer = server.answer(request)
            if request.method == "POST":
                served.answer = server.answer
                return Answer(answer.status, answer.body, delay_s=2.0)
            return answer

        served.answer = lose_the_first
        with pytest.raises(SinkError, match="no answer"):
            frigate(served.url, store).send(notice())
        sink = frigate(served.url, store)  # of the next process
        sink.send(notice())
        sink.send(notice("end", 1))
    assert len(server.events) == 1
    assert next(iter(server.events.values()))["end_time"] == UTC_S + 3.5


def test_a_camera_that_frigate_does_not_have_is_an_error(store):
    with (
        serving(FrigateServer("yard").answer) as served,
        pytest.raises(SinkError, match="got 404"),
    ):
        frigate(served.url, store).send(notice())


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"event_id": 5}'])
def test_an_answer_without_an_event_is_an_error(store, body):
    def answer(request):
        return Answer(body=b"[]" if request.method == "GET" else body)

    with serving(answer) as served, pytest.raises(SinkError, match="expected"):
        frigate(served.url, store).send(notice())


def test_the_end_of_an_event_that_frigate_never_had_is_nothing(store):
    server = FrigateServer("hall")
    with serving(server.answer) as served:
        frigate(served.url, store).send(notice("end", 2))
    assert served.requests == []


# --- commands --------------------------------------------------------------------------------


def python(code, *arguments, timeout_s=10.0):
    return Command([sys.executable, "-c", code, *map(str, arguments)], timeout_s)


def test_a_program_reads_the_notice(tmp_path):
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    python(code, out).send(notice())
    assert out.read_bytes() == notice_bytes(notice()) + b"\n"


def test_there_is_no_shell(tmp_path):
    out = tmp_path / "out"
    python("import sys; open(sys.argv[1], 'w').write(sys.argv[2])", out, "$(id); `id`").send(
        notice()
    )
    assert out.read_text() == "$(id); `id`"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([sys.executable, "-c", "raise SystemExit(3)"], "exit status 0, got 3"),
        (["/no/such/program"], "cannot be started: No such file"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "got -9"),
    ],
)
def test_a_program_that_fails_is_an_error(argv, message):
    with pytest.raises(SinkError, match=message):
        Command(argv, 10.0).send(notice())


def test_a_program_that_reads_nothing_is_not_an_error():
    python("import os; os.close(0)").send(notice())


FORKS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(float(sys.argv[2]))
"""


def gone(pid):
    """Return whether a process ends within seconds; a zombie has ended."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("seconds", "fails"), [(60, True), (0, False)])
def test_what_a_program_starts_ends_with_it(tmp_path, seconds, fails):
    out = tmp_path / "pid"
    sink = python(FORKS, out, seconds, timeout_s=2.0)
    if fails:
        with pytest.raises(SinkError, match="after 2 s, killed"):
            sink.send(notice())
    else:
        sink.send(notice())
    assert gone(int(out.read_text()))


def test_close_ends_a_program_that_runs(tmp_path):
    out = tmp_path / "pid"
    sink = python(FORKS, out, 60, timeout_s=60.0)
    errors = []

    def send():
        try:
            sink.send(notice())
        except SinkError as error:
            errors.append(str(error))

    thread = threading.Thread(target=send)
    thread.start()
    while not (out.exists() and out.read_text()):
        time.sleep(0.02)
    sink.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "got -9" in errors[0]
    with pytest.raises(SinkError, match="the sink is closed"):
        sink.send(notice())


def test_nothing_stays_open(tmp_path):
    sink = python("pass")
    sink.send(notice())
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(5):
        sink.send(notice())
    # Descriptors of earlier tests may be closed meanwhile.
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before
