"""Why a camera cannot be read: each reason from a real failure, no password in any message."""

import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from recognizer.config.live import CameraConfig, EvidenceConfig, SourceConfig
from recognizer.live.errors import ADVICE, Reason, SourceError, redacted
from recognizer.live.evidence import EvidenceRing
from recognizer.live.sources import CapturedFrame, Opening, open_source
from tests.live.cameras import encode, http_camera, rtsp_answer, tcp_camera

QUICK = SourceConfig(open_timeout_s=0.6, read_timeout_s=0.6)
SECRET = "s3cret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("http")
    (made / "page.html").write_text("<html>" + "a camera's page " * 500 + "</html>")
    return made


def failing(camera: CameraConfig, *, read: bool = False) -> SourceError:
    """Return the error that opening a camera, or reading it, ends with."""
    opening = Opening(1, threading.Event(), lambda number: None)
    if not read:
        with pytest.raises(SourceError) as caught:
            open_source(camera, QUICK, opening)
        return caught.value
    source = open_source(camera, QUICK, opening)
    with pytest.raises(SourceError) as caught:
        list(source.frames())
    source.close()
    return caught.value


def at(port: int, path: str = "a.mp4", scheme: str = "rtsp") -> CameraConfig:
    return CameraConfig(name="door", url=f"{scheme}://admin:{SECRET}@127.0.0.1:{port}/{path}")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def silent(connection: socket.socket) -> None:
    threading.Event().wait(3)


def noise(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"\xa5\x17\x00garbage" * 20_000)


def only_noise(connection: socket.socket) -> None:
    connection.sendall(b"\xa5\x17\x00garbage" * 20_000)


def sending(data: bytes) -> Callable[[socket.socket], None]:
    """Return what sends these bytes and ends."""
    return lambda connection: connection.sendall(data)


def hang_up(connection: socket.socket) -> None:
    connection.recv(1 << 16)


TCP: dict[str, tuple[str, Callable[[socket.socket], None], Reason]] = {
    "rtsp 401": ("rtsp", rtsp_answer("401 Unauthorized"), Reason.CREDENTIALS),
    "rtsp 403": ("rtsp", rtsp_answer("403 Forbidden"), Reason.CREDENTIALS),
    "rtsp 404": ("rtsp", rtsp_answer("404 Not Found"), Reason.NOT_FOUND),
    "rtsp 503": ("rtsp", rtsp_answer("503 Service Unavailable"), Reason.REJECTED),
    "rtsp 453": ("rtsp", rtsp_answer("453 Not Enough Bandwidth"), Reason.REJECTED),
    "rtsp silent": ("rtsp", silent, Reason.TIMEOUT),
    "http silent": ("http", silent, Reason.TIMEOUT),
    "tls silent": ("https", silent, Reason.TIMEOUT),
    "tls noise": ("https", noise, Reason.TLS),
    "rtsps noise": ("rtsps", noise, Reason.TLS),
    "noise in place of a transport stream": ("tcp", only_noise, Reason.BAD_DATA),
    "rtsp hangs up": ("rtsp", hang_up, Reason.BAD_DATA),
}


@pytest.mark.parametrize("name", TCP)
def test_what_a_server_does_has_its_reason(name):
    scheme, send, reason = TCP[name]
    with tcp_camera(send) as port:
        error = failing(at(port, scheme=scheme) if scheme != "tcp" else bare(port))
    assert error.reason is reason, error
    assert f"127.0.0.1:{port}: expected" in str(error) or f"127.0.0.1:{port}/" in str(error)
    assert ADVICE[reason] in str(error)
    assert "admin" not in str(error)
    assert "s3cret" not in str(error)


def bare(port: int) -> CameraConfig:
    return CameraConfig(name="door", url=f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("401", Reason.CREDENTIALS),
        ("403", Reason.CREDENTIALS),
        ("404", Reason.NOT_FOUND),
        ("nothing.mp4", Reason.NOT_FOUND),
        ("429", Reason.REJECTED),
        ("500", Reason.REJECTED),
        ("page.html", Reason.BAD_DATA),
    ],
)
def test_http_answers_have_their_reason(folder, path, reason):
    with http_camera(folder) as port:
        assert failing(at(port, path, "http")).reason is reason


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_closed_port_refuses(scheme):
    port = closed_port()
    assert failing(bare(port) if scheme == "tcp" else at(port)).reason is Reason.REFUSED


