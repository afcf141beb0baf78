"""Which of a container's streams is the video, and how its pictures are to be shown."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from recognizer.video.container import VideoError, open_container
from recognizer.video.display import Crop, Display, is_plausible, orientation_of
from recognizer.video.encryption import encrypted

_STILL = Disposition.still_image | Disposition.timed_thumbnails
_PACKETS_LOOKED_AT = 2000
_STILL_SHARE = 10
_PICTURE_CODECS = {"mjpeg", "png", "bmp", "webp", "gif", "tiff", "jpeg2000"}
_PLAUSIBLE_RATES = (Fraction(1, 3600), Fraction(1000))
# Containers that say themselves how wide pixels are; it holds for the whole stream then.
_SAY_ASPECT = ("mp4", "matroska")
_MASTERS = {0x18538067, 0x1654AE6B, 0xAE, 0xE0}  # Segment, Tracks, TrackEntry, Video
_PIXEL_CROP = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}


@dataclass(frozen=True, slots=True)
class StreamSelection:
    """The stream to read, and the names of the video streams that are not read."""

    stream: VideoStream
    not_read: tuple[str, ...]


def choose_stream(container: InputContainer, path: Path) -> StreamSelection:
    """Choose the video stream to read: the largest one that moves.

    A cover picture is no video; nor are the still or the thumbnails that a camera stores
    besides: one picture, less than a tenth of those of another stream, or half of them and
    each coded as a picture.

    Raises:
        VideoError: there is none, or no decoder for it.

    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "no stream"
        what = encrypted(path, container.format.name) or f"{kinds}; leave this file out"
        raise VideoError(f"{path}: expected a video stream, got {what}")
    counts = _pictures(streams, path)
    most = max(counts.values())
    moving = [s for s in streams if not _is_still(s, counts[s.index], most)] or streams
    readable = [s for s in moving if s.codec_context is not None]
    if not readable:
        unknown = "a codec that this ffmpeg build does not decode; convert the video to H.264"
        what = encrypted(path, container.format.name) or unknown
        raise VideoError(f"{path}: expected a video that can be decoded, got {what}")
    chosen = max(readable, key=_size)
    others = [s for s in container.streams.video if s is not chosen]
    return StreamSelection(chosen, tuple(_name(s, s not in moving) for s in others))


def _is_still(stream: VideoStream, pictures: int, most: int) -> bool:
    if stream.disposition & _STILL or pictures == 1 < most or _STILL_SHARE * pictures < most:
        return True
    codec = stream.codec_context
    return codec is not None and codec.name in _PICTURE_CODECS and 2 * pictures <= most


def _size(stream: VideoStream) -> tuple[int, int]:
    codec = stream.codec_context
    return codec.width * codec.height, -stream.index


def _pictures(streams: list[VideoStream], path: Path) -> dict[int, int]:
    """Return how many pictures each stream has, or has at its beginning if none says."""
    if len(streams) == 1:
        return {streams[0].index: 1}
    if all(s.frames for s in streams):
        return {s.index: s.frames for s in streams}
    seen: Counter[int] = Counter()
    with open_container(path) as container:
        try:
            packets = container.demux([container.streams[s.index] for s in streams])
            for number, packet in enumerate(packets):
                seen[packet.stream_index] += bool(packet.size)
                if number >= _PACKETS_LOOKED_AT:
                    break
        except (av.FFmpegError, IndexError):
            pass  # what is damaged there is reported when it is read
    return {s.index: seen[s.index] for s in streams}


def _name(stream: VideoStream, still: bool) -> str:
    codec = stream.codec_context
    what = f"{codec.name} {codec.width}x{codec.height}" if codec is not None else "unknown codec"
    still = still or bool(stream.disposition & (Disposition.attached_pic | _STILL))
    return f"video stream {stream.index} not read: {what}{', still pictures' if still else ''}"


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Return the average frames per second, None where nothing plausible is known."""
    rates = [stream.average_rate, stream.guessed_rate]
    if stream.start_time is None:  # a bare stream: only the codec's own header may know
        rates.reverse()
    # With one picture, ffmpeg takes a clock of 1/1000 s for the rate.
    for rate in rates:
        if rate == 1000 and stream.time_base == Fraction(1, 1000):
            continue
        if rate is not None and _PLAUSIBLE_RATES[0] <= rate <= _PLAUSIBLE_RATES[1]:
            return Fraction(rate)
    return None


# --- how it is shown -----------------------------------------------------------------


def pixel_aspect(container: InputContainer, stream: VideoStream) -> Fraction:
    """Return width divided by height of the pixels decoded last, 1 where it is unknown."""
    declared, coded = stream.sample_aspect_ratio, stream.codec_context.sample_aspect_ratio
    if not any(name in container.format.name for name in _SAY_ASPECT):
        declared, coded = coded, declared
    return Fraction(declared or coded or 1)


def display_of(
    container: InputContainer, stream: VideoStream, frame: av.VideoFrame, aspect: Fraction
) -> tuple[Display, list[str]]:
    """Return how the pictures are shown, and notes on what cannot be followed."""
    stored_wh, notes = (frame.width, frame.height), []
    crop = container_crop(container, stream)
    if min(crop.inside(stored_wh)) < 1:
        notes.append(f"the container's cropping leaves nothing of {stored_wh}, ignored: {crop}")
        crop = Crop()
    if not is_plausible(crop.inside(stored_wh), aspect):
        notes.append(f"sample aspect ratio {aspect} is not plausible, ignored")
        aspect = Fraction(1)
    return Display(stored_wh, crop, aspect, orientation_of(frame)), notes


def container_crop(container: InputContainer, stream: VideoStream) -> Crop:
    """Return what an mp4's ``clap`` box or a Matroska's PixelCrop cuts off.

    PyAV does not show what FFmpeg reads of them, but FFmpeg's Matroska writer does, in the
    header of a copy.
    """
    if not any(name in container.format.name for name in _SAY_ASPECT):
        return Crop()
    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as copy:
            copy.add_stream_from_template(stream)
            copy.start_encoding()
    except (av.FFmpegError, ValueError):
        return Crop()  # a codec that Matroska cannot hold
    sides = {
        _PIXEL_CROP[name]: int.from_bytes(content, "big")
        for name, content in _elements(header.getvalue())
        if name in _PIXEL_CROP
    }
    return Crop(**sides)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield name and content of the elements of a Matroska header (RFC 8794, 4 and 5)."""
    at = 0
    while at < len(data):
        name_end = at + _width(data, at)
        size_end = name_end + _width(data, name_end)
        name = int.from_bytes(data[at:name_end], "big")
        bits = 7 * (size_end - name_end)
        size = int.from_bytes(data[name_end:size_end], "big") & ((1 << bits) - 1)
        content = data[size_end:][:size]
        if name in _MASTERS:
            yield from _elements(content)
        else:
            yield name, content
        at = size_end + size


def _width(data: bytes, at: int) -> int:
    return 9 - data[at : at + 1].ljust(1, b"\0")[0].bit_length()
