"""What a bad camera costs the good ones: their frames a second with and without it, in one run.

    python -m benchmarks.live_hostile [--seconds 15] [--fps 10] [--bad refusing garbage ...]

Two good cameras are a clip that a real RTSP server of another process plays without an end. The
pose network is a null one, so that reading and decoding are what is measured. Bad cameras are
servers of a third process.
"""

import argparse
import io
import itertools
import multiprocessing
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks._command import Parser, one_line_errors, positive
from benchmarks._live import late_drops, running, serve_rtsp, write_clip
from benchmarks._needs import need
from benchmarks.live_cameras import CLIP, Figures
from recognizer.config.live import CameraConfig
from recognizer.config.types import PoseKind
from recognizer.live.analysis import SharedPose, analyses_of
from recognizer.live.engine import CameraState
from recognizer.pipeline import PipelineSettings
from recognizer.pose.estimator import VideoPose
from recognizer.types import Image, Poses

GOOD = ("good 1", "good 2")
_SETTLE_S = 5.0
_LARGE = 16_000  # pixels of a side
Send = Callable[[socket.socket], None]


class EmptyScene:
    """A pose network that sees an empty scene."""

    kind: PoseKind = "rtmo"

    def __call__(self, images: Sequence[Image]) -> list[Poses]:
        """Return no people."""
        return [Poses.empty() for _ in images]

    def for_video(self) -> VideoPose:
        """Return itself: it remembers nothing."""
        return lambda images, times: self(images)


def stalling(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def garbage(connection: socket.socket) -> None:
    while True:
        connection.sendall(random.randbytes(1 << 14))
        time.sleep(0.01)


def stream(data: bytes, bytes_per_s: float, connection: socket.socket) -> None:
    """Send a stream again and again: its timestamps fall each time."""
    start_s, sent = time.monotonic(), 0
    for at in itertools.cycle(range(0, len(data), 188 * 4)):
        time.sleep(max(start_s + sent / bytes_per_s - time.monotonic(), 0))
        part = data[at : at + 188 * 4]
        connection.sendall(part)
        sent += len(part)


def pictures(jpegs: Sequence[bytes], period_s: float, each: int, connection: socket.socket) -> None:
    """Answer a request with JPEG pictures without an end, each so many times in a row."""
    connection.recv(1 << 16)
    connection.sendall(
        b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    )
    for number in itertools.count():
        jpeg = jpegs[number // each % len(jpegs)]
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        connection.sendall(head.encode() + jpeg + b"\r\n")
        time.sleep(period_s)


def transport_stream(seconds: float, fps: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        video = output.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = 320, 192, "yuv420p"
        video.options = {"preset": "ultrafast", "g": str(fps), "bf": "0"}
        for number in range(round(seconds * fps)):
            picture = np.full((192, 320, 3), 40 + number % 160, np.uint8)
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        output.mux(video.encode(None))
    return file.getvalue()


def jpeg(width: int, height: int) -> bytes:
    data: bytes = cv2.imencode(".jpg", np.full((height, width), 90, np.uint8))[1].tobytes()
    return data


def bad_cameras() -> dict[str, tuple[str, Send | None]]:
    """Return scheme and behaviour of each bad camera; None: nothing listens."""
    fast, slow = transport_stream(10, 240), transport_stream(4, 25)
    sizes = [jpeg(w, h) for w, h in ((320, 192), (640, 360), (1280, 720))]
    return {
        "refusing": ("rtsp", None),
        "stalling": ("rtsp", stalling),
        "garbage": ("tcp", garbage),
        "slow drip": ("tcp", partial(stream, slow, 200.0)),
        "16,000 x 16,000": ("http", partial(pictures, [jpeg(_LARGE, _LARGE)], 0.1, 1)),
        "size changes each second": ("http", partial(pictures, sizes, 0.1, 10)),
        "timestamps fall": ("tcp", partial(stream, slow, len(slow) / 4)),
        "240 frames/s": ("tcp", partial(stream, fast, len(fast) / 10)),
    }


def serve_bad(addresses: Connection) -> None:
    """Serve all bad cameras until the process is ended."""
    from tests.live.cameras import tcp_camera

    with ExitStack() as stack:
        urls = {}
        for name, (scheme, send) in bad_cameras().items():
            port = 9 if send is None else stack.enter_context(tcp_camera(send))
            urls[name] = f"{scheme}://127.0.0.1:{port}" + ("" if scheme == "tcp" else "/x")
        addresses.send(urls)
        threading.Event().wait()


def frames_per_s(cameras: Sequence[CameraConfig], seconds: float) -> tuple[float, float, str]:
    """Read cameras; return frames/s and drops/s of a good one, and the state of the last."""
    names, pose = [one.name for one in cameras], SharedPose(EmptyScene())
    analyses = analyses_of(names, [], PipelineSettings(look_ahead_s=0.0), pose.kind)
    states = {name: CameraState(analyses[name], {}) for name in names}
    with running(cameras, pose, states, Figures()) as fleet:
        time.sleep(_SETTLE_S)
        before, start_s = fleet.status(), time.monotonic()
        time.sleep(seconds)
        after, took_s = fleet.status(), time.monotonic() - start_s
    good = [(a, b) for a, b in zip(before, after, strict=True) if a.name in GOOD]
    late = sum(late_drops(b) - late_drops(a) for a, b in good)
    taken = sum(b.frames - a.frames for a, b in good) - late
    per = took_s * len(good)
    return taken / per, late / per, str(after[-1].last_error or after[-1].state)


@one_line_errors
def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=positive, default=15)
    parser.add_argument("--fps", type=float, default=10.0, help="asked of each camera")
    parser.add_argument("--bad", nargs="+", help="some bad cameras; without it all")
    given: argparse.Namespace = parser.parse_args()
    need(peers=["aio_rtsp_toolkit"], files=[CLIP])
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        write_clip([(CLIP, 60.0)], Path(folder) / "clip.mp4", 25.0)
        here, there = context.Pipe(duplex=False)
        bad_here, bad_there = context.Pipe(duplex=False)
        servers = [
            context.Process(target=serve_rtsp, args=(Path(folder), there), daemon=True),
            context.Process(target=serve_bad, args=(bad_there,), daemon=True),
        ]
        for server in servers:
            server.start()
        url, urls = f"rtsp://127.0.0.1:{here.recv()}/clip.mp4", bad_here.recv()
        good = [CameraConfig(name=name, url=url, fps=given.fps) for name in GOOD]
        print("| bad camera | frames/s of a good one without, with it | lost |")
        print("|---" * 3 + "|")
        for name in given.bad or urls:
            alone, _, _ = frames_per_s(good, given.seconds)
            bad = CameraConfig(name="bad", url=urls[name], fps=given.fps)
            beside, _, state = frames_per_s([*good, bad], given.seconds)
            lost = max(1 - beside / alone, 0.0) if alone else float("nan")
            print(f"| {name} ({state}) | {alone:.2f}, {beside:.2f} | {lost:.1%} |", flush=True)
        for server in servers:
            server.kill()


if __name__ == "__main__":
    main()
