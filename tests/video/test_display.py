"""Frames are those that ffmpeg shows of the same file, frame by frame."""

import math
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recognizer.types import ImageArray
from recognizer.video.display import Crop, Display, Orientation, is_plausible, square_size
from recognizer.video.reader import VideoReader
from tests.bad_videos import read_number
from tests.video.odd_display import (
    FPS,
    INTERLACED,
    add_crop,
    encode_pictures,
    moving_fields,
    numbered,
    remux,
    set_matrix,
)

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT.parent / "shared" / "assets" / "faults"
SQUARE = (
    "scale='if(gt(sar,1),trunc(iw*sar),iw)':'if(lt(sar,1)*gt(sar,0),trunc(ih/sar),ih)'"
    ":flags=area,setsar=1"
)
BWDIF = "bwdif=send_frame:auto:interlaced"


def frames_of(path: Path, **options: int) -> tuple[np.ndarray, list[float], VideoReader]:
    with VideoReader(path, **options) as reader:
        frames = [(frame.image.bgr(), frame.time_s) for frame in reader]
    return np.stack([bgr for bgr, _ in frames]), [time_s for _, time_s in frames], reader


def filtered(path: Path, filters: str) -> np.ndarray:
    """Return the frames of a file as libavfilter renders them, (T, H, W, 3) BGR.

    The filters get the sample aspect ratio; the display matrix is what a test spells out.
    """
    shown = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add(
            "buffer",
            video_size=f"{stream.width}x{stream.height}",
            pix_fmt=stream.pix_fmt,
            time_base=str(stream.time_base),
            pixel_aspect=str(stream.sample_aspect_ratio or 1),
        )
        nodes = [source]
        for text in (
            [*filters.split(","), "format=bgr24"] if "'" not in filters else _split(filters)
        ):
            name, _, arguments = text.partition("=")
            nodes.append(graph.add(name, arguments or None))
        graph.link_nodes(*nodes, graph.add("buffersink"))
        graph.configure()
        for frame in [*container.decode(stream), None]:
            graph.vpush(frame)
            while True:
                try:
                    shown.append(graph.vpull().to_ndarray())
                except (av.BlockingIOError, av.EOFError):
                    break
    return np.stack(shown)


