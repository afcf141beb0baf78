"""Open a video file, or say in one sentence why it cannot be read."""

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

# Containers of moving pictures. Play lists, which name other files, and plain text, which
# ffmpeg would draw as pictures, are left out.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,obu,ivf,"
    "flv,live_flv,asf,ogg,mxf,wtv,rm,nut,gif,mjpeg,jpeg_pipe,mpjpeg,mjpeg_2000,dv,dhav,yuv4mpegpipe,gxf,"
    "swf,evc,h263,h261,vc1,vc1test,dirac,amv,cine,r3d,film_cpk,nsv,pva,pmp"
)
_LISTS = {b"#EXTM3U": "m3u8", b"ffconcat": "ffconcat", b"[playlist]": "pls", b"<MPD": "dash"}
_PROBE_BYTES = 1 << 20
_MOV_BOXES = {b"ftyp", b"mdat", b"free", b"wide", b"moov", b"skip"}
_MAX_BOXES = 10_000
MPEG_FORMATS = {"mpegts", "mpeg"}  # no length, and a clock of 33 bits
_TS_PACKET_BYTES = (188, 192, 204)
_EBML_HEAD_BYTES = 4096
_ASF_HEAD_BYTES = 1 << 16
# Objects of ASF are named by GUIDs, stored with their first three parts turned round.
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# Streams without a container: what ffmpeg makes up as times counts packets, at a rate that
# the codec's header names or that is ffmpeg's default.
BARE_FORMATS = {
    "h264",
    "hevc",
    "vvc",
    "evc",
    "obu",
    "mpegvideo",
    "h263",
    "h261",
    "vc1",
    "mjpeg",
    "mpjpeg",
    "mjpeg_2000",
    "jpeg_pipe",
}


class VideoError(ValueError):
    """A file of which nothing can be read as video."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Metadata of a video, from its container and first frame.

    Attributes:
        codec: such as ``h264``.
        pix_fmt: pixel format of the first frame, such as ``yuv420p``.
        coded_size_wh: size of the stored frames in pixels, before all that showing does.
        rotation_deg: clockwise turn that showing needs, 0 to 359.
        fps: average frames per second, None if unknown.
        container: ffmpeg's name of the format, such as ``mov,mp4,m4a,3gp,3g2,mj2``.
        duration_s: what the container announces, None if it does not.
        pixel_aspect: width to height of a stored pixel, such as ``4:3``.
        crop_ltrb: pixels that the container cuts off at left, top, right and bottom.
        transfer: ``PQ`` or ``HLG`` for high dynamic range, which is shown as BT.709.

    """

    codec: str
    pix_fmt: str
    coded_size_wh: tuple[int, int]
    rotation_deg: int
    fps: float | None
    container: str
    duration_s: float | None
    pixel_aspect: str = "1:1"
    crop_ltrb: tuple[int, int, int, int] = (0, 0, 0, 0)
    transfer: str | None = None


