"""Frames come with the right number, time and account; what cannot be read says why."""

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recognizer.types import Frame, FrameAccount
from recognizer.video.prefetch import prefetch
from recognizer.video.reader import VideoError, VideoReader
from tests.bad_videos import (
    FPS,
    FRAMES,
    PLAIN,
    Recipe,
    drop_packets,
    encode,
    make_edit_lists,
    make_variable,
    make_wrapping,
    read_number,
    variable_time,
)

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT.parent / "shared" / "assets"


def read(path: Path, **options: object) -> tuple[list[int], list[float], VideoReader]:
    numbers, times = [], []
    with VideoReader(path, **options) as reader:  # type: ignore[arg-type]
        for frame in reader:
            numbers.append(read_number(frame.image.bgr()))
            times.append(frame.time_s)
    return numbers, times, reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("h264.mp4", "h264.ts"):
        encode(folder / name, PLAIN[name])
    return folder


# --- R16: time truth -----------------------------------------------------------------

Truth = Callable[[int], Fraction]


def steady(index: int) -> Fraction:
    return Fraction(index, FPS)


def ntsc(index: int) -> Fraction:
    return Fraction(index * 1001, 30_000)


def _timed_files(folder: Path) -> list[tuple[Path, Truth, float]]:
    """Return files, the time of the frame with a given number, and the period in seconds."""
    plain = [(encode(folder / name, PLAIN[name]), steady, 1 / 30) for name in PLAIN]
    variable = [(path, variable_time, 1 / 30) for path in make_variable(folder)]
    clock = Fraction(1, 30_000)
    rates = [
        (encode(folder / f"ntsc{suffix}", time_of=ntsc, time_base=clock), ntsc, 1.001 / 30)
        for suffix in (".mp4", ".mkv", ".ts")
    ]
    first, last = make_edit_lists(folder, folder / "h264.mp4")
    # Undecodable pictures at the start do not move the others.
    lost = drop_packets(folder / "h264.ts", folder / "lost.ts", 7)
    with av.open(str(lost)) as container:
        skipped = Fraction(container.streams.video[0].start_time, 90_000) - Fraction(1, 15)
    options = (("avoid_negative_ts", "disabled"),)
    recipe = Recipe("wmv2", bframes=0, container_options=options)
    negative = encode(folder / "negative.asf", recipe, time_of=lambda i: steady(i) - 1)
    return [
        *plain,
        *variable,
        *rates,
        (first, lambda n: steady(n - 40), 1 / 30),
        (last, steady, 1 / 30),
        (make_wrapping(folder), steady, 1 / 30),
        (negative, steady, 1 / 30),
        (lost, lambda n: steady(n) - skipped, 1 / 30),
    ]


def test_the_time_of_every_frame_is_right_to_a_third_of_a_frame(tmp_path: Path) -> None:
    worst = {}
    for path, truth, period_s in _timed_files(tmp_path):
        numbers, times, _ = read(path)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), path.name
        errors = [abs(t - float(truth(n))) for n, t in zip(numbers, times, strict=True)]
        worst[path.name] = round(max(errors) / period_s, 2)
    assert len(worst) >= 25
    assert max(worst.values()) <= 1 / 3, worst


def test_avi_times_do_not_depend_on_decoder_threads(tmp_path: Path) -> None:
    for name in ("h264.avi", "mpeg4.avi"):
        path = encode(tmp_path / name, PLAIN[name])
        assert read(path, threads=3)[:2] == read(path)[:2]


