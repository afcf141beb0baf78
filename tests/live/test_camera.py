"""Cameras that are read, lost and opened again; files in their place."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from av.video.stream import VideoStream

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.errors import Reason
from recognizer.live.fleet import CameraFleet
from recognizer.live.sources import Packet
from recognizer.live.values import CameraState, DropCause, Gap
from recognizer.video.reader import VideoReader
from tests.live.cameras import http_camera, motion_jpeg, tcp_camera, transport_stream
from tests.live.fault_proxy import Fault, FaultProxy
from tests.live.watching import watching

FAULTS = [fault for fault in Fault if fault is not Fault.NONE]


def rtsp(name: str, port: int, fps: float = 12.5) -> CameraConfig:
    return CameraConfig(name=name, url=f"rtsp://u:secret@127.0.0.1:{port}/long.mp4", fps=fps)


def test_an_rtsp_camera_is_read_at_the_rate_asked_for(rtsp_port):
    with watching(rtsp("door", rtsp_port)) as watch:
        watch.until(lambda: len(watch.frames) >= 40)
        status = watch.status("door")
    times = np.array([item.frame.time_s for item in watch.frames])
    captured = np.array([item.captured_s for item in watch.frames])
    assert np.median(np.diff(times)) == pytest.approx(0.08, abs=0.005)
    assert (times <= captured + 1e-6).all()
    assert (captured - times).max() < 1
    assert [item.frame.index for item in watch.frames] == sorted(
        {item.frame.index for item in watch.frames}
    )
    assert watch.frames[0].frame.image.bgr().shape == (96, 160, 3)
    assert status.state is CameraState.STREAMING
    assert status.address == f"rtsp://***@127.0.0.1:{rtsp_port}/long.mp4"
    assert (status.codec, status.size_wh) == ("h264", (160, 96))
    assert status.fps == pytest.approx(12.5, abs=3)
    assert status.drops[DropCause.RATE] == pytest.approx(status.frames, abs=10)
    assert status.last_frame_age_s < 1
    assert (status.connection, status.last_error, watch.gaps) == (1, None, [])


def test_every_fault_is_noticed_reported_and_mended_and_costs_others_nothing(rtsp_port):
    names = [fault.value for fault in FAULTS]
    with ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(rtsp_port)) for _ in FAULTS]
        cameras = [rtsp(name, p.port) for name, p in zip(names, proxies, strict=True)]
        watch = stack.enter_context(watching(*cameras, rtsp("good", rtsp_port)))
        watch.until(lambda: all(len(watch.of(name)) > 30 for name in [*names, "good"]))
        start_s, good = time.monotonic(), len(watch.of("good"))
        for fault, proxy in zip(FAULTS, proxies, strict=True):
            proxy.set(fault)
        watch.until(lambda: all(watch.gaps_of(name) for name in names), timeout_s=5)
        watch.during(1.0)
        during_s, kept = time.monotonic() - start_s, len(watch.of("good")) - good
        for proxy in proxies:
            proxy.set(Fault.NONE)
        watch.until(lambda: all(watch.gaps_of(n)[-1].end_s is not None for n in names))
        watch.during(0.5)
        assert {status.state for status in watch.fleet.status()} == {CameraState.STREAMING}
    for name in names:
        gaps = watch.gaps_of(name)
        assert gaps[0].end_s is None
        assert gaps[1].start_s == gaps[0].start_s
        times = np.array([frame.frame.time_s for frame in watch.of(name)])
        assert np.diff(times).max() > 1
        assert watch.unreported(name) == []
    assert watch.gaps_of("good") == []
    assert kept >= 0.95 * 12.5 * during_s - 1


def test_a_camera_that_is_absent_at_the_start_stays_listed_and_is_found(rtsp_port):
    with FaultProxy(rtsp_port) as proxy:
        proxy.set(Fault.REFUSE)
        with watching(rtsp("late", proxy.port)) as watch:
            watch.until(lambda: watch.status("late").reconnects.get(Reason.REFUSED, 0) >= 2)
            assert watch.status("late").state in {CameraState.WAITING, CameraState.CONNECTING}
            assert "check the port" in watch.status("late").last_error.text
            assert "secret" not in repr(watch.fleet.status())
            proxy.set(Fault.NONE)
            watch.until(lambda: len(watch.frames) > 5)
    first, second = watch.gaps_of("late")
    assert (first.end_s, first.reason) == (None, Reason.REFUSED)
    assert second.end_s == pytest.approx(watch.frames[0].frame.time_s, abs=0.09)


def send_null_packets(clip: Path) -> Callable[[socket.socket], None]:
    """Play a transport stream, then only packets that carry nothing, as some encoders do."""
    play = transport_stream(clip)
    nothing = (b"\x47\x1f\xff\x10" + bytes(184)) * 10

    def send(connection: socket.socket) -> None:
        play(connection)
        while True:
            connection.sendall(nothing)
            time.sleep(0.05)

    return send


def test_a_reader_without_frames_is_given_up_and_another_takes_over(clips):
    source = SourceConfig(read_timeout_s=60, stall_s=1.0, stall_periods=1)
    with tcp_camera(send_null_packets(clips / "short.ts")) as port:
        camera = CameraConfig(name="door", url=f"tcp://127.0.0.1:{port}")
        with watching(camera, source=source) as watch:
            watch.until(lambda: {item.connection for item in watch.frames} >= {1, 2})
            status = watch.status("door")
            assert status.reconnects == {Reason.STALLED: 1}
            assert "no frame for 1.0 s" in status.last_error.text
            assert status.abandoned == 1  # it still waits for packets of its stream
            connections = [item.connection for item in watch.frames]
    assert connections == sorted(connections)
    assert Reason.STALLED in {gap.reason for gap in watch.gaps_of("door")}


class BrokenSink:
    """A sink with an error of its own."""

    def begin(self, stream: VideoStream, connection: int) -> None:
        self.connection = connection

    def add(self, packet: Packet, time_s: float, connection: int) -> None:
        if connection == 1 and packet.is_keyframe:
            raise LookupError("no place for a packet")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_dies_of_an_error_of_ours_is_replaced(rtsp_port):
    sink = BrokenSink()
    with watching(rtsp("door", rtsp_port), sinks={"door": sink}) as watch:
        watch.until(lambda: len(watch.frames) > 5)
        assert watch.status("door").reconnects == {Reason.OTHER: 1}
    assert {item.connection for item in watch.frames} == {2}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_file_whose_reader_dies_ends_as_failed(clips):
    camera = CameraConfig(name="file", path=clips / "short.mp4", speed="fastest")
    with watching(camera, sinks={"file": BrokenSink()}) as watch:
        watch.until(lambda: watch.is_finished)
        assert watch.status("file").state is CameraState.FAILED
    assert [gap.reason for gap in watch.gaps_of("file")] == [Reason.OTHER]


def test_another_resolution_is_reported_as_a_gap(clips, tmp_path):
    def send(connection: socket.socket) -> None:
        for name in ("short.ts", "large.ts"):
            transport_stream(clips / name)(connection)

    with tcp_camera(send) as port:
        camera = CameraConfig(name="door", url=f"tcp://127.0.0.1:{port}")
        with watching(camera) as watch:
            watch.until(lambda: any(f.frame.image.size_wh == (320, 192) for f in watch.frames))
    (gap,) = watch.gaps_of("door")
    assert gap.reason is Reason.CHANGED
    first = next(f for f in watch.frames if f.frame.image.size_wh == (320, 192))
    assert gap.start_s == gap.end_s == pytest.approx(first.frame.time_s, abs=0.09)
    assert first.frame.image.bgr().shape == (192, 320, 3)


def test_motion_jpeg_over_http_has_the_times_of_its_arrival():
    with tcp_camera(motion_jpeg) as port:
        camera = CameraConfig(name="door", url=f"http://127.0.0.1:{port}/video", fps=15)
        with watching(camera) as watch:
            watch.until(lambda: len(watch.frames) >= 20)
    times = np.diff([item.frame.time_s for item in watch.frames])
    assert np.median(times) == pytest.approx(0.1, abs=0.03)


def test_a_video_served_by_http_is_played_at_its_own_speed_and_opened_again(clips):
    with http_camera(clips) as port:
        camera = CameraConfig(name="door", url=f"http://127.0.0.1:{port}/short.mp4")
        start_s = time.monotonic()
        with watching(camera) as watch:
            watch.until(lambda: {item.connection for item in watch.frames} >= {1, 2})
            assert time.monotonic() - start_s >= 2.5
            assert watch.status("door").reconnects == {Reason.ENDED: 1}
            assert watch.status("door").drops[DropCause.QUEUE_FULL] <= 2


def offline(path: Path, fps: float) -> list[tuple[int, float, float]]:
    with VideoReader(path, sample_fps=fps) as reader:
        return [
            (n, frame.time_s, float(frame.image.bgr().mean())) for n, frame in enumerate(reader)
        ]


@pytest.mark.parametrize(("speed", "least_s"), [("real", 2.8), ("fastest", 0.0)])
def test_a_file_gives_the_frames_of_offline_analysis_and_drops_none(clips, speed, least_s):
    path = clips / "short.mp4"
    start_s = time.monotonic()
    with watching(CameraConfig(name="file", path=path, speed=speed, fps=12.5)) as watch:
        if speed == "fastest":
            time.sleep(1.0)  # a slow consumer: the reader waits for it
        watch.until(lambda: watch.is_finished)
        status = watch.status("file")
    came = [
        (item.frame.index, item.frame.time_s, float(item.frame.image.bgr().mean()))
        for item in watch.frames
    ]
    assert came == offline(path, 12.5)
    assert time.monotonic() - start_s >= least_s
    assert status.state is CameraState.ENDED
    assert {cause: n for cause, n in status.drops.items() if n} == {DropCause.RATE: 37}
    last_s = came[-1][1]
    assert watch.gaps_of("file") == [Gap("file", last_s, last_s, Reason.ENDED)]


def test_a_file_that_cannot_be_read_ends_with_its_reason(tmp_path):
    with watching(CameraConfig(name="file", path=tmp_path / "none.mp4")) as watch:
        watch.until(lambda: watch.is_finished)
        status = watch.status("file")
    assert status.state is CameraState.FAILED
    assert status.reconnects == {Reason.NOT_FOUND: 1}
    assert [gap.reason for gap in watch.gaps_of("file")] == [Reason.NOT_FOUND]


def test_a_camera_that_is_not_enabled_is_listed_as_off(clips):
    off = CameraConfig(name="off", url="rtsp://127.0.0.1/a", enabled=False)
    file = CameraConfig(name="file", path=clips / "short.mp4", speed="fastest")
    with watching(off, file) as watch:
        watch.until(lambda: watch.is_finished)
        assert watch.status("off").state is CameraState.OFF
        assert watch.status("off").connection == 0


def test_a_fleet_stops_while_a_camera_stalls(rtsp_port):
    with FaultProxy(rtsp_port) as proxy:
        with watching(rtsp("door", proxy.port)) as watch:
            watch.until(lambda: len(watch.frames) > 5)
            proxy.set(Fault.STALL)
            time.sleep(0.3)
        assert watch.fleet.cameras[0].join(6)  # its reader ends by the read timeout
        assert watch.status("door").state is CameraState.OFF


def test_two_cameras_of_one_name_are_refused():
    camera = CameraConfig(name="door", url="rtsp://127.0.0.1/a")
    with pytest.raises(ValueError, match="expected names that differ, got 'door' twice"):
        CameraFleet([camera, camera], SourceConfig())