def reason_of(error: Exception) -> str:
    """Return the short text of an error of PyAV or the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def open_container(path: Path, hwaccel: HWAccel | None = None) -> InputContainer:
    """Open a video file for reading.

    Args:
        path: the file.
        hwaccel: decodes in place of the CPU, see ``nvdec.accelerator``.

    Raises:
        VideoError: not a regular file, not permitted, empty, or no video container.

    """
    where = f"{path}: expected a video file"
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or pipe" if path.exists() else None
            raise VideoError(f"{where}, got {kind}" if kind else f"{where}, found nothing")
        if path.stat().st_size == 0:
            raise VideoError(f"{where}, got 0 bytes; copy or record it again")
        with path.open("rb"):  # says "permission denied" better than the demuxer
            pass
    except OSError as error:
        raise VideoError(f"{where}, cannot read it: {reason_of(error)}") from error
    try:
        container = _demuxer(path, {}, hwaccel)
        if _edit_list_hides_all(container):
            container.close()
            container = _demuxer(path, {"ignore_editlist": "1"}, hwaccel)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{where}, {_why_unreadable(path, error)}") from error
    return container


def _demuxer(path: Path, options: dict[str, str], hwaccel: HWAccel | None) -> InputContainer:
    # "file:" keeps names such as "a:b.mp4" or "-i.mp4" from being read as anything else.
    return av.open(
        f"file:{path}",
        container_options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file", **options},
        metadata_errors="replace",
        hwaccel=hwaccel,
    )


def _edit_list_hides_all(container: InputContainer) -> bool:
    """Tell whether an mp4 stores frames of which its (damaged) edit list shows none."""
    streams = container.streams.video
    return "mp4" in container.format.name and any(
        s.frames and not len(s.index_entries) for s in streams
    )


def _why_unreadable(path: Path, error: Exception) -> str:
    boxes = _mov_boxes(path)
    if boxes & _MOV_BOXES and b"moov" not in boxes:
        return (
            "got an mp4 without its index (moov box): the recording was cut off before its end; "
            "copy it again, or rebuild the index with a repair tool such as untrunc"
        )
    if what := _other_format(path):
        return f"got {what}"
    return (
        f"got nothing that can be read as one: {reason_of(error)}; "
        "check that it plays elsewhere, copy it again or convert it to H.264 mp4"
    )


def _other_format(path: Path) -> str:
    """Return the unsupported format of a file, as far as ffmpeg knows it.

    The demuxer gets the first bytes alone, so that it can open no other file.
    """
    with path.open("rb") as file:
        head = file.read(_PROBE_BYTES)
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if kind := next((kind for mark, kind in _LISTS.items() if start.startswith(mark)), ""):
        return f"a play list ({kind}), which only names other files; give the files it names"
    try:
        with av.open(
            io.BytesIO(head),
            container_options={"protocol_whitelist": "none"},
            metadata_errors="replace",
        ) as container:
            name, kinds = container.format.name, {stream.type for stream in container.streams}
    except (av.FFmpegError, OSError, ValueError):
        return ""
    if "video" not in kinds:
        return f"the format {name} without pictures; leave this file out"
    return f"the format {name}, which is not read as video; convert it to H.264 mp4"


def _mov_boxes(path: Path) -> set[bytes]:
    """Return the names of the top-level boxes of an mp4-like file."""
    names: set[bytes] = set()
    with path.open("rb") as file:
        for _ in range(_MAX_BOXES):
            header = file.read(16)
            if len(header) < 8:
                break
            size, name = struct.unpack_from(">I4s", header)
            if size == 1 and len(header) == 16:
                size = struct.unpack_from(">Q", header, 8)[0]
            if not names and name not in _MOV_BOXES:
                break
            names.add(name)
            if size < 8:
                break
            file.seek(size - len(header), os.SEEK_CUR)
    return names


@dataclass(frozen=True, slots=True)
class Index:
    """Frames listed in a container's index.

    Attributes:
        frames: how many packets are listed, None without any list.
        unlisted: how many are stored besides; an mp4 does not list what its edit list hides.
        full: the list was made for the whole file, so that nothing can be missing from it.

    """

    frames: int | None
    unlisted: int = 0
    full: bool = True


def read_index(container: InputContainer, stream: VideoStream) -> Index:
    """Return what the container lists, at the end of reading."""
    if "mp4" in container.format.name:
        listed = len(stream.index_entries)
        # The pieces of a fragmented mp4 list their own frames only.
        fragmented = not stream.frames
        return Index(listed, 0 if fragmented else max(stream.frames - listed, 0), not fragmented)
    if container.format.name == "avi" and stream.frames:
        return Index(_avi_pictures(stream.frames, [e.timestamp for e in stream.index_entries]))
    return Index(stream.frames or None, full=bool(stream.frames))


def _avi_pictures(chunks: int, at: list[int]) -> int:
    """Return how many of an AVI's chunks hold a picture.

    Chunks without bytes repeat the picture before; the index numbers chunks and names only
    those with a picture.
    """
    if not at:
        return chunks
    repeats = at[-1] + 1 - len(at)
    after_last = chunks - (at[-1] + 1)
    if len(at) > 1 and 0 < after_last < at[-1] - at[-2]:
        repeats += after_last
    return max(chunks - repeats, 0)


@dataclass(frozen=True, slots=True)
class ContainerDuration:
    """Announced length of a video.

    Attributes:
        seconds: the length; None: unknown.
        of_stream: it is the video stream's, not the file's or an estimate from the last packets.
        from_zero: it counts from time zero, not from the first packet of a stream.

    """

    seconds: float | None
    of_stream: bool
    from_zero: bool = False


def announced_duration(container: InputContainer, stream: VideoStream) -> ContainerDuration:
    """Return the length of the video stream, or else of the file."""
    if stream.duration is not None and stream.time_base:
        name, seconds = container.format.name, float(stream.duration * stream.time_base)
        # ASF knows only the length of the file, which ffmpeg copies to every stream.
        return ContainerDuration(seconds, name not in {*MPEG_FORMATS, "asf"}, name == "asf")
    text = stream.metadata.get("DURATION", "")  # Matroska keeps it as hh:mm:ss.nnnnnnnnn
    hours, *rest = text.split(":")
    try:
        return ContainerDuration(int(hours) * 3600 + int(rest[0]) * 60 + float(rest[1]), True)
    except (ValueError, IndexError):
        pass
    return ContainerDuration(
        container.duration / av.time_base if container.duration else None, False
    )


def cut_off(path: Path, format_name: str) -> list[str]:
    """Return a note if a file without a full index ends where no such file ends."""
    size = path.stat().st_size
    if format_name == "mpegts" and all(size % packet for packet in _TS_PACKET_BYTES):
        return ["cut off: the file ends inside a transport packet"]
    if format_name == "mjpeg" and not _ends_jpeg(path, size):
        return ["cut off: the file ends inside a picture"]
    expected = _announced_size(path, format_name)
    if expected is not None and expected > size:
        return [f"cut off: {expected} bytes announced, {size} in the file"]
    return []


def _ends_jpeg(path: Path, size: int) -> bool:
    """Tell whether the last JPEG picture of a file is complete; padding may follow it."""
    with path.open("rb") as file:
        file.seek(max(size - _PROBE_BYTES, 0))
        tail = file.read()
    return tail.rfind(b"\xff\xd9") > tail.rfind(b"\xff\xd8")


def _announced_size(path: Path, format_name: str) -> int | None:
    with path.open("rb") as file:
        if "matroska" in format_name:
            return _segment_end(file.read(_EBML_HEAD_BYTES))
        if format_name == "asf":
            return _asf_size(file.read(_ASF_HEAD_BYTES))
    return None


def _asf_size(head: bytes) -> int | None:
    """Return how long an ASF file says it is, None if it does not (ASF specification, 3.2)."""
    at = head.find(_ASF_FILE_PROPERTIES)
    if not head.startswith(_ASF_HEADER) or at < 0 or len(head) < at + 104:
        return None
    size, flags = struct.unpack_from("<Q", head, at + 40)[0], head[at + 88]
    is_broadcast = flags & 1  # its size was not known when the header was written
    return None if is_broadcast else int(size)


def _segment_end(head: bytes) -> int | None:
    """Return where a Matroska file's segment ends, None if it does not say (RFC 8794, 4)."""
    at = 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[at : at + 4] != name or len(head) < at + 12:
            return None
        length = 9 - head[at + 4].bit_length()
        bits = 7 * length
        value = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ((1 << bits) - 1)
        if length > 8 or value == (1 << bits) - 1:
            return None
        at += 4 + length + value
    return at