def _split(filters: str) -> list[str]:
    """Split at the commas outside quotes."""
    parts, quoted = [""], False
    for letter in filters + ",format=bgr24":
        quoted ^= letter == "'"
        if letter == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def difference(came: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of every frame."""
    assert came.shape == expected.shape
    return np.abs(came.astype(np.int16) - expected).mean(axis=(1, 2, 3))


# --- sample aspect ratio ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "aspect", "size_wh"),
    [
        pytest.param("a.mp4", Fraction(2), (320, 96), id="2:1"),
        pytest.param("a.mkv", Fraction(4, 3), (213, 96), id="Matroska, rounded down"),
        pytest.param("a.ts", Fraction(1, 2), (160, 192), id="1:2 in a transport stream"),
        pytest.param("a.avi", Fraction(12, 11), (174, 96), id="AVI"),
        pytest.param("a.mp4", Fraction(1000, 1001), (160, 96), id="less than a pixel"),
        pytest.param("a.mp4", Fraction(1), (160, 96), id="square"),
    ],
)
def test_pixels_become_square(
    tmp_path: Path, name: str, aspect: Fraction, size_wh: tuple[int, int]
) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = encode_pictures(tmp_path / name, numbered(12), aspect=aspect, codec=codec)
    frames, times, reader = frames_of(path)
    assert reader.size_wh == size_wh
    assert reader.account.intact, reader.account
    assert len(frames) == 12
    np.testing.assert_allclose(times, np.arange(12) / FPS, atol=1e-3)
    assert difference(frames, filtered(path, SQUARE)).max() < 2.0
    assert Fraction(*map(int, reader.info.pixel_aspect.split(":"))) == pytest.approx(
        float(aspect), rel=0.005
    )


def test_small_pictures_of_wide_pixels_are_scaled_at_once(tmp_path: Path) -> None:
    path = encode_pictures(tmp_path / "a.mp4", numbered(1), aspect=Fraction(2))
    with VideoReader(path) as reader:
        image = next(reader).image
    assert image.size_wh == (320, 96)
    assert image.bgr((160, 48)).shape == (48, 160, 3)


@pytest.mark.parametrize("aspect", [Fraction(1, 40), Fraction(40)])
def test_an_aspect_that_no_camera_has_is_ignored_and_reported(
    tmp_path: Path, aspect: Fraction
) -> None:
    path = encode_pictures(tmp_path / "a.ts", numbered(2), aspect=aspect)
    with VideoReader(path) as reader:
        assert reader.size_wh == (160, 96)
        assert any("not plausible" in note for note in reader.account.notes)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_aspect_that_changes_is_left_out_by_name(tmp_path: Path, threads: int) -> None:
    wide = encode_pictures(tmp_path / "w.ts", numbered(20), aspect=Fraction(4, 3))
    square = encode_pictures(tmp_path / "s.ts", numbered(30))
    path = tmp_path / "both.ts"
    path.write_bytes(wide.read_bytes() + square.read_bytes() + wide.read_bytes())
    with VideoReader(path, threads=threads) as reader:
        numbers = [read_number(frame.image.bgr((160, 96))) for frame in reader]
    assert numbers == [*range(20), *range(20)]
    assert reader.account.skipped == {"size 160x96, pixels 1:1": 30}
    assert any("left out 30 frames" in note for note in reader.account.notes)


def test_the_same_view_in_another_resolution_goes_on(tmp_path: Path) -> None:
    small = encode_pictures(tmp_path / "s.ts", numbered(10))
    large = encode_pictures(tmp_path / "l.ts", numbered(10, (320, 192)))
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames, _, reader = frames_of(path)
    assert frames.shape == (20, 96, 160, 3)
    assert reader.account.skipped == {}
    assert reader.account.facts == ("10 frames of size 320x192 scaled to the first, 160x96",)


@pytest.mark.parametrize(
    ("size_wh", "aspect", "expected"),
    [
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((704, 288), Fraction(6, 11), (704, 528)),
        ((1, 1), Fraction(1, 3), (1, 3)),
        ((854, 480), Fraction(1280, 1281), (854, 480)),
    ],
)
def test_square_sizes(
    size_wh: tuple[int, int], aspect: Fraction, expected: tuple[int, int]
) -> None:
    assert square_size(size_wh, aspect) == expected
    assert is_plausible(size_wh, aspect)


# --- interlacing -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_fields_become_whole_pictures(tmp_path: Path, name: str, threads: int) -> None:
    path = encode_pictures(tmp_path / name, moving_fields(15), options=INTERLACED)
    frames, times, reader = frames_of(path, threads=threads)
    assert difference(frames, filtered(path, BWDIF)).max() == 0
    np.testing.assert_allclose(times, np.arange(15) / FPS, atol=1e-3)
    account = reader.account
    assert (account.decoded, account.container_frames, account.intact) == (15, 15, True)
    assert account.facts == ("15 interlaced frames, deinterlaced",)
    comb = np.abs(np.diff(frames[1:-1].astype(int), axis=1)).mean()
    stored = np.abs(np.diff(filtered(path, "null").astype(int), axis=1)).mean()
    assert comb < stored / 8


def test_only_what_is_interlaced_is_touched(tmp_path: Path) -> None:
    plain = encode_pictures(tmp_path / "p.ts", numbered(10, (192, 128)))
    fields = encode_pictures(tmp_path / "i.ts", moving_fields(10), options=INTERLACED)
    path = tmp_path / "mixed.ts"
    path.write_bytes(plain.read_bytes() + fields.read_bytes() + plain.read_bytes())
    frames, _, reader = frames_of(path)
    assert len(frames) == 30
    assert difference(frames, filtered(path, BWDIF)).max() == 0
    progressive = filtered(plain, "null")
    assert difference(frames[:10], progressive).max() == 0
    assert difference(frames[20:], progressive).max() == 0
    assert "10 interlaced frames, deinterlaced" in reader.account.facts


def test_wide_interlaced_and_turned_at_once(tmp_path: Path) -> None:
    plain = tmp_path / "plain.mp4"
    encode_pictures(plain, moving_fields(8), options=INTERLACED, aspect=Fraction(3, 2))
    path = tmp_path / "a.mp4"
    path.write_bytes(set_matrix(plain.read_bytes(), (0, 1, -1, 0)))
    frames, _, reader = frames_of(path)
    assert reader.size_wh == (128, 288)
    expected = filtered(plain, f"{BWDIF},{SQUARE},transpose=clock")
    assert difference(frames, expected).max() < 1


# --- rotation at any angle -------------------------------------------------------------


def turned(path: Path, degrees: float, flip: int = 1) -> Path:
    """Ask for a clockwise turn of a video, mirrored before it with ``flip`` -1."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    target = path.with_stem(f"turned_{degrees}_{flip}")
    target.write_bytes(set_matrix(path.read_bytes(), (flip * cos, flip * sin, -sin, cos)))
    return target


def smooth(index: int) -> ImageArray:
    y, x = np.mgrid[0:120, 0:160]
    waves = [
        128 + 90 * np.sin((x * a + y * b + 5 * index) / 25) for a, b in ((1, 0), (1, 1), (0, 2))
    ]
    return np.stack(waves, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("degrees", [1, 2, 30, 45, 100, 200, 359])
def test_any_angle_is_turned_as_ffmpeg_does(tmp_path: Path, degrees: int) -> None:
    plain = encode_pictures(tmp_path / "a.mp4", [smooth(i) for i in range(3)])
    frames, _, reader = frames_of(turned(plain, degrees))
    assert reader.size_wh == (160, 120)
    assert reader.info.rotation_deg == degrees
    expected = filtered(plain, f"rotate={degrees}*PI/180:bilinear=1")
    inside = np.abs(frames[:, 30:90, 40:120].astype(int) - expected[:, 30:90, 40:120])
    assert inside.mean() < 2.5
    wrong_way = filtered(plain, f"rotate=-{degrees}*PI/180:bilinear=1")[:, 30:90, 40:120]
    assert np.abs(frames[:, 30:90, 40:120].astype(int) - wrong_way).mean() > 1.5 * inside.mean()


def test_a_tilted_mirror_image(tmp_path: Path) -> None:
    plain = encode_pictures(tmp_path / "a.mp4", [smooth(0)])
    frames, _, _ = frames_of(turned(plain, 30, flip=-1))
    expected = filtered(plain, "hflip,rotate=30*PI/180:bilinear=1")
    assert np.abs(frames[:, 30:90, 40:120].astype(int) - expected[:, 30:90, 40:120]).mean() < 2.5


def test_wide_pixels_are_made_square_before_a_tilt(tmp_path: Path) -> None:
    plain = encode_pictures(tmp_path / "a.mp4", [smooth(0)], aspect=Fraction(2))
    frames, _, reader = frames_of(turned(plain, 45))
    assert reader.size_wh == (320, 120)
    expected = filtered(plain, f"{SQUARE},rotate=45*PI/180:bilinear=1")
    inside = (slice(None), slice(30, 90), slice(110, 210))
    assert np.abs(frames[inside].astype(int) - expected[inside]).mean() < 2.5


def test_tilted_pictures_come_in_any_size(tmp_path: Path) -> None:
    plain = encode_pictures(tmp_path / "a.mp4", [smooth(0)])
    with VideoReader(turned(plain, 20)) as reader:
        image = next(reader).image
    small = image.bgr((80, 60)).astype(int)
    whole = image.bgr().reshape(60, 2, 80, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - whole).max() <= 1


# --- cropping --------------------------------------------------------------------------

LTRB = (16, 8, 32, 24)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(2)])
def test_what_the_container_cuts_off_is_not_shown(
    tmp_path: Path, suffix: str, aspect: Fraction
) -> None:
    plain = encode_pictures(tmp_path / "plain.mp4", numbered(5, (192, 128)), aspect=aspect)
    path = tmp_path / "a.mp4"
    path.write_bytes(add_crop(plain.read_bytes(), (192, 128), LTRB))
    if suffix == ".mkv":
        path = remux(path, tmp_path / "a.mkv")
    frames, _, reader = frames_of(path)
    assert reader.size_wh == (144 * aspect, 96)
    assert reader.info.crop_ltrb == LTRB
    expected = filtered(plain, f"crop=144:96:16:8,{SQUARE}")
    assert difference(frames, expected).max() < 2.5
    with VideoReader(path) as again:
        assert next(again).image.bgr((70, 50)).shape == (50, 70, 3)


