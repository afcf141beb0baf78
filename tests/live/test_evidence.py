"""Clips of a camera's own packets: complete, playable, of the right time, within their limits."""

import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from recognizer.config.live import CameraConfig, EvidenceConfig
from recognizer.live.evidence import EvidenceClip, EvidenceError, EvidenceRing
from recognizer.storage.artifacts import SCRATCH_FOLDER
from tests.live.cameras import encode, motion_jpeg, tcp_camera
from tests.live.fault_proxy import Fault, FaultProxy
from tests.live.watching import watching

ROOT = Path(__file__).resolve().parents[2]


def feed(
    ring: EvidenceRing, path: Path, connection: int = 1, at_s: float = 0.0, seconds: float = 1e9
) -> list[int]:
    """Give a file's packets to a ring as those of one connection; return their sizes."""
    sizes = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        ring.begin(stream, connection)
        for packet in container.demux(stream):
            if packet.size and float(packet.pts * stream.time_base) < seconds:
                ring.add(packet, at_s + float(packet.pts * stream.time_base), connection)
                sizes.append(packet.size)
    return sizes


def times(path: Path) -> list[float]:
    """Return when each picture of a clip is shown; fails where the first is no key frame."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert frames[0].key_frame
    assert not any(frame.is_corrupt for frame in frames)
    return [float(frame.time) for frame in frames]


def config(**changes: float) -> EvidenceConfig:
    return EvidenceConfig(**changes)


def make(ring: EvidenceRing, folder: Path, start_s: float, end_s: float) -> EvidenceClip:
    return ring.clip(start_s, end_s, folder / "clip.mp4", folder)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of 60 s with a key frame every second."""
    return encode(tmp_path_factory.mktemp("minute") / "minute.mp4", 60)


