"""Cameras for tests: real servers on 127.0.0.1 that play a clip of ours without an end."""

import asyncio
import contextlib
import http.server
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import aio_rtsp_toolkit.server as rtsp_server
import av
import cv2
import numpy as np

FPS = 25
_GROUP = 25
_MAX_CLIENTS = 64


def encode(
    path: Path, seconds: float, size_wh: tuple[int, int] = (160, 96), format_name: str = "mp4"
) -> Path:
    """Write an H.264 clip with a key frame a second; brightness and a bar move with the time."""
    width, height = size_wh
    with av.open(str(path), "w", format=format_name) as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": str(_GROUP), "bf": "0", "tune": "zerolatency"}
        stream.codec_context.time_base = Fraction(1, FPS)
        for index in range(round(seconds * FPS)):
            picture = np.full((height, width, 3), 40 + index % 160, np.uint8)
            picture[:, (index * 2) % width :][:, :8] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@contextmanager
def rtsp_camera(folder: Path) -> Iterator[int]:
    """Serve the mp4 files of a folder by RTSP; gives the port."""
    rtsp_server.logger = logging.getLogger("rtsp camera")
    rtsp_server.logger.setLevel(logging.ERROR)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(_MAX_CLIENTS))  # one thread a client
    server = rtsp_server.RtspServer(str(folder), "127.0.0.1", port)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield port
    finally:
        loop.set_exception_handler(lambda _loop, _context: None)  # sessions that are cut short
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def tcp_camera(send: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept TCP connections and give each to ``send`` in a thread; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            send(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def transport_stream(path: Path) -> Callable[[socket.socket], None]:
    """Return what sends an MPEG transport stream at its own speed, once."""
    data, seconds = path.read_bytes(), _seconds(path)
    packets = [data[at : at + 188 * 4] for at in range(0, len(data), 188 * 4)]

    def send(connection: socket.socket) -> None:
        start_s = time.monotonic()
        for number, packet in enumerate(packets):
            due_s = start_s + seconds * number / len(packets)
            time.sleep(max(due_s - time.monotonic(), 0))
            connection.sendall(packet)

    return send


def _seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def motion_jpeg(connection: socket.socket) -> None:
    """Answer any HTTP request with JPEG pictures without an end, 10 a second."""
    connection.recv(1 << 16)
    head = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    connection.sendall(head.encode())
    for index in range(10_000):
        picture = np.full((96, 160, 3), index % 250, np.uint8)
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        part = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        connection.sendall(part.encode() + jpeg + b"\r\n")
        time.sleep(0.1)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        status = self.path.strip("/")
        if status.isdigit():
            self.send_error(int(status))
        else:
            super().do_GET()

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def http_camera(folder: Path) -> Iterator[int]:
    """Serve a folder by HTTP; ``/<status>`` answers with that status. Gives the port."""
    handler = partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def rtsp_answer(status: str) -> Callable[[socket.socket], None]:
    """Return what answers each RTSP request with a status line such as ``401 Unauthorized``."""

    def send(connection: socket.socket) -> None:
        while request := connection.recv(1 << 16):
            lines = request.decode("latin-1").splitlines()
            number = next(line for line in lines if line.lower().startswith("cseq"))
            is_options = request.startswith(b"OPTIONS")
            head = "200 OK" if is_options else status
            realm = "" if is_options else 'WWW-Authenticate: Basic realm="camera"\r\n'
            connection.sendall(f"RTSP/1.0 {head}\r\n{number}\r\n{realm}\r\n".encode())

    return send
