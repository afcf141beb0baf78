"""HTTP servers for the sinks: one that answers as it is set, and one with Frigate's contract."""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the server sends: after ``delay_s``, the body byte by byte with ``drip_s`` between."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0


@dataclass
class Served:
    """A running server: its address, what arrived, and how it answers."""

    url: str
    answer: Callable[[Request], Answer]
    requests: list[Request] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[Request], Answer], port: int = 0) -> Iterator[Served]:
    """Run a server on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            served.requests.append(request)
            reply = served.answer(request)
            time.sleep(reply.delay_s)
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for start in range(0, len(reply.body), 1) if reply.drip_s else ():
                    self.wfile.write(reply.body[start : start + 1])
                    time.sleep(reply.drip_s)
                if not reply.drip_s:
                    self.wfile.write(reply.body)
            except OSError:  # the client went away
                self.close_connection = True

        do_GET = do_POST = do_PUT = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    served = Served(f"http://127.0.0.1:{server.server_address[1]}", answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FrigateServer:
    """The part of Frigate's HTTP API that manual events use, after its documentation."""

    def __init__(self, *cameras: str) -> None:
        self._cameras, self._numbers = cameras, itertools.count(1)
        self.events: dict[str, dict[str, Any]] = {}

    def answer(self, request: Request) -> Answer:
        """Create, end and list events."""
        parts = urlsplit(request.path)
        created = re.fullmatch(r"/api/events/([^/]+)/([^/]+)/create", parts.path)
        ended = re.fullmatch(r"/api/events/([^/]+)/end", parts.path)
        if request.method == "POST" and created:
            return self._create(created[1], created[2], json.loads(request.body))
        if request.method == "PUT" and ended:
            return self._end(ended[1], json.loads(request.body))
        if request.method == "GET" and parts.path == "/api/events":
            return self._list(parse_qs(parts.query))
        return Answer(404)

    def _create(self, camera: str, label: str, body: dict[str, Any]) -> Answer:
        if camera not in self._cameras:
            return Answer(404, b'{"success": false, "message": "not a valid camera"}')
        event_id = f"1800000000.0-{next(self._numbers)}"
        self.events[event_id] = {
            **{"id": event_id, "camera": camera, "label": label, "end_time": None},
            **body,
        }
        value = {"success": True, "message": "Successfully created event.", "event_id": event_id}
        return Answer(200, json.dumps(value).encode())

    def _end(self, event_id: str, body: dict[str, Any]) -> Answer:
        if event_id not in self.events:
            return Answer(404, b'{"success": false}')
        self.events[event_id]["end_time"] = body.get("end_time")
        return Answer(200, b'{"success": true, "message": "Event successfully ended."}')

    def _list(self, query: dict[str, list[str]]) -> Answer:
        found = [
            event
            for event in self.events.values()
            if event["camera"] in query["cameras"][0].split(",") and event["end_time"] is None
        ]
        return Answer(200, json.dumps(found).encode())
