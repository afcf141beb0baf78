"""A small S3 on 127.0.0.1: what obstore asks for, and the faults of a store on demand.

It answers lists in pages, GET with If-Match and Range, HEAD, PUT with If-Match and If-None-Match,
and deletion, with the status codes and error bodies of S3. It checks no signature.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import pytest

from recognizer.storage import objects

BUCKET = "footage"
_PAGE = 1000
_KEPT = "<Code>AccessDenied</Code><Message>secret-of-the-body</Message>"


class ObjectServer(ThreadingHTTPServer):
    """A store with one bucket.

    Attributes:
        objects: content by key.
        keys: yields the keys of a list after one; None: those of ``objects``.
        refused: a status code and an error code for every request; None: none.
        before_get: called with the key of an object that is about to be read.
        before_put: called with the key of an object that is about to be written.
        keeps: no object may be removed.
        lost_answers: so many puts are done, and answered with an error of the server.
        stuck: lists end with a continuation token that leads to the same page again.
        requests: method and path of all requests.

    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.keys: Callable[[str], Iterator[str]] | None = None
        self.refused: tuple[int, str] | None = None
        self.before_get: Callable[[str], None] = lambda key: None
        self.before_put: Callable[[str], None] = lambda key: None
        self.keeps = False
        self.lost_answers = 0
        self.stuck = False
        self.requests: list[str] = []
        self.writing = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client finds the store."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "the-key",
            "AWS_SECRET_ACCESS_KEY": "the-secret",
            "AWS_REGION": "us-east-1",
        }

    def page(self, prefix: str, after: str) -> list[str]:
        """Return up to one key more than a page holds."""
        names = sorted(self.objects) if self.keys is None else self.keys(after)
        found = (key for key in names if key.startswith(prefix) and key > after)
        return list(islice(found, _PAGE + 1))


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        self.server.requests.append(format % args)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if self._is_refused(bucket):
            return
        if key:
            self._object(key)
        else:
            query = parse_qs(parts.query)
            after = query.get("continuation-token", query.get("start-after", [""]))[0]
            self._list(query.get("prefix", [""])[0], after)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.before_put(key)
        with self.server.writing:
            if self._is_refused(bucket):
                return
            present = self.server.objects.get(key)
            expected = self.headers.get("If-Match")
            if self.headers.get("If-None-Match") == "*" and present is not None:
                self._fail(412, "PreconditionFailed")
            elif expected is not None and present is None:
                self._fail(404, "NoSuchKey")
            elif expected is not None and present is not None and expected != etag(present):
                self._fail(412, "PreconditionFailed")
            else:
                self.server.objects[key] = data
                self._answer_put(data)

    def _answer_put(self, data: bytes) -> None:
        if self.server.lost_answers:
            self.server.lost_answers -= 1
            self._fail(500, "InternalError")
        else:
            self._answer(200, b"", {"ETag": etag(data)})

    def do_POST(self) -> None:
        """Delete the objects that the body names."""
        bucket = unquote(urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with self.server.writing:
            if self._is_refused(bucket):
                return
            keys = [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", body, re.DOTALL)]
            if not self.server.keeps:
                for key in keys:
                    self.server.objects.pop(key, None)
        tag, why = ("Error", _KEPT) if self.server.keeps else ("Deleted", "")
        rows = "".join(f"<{tag}><Key>{escape(key)}</Key>{why}</{tag}>" for key in keys)
        self._answer(200, f"<DeleteResult>{rows}</DeleteResult>".encode())

    def _is_refused(self, bucket: str) -> bool:
        """Answer a request that the store refuses."""
        if self.server.refused is not None:
            self._fail(*self.server.refused)
        elif bucket != BUCKET:
            self._fail(404, "NoSuchBucket")
        else:
            return False
        return True

    def _object(self, key: str) -> None:
        if self.command == "GET":
            self.server.before_get(key)
        data = self.server.objects.get(key)
        if data is None:
            self._fail(404, "NoSuchKey")
        elif self.headers.get("If-Match", etag(data)) != etag(data):
            self._fail(412, "PreconditionFailed")
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        headers = {"ETag": etag(data), "Last-Modified": formatdate(0, usegmt=True)}
        asked = self.headers.get("Range")
        if asked is None:
            self._answer(200, data, headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._answer(206, part, headers)

    def _list(self, prefix: str, after: str) -> None:
        keys = self.server.page(prefix, "" if self.server.stuck else after)
        more, last = len(keys) > _PAGE or self.server.stuck, keys[:_PAGE][-1] if keys else ""
        rows = "".join(map(self._row, keys[:_PAGE]))
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
        self._answer(
            200,
            f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{str(more).lower()}"
            f"</IsTruncated>{token if more else ''}{rows}</ListBucketResult>".encode(),
        )

    def _row(self, key: str) -> str:
        data = self.server.objects.get(key, b"")
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f"</LastModified><ETag>{escape(etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
        )

    def _fail(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>secret-of-the-body</Message></Error>"
        self._answer(status, body.encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running() -> Iterator[ObjectServer]:
    """Serve in a thread."""
    with ObjectServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def reached(patch: pytest.MonkeyPatch, *, retries: bool = True) -> Iterator[ObjectServer]:
    """Serve, with the environment and the clients of this process leading there."""
    with running() as server:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        if not retries:
            patch.setattr(objects, "_RETRIES", {"max_retries": 0})
        objects._open.cache_clear()
        try:
            yield server
        finally:
            objects._open.cache_clear()