def test_a_clock_that_restarts_goes_on(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.ts"
    path.write_bytes((folder / "h264.ts").read_bytes() * 2)
    numbers, times, reader = read(path)
    assert numbers == [*range(FRAMES), *range(FRAMES)]
    np.testing.assert_allclose(times, np.arange(2 * FRAMES) / FPS, atol=0.5 / FPS)
    assert any("went back" in note for note in reader.account.notes)


def test_a_bare_stream_has_the_times_of_its_rate(tmp_path: Path) -> None:
    numbers, times, reader = read(encode(tmp_path / "bare.h264"))
    assert numbers == list(range(FRAMES))
    np.testing.assert_allclose(times, np.arange(FRAMES) / FPS, atol=1e-3)
    assert reader.account.intact
    assert reader.account.facts == (
        "times are computed from 30 frames per second: the stream holds none",
        "a bare stream has no length: a cut at its end may go unnoticed",
    )


# --- what comes ------------------------------------------------------------------------


def test_index_info_and_account_of_a_whole_file(folder: Path) -> None:
    with VideoReader(folder / "h264.mp4") as reader:
        frames = list(reader)
        assert next(reader, None) is None, "a video is read once"
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert reader.account == FrameAccount(container_frames=FRAMES, decoded=FRAMES)
    assert reader.account.intact
    info = reader.info
    assert (info.codec, info.pix_fmt, info.coded_size_wh) == ("h264", "yuv420p", (160, 96))
    assert (info.rotation_deg, info.fps, info.duration_s) == (0, 30, 5)
    assert "mp4" in info.container


def test_frames_outlive_the_reader(folder: Path) -> None:
    with VideoReader(folder / "h264.mp4") as reader:
        kept = [frame for frame in reader if frame.index % 50 == 0]
    assert [read_number(frame.image.bgr()) for frame in kept] == [0, 50, 100]


@pytest.mark.parametrize(("rate", "step"), [(10, 3), (15, 2), (30, 1), (90, 1), (1, 30)])
def test_sample_fps_keeps_index_and_time(folder: Path, rate: float, step: int) -> None:
    with VideoReader(folder / "h264.mp4", sample_fps=rate) as reader:
        frames = list(reader)
    assert [frame.index for frame in frames] == list(range(0, FRAMES, step))
    assert all(read_number(frame.image.bgr()) == frame.index for frame in frames)
    np.testing.assert_allclose([f.time_s for f in frames], [f.index / FPS for f in frames])
    account = reader.account
    assert account.decoded == len(frames)
    assert account.skipped == ({"sample_fps": FRAMES - len(frames)} if step > 1 else {})
    assert account.container_frames == FRAMES
    assert account.intact


def test_frames_left_out_are_never_converted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    from recognizer.video.image import Converter

    original = Converter.bgr
    monkeypatch.setattr(Converter, "bgr", lambda *args: converted.append(1) or original(*args))
    with VideoReader(folder / "h264.mp4", sample_fps=2) as reader:
        opened = len(converted)
        assert opened == 1, "one tiny picture, to refuse a strange pixel format at once"
        assert sum(frame.image.bgr() is not None for frame in reader) == 10
    assert len(converted) == opened + 10


def test_frames_of_another_size_are_left_out_by_name(folder: Path, tmp_path: Path) -> None:
    larger = encode(
        tmp_path / "b.ts", Recipe(size_wh=(192, 112)), range(60), lambda i: steady(i + FRAMES)
    )
    path = tmp_path / "both.ts"
    path.write_bytes((folder / "h264.ts").read_bytes() + larger.read_bytes())
    numbers, _, reader = read(path)
    assert numbers == list(range(FRAMES))
    assert reader.account.skipped == {"size 192x112": 60}
    assert not reader.account.intact


def test_prefetching_a_video_gives_the_same_frames(folder: Path) -> None:
    def numbers_of(frames: object) -> list[tuple[int, int]]:
        return [(f.index, read_number(f.image.bgr((160, 96)))) for f in frames]  # type: ignore

    with VideoReader(folder / "h264.mp4") as reader:
        ahead = numbers_of(prefetch(reader, 4))
    with VideoReader(folder / "h264.mp4") as reader:
        assert numbers_of(reader) == ahead
    with VideoReader(folder / "h264.mp4") as reader:
        some = prefetch(reader, 4)
        assert isinstance(next(some), Frame)
        some.close()


# --- what cannot be read -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, "found nothing"),
        ("empty.mp4", b"", "0 bytes"),
        ("text.mp4", b"hello\n" * 100, "convert it"),
        ("index.mp4", b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\x10\0mdat" + bytes(4088), "moov"),
    ],
)
def test_refusals_say_why(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        VideoReader(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "dead link"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)  # opening it would wait for ever
        case "device":
            path.symlink_to("/dev/zero")
        case "dead link":
            path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(VideoError, match="expected a video file"):
        VideoReader(path)


def test_a_file_that_may_not_be_read_says_so(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes((folder / "h264.mp4").read_bytes())
    path.chmod(0)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from recognizer.video.reader import VideoError, VideoReader\n"
        "os.geteuid() or os.setuid(65534)\n"
        "try: VideoReader(Path(sys.argv[1]))\n"
        "except VideoError as error: print(error)\n"
    )
    for parent in [*tmp_path.parents][:3]:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=ROOT
    )
    assert "ermission denied" in run.stdout, run


