"""Files whose pictures a player does not show as they are stored."""

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from recognizer.types import ImageArray
from tests.bad_videos import SIZE_WH, X264, burn_number
from tests.video.streams import add_video

FPS = 25
_CLAP_OWNER = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]


def encode_pictures(
    path: Path,
    pictures: Iterable[ImageArray],
    *,
    codec: str = "libx264",
    aspect: Fraction = Fraction(1),
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write BGR pictures of one size at 25 a second."""
    with av.open(str(path), "w", options=container or {}) as out:
        stream = add_video(out, codec, FPS)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        defaults = {**dict(X264), "crf": "12"} if codec == "libx264" else {}
        stream.options = {**defaults, **(options or {})}
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.codec_context.sample_aspect_ratio = aspect
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def numbered(count: int, size_wh: tuple[int, int] = SIZE_WH) -> list[ImageArray]:
    """Return the pictures of ``burn_number``."""
    return [burn_number(i, size_wh) for i in range(count)]


def moving_fields(count: int, size_wh: tuple[int, int] = (192, 128)) -> list[ImageArray]:
    """Return interlaced pictures of bars that move by 4 pixels from field to field."""
    width, height = size_wh
    x = np.arange(width)
    pictures = []
    for index in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        for field in (0, 1):
            bars = 128 + 90 * np.sin((x - 4 * (2 * index + field)) / 7)
            picture[field::2] = bars[:, None].astype(np.uint8)
        pictures.append(picture)
    return pictures


INTERLACED = {"x264-params": "tff=1"}


def set_matrix(data: bytes, entries: tuple[float, float, float, float]) -> bytes:
    """Return an mp4 with a, b, c, d in its track's display matrix (ISO 14496-12, 8.3.2)."""
    a, b, c, d = (round(v * 65_536).to_bytes(4, "big", signed=True) for v in entries)
    matrix = a + b + bytes(4) + c + d + bytes(12) + (1 << 30).to_bytes(4, "big")
    header = data.index(b"tkhd") + 4
    at = header + (52 if data[header] == 1 else 40)
    return data[:at] + matrix + data[at + len(matrix) :]


def add_crop(data: bytes, size_wh: tuple[int, int], ltrb: tuple[int, int, int, int]) -> bytes:
    """Return an mp4 (index at its end) with a clean aperture (ISO 14496-12, 12.1.4)."""
    (width, height), (left, top, right, bottom) = size_wh, ltrb
    sizes = (width - left - right, 1, height - top - bottom, 1)
    box = struct.pack(">I4s8i", 40, b"clap", *sizes, left - right, 2, top - bottom, 2)
    return _insert(data, _CLAP_OWNER, box)


def _insert(boxes: bytes, names: list[bytes], extra: bytes) -> bytes:
    at = 0
    while boxes[at + 4 : at + 8] != names[0]:
        at += int.from_bytes(boxes[at : at + 4], "big")
    end = at + int.from_bytes(boxes[at : at + 4], "big")
    content = boxes[at + 8 : end]
    if len(names) == 1:
        content += extra
    else:
        head = 8 if names[0] == b"stsd" else 0
        content = content[:head] + _insert(content[head:], names[1:], extra)
    size = (len(content) + 8).to_bytes(4, "big")
    return boxes[:at] + size + names[0] + content + boxes[end:]


def remux(source: Path, target: Path) -> Path:
    """Copy the video stream into another container."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def put_beside(target: Path, *sources: Path) -> Path:
    """Copy the first video stream of every source into one file, in order."""
    with av.open(str(target), "w") as new:
        olds = [av.open(str(source)) for source in sources]
        streams = [new.add_stream_from_template(old.streams.video[0]) for old in olds]
        for old, stream in zip(olds, streams, strict=True):
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
            old.close()
    return target


# --- H.264 whose fields are coded apart, which no encoder at hand makes ----------------


class _Bits:
    def __init__(self) -> None:
        self._bits: list[int] = []

    def u(self, *pairs: tuple[int, int]) -> "_Bits":
        for width, value in pairs:
            self._bits += [value >> i & 1 for i in range(width - 1, -1, -1)]
        return self

    def ue(self, *values: int) -> "_Bits":
        for value in values:
            length = (value + 1).bit_length()
            self.u((length - 1, 0), (length, value + 1))
        return self

    def samples(self, data: bytes) -> None:
        self._bits += [0] * (-len(self._bits) % 8)
        self._bits += np.unpackbits(np.frombuffer(data, np.uint8)).tolist()

    def nal(self, header: int) -> bytes:
        """Close the unit, with the bytes that keep start codes out of it (H.264, 7.4.1)."""
        self.u((1, 1))
        self._bits += [0] * (-len(self._bits) % 8)
        out, zeros = bytearray(), 0
        for byte in np.packbits(np.array(self._bits, np.uint8)).tobytes():
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([header]) + bytes(out)


def field_coded(path: Path, luma: list[ImageArray]) -> Path:
    """Write a bare H.264 stream, every picture as two fields of uncompressed macroblocks.

    Args:
        path: the ``.h264`` to make.
        luma: (H, W) uint8 pictures; sides are multiples of 16 and 32 pixels.

    """
    height, width = luma[0].shape
    sps = _Bits().u((8, 77), (8, 0), (8, 30)).ue(0, 4, 0, 4, 1).u((1, 0))
    sps.ue(width // 16 - 1, height // 32 - 1).u((1, 0), (1, 0), (1, 1), (1, 0), (1, 1))
    sps.u((4, 0), (1, 1), (32, 1), (32, 2 * FPS), (1, 1), (4, 0))  # VUI: the rate
    pps = _Bits().ue(0, 0).u((2, 0)).ue(0, 0, 0).u((3, 0)).ue(0, 0, 0).u((3, 0))
    parameters = sps.nal(0x67) + pps.nal(0x68)
    stream = b""
    for index, picture in enumerate(luma):
        stream += parameters if index % 10 == 0 else b""
        for bottom in (0, 1):
            stream += b"\0\0\0\1\x09\x10" + _field(picture[bottom::2], index, bottom)
    path.write_bytes(stream)
    return path


def _field(luma: ImageArray, index: int, bottom: int) -> bytes:
    key = index == 0 and not bottom
    bits = _Bits().ue(0, 7, 0).u((8, index % 256), (1, 1), (1, bottom))
    bits.ue(*([0] if key else [])).u((8, (2 * index + bottom) % 256), (2 if key else 1, 0)).ue(0)
    for y in range(0, luma.shape[0], 16):
        for x in range(0, luma.shape[1], 16):
            bits.ue(25).samples(luma[y : y + 16, x : x + 16].tobytes() + bytes([128]) * 128)
    return bits.nal(0x45 if key else 0x41)
