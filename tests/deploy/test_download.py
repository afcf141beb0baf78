"""Downloads from a real server on 127.0.0.1 that breaks off, lies, or answers another."""

import gzip
import hashlib
import logging
import os
import shutil
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy import download, model_zoo
from recognizer.storage.artifacts import ArtifactError, sha256_file
from tests.deploy.bad_server import cut, good, raw, serving
from tests.deploy.fetching import (
    FILE,
    NETWORK,
    SDK,
    SHA256,
    WEIGHTS,
    left,
    run,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("own_files")


# --- a connection that breaks ------------------------------------------------------


SMALL = WEIGHTS[:700]
SMALL_FILE = model_zoo.OfficialFile("s", f"/s-{hashlib.sha256(SMALL).hexdigest()[:8]}.pth", "t")


def test_cut_at_any_byte_leaves_nothing_and_the_same_command_fetches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(model_zoo, "FILES", {"s": SMALL_FILE})
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    answer = good(SMALL)
    whole = len(answer(None))
    for sent in sorted({*range(0, 200, 17), *range(200, whole, 61), *range(whole - 5, whole)}):
        folder = tmp_path / str(sent)
        with serving(cut(answer, sent), answer) as server:
            with pytest.raises((ConnectionError, ArtifactError)):
                run(folder, server, "s")
            assert left(folder) == []  # never half a file in place
            assert run(folder, server, "s") == 0
        assert (folder / SMALL_FILE.file_name).read_bytes() == SMALL
        assert left(folder) == [SMALL_FILE.file_name]


def test_a_broken_download_starts_again_by_itself(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    answer = good(WEIGHTS)
    with serving(cut(answer, 70_000), cut(answer, 90_000), answer) as server:
        assert run(tmp_path, server) == 0
    assert len(server.requests) == 3
    assert (tmp_path / FILE.file_name).read_bytes() == WEIGHTS
    assert "starting again" in caplog.text


@pytest.mark.parametrize(("name", "body"), [("tiny", WEIGHTS), ("tiny-onnx", SDK)])
def test_a_server_that_always_breaks_ends_with_an_error_that_counts(tmp_path, name, body):
    with (
        serving(cut(good(body), 90_000)) as server,
        pytest.raises(ConnectionError, match=r"broke off: .*\d+ bytes read, \d+ more expected"),
    ):
        run(tmp_path, server, name)
    assert len(server.requests) == 3
    assert left(tmp_path) == []


def test_a_silent_server(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    release = threading.Event()

    def wait(_request):
        release.wait(10)
        return b""

    with serving(wait) as server:
        try:
            with pytest.raises(ConnectionError, match="timed out"):
                run(tmp_path, server)
        finally:
            release.set()
    assert left(tmp_path) == []


def test_no_server(tmp_path):
    with serving(good(WEIGHTS)) as server:
        pass
    with pytest.raises(ConnectionError, match=r"no connection to the server.*models\.mirror"):
        run(tmp_path, server)
    assert left(tmp_path) == []


# --- answers that are not the file -------------------------------------------------


def test_another_file_names_both_digests_and_is_removed(tmp_path):
    wrong = hashlib.sha256(NETWORK).hexdigest()
    with serving(good(NETWORK)) as server, pytest.raises(ArtifactError) as caught:
        run(tmp_path, server)
    assert wrong in str(caught.value)
    assert SHA256[:8] in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("name", ["tiny", "tiny-onnx"])
def test_a_page_in_the_servers_place(tmp_path, kind, name):
    page = raw("200 OK", b"\n <!DOCTYPE html><title>Log in</title>", content_type=kind)
    with serving(lambda _: page) as server, pytest.raises(ArtifactError, match="login page"):
        run(tmp_path, server, name)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "status",
    [
        "404 Not Found",
        "403 Forbidden",
        "500 Internal Server Error",
        "503 Busy",
        "418 Teapot",
        "416 Range Not Satisfiable",
        "407 Proxy Authentication Required",
        "206 Partial Content",
        "204 No Content",
    ],
)
def test_a_status_is_given_with_what_to_do(tmp_path, status):
    with serving(lambda _: raw(status, b"")) as server, pytest.raises(ConnectionError) as caught:
        run(tmp_path, server)
    assert f"status {status}" in str(caught.value)
    assert "models.mirror" in str(caught.value)
    assert len(server.requests) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("goal", ["http://127.0.0.1:9/x", "http://example.org/x", "ftp://a.org/x"])
def test_a_redirect_to_what_is_not_https(tmp_path, goal):
    answer = raw("302 Found", b"", location=goal)
    with serving(lambda _: answer) as server, pytest.raises(ConnectionError) as caught:
        run(tmp_path, server)
    assert "redirected" in str(caught.value)
    assert goal in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize("goal", ["http://[bad", "https://[::1/x"])
def test_a_redirect_to_no_address(tmp_path, goal):
    answer = raw("302 Found", b"", location=goal)
    with serving(lambda _: answer) as server, pytest.raises(ConnectionError, match="redirected"):
        run(tmp_path, server)
    assert left(tmp_path) == []


def test_the_body_of_a_redirect_is_not_read(tmp_path, monkeypatch):
    unread = property(lambda response: pytest.fail(f"read the body of {response.url}"))
    monkeypatch.setattr(download.requests.Response, "content", unread)
    away = raw("302 Found", b"x" * 5000, location="/there")
    with serving(lambda _: away, good(WEIGHTS)) as server:
        run(tmp_path, server)
    assert [request.path for request in server.requests] == [FILE.path, "/there"]


def test_a_redirect_on_the_same_server(tmp_path):
    with serving(lambda _: raw("302 Found", b"", location="/there"), good(WEIGHTS)) as server:
        run(tmp_path, server)
    assert [request.path for request in server.requests] == [FILE.path, "/there"]
    assert sha256_file(tmp_path / FILE.file_name) == SHA256


@pytest.fixture
def certificate(tmp_path_factory):
    """Make a certificate that nobody trusts unless told; return its file and a TLS context."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    path, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-out",
            path,
            "-keyout",
            key,
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return path, context


def test_a_redirect_to_another_host_by_https(tmp_path, monkeypatch, certificate):
    path, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(good(WEIGHTS), tls=context) as other:
        away = raw("302 Found", b"", location=f"{other.base}/there")
        with serving(lambda _: away) as server:
            run(tmp_path, server)
    assert [request.path for request in other.requests] == ["/there"]
    assert sha256_file(tmp_path / FILE.file_name) == SHA256


def test_no_way_back_from_https(tmp_path, monkeypatch, certificate):
    path, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with serving(good(WEIGHTS)) as plain:
        away = raw("302 Found", b"", location=f"{plain.base}/there")
        with (
            serving(lambda _: away, tls=context) as server,
            pytest.raises(ConnectionError, match="expected https"),
        ):
            run(tmp_path, server)
    assert plain.requests == []


def test_a_certificate_that_nobody_trusts(tmp_path, certificate):
    _, context = certificate
    with (
        serving(good(WEIGHTS), tls=context) as server,
        pytest.raises(ConnectionError, match="SSL_CERT_FILE"),
    ):
        run(tmp_path, server)
    assert server.requests == []
    assert left(tmp_path) == []


def test_redirects_without_end(tmp_path):
    with (
        serving(lambda _: raw("302 Found", b"", location="/x")) as server,
        pytest.raises(ConnectionError, match="redirects"),
    ):
        run(tmp_path, server)


@pytest.mark.parametrize(("name", "body"), [("tiny", WEIGHTS), ("tiny-onnx", SDK)])
def test_a_content_length_that_is_too_long(tmp_path, name, body):
    wrong = raw("200 OK", body, content_length=len(body) + 5)
    with serving(lambda _: wrong) as server, pytest.raises(ConnectionError, match="broke off"):
        run(tmp_path, server, name)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", ["many", -1])
def test_a_content_length_that_is_none_does_not_count(tmp_path, length):
    answer = raw("200 OK", WEIGHTS, content_length=length)
    with serving(lambda _: answer) as server:
        assert run(tmp_path, server) == 0
    assert left(tmp_path) == [FILE.file_name]
    assert sha256_file(tmp_path / FILE.file_name) == SHA256


@pytest.mark.parametrize("length", [len(WEIGHTS) - 5, 0, 2**40])
def test_a_wrong_content_length(tmp_path, length):
    wrong = raw("200 OK", WEIGHTS, content_length=length)
    with serving(lambda _: wrong) as server, pytest.raises((ConnectionError, ArtifactError)):
        run(tmp_path, server)
    assert FILE.file_name not in left(tmp_path)


def test_packed_content(tmp_path):
    packed = raw("200 OK", gzip.compress(WEIGHTS), content_encoding="gzip")
    wrong = raw("200 OK", WEIGHTS, content_encoding="gzip")
    with serving(lambda _: wrong) as server:
        with pytest.raises(ConnectionError, match=r"broke off: .*gzip"):
            run(tmp_path, server)
        assert len(server.requests) == 3
        assert left(tmp_path) == []
    with serving(lambda _: wrong, lambda _: packed) as server:
        run(tmp_path, server)
    assert len(server.requests) == 2
    assert sha256_file(tmp_path / FILE.file_name) == SHA256


@pytest.mark.parametrize("junk", [b"", b"hello", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 70_000])
def test_what_is_no_http(tmp_path, junk):
    with serving(lambda _: junk) as server, pytest.raises(ConnectionError):
        run(tmp_path, server)
    assert left(tmp_path) == []


# --- the disk ----------------------------------------------------------------------


def test_a_disk_that_takes_no_more(tmp_path):
    """The system itself refuses to write more: a limit on the size of files."""
    with serving(good(WEIGHTS)) as server:
        program = f"""
            import resource, sys
            from pathlib import Path
            from deploy import download
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                download.download({server.base!r}, Path({str(tmp_path / "a")!r}), None, print)
                sys.exit("nothing was refused")
            except OSError as error:
                sys.exit(0 if "cannot write" in str(error) else str(error))
            """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr


def test_more_than_is_free_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 2**60)
    answer = raw("200 OK", WEIGHTS, content_length=2**59)
    with serving(lambda _: answer) as server, pytest.raises(OSError, match="are free") as caught:
        run(tmp_path, server)
    assert not isinstance(caught.value, ConnectionError)
    assert left(tmp_path) == []


def test_an_endless_answer_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    answer = raw("200 OK", WEIGHTS, content_length=None)
    with serving(lambda _: answer) as server, pytest.raises(ArtifactError, match="more than"):
        run(tmp_path, server)
    assert left(tmp_path) == []


def test_what_a_killed_run_left_behind_is_removed_and_what_another_writes_is_not(tmp_path):
    scratch = tmp_path / ".scratch"
    scratch.mkdir()
    for name in ("killed.pth", "another.pth"):
        (scratch / name).write_bytes(b"half")
    os.utime(scratch / "killed.pth", (1.0, 1.0))
    with serving(good(WEIGHTS)) as server:
        run(tmp_path, server)
    assert left(tmp_path) == [".scratch", ".scratch/another.pth", FILE.file_name]


def test_two_at_once_do_not_mix(tmp_path):
    with serving(good(WEIGHTS)) as server, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: run(tmp_path, server), range(4))) == {0}
    assert left(tmp_path) == [FILE.file_name]
    assert sha256_file(tmp_path / FILE.file_name) == SHA256


def test_a_killed_run_leaves_nothing_in_the_files_place(tmp_path):
    program = """
        import os, signal, sys
        from pathlib import Path
        from deploy import fetch
        from deploy.model_zoo import OfficialFile

        def stop(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        fetch.sha256_file = stop
        fetch.download = lambda url, path, start, on_progress: path.write_bytes(b"x") and stop()
        fetch._fetch(OfficialFile("t", "/t.pth", "t"), "https://a.org/t.pth", Path(sys.argv[1]))
        """
    command = [sys.executable, "-c", textwrap.dedent(program), tmp_path / "t.pth"]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [name.partition("/")[0] for name in left(tmp_path)] == [".scratch"] * 2
