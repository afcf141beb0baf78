"""Healthy files of every kind are read without a word of damage; cut ones are told."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recognizer.video.reader import VideoReader
from tests.bad_videos import FPS, Recipe, burn_number, encode, read_number

FRAMES = 24
_X265 = Recipe("libx265", options=(("preset", "ultrafast"), ("x265-params", "log-level=error")))
_MJPEG = Recipe("mjpeg", pix_fmt="yuvj420p", bframes=0)
_MPEG1, _MPEG2 = Recipe("mpeg1video"), Recipe("mpeg2video")
_WMV2, _PLAIN_H264 = Recipe("wmv2", bframes=0), Recipe(bframes=0)
_VP8 = Recipe("libvpx", bframes=0, options=(("deadline", "realtime"), ("cpu-used", "8")))

# Name, how it is made, and whether its times are computed from its rate.
KINDS: list[tuple[str, Recipe, bool]] = [
    ("wmv2.wmv", _WMV2, False),
    ("wmv2.asf", _WMV2, False),
    ("mjpeg.asf", _MJPEG, False),
    ("h264_b.asf", Recipe(), False),
    ("h264_b.mxf", Recipe(), False),
    ("mpeg2_b.mxf", _MPEG2, False),
    ("mpeg1_b.m1v", _MPEG1, True),
    ("mpeg2_b.m2v", _MPEG2, True),
    ("mpeg1_b.mpg", _MPEG1, False),
    ("mpeg2_b.vob", _MPEG2, False),
    ("mpeg4_b.m4v", Recipe("mpeg4"), False),
    ("h264.h264", _PLAIN_H264, True),
    ("h264_b.264", Recipe(), True),
    ("hevc_b.hevc", _X265, True),
    ("hevc_b.265", _X265, True),
    ("mjpeg.mjpeg", _MJPEG, True),
    ("mjpeg.mjpg", _MJPEG, True),
    ("vp8.ivf", _VP8, False),
    ("vp8.ogv", _VP8, False),
    ("mpeg4_b.avi", Recipe("mpeg4"), False),
    ("h264_b.3gp", Recipe(), False),
    ("h264_b.m2ts", Recipe(), False),
]


def read(path: Path) -> tuple[list[int], list[float], VideoReader]:
    numbers, times = [], []
    with VideoReader(path) as reader:
        for frame in reader:
            numbers.append(read_number(frame.image.bgr()))
            times.append(frame.time_s)
    return numbers, times, reader


@pytest.mark.parametrize(("name", "recipe", "computed"), KINDS, ids=[kind[0] for kind in KINDS])
def test_a_healthy_file_is_intact_and_has_its_times(
    tmp_path: Path, name: str, recipe: Recipe, computed: bool
) -> None:
    numbers, times, reader = read(encode(tmp_path / name, recipe, range(FRAMES)))
    assert numbers == list(range(FRAMES))
    rate = 25 if name.startswith("mjpeg.mj") else FPS  # such a stream does not know its rate
    np.testing.assert_allclose(times, np.arange(FRAMES) / rate, atol=0.3 / FPS)
    assert reader.account.intact, reader.account
    notes = [note for note in reader.account.facts if f"computed from {rate} frames" in note]
    assert len(notes) == computed, reader.account.facts


def add_wma(path: Path, seconds: int, frames: int) -> Path:
    """Make an ASF with ``frames`` pictures and ``seconds`` of sound."""
    with av.open(str(path), "w", format="asf") as container:
        video = container.add_stream("wmv2", rate=FPS)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        sound = container.add_stream("wmav2", rate=16_000, layout="mono")
        sound.bit_rate = 32_000
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(burn_number(index), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        silence = np.zeros((1, 16_000 * seconds), np.float32)
        audio = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        audio.sample_rate = 16_000
        container.mux(sound.encode(audio))
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize("frames", [1, 5, 24, 60])
def test_an_asf_whose_sound_is_longer_or_shorter_is_intact(tmp_path: Path, frames: int) -> None:
    numbers, _, reader = read(add_wma(tmp_path / "sound.wmv", 1, frames))
    assert numbers == list(range(frames))
    assert reader.account.intact, reader.account


def slow_in_the_middle(index: int) -> Fraction:
    """Seconds of frame ``index``: 30 fps, but every fourth only from frame 20 to 30."""
    return Fraction(index + 3 * min(max(index - 20, 0), 10), FPS)


@pytest.mark.parametrize("name", ["h264_b.mkv", "h264_b.ts", "wmv2.wmv", "h264.flv"])
def test_a_rate_that_changes_is_a_fact_and_single_gaps_are_damage(
    tmp_path: Path, name: str
) -> None:
    recipe = {"wmv2.wmv": _WMV2, "h264.flv": _PLAIN_H264}.get(name, Recipe())
    clock = Fraction(1, 1000 if name == "wmv2.wmv" else 90_000)
    path = encode(tmp_path / name, recipe, range(80), slow_in_the_middle, clock)
    account = read(path)[2].account
    assert account.intact, account
    assert any("variable frame rate: 30 frames" in note for note in account.facts)
    lossy = encode(tmp_path / f"lossy_{name}", recipe, [*range(20), *range(24, 60)])
    assert any("about 4 frames are missing" in note for note in read(lossy)[2].account.notes)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [(n, r) for n, r, _ in KINDS if n.split(".")[1] in {"wmv", "asf", "mjpeg", "mjpg"}],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("percent", [30, 50, 90, 99])
def test_a_cut_file_is_reported(tmp_path: Path, name: str, recipe: Recipe, percent: int) -> None:
    path = encode(tmp_path / name, recipe, range(FRAMES))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * percent // 100])
    assert not read(path)[2].account.intact