def test_a_clip_reaches_from_the_key_frame_before_to_after_the_event(minute, tmp_path):
    ring = EvidenceRing("door", config(keep_s=30.0))
    feed(ring, minute, at_s=1000.0)
    clip = make(ring, tmp_path, 1045.5, 1047.2)
    assert (clip.start_s, clip.end_s) == pytest.approx((1040.0, 1052.24))
    assert clip.pre_roll_s == pytest.approx(5.5)
    assert not clip.is_cut
    shown = times(clip.path)
    assert shown[0] == 0
    assert shown[-1] == pytest.approx(12.2)
    assert len(shown) == 306
    assert clip.size_bytes == clip.path.stat().st_size
    with av.open(str(clip.path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_what_is_kept_is_bounded_and_an_open_event_keeps_more(minute, tmp_path):
    ring = EvidenceRing("door", config(keep_s=10.0))
    sizes = feed(ring, minute)
    kept = ring.size_bytes
    assert kept == sum(sizes[49 * 25 :])  # from the key frame at or before 59.96 - 10 s
    assert make(ring, tmp_path, 57.0, 58.0).start_s == pytest.approx(52.0)
    held = EvidenceRing("door", config(keep_s=10.0))
    held.keep_from(45.5)
    feed(held, minute)
    assert held.size_bytes > kept
    assert make(held, tmp_path, 45.5, 46.0).pre_roll_s == pytest.approx(5.5)
    held.keep_from(None)
    feed(held, minute, connection=2, at_s=60.0)
    assert held.size_bytes == kept


def test_a_long_event_does_not_keep_more_than_the_limits(minute, tmp_path):
    ring = EvidenceRing("door", config(max_s=20.0, keep_s=10.0))
    ring.keep_from(6.0)
    feed(ring, minute)
    clip = make(ring, tmp_path, 42.0, 60.0)
    assert clip.is_cut
    assert clip.pre_roll_s == pytest.approx(3.0)  # less than before_s, and the clip says so
    few = EvidenceRing("door", config(max_mib=0.05))
    few.keep_from(0.0)
    feed(few, minute)
    assert few.size_bytes <= 0.05 * 2**20


def test_a_clip_ends_at_the_limit_of_seconds_and_bytes(minute, tmp_path):
    ring = EvidenceRing("door", config(max_s=8.0, keep_s=8.0))
    feed(ring, minute, seconds=8.0)
    clip = make(ring, tmp_path, 1.0, 7.5)
    assert not clip.is_cut
    short = EvidenceRing("door", config(max_s=4.0, keep_s=4.0, before_s=1.0))
    feed(short, minute, seconds=4.9)
    cut = make(short, tmp_path, 1.0, 4.5)
    assert cut.is_cut
    assert cut.end_s - cut.start_s == pytest.approx(4.0)
    assert times(cut.path)[-1] == pytest.approx(3.96)


def test_no_clip_crosses_a_connection(minute, tmp_path):
    ring = EvidenceRing("door", config(keep_s=30.0))
    feed(ring, minute, connection=1, at_s=100.0, seconds=10.0)
    feed(ring, minute, connection=2, at_s=115.0, seconds=10.0)
    before, after = make(ring, tmp_path, 107.0, 109.0), make(ring, tmp_path, 116.0, 118.0)
    assert (before.start_s, before.end_s) == pytest.approx((102.0, 110.0))
    assert (after.start_s, after.end_s) == pytest.approx((115.0, 123.04))
    assert after.pre_roll_s == pytest.approx(1.0)
    assert times(after.path)[0] == 0


def test_packets_of_an_old_connection_are_left_out(minute):
    ring = EvidenceRing("door", config())
    feed(ring, minute, connection=2, seconds=2.0)
    kept = ring.size_bytes
    with av.open(str(minute)) as container:
        for packet in itertools.islice(container.demux(video=0), 50):
            ring.add(packet, 3.0, 1)
    assert ring.size_bytes == kept


def test_timestamps_that_jump_within_a_connection_end_a_clip(minute, tmp_path):
    ring = EvidenceRing("door", config(keep_s=30.0))
    with av.open(str(minute)) as container:
        stream = container.streams.video[0]
        ring.begin(stream, 1)
        for index, packet in enumerate(itertools.islice(container.demux(stream), 500)):
            if index >= 250:
                packet.pts = packet.dts = packet.pts + round(1000 / stream.time_base)
            ring.add(packet, index / 25, 1)
    clip = make(ring, tmp_path, 7.0, 12.0)
    assert (clip.start_s, clip.end_s) == pytest.approx((2.0, 10.0))
    assert times(clip.path)[-1] == pytest.approx(7.96)


def test_pictures_that_are_coded_out_of_order_are_complete(tmp_path):
    path = tmp_path / "b.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"g": "25", "bf": "3", "x264-params": "open-gop=0:scenecut=0"}
        for index in range(250):
            frame = av.VideoFrame(160, 96, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([(index * 7) % 200]) * plane.buffer_size)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    ring = EvidenceRing("door", config(before_s=1.0, after_s=1.0))
    feed(ring, path)
    shown = times(make(ring, tmp_path, 5.5, 6.0).path)
    steps = [b - a for a, b in itertools.pairwise(shown[:70])]
    assert steps == pytest.approx([0.04] * 69, abs=1e-3)


def test_a_time_that_is_not_kept_is_an_error(minute, tmp_path):
    ring = EvidenceRing("door", config())
    with pytest.raises(EvidenceError, match=r"door: expected video from 5\.0 to 17\.0 s, none"):
        make(ring, tmp_path, 10.0, 12.0)
    feed(ring, minute)
    with pytest.raises(EvidenceError, match="none of that time is kept"):
        make(ring, tmp_path, 10.0, 12.0)
    with pytest.raises(ValueError, match=r"end_s: expected 12\.0 or later, got 10\.0"):
        make(ring, tmp_path, 12.0, 10.0)
    assert not (tmp_path / "clip.mp4").exists()


def test_a_codec_that_mp4_cannot_hold_is_an_error(tmp_path):
    path = tmp_path / "raw.nut"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuyv422"
        for _ in range(25):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuyv422")))
    ring = EvidenceRing("door", config())
    feed(ring, path)
    with pytest.raises(EvidenceError, match=r"that mp4 can hold: .*; set it to H\.264"):
        make(ring, tmp_path, 0.1, 0.5)


FULL_DISK = textwrap.dedent(
    """
    import resource, signal, sys
    from pathlib import Path
    from recognizer.config.live import EvidenceConfig
    from recognizer.live.evidence import EvidenceRing
    from tests.live.test_evidence import feed
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    video, folder, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    ring = EvidenceRing("door", EvidenceConfig(keep_s=30.0))
    feed(ring, video)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        ring.clip(45.0, 55.0, folder / "clips" / "a.mp4", folder)
    except OSError as error:
        print("OSError", error.errno, error)
    """
)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_full_disk_is_an_error_and_leaves_no_file(minute, tmp_path, share):
    ring = EvidenceRing("door", config(keep_s=30.0))
    feed(ring, minute)
    whole = ring.clip(45.0, 55.0, tmp_path / "whole.mp4", tmp_path).size_bytes
    limit = str(int(whole * share))
    command = [sys.executable, "-c", FULL_DISK, str(minute), str(tmp_path), limit]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.startswith("OSError 27"), output
    assert "a.mp4" in output
    assert not (tmp_path / "clips" / "a.mp4").exists()
    assert list((tmp_path / SCRATCH_FOLDER).iterdir()) == []


@pytest.fixture
def door(rtsp_port: int) -> Iterator[tuple[CameraConfig, FaultProxy]]:
    with FaultProxy(rtsp_port) as proxy:
        url = f"rtsp://127.0.0.1:{proxy.port}/long.mp4"
        yield CameraConfig(name="door", url=url), proxy


def test_a_camera_gives_clips_before_and_after_a_loss(door, tmp_path):
    camera, proxy = door
    ring = EvidenceRing("door", config(before_s=1.0, after_s=1.0))
    with watching(camera, sinks={"door": ring}) as watch:
        watch.until(lambda: len(watch.frames) > 40)
        proxy.set(Fault.CLOSE)
        watch.until(lambda: len(watch.gaps) > 0)
        proxy.set(Fault.NONE)
        lost = len(watch.frames)
        watch.until(lambda: len(watch.frames) > lost + 30)
        first, second = watch.gaps_of("door")[-1].start_s, watch.frames[lost].frame.time_s
        before = ring.clip(first - 1.5, first + 0.5, tmp_path / "before.mp4", tmp_path)
        after = ring.clip(second - 0.5, second + 0.5, tmp_path / "after.mp4", tmp_path)
    assert before.end_s == pytest.approx(first, abs=0.25)
    assert before.start_s <= first - 2.5
    assert second - 0.6 < after.start_s < second + 0.1  # the first packets come in a burst
    for clip in (before, after):
        shown = times(clip.path)
        assert shown[-1] + 0.04 == pytest.approx(clip.end_s - clip.start_s, abs=0.1)


def test_motion_jpeg_is_copied_with_the_times_of_its_arrival(tmp_path):
    ring = EvidenceRing("door", config(before_s=1.0, after_s=0.5))
    with tcp_camera(motion_jpeg) as port:
        camera = CameraConfig(name="door", url=f"http://127.0.0.1:{port}/video")
        with watching(camera, sinks={"door": ring}) as watch:
            watch.until(lambda: len(watch.frames) > 25)
            end_s = watch.frames[-1].frame.time_s
            clip = ring.clip(end_s - 1.0, end_s - 0.5, tmp_path / "a.mp4", tmp_path)
    steps = [b - a for a, b in itertools.pairwise(times(clip.path))]
    assert steps == pytest.approx([0.1] * len(steps), abs=0.06)


def test_a_file_gives_clips_on_its_own_time(minute, tmp_path):
    ring = EvidenceRing("file", config(keep_s=30.0))
    camera = CameraConfig(name="file", path=minute, speed="fastest", fps=5)
    with watching(camera, sinks={"file": ring}) as watch:
        watch.until(lambda: watch.is_finished)
    clip = make(ring, tmp_path, 50.0, 52.0)
    assert (clip.start_s, clip.end_s) == pytest.approx((45.0, 57.04))
    assert len(times(clip.path)) == 301


def test_clips_are_made_while_packets_come(minute, tmp_path):
    camera = CameraConfig(name="file", path=minute, speed="fastest", fps=12.5)
    ring = EvidenceRing("file", config(keep_s=30.0))
    made = 0
    with watching(camera, sinks={"file": ring}) as watch:
        end_s = time.monotonic() + 20
        while not watch.is_finished and time.monotonic() < end_s:
            watch.during(0.05)
            if watch.frames and (now_s := watch.frames[-1].frame.time_s) > 2:
                clip = ring.clip(now_s - 1, now_s, tmp_path / f"{made}.mp4", tmp_path)
                assert len(times(clip.path)) > 20
                made += 1
    assert made > 0