@pytest.mark.parametrize(
    "name",
    [
        "-i.mp4",
        "a:b.mp4",
        "concat:x.mp4",
        "%03d.mp4",
        "sp ace\n.mp4",
        "ü😀.mp4",
        "x" * 251 + ".mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
        "subfile,,start,0.mp4",
        "a?b#c.mp4",
    ],
)
def test_strange_names_are_only_names(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((folder / "h264.mp4").read_bytes())
    with VideoReader(tmp_path / name) as reader:
        assert sum(1 for _ in reader) == FRAMES


def test_relative_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with VideoReader(Path("h264.mp4")) as reader:
        assert sum(1 for _ in reader) == FRAMES


def test_play_lists_open_no_other_file(folder: Path) -> None:
    path = folder / "list.mp4"
    for text in ("ffconcat version 1.0\nfile h264.mp4\n", "#EXTM3U\n#EXTINF:5,\nh264.ts\n"):
        path.write_text(text)
        with pytest.raises(VideoError):
            VideoReader(path)


@pytest.mark.parametrize(
    "options", [{"sample_fps": 0}, {"sample_fps": float("nan")}, {"threads": 0}], ids=str
)
def test_options_are_checked(folder: Path, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        VideoReader(folder / "h264.mp4", **options)  # type: ignore[arg-type]


# --- limits --------------------------------------------------------------------------------


def _memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _repeat(source: Path, target: Path, times: int) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        length = round(Fraction(FRAMES, FPS) / packets[0].time_base)
        for repeat in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + repeat * length, packet.dts + repeat * length
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.stream = stream
                new.mux(copy)
    return target


@pytest.mark.parametrize("name", ["long.mkv", "long.mp4"])
def test_a_long_video_needs_no_more_memory(folder: Path, tmp_path: Path, name: str) -> None:
    path = _repeat(folder / "h264.mp4", tmp_path / name, 60)
    seen = []
    with VideoReader(path) as reader:
        for frame in reader:
            frame.image.bgr((80, 48))
            if frame.index % 3000 == 1500:
                seen.append(_memory_mb())
    assert reader.account.decoded == 60 * FRAMES
    assert reader.account.intact, reader.account
    assert frame.time_s == pytest.approx(300 - 1 / FPS, abs=0.01)
    assert seen[-1] - seen[0] < 2, seen


def test_files_are_closed(folder: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    text = folder / "text.mp4"
    text.write_text("no video")
    for _ in range(20):
        with VideoReader(folder / "h264.mp4") as reader:
            next(reader)
        with pytest.raises(VideoError):
            VideoReader(text)
    assert open_files() == before


def test_real_footage_is_intact() -> None:
    videos = sorted((ASSETS / "videos").glob("*.*")) + sorted((ASSETS / "falls").rglob("*.mp4"))[:3]
    if not videos:
        pytest.skip(f"no footage at {ASSETS}")
    for path in videos:
        with VideoReader(path) as reader:
            count = sum(1 for _ in reader)
        assert count == reader.account.container_frames, path
        assert reader.account.intact, (path, reader.account)
