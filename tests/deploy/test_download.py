"""Downloads from a real server on 127.0.0.1 that breaks off, lies, or answers another."""

import hashlib
import logging
import shutil
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from deploy import download, official
from recognizer.artifacts import ArtifactError, sha256_file
from tests.deploy.bad_server import cut, good, raw, serving
from tests.deploy.fetching import (
    FILE,
    NETWORK,
    SDK,
    SHA256,
    WEIGHTS,
    archived,
    left,
    run,
)

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("own_files")


# --- a connection that breaks ------------------------------------------------------


SMALL = WEIGHTS[:700]
SMALL_FILE = official.OfficialFile("s", f"/s-{hashlib.sha256(SMALL).hexdigest()[:8]}.pth", "t")


def test_cut_at_any_byte_and_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(official, "FILES", {"s": SMALL_FILE})
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    answer = good(SMALL)
    whole = len(raw("200 OK", SMALL, etag='"one"'))
    for sent in sorted({*range(0, 200, 7), *range(200, whole, 61), *range(whole - 20, whole)}):
        folder = tmp_path / str(sent)
        with serving(cut(answer, sent), answer) as server:
            with pytest.raises(ConnectionError):
                run(folder, server, "s")
            there = left(folder)
            assert SMALL_FILE.file_name not in there  # never half a file in place
            part = folder / f"{SMALL_FILE.file_name}.part"
            size = part.stat().st_size if part.exists() else 0
            assert run(folder, server, "s") == 0
        assert (folder / SMALL_FILE.file_name).read_bytes() == SMALL
        assert left(folder) == [SMALL_FILE.file_name]
        assert server.requests[1].offset == size
        assert (server.requests[1].headers.get("if-range") == '"one"') == (size > 0)


def test_it_goes_on_by_itself_while_it_gets_further(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    answer = good(WEIGHTS)
    with serving(cut(answer, 70_000), cut(answer, 90_000), answer) as server:
        assert run(tmp_path, server) == 0
    offsets = [request.offset for request in server.requests]
    assert offsets[0] == 0 < offsets[1] < offsets[2]
    assert (tmp_path / FILE.file_name).read_bytes() == WEIGHTS
    assert "going on" in caplog.text


def test_a_server_that_always_breaks_ends_with_an_error_that_counts(tmp_path):
    with (
        serving(cut(good(WEIGHTS), 400)) as server,
        pytest.raises(ConnectionError, match=r"broke off after \d+ of 300000 bytes"),
    ):
        run(tmp_path, server)
    assert len(server.requests) <= 5
    assert FILE.file_name not in left(tmp_path)


def test_what_cannot_be_resumed_is_removed(tmp_path):
    """An archive without a digest, from a server that names no version of it."""
    with serving(cut(good(SDK, etag=None), 90_000)) as server, pytest.raises(ConnectionError):
        run(tmp_path, server, "tiny-onnx")
    assert left(tmp_path) == []
    assert {request.offset for request in server.requests} == {0}


def test_an_archive_that_changed_meanwhile_is_taken_anew(tmp_path):
    other = archived(("end2end.onnx", WEIGHTS))
    new = good(other, etag='"two"')
    with serving(cut(good(SDK), 90_000), new) as server:
        run(tmp_path, server, "tiny-onnx")
    assert server.requests[1].headers["if-range"] == '"one"'
    assert (tmp_path / "tiny-onnx.onnx").read_bytes() == WEIGHTS


@pytest.mark.parametrize("resumes", [True, False])
def test_a_part_of_another_file_is_thrown_away(tmp_path, resumes):
    (tmp_path / f"{FILE.file_name}.part").write_bytes(b"x" * 1000)
    with serving(good(WEIGHTS, resumes=resumes)) as server:
        run(tmp_path, server)
    assert (tmp_path / FILE.file_name).read_bytes() == WEIGHTS
    assert server.requests[0].offset == 1000


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_part_that_is_whole_or_too_long(tmp_path, extra):
    (tmp_path / f"{FILE.file_name}.part").write_bytes(WEIGHTS + extra)
    with serving(good(WEIGHTS)) as server:
        run(tmp_path, server)
    assert len(server.requests) == (2 if extra else 0)
    assert left(tmp_path) == [FILE.file_name]
    assert sha256_file(tmp_path / FILE.file_name) == SHA256


def test_a_wrong_range_is_no_continuation(tmp_path):
    (tmp_path / f"{FILE.file_name}.part").write_bytes(WEIGHTS[:1000])
    wrong = raw("206 Partial Content", WEIGHTS[10:], content_range="bytes 10-299999/300000")
    with serving(lambda _: wrong) as server, pytest.raises(ConnectionError, match="from 1000 on"):
        run(tmp_path, server)
    assert FILE.file_name not in left(tmp_path)


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


def test_nobody_listens(tmp_path):
    with serving(good(WEIGHTS)) as server:
        pass
    with pytest.raises(ConnectionError, match=r"no way to the server.*models\.mirror"):
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


def test_a_page_while_going_on(tmp_path):
    (tmp_path / f"{FILE.file_name}.part").write_bytes(WEIGHTS[:1000])
    page = raw("200 OK", b"<html>", content_type="text/html")
    with serving(lambda _: page) as server, pytest.raises(ArtifactError, match="login page"):
        run(tmp_path, server)
    assert FILE.file_name not in left(tmp_path)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("404 Not Found", "has no such file"), ("403 Forbidden", "refuses"),
        ("500 Internal Server Error", "in trouble"), ("503 Busy", "in trouble"),
        ("418 Teapot", "unexpected"), ("416 Range Not Satisfiable", "unexpected"),
        ("407 Proxy Authentication Required", "proxy"), ("206 Partial Content", "status 206"),
        ("204 No Content", "status 204"),
    ],
)  # fmt: skip
def test_a_status_is_told(tmp_path, status, said):
    with serving(lambda _: raw(status, b"")) as server, pytest.raises(ConnectionError) as caught:
        run(tmp_path, server)
    assert said in str(caught.value)
    assert status[:3] in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize("goal", ["http://127.0.0.1:9/x", "http://example.org/x", "ftp://a.org/x"])
