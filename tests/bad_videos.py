"""Small videos of every kind a folder of CCTV clips may hold, whole, odd and damaged.

``make_corpus`` fills a folder; ``burn_number`` and ``read_number`` put a frame number into
the pixels and read it back after lossy coding, so that a test knows which frame it got.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from recognizer.types import ImageArray
from tests.video.streams import add_video

SIZE_WH = (160, 96)
FRAMES = 150
FPS = 30
_BITS = 12
_CELL = 16


@dataclass(frozen=True, slots=True)
class BadVideo:
    """A file of the corpus.

    Attributes:
        path: where it lies.
        kind: ``whole`` (all frames come), ``damaged`` (fewer may come, but never silently) or
            ``refused`` (no video at all).
        frames: what a whole file gives, and a damaged one gave before.

    """

    path: Path
    kind: str
    frames: int


def burn_number(index: int, size_wh: tuple[int, int] = SIZE_WH) -> ImageArray:
    """Return a BGR picture with a moving pattern and ``index`` in black and white cells."""
    width, height = size_wh
    y, x = np.mgrid[0:height, 0:width]
    grey = 128 + 60 * np.sin((x + 3 * index) / 9) * np.cos((y - 2 * index) / 7)
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[..., 1] = np.roll(grey, 11, axis=1)
    for bit in range(_BITS):
        top, left = _CELL * (bit // 6), _CELL * (bit % 6)
        picture[top : top + _CELL, left : left + _CELL] = 235 if index >> bit & 1 else 20
    return picture.clip(0, 255).astype(np.uint8)


def read_number(bgr: ImageArray) -> int:
    """Return the number that ``burn_number`` put into a picture."""
    number = 0
    for bit in range(_BITS):
        top, left = _CELL * (bit // 6), _CELL * (bit % 6)
        cell = bgr[top + 4 : top + _CELL - 4, left + 4 : left + _CELL - 4]
        number |= int(cell.mean() > 128) << bit
    return number


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a whole video is encoded."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    bframes: int = 2
    gop: int = 30
    options: tuple[tuple[str, str], ...] = ()
    container_options: tuple[tuple[str, str], ...] = ()
    rotation_ccw: int = 0
    size_wh: tuple[int, int] = SIZE_WH


X264 = (("preset", "ultrafast"), ("crf", "26"))


def encode(
    path: Path,
    recipe: Recipe = Recipe(),
    frames: Iterable[int] = range(FRAMES),
    time_of: Callable[[int], Fraction] = lambda i: Fraction(i, FPS),
    time_base: Fraction = Fraction(1, FPS),
) -> Path:
    """Write numbered frames; ``time_of`` gives the seconds at which frame k is shown."""
    with av.open(str(path), "w", options=dict(recipe.container_options)) as container:
        stream = add_video(container, recipe.codec, FPS)
        stream.width, stream.height = recipe.size_wh
        stream.pix_fmt = recipe.pix_fmt
        stream.gop_size = recipe.gop
        stream.max_b_frames = recipe.bframes
        stream.options = {
            **dict(X264 if recipe.codec == "libx264" else ()),
            **dict(recipe.options),
        }
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if recipe.rotation_ccw:
            stream.set_display_rotation(recipe.rotation_ccw)
        for index in frames:
            frame = av.VideoFrame.from_ndarray(burn_number(index, recipe.size_wh), format="bgr24")
            frame.pts = round(time_of(index) / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# --- damage ------------------------------------------------------------------------


def flip_bits(data: bytes, count: int, rng: np.random.Generator, start: int = 0) -> bytes:
    """Return the bytes with ``count`` random bits turned, none before ``start``."""
    array = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(start, len(array), count)
    np.bitwise_xor.at(array, places, np.uint8(1) << rng.integers(0, 8, count).astype(np.uint8))
    return array.tobytes()


def random_block(data: bytes, rng: np.random.Generator, size: int = 4096) -> bytes:
    """Return the bytes with one block of noise in the middle half."""
    start = int(rng.integers(len(data) // 4, 3 * len(data) // 4))
    noise = rng.integers(0, 256, size, np.uint8).tobytes()
    return (data[:start] + noise + data[start + size :])[: len(data)]


def mp4_boxes(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Return (start, stop) of the top-level boxes of an mp4."""
    boxes, at = {}, 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes[data[at + 4 : at + 8]] = (at, at + size)
        at += max(size, 8)
    return boxes


def damage_box(data: bytes, name: bytes, bits: int, rng: np.random.Generator) -> bytes:
    """Return an mp4 with random bits turned inside one top-level box."""
    start, stop = mp4_boxes(data)[name]
    return data[:start] + flip_bits(data[start:stop], bits, rng, 8) + data[stop:]


