"""A real HTTP server on 127.0.0.1 that serves one file well or badly, as a test asks for."""

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Request:
    path: str
    headers: dict[str, str]


Answer = Callable[[Request], bytes | Iterable[bytes]]
"""The raw bytes to answer with, or pieces of them; the connection is closed after them."""


@dataclass
class Server:
    base: str
    requests: list[Request] = field(default_factory=list)


def raw(status: str, body: bytes, **headers: object) -> bytes:
    """Return an answer; Content-Length is the body's unless it is given (None: left out)."""
    lines = {"content-type": "application/octet-stream", "content-length": len(body)}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{text}connection: close\r\n\r\n".encode() + body


def good(body: bytes) -> Answer:
    """Answer with the whole body."""
    return lambda _: raw("200 OK", body)


def cut(answer: Answer, sent: int) -> Answer:
    """Let the connection break after so many bytes, the header's included."""

    def first(request: Request) -> bytes:
        content = answer(request)
        return (content if isinstance(content, bytes) else b"".join(content))[:sent]

    return first


@contextlib.contextmanager
def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Answer the first request by the first answer and so on, the last one again and again."""
    left = list(answers)

    class Handler(socketserver.StreamRequestHandler):
        timeout = 20

        def handle(self) -> None:
            first = self.rfile.readline().decode("latin-1").split()
            headers = {}
            while line := self.rfile.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            request = Request(first[1], headers)
            server.requests.append(request)
            answer = left.pop(0) if len(left) > 1 else left[0]
            with contextlib.suppress(ConnectionError):
                content = answer(request)
                for piece in [content] if isinstance(content, bytes) else content:
                    self.wfile.write(piece)
                    self.wfile.flush()
                self.connection.shutdown(socket.SHUT_WR)

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        quiet = False

        def handle_error(self, request: object, client_address: object) -> None:
            if not self.quiet:
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    with Threads(("127.0.0.1", 0), Handler) as threads:
        scheme = "http" if tls is None else "https"
        server = Server(f"{scheme}://127.0.0.1:{threads.server_address[1]}")
        if tls is not None:  # a client that breaks off the handshake is the client's matter
            threads.socket = tls.wrap_socket(threads.socket, server_side=True)
            threads.quiet = True
        thread = threading.Thread(target=threads.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            threads.shutdown()
            thread.join()