def test_a_name_that_dns_does_not_know_is_unreachable():
    camera = CameraConfig(name="door", url="rtsp://camera.invalid/a")
    error = failing(camera)
    assert error.reason is Reason.UNREACHABLE
    assert "check the host name" in str(error)


def test_a_usb_camera_that_is_not_there_is_not_found():
    error = failing(CameraConfig(name="desk", device=63))
    assert error.reason is Reason.NOT_FOUND
    assert "/dev/video63" in str(error)


def test_files_have_their_reason(tmp_path):
    missing = CameraConfig(name="file", path=tmp_path / "none.mp4")
    assert failing(missing).reason is Reason.NOT_FOUND
    (tmp_path / "text.mp4").write_text("no video")
    error = failing(CameraConfig(name="file", path=tmp_path / "text.mp4"))
    assert error.reason is Reason.BAD_DATA
    assert str(error).count("text.mp4") == 1
    assert "camera" not in str(error)


def test_a_stream_of_a_codec_without_decoder_has_its_reason(tmp_path):
    data = encode(tmp_path / "a.mp4", 2).read_bytes().replace(b"avc1", b"zzz1")
    (tmp_path / "b.mp4").write_bytes(data)
    with http_camera(tmp_path) as port:
        assert failing(at(port, "b.mp4", "http")).reason is Reason.CODEC


def test_a_stream_that_ends_is_lost(tmp_path):
    clip = encode(tmp_path / "a.ts", 1, format_name="mpegts").read_bytes()

    def send(connection: socket.socket) -> None:
        connection.sendall(clip)

    with tcp_camera(send) as port:
        assert failing(bare(port), read=True).reason is Reason.ENDED


def test_an_address_cannot_make_it_read_files_of_this_machine(tmp_path):
    clip = encode(tmp_path / "secret.mp4", 1)
    served = tmp_path / "served"
    served.mkdir()
    (served / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    )
    with http_camera(served) as port:
        error = failing(at(port, "list.m3u8", "http"))
    assert error.reason in {Reason.BAD_DATA, Reason.OTHER}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://host/a", "rtsp://host/a"),
        ("rtsp://user:pass@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://user:p@ss/w@host/a", "rtsp://***@host/a"),
        ("rtsp://user@host/a", "rtsp://***@host/a"),
        (
            "http://h/v?user=a&pwd=b&Password=c&channel=1",
            "http://h/v?user=***&pwd=***&Password=***&channel=1",
        ),
        ("http://h/v?token=abc#x", "http://h/v?token=***#x"),
        ("cannot open 'rtsp://u:p@h/a'", "cannot open 'rtsp://***@h/a'"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_addresses_are_shown_without_credentials(url, shown):
    assert redacted(url) == shown


@dataclass
class Count:
    """What a source gave."""

    frames: int = 0
    lost: int = 0

    def lose(self, number: int) -> None:
        self.lost += number

    def look_at(self, captured: Iterable[CapturedFrame]) -> None:
        for item in captured:
            self.frames += item.frame.image.bgr().shape == (*item.form[1][::-1], 3)


@pytest.mark.parametrize("name", ["short.ts", "large.ts"])
def test_damaged_streams_end_in_an_error_of_ours_and_nothing_else(clips, name):
    data = np.frombuffer((clips / name).read_bytes(), np.uint8)
    choose, count = np.random.default_rng(7), Count()
    for _ in range(20):
        damaged = data.copy()
        places = choose.integers(0, len(damaged), 60)
        damaged[places] ^= choose.integers(1, 255, 60).astype(np.uint8)
        with tcp_camera(sending(damaged.tobytes())) as port:
            ring = EvidenceRing("door", EvidenceConfig())
            opening = Opening(1, threading.Event(), count.lose, ring)
            source = open_source(bare(port), QUICK, opening)
            with pytest.raises(SourceError):
                count.look_at(source.frames())
            source.close()
    assert count.frames > 20 * 40
    assert count.lost > 0