def set_rotation(data: bytes, degrees_cw: int) -> bytes:
    """Return an mp4 whose track header asks for a turn when shown (ISO 14496-12, 8.3.2)."""
    one = 1 << 16
    a, b, c, d = {
        0: (one, 0, 0, one),
        90: (0, one, -one, 0),
        180: (-one, 0, 0, -one),
        270: (0, -one, one, 0),
    }[degrees_cw]
    matrix = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    header = data.index(b"tkhd") + 4
    at = header + (52 if data[header] == 1 else 40)
    return data[:at] + matrix + data[at + len(matrix) :]


# --- whole and odd files -----------------------------------------------------------

_MP4_FAST = (("movflags", "faststart"),)
_AV1 = Recipe("libsvtav1", bframes=0, options=(("preset", "12"), ("crf", "20")))
_VPX = (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "20"), ("b", "400k"))
_HEVC = Recipe("libx265", options=(("preset", "ultrafast"), ("x265-params", "log-level=error")))

PLAIN: dict[str, Recipe] = {
    "h264.mp4": Recipe(),
    "h264_fast.mp4": Recipe(container_options=_MP4_FAST),
    "h264_fragments.mp4": Recipe(container_options=(("movflags", "frag_keyframe+empty_moov"),)),
    "h264_no_edit_list.mp4": Recipe(container_options=(("use_editlist", "0"),)),
    "h264.mkv": Recipe(),
    "h264_no_duration.mkv": Recipe(container_options=(("live", "1"),)),
    "h264.ts": Recipe(),
    "h264.avi": Recipe(),
    "h264.flv": Recipe(bframes=0),
    "hevc.mp4": _HEVC,
    "mpeg4.mp4": Recipe("mpeg4"),
    "mpeg4.avi": Recipe("mpeg4"),
    "mjpeg.avi": Recipe("mjpeg", pix_fmt="yuvj420p", bframes=0),
    "mpeg2.ts": Recipe("mpeg2video"),
    "mpeg2.mpg": Recipe("mpeg2video"),
    "vp8.webm": Recipe("libvpx", bframes=0, options=_VPX),
    "vp9.webm": Recipe("libvpx-vp9", bframes=0, options=_VPX),
    "av1.mp4": _AV1,
    "av1.mkv": _AV1,
    "wmv2.asf": Recipe("wmv2", bframes=0),
}


def variable_time(index: int) -> Fraction:
    """Seconds of frame ``index`` in the files of variable rate: 30, then 7.5, then 30 fps."""
    fast, slow = min(index, 50) + max(index - 100, 0), min(max(index - 50, 0), 50)
    return Fraction(fast, 30) + Fraction(slow * 4, 30)


def make_variable(folder: Path) -> list[Path]:
    """Make the files of variable frame rate; ``variable_time`` tells their times."""
    base = Fraction(1, 90_000)
    return [
        encode(folder / name, time_of=variable_time, time_base=base)
        for name in ("variable.mp4", "variable.mkv", "variable.ts")
    ]


def make_wrapping(folder: Path) -> Path:
    """Make a transport stream whose 33-bit clock wraps in its middle."""
    start = Fraction(2**33, 90_000) - Fraction(5, 2)
    return encode(
        folder / "clock_wraps.ts",
        time_of=lambda i: start + Fraction(i, FPS),
        time_base=Fraction(1, 90_000),
    )


