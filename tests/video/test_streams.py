"""The stream that is the video is read, the others are named; what cannot be read says why."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from recognizer.video.container import VideoError
from recognizer.video.encryption import encrypted
from recognizer.video.reader import VideoReader
from tests.bad_videos import PLAIN, add_sound, encode, read_number
from tests.video.odd_display import (
    encode_pictures,
    field_coded,
    numbered,
    put_beside,
)

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT.parent / "shared" / "assets" / "faults"
KEY = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "00112233445566778899aabbccddee00",
}


def read(path: Path) -> tuple[list[int], VideoReader]:
    with VideoReader(path) as reader:
        return [read_number(frame.image.bgr()) for frame in reader], reader


def real(name: str) -> Path:
    if not (FAULTS / name).is_file():
        pytest.skip(f"no file {FAULTS / name}")
    return FAULTS / name


# --- several streams -------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    large = (320, 240)
    return {
        "video": encode_pictures(folder / "video.mp4", numbered(30)),
        "short": encode_pictures(folder / "short.mp4", numbered(3)),
        "still": encode_pictures(folder / "still.mp4", numbered(1, large), codec="mjpeg"),
        "thumbs": encode_pictures(folder / "thumbs.mp4", numbered(2, large), codec="mjpeg"),
        "h264 still": encode_pictures(folder / "h264.mp4", numbered(1, large)),
        "second": encode_pictures(folder / "second.mp4", numbered(25, (128, 96))),
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    ("names", "chosen", "message"),
    [
        pytest.param(["video", "still"], 0, "mjpeg 320x240, still pictures", id="still behind"),
        pytest.param(["still", "video"], 1, "mjpeg 320x240, still pictures", id="still before"),
        pytest.param(["thumbs", "video"], 1, "mjpeg 320x240, still pictures", id="thumbnails"),
        pytest.param(["h264 still", "short"], 1, "h264 320x240, still pictures", id="H.264 still"),
        pytest.param(["second", "video"], 1, "h264 128x96", id="two cameras, the larger"),
    ],
)
def test_the_stream_that_moves_is_read_and_the_other_named(
    sources: dict[str, Path],
    tmp_path: Path,
    suffix: str,
    names: list[str],
    chosen: int,
    message: str,
) -> None:
    if suffix == ".ts" and any(name in ("still", "thumbs") for name in names):
        pytest.skip("a transport stream holds no JPEG")
    path = put_beside(tmp_path / f"a{suffix}", *(sources[name] for name in names))
    numbers, reader = read(path)
    assert numbers == list(range(3 if "short" in names else 30))
    assert reader.size_wh == (160, 96)
    assert reader.account.facts == (f"video stream {1 - chosen} not read: {message}",)
    assert reader.account.intact, reader.account


def test_the_still_of_a_dashcam() -> None:
    with VideoReader(real("dashcam_thumb.mp4")) as reader:
        assert sum(1 for _ in reader) == 12
    assert (reader.size_wh, reader.info.codec) == ((384, 288), "h264")
    assert reader.account.facts == ("video stream 1 not read: mjpeg 1280x960, still pictures",)


def test_one_stream_needs_no_words(tmp_path: Path) -> None:
    path = add_sound(tmp_path / "a.mp4", 2, encode(tmp_path / "v.mp4", frames=range(20)))
    assert read(path)[1].account.facts == ()


# --- fields coded apart ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.h264", "a.ts", "a.mp4", "a.mkv"])
@pytest.mark.parametrize("threads", [1, 3])
def test_two_packets_of_one_picture_are_one_picture(
    tmp_path: Path, name: str, threads: int
) -> None:
    luma = [np.full((64, 96), 40 + 4 * i, np.uint8) for i in range(20)]
    path = field_coded(tmp_path / "a.h264", luma)
    if name != "a.h264":
        path = _with_times(path, tmp_path / name)
    with VideoReader(path, threads=threads) as reader:
        came = [frame.image.bgr()[30, 40, 0] for frame in reader]
    expected = [(40 + 4 * i - 16) * 255 / 219 for i in range(20)]
    np.testing.assert_allclose(came, expected, atol=2)
    account = reader.account
    assert (account.container_frames, account.decoded, account.damaged) == (20, 20, 0)
    notes = account.facts[:1] if name == "a.h264" else account.facts  # bare: further remarks
    assert notes == ("20 interlaced frames, deinterlaced",)


def _with_times(bare: Path, target: Path) -> Path:
    """Copy a bare stream of fields, 50 a second, giving every packet its time."""
    with av.open(str(bare)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.time_base = Fraction(1, 50)
            packet.pts = packet.dts = number
            packet.stream = stream
            new.mux(packet)
    return target


# --- encrypted -------------------------------------------------------------------------


def scrambled(source: Path, target: Path, share: float = 1.0) -> Path:
    """Mark the packets of a transport stream as scrambled, and scramble them."""
    data = np.frombuffer(source.read_bytes(), np.uint8).reshape(-1, 188).copy()
    marked = data[:, 1] & 0x1F != 0  # not the tables
    marked[: round((1 - share) * len(data))] = False
    data[marked, 3] |= 0x80
    data[marked, 12:] ^= 0x5A
    target.write_bytes(data.tobytes())
    return target


@pytest.mark.parametrize("kind", ["cenc", "cenc in pieces", "scrambled", "real"])
def test_an_encrypted_video_is_reported_as_such(tmp_path: Path, kind: str) -> None:
    pieces = {"movflags": "frag_keyframe+empty_moov"}
    match kind:
        case "cenc":
            path = encode_pictures(tmp_path / "a.mp4", numbered(10), container=KEY)
        case "cenc in pieces":
            path = encode_pictures(tmp_path / "a.mp4", numbered(10), container=KEY | pieces)
        case "scrambled":
            path = scrambled(encode(tmp_path / "b.ts", PLAIN["h264.ts"]), tmp_path / "a.ts")
        case _:
            path = real("cenc.mp4")
    with pytest.raises(VideoError, match="encrypted") as caught:
        VideoReader(path)
    assert str(path) in str(caught.value)
    assert "decrypt it" in str(caught.value)


def test_a_video_that_is_encrypted_from_its_middle_on_says_so(tmp_path: Path) -> None:
    path = scrambled(encode(tmp_path / "b.ts", PLAIN["h264.ts"]), tmp_path / "a.ts", 0.5)
    numbers, reader = read(path)
    assert 60 < len(numbers) < 80
    assert any("part of it is encrypted" in note for note in reader.account.notes)


MATROSKA = "6d8096 624093 5031 8100 5032 8101 5033 8101 5035 86 47e1 8105 47e2 81 00"
FAIRPLAY = b"drmi".hex() + "00" * 90 + b"sinf".hex()
ASF = "fbb31122 23bd d211 b4b7 00a0c955fc6e"


@pytest.mark.parametrize(
    ("format_name", "sign"),
    [("matroska,webm", MATROSKA), ("asf", ASF), ("mov,mp4,m4a", FAIRPLAY)],
)
def test_signs_of_other_protections(tmp_path: Path, format_name: str, sign: str) -> None:
    path = tmp_path / "a"
    noise = np.random.default_rng(1).bytes(60_000)
    path.write_bytes(noise)
    assert encrypted(path, format_name) == ""
    box = noise[:5000] + bytes.fromhex(sign) + noise
    if "mp4" in format_name:  # after the pictures; the sizes of 64 bits
        sizes = [(1).to_bytes(4, "big") + name for name in (b"mdat", b"moov")]
        data, index = (
            s + (len(b) + 16).to_bytes(8, "big") for s, b in zip(sizes, (noise, box), strict=True)
        )
        box = data + noise + index + box
    path.write_bytes(box)
    assert encrypted(path, format_name).startswith("encrypted (")


@pytest.mark.parametrize(
    "head",
    [
        "",
        "00",
        "00000008 6d6f6f76",
        "0000000c 66726565" * 9,
        "00000000 6d646174" + "00" * 99,
        "00000001 6d646174" + "ff" * 8,
        "00000001 6d6f6f76" + "ff" * 20,
        "ffffffff 66726565",
    ],
)
def test_damaged_boxes_are_no_sign_of_protection(tmp_path: Path, head: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes.fromhex(head))
    assert encrypted(path, "mov,mp4,m4a") == ""


def test_a_damaged_video_is_not_called_encrypted(tmp_path: Path) -> None:
    data = bytearray(encode(tmp_path / "a.mp4", frames=range(10)).read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    (tmp_path / "b.mp4").write_bytes(data)
    with pytest.raises(VideoError) as caught:
        VideoReader(tmp_path / "b.mp4")
    assert "encrypted" not in str(caught.value)


# --- formats and metadata --------------------------------------------------------------


def test_a_bare_jpeg_stream_plays(tmp_path: Path) -> None:
    pictures = encode_pictures(tmp_path / "a.avi", numbered(10), codec="mjpeg")
    with av.open(str(pictures)) as container:
        (tmp_path / "a.mp4").write_bytes(b"".join(map(bytes, container.demux(video=0))))
    numbers, reader = read(tmp_path / "a.mp4")
    assert numbers == list(range(10))
    assert reader.account.intact


def test_the_bare_jpeg_stream_that_was_refused() -> None:
    with VideoReader(real("rawmjpeg.mp4")) as reader:
        assert sum(1 for _ in reader) == 10


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
WAVE = b"RIFF$\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
WAVE += b"data" + struct.pack("<I", 1600) + bytes(1600)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(PNG * 3, "png_pipe", id="pictures in a row"),
        pytest.param(b"#EXTM3U\n#EXTINF:5,\na.ts\n#EXT-X-ENDLIST\n", "play list (m3u8)", id="m3u8"),
        pytest.param(b"\xef\xbb\xbf#EXTM3U\n", "play list (m3u8)", id="m3u8 with a mark"),
        pytest.param(b"ffconcat version 1.0\nfile a.mp4\n", "play list (ffconcat)", id="ffconcat"),
        pytest.param(WAVE, "wav without pictures", id="sound"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="expected a video file") as caught:
        VideoReader(path)
    assert message in str(caught.value)


MARK = b"ASCII only here"
TEXTS = {
    "latin-1": "café Zürich °Ñ".encode("latin-1"),
    "cp949": "정문 카메라".encode("cp949"),
    "shift-jis": "カメラ".encode("shift-jis"),
    "every byte": bytes(range(0x80, 0x8F)),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".flv", ".nut"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_metadata_of_any_encoding_is_no_reason_to_stop(
    tmp_path: Path, suffix: str, text: bytes
) -> None:
    path, mark = tmp_path / f"a{suffix}", MARK.decode()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flv" if suffix == ".flv" else "mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for key in ("title", "comment", "artist", "service_name", "encoder", "copyright"):
            container.metadata[key] = mark
        for key in ("title", "handler_name"):
            stream.metadata[key] = mark
        for number, picture in enumerate(numbered(3)):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert MARK in data
    path.write_bytes(data.replace(MARK, text.ljust(len(MARK), b"\xe9")))
    assert read(path)[0] == [0, 1, 2]