def test_a_redirect_to_what_is_not_https(tmp_path, goal):
    answer = raw("302 Found", b"", location=goal)
    with serving(lambda _: answer) as server, pytest.raises(ConnectionError) as caught:
        run(tmp_path, server)
    assert "redirected" in str(caught.value)
    assert goal in str(caught.value)
    assert len(server.requests) == 1


def test_a_redirect_on_the_same_server_keeps_the_range(tmp_path):
    (tmp_path / f"{FILE.file_name}.part").write_bytes(WEIGHTS[:1000])
    with serving(lambda _: raw("302 Found", b"", location="/there"), good(WEIGHTS)) as server:
        run(tmp_path, server)
    assert [(r.path, r.offset) for r in server.requests] == [(FILE.path, 1000), ("/there", 1000)]
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
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-out", path,
            "-keyout", key,
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
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
        pytest.raises(ConnectionError, match="302"),
    ):
        run(tmp_path, server)


def test_a_content_length_that_is_too_long_is_found_out(tmp_path):
    wrong = raw("200 OK", WEIGHTS, content_length=len(WEIGHTS) + 5)
    with serving(lambda _: wrong) as server:
        run(tmp_path, server)  # what came is whole, as its digest says
    assert sha256_file(tmp_path / FILE.file_name) == SHA256
    short = raw("200 OK", SDK[:-5], content_length=len(SDK))
    with serving(lambda _: short) as server, pytest.raises(ConnectionError, match="broke off"):
        run(tmp_path, server, "tiny-onnx")
    assert left(tmp_path) == [FILE.file_name]


@pytest.mark.parametrize("length", [len(WEIGHTS) - 5, 0, "many", -1, 2**40])
def test_a_wrong_content_length(tmp_path, length):
    wrong = raw("200 OK", WEIGHTS, content_length=length)
    with serving(lambda _: wrong) as server, pytest.raises((ConnectionError, ArtifactError)):
        run(tmp_path, server)
    assert FILE.file_name not in left(tmp_path)


def test_packed_content_is_refused(tmp_path):
    answer = raw("200 OK", WEIGHTS, content_encoding="gzip")
    with serving(lambda _: answer) as server, pytest.raises(ArtifactError, match="packed as gzip"):
        run(tmp_path, server)
    assert left(tmp_path) == []


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
            wanted = download.Wanted({server.base!r}, None, lambda done, total: None)
            try:
                with download.downloaded(wanted, Path({str(tmp_path / "a.part")!r})):
                    sys.exit("nothing was refused")
            except OSError as error:
                sys.exit(0 if "cannot write" in str(error) else str(error))
            """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert left(tmp_path) == []


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


def test_two_at_once_do_not_mix(tmp_path):
    wanted = download.Wanted("http://127.0.0.1:9", None, lambda done, total: None)
    part = tmp_path / "a.part"
    with (
        download._locked(part),
        pytest.raises(BlockingIOError, match="another process"),
        download.downloaded(wanted, part),
    ):
        pass


def test_a_part_that_is_a_link_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / f"{FILE.file_name}.part").symlink_to(precious)
    with serving(good(WEIGHTS)) as server, pytest.raises(OSError, match=r"\.part"):
        run(folder, server)
    assert precious.read_bytes() == b"mine"
