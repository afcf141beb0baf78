"""What is written plays in browsers, keeps its times, and never fails silently."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from recognizer.storage.artifacts import atomic_path
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter, describe_holes
from tests.bad_videos import burn_number, mp4_boxes, read_number

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("size_wh", [(160, 96), (161, 97), (100, 33)])
def test_browsers_can_play_it(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, size_wh, 25) as writer:
        for i in range(30):
            writer.write(burn_number(i, size_wh), i / 25)
    boxes = list(mp4_boxes(path.read_bytes()))
    assert boxes.index(b"moov") < boxes.index(b"mdat"), "the index stands in front"
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert codec.width % 2 == codec.height % 2 == 0
        assert 0 <= codec.width - size_wh[0] <= 1
        assert codec.colorspace == 1


def test_numbers_and_variable_times_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = 17.25 + np.cumsum(rng.choice([1 / 60, 1 / 30, 0.2, 1.7], 80))
    with VideoWriter(tmp_path / "a.mp4", (160, 96), 30) as writer:
        for i, time_s in enumerate(times):
            writer.write(burn_number(i), float(time_s))
    with VideoReader(tmp_path / "a.mp4") as reader:
        frames = [(read_number(f.image.bgr()), f.time_s) for f in reader]
    assert reader.account.intact
    assert [n for n, _ in frames] == list(range(80))
    np.testing.assert_allclose([t for _, t in frames], times - times[0], atol=1e-4)


def test_times_that_do_not_rise_are_kept_apart(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", (160, 96), 30) as writer:
        for i, time_s in enumerate([0.0, 0.0, 0.5, 0.2, 0.6]):
            writer.write(burn_number(i), time_s)
    with VideoReader(tmp_path / "a.mp4") as reader:
        times = [frame.time_s for frame in reader]
    np.testing.assert_allclose(times, [0, 0, 0.5, 0.5, 0.6], atol=1e-4)


@pytest.mark.parametrize(
    ("hole_s", "shown_s", "fps"),
    [
        (59, 59, 30),
        (61, 60, 30),
        (7 * 3600, 60, 30),
        (9e8, 60, 30),
        (400, 60, 0.2),
        (400, 100, 0.1),
    ],
)
def test_long_holes_are_shortened_and_described(
    tmp_path: Path, hole_s: float, shown_s: float, fps: float
) -> None:
    times = np.array([0, 1 / fps, 2 / fps, 2 / fps + hole_s, 3 / fps + hole_s])
    with VideoWriter(tmp_path / "a.mp4", (64, 48), fps) as writer:
        for time_s in times:
            writer.write(np.zeros((48, 64, 3), np.uint8), float(time_s))
    with VideoReader(tmp_path / "a.mp4") as reader:
        came = [frame.time_s for frame in reader]
    expected = [0, 1 / fps, 2 / fps, 2 / fps + shown_s, 3 / fps + shown_s]
    np.testing.assert_allclose(came, expected, atol=1e-3)
    message = describe_holes(times, 1 / fps)
    assert bool(message) == (shown_s < hole_s), message


def test_colours_come_back(tmp_path: Path) -> None:
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255), (30, 140, 220)]
    with VideoWriter(tmp_path / "a.mp4", (64, 48), 10, crf=10) as writer:
        for i, colour in enumerate(colours):
            writer.write(np.full((48, 64, 3), colour, np.uint8), i / 10)
    with VideoReader(tmp_path / "a.mp4") as reader:
        for frame, colour in zip(reader, colours, strict=True):
            assert np.abs(frame.image.bgr().astype(int) - colour).max() <= 8


@pytest.mark.parametrize(
    ("frame", "time_s"),
    [
        pytest.param(np.zeros((96, 161, 3), np.uint8), 0.0, id="size"),
        pytest.param(np.zeros((96, 160), np.uint8), 0.0, id="grey"),
        pytest.param(np.zeros((96, 160, 3), np.float32), 0.0, id="float"),
        pytest.param(np.zeros((96, 160, 3), np.uint8), float("nan"), id="time"),
    ],
)
def test_wrong_frames_are_refused(tmp_path: Path, frame: np.ndarray, time_s: float) -> None:
    with VideoWriter(tmp_path / "a.mp4", (160, 96), 30) as writer:
        writer.write(burn_number(0), 0)
        with pytest.raises(ValueError, match="expected"):
            writer.write(frame, time_s)
        writer.write(burn_number(1), 0.1)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert len(list(reader)) == 2


@pytest.mark.parametrize(("size_wh", "fps"), [((0, 5), 30), ((5, 5), 0), ((5, 99999), 30)])
def test_wrong_settings_are_refused(tmp_path: Path, size_wh: tuple[int, int], fps: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        VideoWriter(tmp_path / "a.mp4", size_wh, fps)


def test_an_error_in_the_block_is_not_hidden(tmp_path: Path) -> None:
    def failing() -> None:
        with VideoWriter(tmp_path / "a.mp4", (160, 96), 30):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()


@pytest.mark.parametrize("where", ["missing/a.mp4", "file/a.mp4"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"a\.mp4") as caught:
        VideoWriter(tmp_path / where, (160, 96), 30)
    assert "disk" not in str(caught.value), "no guess"


# Tried in a process of its own, as the limit cannot be taken back.
FILL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from recognizer.storage.artifacts import atomic_path
from recognizer.video.writer import VideoWriter
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rng = np.random.default_rng(0)
try:
    with atomic_path(folder / "out.mp4", folder) as scratch:
        with VideoWriter(scratch, (320, 240), 30) as writer:
            for i in range(int(sys.argv[3])):
                writer.write(rng.integers(0, 255, (240, 320, 3), np.uint8), i / 30)
except OSError as error:
    print("OSError", error)
else:
    print("written", (folder / "out.mp4").stat().st_size)
"""


def fill(folder: Path, limit: int, frames: int = 40) -> str:
    run = subprocess.run(
        [sys.executable, "-c", FILL, str(folder), str(limit), str(frames)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


def test_a_full_disk_is_an_error_at_every_size(tmp_path: Path) -> None:
    size = int(fill(tmp_path, 0).split()[1])
    (tmp_path / "out.mp4").unlink()
    # The last ones fail only when the index is written and moved to the front.
    for limit in (1, 1000, size // 2, size - 3000, size - 1):
        message = fill(tmp_path, limit)
        if message.startswith("written"):  # beside other work files differ by some ten bytes
            assert size - 300 < int(message.split()[1]) <= limit, (limit, size, message)
            (tmp_path / "out.mp4").unlink()
            continue
        assert message.startswith("OSError"), (limit, size, message)
        assert ".mp4" in message
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [], limit
    assert fill(tmp_path, size + 300).startswith("written")


def test_a_small_file_system_that_fills_up(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        message = fill(folder, 0, 100)
        left = [p for p in folder.rglob("*") if p.is_file()]
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert message.startswith("OSError")
    assert left == []


def test_it_goes_through_the_atomic_path(tmp_path: Path) -> None:
    with (
        atomic_path(tmp_path / "deep" / "b.mp4", tmp_path) as scratch,
        VideoWriter(scratch, (160, 96), 30) as writer,
    ):
        writer.write(burn_number(5), 0)
    with VideoReader(tmp_path / "deep" / "b.mp4") as reader:
        assert [read_number(frame.image.bgr()) for frame in reader] == [5]