def make_edit_lists(folder: Path, mp4: Path) -> tuple[Path, Path]:
    """Make an mp4 whose edit list leaves out the first 40 frames, and one without its last half."""
    data = mp4.read_bytes()
    entry = data.index(b"elst") + 12
    media_start = int.from_bytes(data[entry + 4 : entry + 8], "big")
    ticks_per_frame = 15_360 // FPS

    def patched(name: str, duration_ms: int, start: int) -> Path:
        numbers = duration_ms.to_bytes(4, "big") + start.to_bytes(4, "big")
        (folder / name).write_bytes(data[:entry] + numbers + data[entry + 8 :])
        return folder / name

    first = patched("edit_list_start.mp4", 110_000 // FPS, media_start + 40 * ticks_per_frame)
    return first, patched("edit_list_end.mp4", 75_000 // FPS, media_start)


def drop_packets(source: Path, target: Path, count: int) -> Path:
    """Copy a video without its first ``count`` packets, so that it starts between key frames."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and number >= count:
                packet.stream = stream
                new.mux(packet)
    return target


def add_sound(path: Path, seconds: int, picture: Path | None = None) -> Path:
    """Make a file with sound, and with a picture stream copied from ``picture`` if given."""
    with av.open(str(path), "w") as container:
        if picture is not None:
            with av.open(str(picture)) as old:
                copy = container.add_stream_from_template(old.streams.video[0])
                sound = container.add_stream("aac", rate=16_000, layout="mono")
                for packet in old.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = copy
                        container.mux(packet)
        else:
            sound = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16_000 * seconds), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def _odd(folder: Path) -> list[BadVideo]:
    mp4, fast = folder / "h264.mp4", (folder / "h264_fast.mp4").read_bytes()
    whole: list[tuple[Path, int]] = [(path, FRAMES) for path in make_variable(folder)]
    for degrees in (90, 180, 270):
        path = folder / f"rotated_{degrees}.mp4"
        path.write_bytes(set_rotation(fast, degrees))
        whole.append((path, FRAMES))
    edited = make_edit_lists(folder, mp4)
    whole += [(edited[0], 110), (edited[1], 75), (make_wrapping(folder), FRAMES)]
    for name, recipe in (("one_frame.mp4", Recipe()), ("one_frame.avi", Recipe("mpeg4"))):
        whole.append((encode(folder / name, recipe, [7], lambda _: Fraction(0)), 1))
    whole.append((add_sound(folder / "long_sound.mp4", 7, mp4), FRAMES))
    small, large = folder / "h264.ts", folder / "larger.ts"
    encode(large, Recipe(size_wh=(192, 112)), range(60), lambda i: Fraction(i + FRAMES, FPS))
    changed = folder / "size_changes.ts"
    changed.write_bytes(small.read_bytes() + large.read_bytes())
    large.unlink()
    restarted = folder / "clock_restarts.ts"
    restarted.write_bytes(small.read_bytes() * 2)
    damaged = [(changed, FRAMES + 60), (restarted, 2 * FRAMES)]
    for name in ("h264.ts", "h264.mkv", "mpeg2.ts", "hevc.mp4"):
        target = folder / f"no_first_key_frame_{name}"
        damaged.append((drop_packets(folder / name, target, 7), FRAMES - 7))
    return [BadVideo(p, "whole", n) for p, n in whole] + [
        BadVideo(p, "damaged", n) for p, n in damaged
    ]


def _refused(folder: Path) -> list[BadVideo]:
    mp4 = (folder / "h264.mp4").read_bytes()
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"This is not a video.\n" * 200,
        "zeros.mp4": bytes(100_000),
        "noise.avi": np.random.default_rng(5).bytes(100_000),
        "index_missing.mp4": mp4[: mp4_boxes(mp4)[b"moov"][0]],
        "index_at_end_cut_off.mp4": mp4[: len(mp4) * 6 // 10],
        "index_only.mp4": (folder / "h264_fast.mp4").read_bytes()[:2500],
        "play_list.mp4": b"ffconcat version 1.0\nfile h264.mp4\n",
        "play_list.ts": b"#EXTM3U\n#EXTINF:5,\nh264.ts\n#EXT-X-ENDLIST\n",
        "web_page.mkv": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "subtitles.mp4": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 20,
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.mp4").mkdir()
    sound = add_sound(folder / "sound_only.mp4", 2)
    paths = [*(folder / name for name in contents), folder / "folder.mp4", sound]
    return [BadVideo(path, "refused", 0) for path in paths]


def _copies(name: str, data: bytes) -> dict[str, bytes]:
    made = {
        f"bits_{bits}_{seed}_{name}": flip_bits(data, bits, np.random.default_rng([seed, bits]))
        for bits in (1, 20, 200)
        for seed in range(2)
    }
    for seed in range(2):
        made[f"block_{seed}_{name}"] = random_block(data, np.random.default_rng([seed, 4096]))
    for percent in (10, 35, 60, 90):
        made[f"cut_{percent}_{name}"] = data[: len(data) * percent // 100]
    return made


def _damaged(folder: Path) -> list[BadVideo]:
    made: dict[str, bytes] = {}
    for name in ("h264_fast.mp4", "h264.ts", "h264.mkv", "mpeg4.avi", "h264_fragments.mp4"):
        made |= _copies(name, (folder / name).read_bytes())
    for name in ("h264.mp4", "h264_fast.mp4", "mpeg4.mp4"):
        for seed in range(4):
            rng = np.random.default_rng([seed, 77])
            data = (folder / name).read_bytes()
            made[f"index_{seed}_{name}"] = damage_box(data, b"moov", 1 + seed, rng)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [BadVideo(folder / name, "damaged", FRAMES) for name in made]


def make_corpus(folder: Path) -> list[BadVideo]:
    """Fill a folder with more than 70 whole, odd and damaged videos; equal bytes every time."""
    for name, recipe in PLAIN.items():
        encode(folder / name, recipe)
    plain = [BadVideo(folder / name, "whole", FRAMES) for name in PLAIN]
    return [*plain, *_odd(folder), *_refused(folder), *_damaged(folder)]