def test_a_crop_of_everything_is_ignored_and_reported(tmp_path: Path) -> None:
    plain = encode_pictures(tmp_path / "plain.mp4", numbered(2))
    path = tmp_path / "a.mp4"
    path.write_bytes(add_crop(plain.read_bytes(), (160, 96), (79, 0, 80, 0)))
    assert frames_of(path)[2].size_wh == (1, 96)
    display = Display((160, 96), Crop(100, 0, 60, 0))
    assert min(display.crop.inside(display.stored_wh)) < 1


def test_orientation_of_a_small_turn_is_a_right_angle() -> None:
    slight = math.sin(math.radians(0.3))
    matrix = [round(65_536 * v) for v in (slight, 1, 0, -1, slight, 0)]
    assert Orientation.from_matrix(matrix) == Orientation(True, True, False)


# --- the ffmpeg command itself ---------------------------------------------------------


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg command to compare with")
@pytest.mark.parametrize("name", ["sar_2_1.mp4", "prog.mp4", "dashcam_thumb.mp4", "rawmjpeg.mp4"])
def test_real_files_are_shown_as_by_the_ffmpeg_command(name: str) -> None:
    path = FAULTS / name
    if not path.is_file():
        pytest.skip(f"no file {path}")
    frames, times, reader = frames_of(path)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0", "-vf", SQUARE]
    command += [
        "-vsync",
        "passthrough",
        "-sws_flags",
        "area",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "bgr24",
    ]
    run = subprocess.run([*command, "-"], capture_output=True, timeout=100, check=True)
    width, height = reader.size_wh
    expected = np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3)
    assert len(times) == len(expected)
    assert difference(frames, expected).max() < 2
