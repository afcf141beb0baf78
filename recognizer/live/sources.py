"""One connection to a camera, or one reading of a file: frames with their times, and packets."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeAlias

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.clock import StreamClock
from recognizer.live.errors import Reason, SourceError, failure, failure_of, redacted
from recognizer.types import Frame
from recognizer.video.container import BARE_FORMATS, VideoError
from recognizer.video.deinterlace import DecodedFrame, Deinterlacer
from recognizer.video.image import Converter, DecodedImage
from recognizer.video.reader import VideoReader
from recognizer.video.streams import choose_stream, display_of, frame_rate, pixel_aspect

Packet: TypeAlias = "av.Packet[VideoStream]"
_DEFAULT_PERIOD_S = 1 / 25
_MAX_ERRORS_IN_A_ROW = 250
# An address must not make FFmpeg read files of this machine.
_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy"
_USB_FORMAT = "video4linux2"
_STORED_FORMATS = ("mp4", "matroska")
_MAX_WAIT_S = 2.0


class PacketSink(Protocol):
    """Takes the packets of a camera, before they are decoded."""

    def begin(self, stream: VideoStream, connection: int) -> None:
        """Start a connection; the packets before belong to others."""
        ...

    def add(self, packet: Packet, time_s: float, connection: int) -> None:
        """Take a packet that is to be shown at about ``time_s``; not one of an old connection."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class CapturedFrame:
    """A frame as a source gives it.

    Attributes:
        frame: picture, number in this connection, time.
        captured_s: when it was decoded, on the monotonic clock.
        codec: such as ``h264``.

    """

    frame: Frame
    captured_s: float
    codec: str

    @property
    def form(self) -> tuple[str, tuple[int, int]]:
        """Codec, width and height: a tracker cannot go on over a change of these."""
        return self.codec, self.frame.image.size_wh


class Source(Protocol):
    """An open camera or file."""

    @property
    def period_s(self) -> float:
        """Nominal time between frames."""
        ...

    def frames(self) -> Iterator[CapturedFrame]:
        """Yield the frames; raises SourceError where a camera is lost."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What a source needs besides its config.

    Attributes:
        connection: its number, for the packet sink.
        stop: set when the source is no longer needed.
        lost_packets: called with the number of packets or frames that could not be decoded.
        sink: takes the packets; None: not needed.
        clock: the monotonic clock.

    """

    connection: int
    stop: threading.Event
    lost_packets: Callable[[int], None]
    sink: PacketSink | None = None
    clock: Callable[[], float] = time.monotonic


def address_of(camera: CameraConfig) -> str:
    """Return where a camera is: URL with credentials, device or path."""
    if camera.url is not None:
        return camera.url
    return str(camera.path) if camera.path is not None else f"/dev/video{camera.device}"


def open_source(camera: CameraConfig, source: SourceConfig, opening: Opening) -> Source:
    """Open a camera or file.

    Raises:
        SourceError: it cannot be opened; says why, and what to do.

    """
    if camera.path is not None:
        return FileSource(camera, opening)
    return CameraSource(camera, source, opening)


class CameraSource:
    """A connection to a network or USB camera. Raises as ``open_source``."""

    def __init__(self, camera: CameraConfig, source: SourceConfig, opening: Opening) -> None:
        self._address, self._opening = address_of(camera), opening
        self._read_timeout_s, start_s = source.read_timeout_s, time.monotonic()
        try:
            self._container = _open(camera, source)
        except (av.FFmpegError, OSError, ValueError) as error:
            timed_out = time.monotonic() - start_s >= source.open_timeout_s
            raise failure_of(error, self._address, timed_out=timed_out) from error
        try:
            self._stream = self._choose()
        except BaseException:
            self._container.close()
            raise
        codec = self._stream.codec_context
        codec.thread_count = source.threads
        codec.thread_type = "SLICE"  # threads over frames would delay each
        self._codec = codec.codec.canonical_name
        self._has_stamps = self._container.format.name not in BARE_FORMATS
        # A server that sends a whole file does not send it at its own speed.
        stored = any(name in self._container.format.name for name in _STORED_FORMATS)
        self._is_stored = stored and bool(self._container.duration)
        self._start_s: float | None = None
        self._clock = StreamClock()
        self._captured_s = opening.clock()
        self._converter: tuple[tuple[int, int], Fraction, Converter] | None = None
        if opening.sink is not None:
            opening.sink.begin(self._stream, opening.connection)

    @property
    def period_s(self) -> float:
        """Nominal time between frames."""
        rate = frame_rate(self._stream)
        return float(1 / rate) if rate else _DEFAULT_PERIOD_S

    def frames(self) -> Generator[CapturedFrame, None, None]:
        """Yield the frames until the camera is lost; its end is a loss, too."""
        for index, picture in enumerate(Deinterlacer()(self._pictures())):
            stamp_s = self._seconds(picture.stamp)
            if self._is_stored and stamp_s is not None and not self._wait_for(stamp_s):
                return
            time_s = self._clock.time_s(stamp_s, self._captured_s)
            image = DecodedImage(picture.frame, self._converter_for(picture))
            frame = Frame(image, index, time_s, picture.corrupt)
            yield CapturedFrame(frame, self._captured_s, self._codec)
        if not self._opening.stop.is_set():
            raise failure(Reason.ENDED, self._address, "the end of the stream")

    def _wait_for(self, stamp_s: float) -> bool:
        """Wait for a frame's turn in a video that comes as fast as it can; False: stopped."""
        if self._start_s is None:
            self._start_s = self._captured_s - stamp_s
        wait_s = self._start_s + stamp_s - self._opening.clock()
        is_stopped = self._opening.stop.wait(min(max(wait_s, 0.0), _MAX_WAIT_S))
        self._captured_s = self._opening.clock()
        return not is_stopped

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _choose(self) -> VideoStream:
        streams = self._container.streams.video
        if not streams:
            raise failure(Reason.BAD_DATA, self._address, "a stream without pictures")
        readable = [stream for stream in streams if stream.codec_context is not None]
        if not readable:
            raise failure(Reason.CODEC, self._address, "a codec that this FFmpeg does not decode")
        return max(readable, key=lambda s: s.codec_context.width * s.codec_context.height)

    def _pictures(self) -> Iterator[DecodedFrame]:
        errors = 0
        for packet in self._packets():
            pictures = self._decoded(packet)
            errors = errors + 1 if pictures is None else 0
            if errors >= _MAX_ERRORS_IN_A_ROW:
                came = f"{errors} packets in a row that cannot be decoded"
                raise failure(Reason.BAD_DATA, self._address, came)
            aspect = pixel_aspect(self._container, self._stream)
            for frame in pictures or ():
                stamp = frame.pts if self._has_stamps else None
                yield DecodedFrame(frame, stamp, bool(frame.is_corrupt), aspect)

    def _packets(self) -> Iterator[Packet]:
        opening, asked_s = self._opening, time.monotonic()
        try:
            for packet in self._container.demux(self._stream):
                if opening.stop.is_set():
                    return
                # What FFmpeg still held when its wait was interrupted comes as a packet.
                is_late = time.monotonic() - asked_s >= self._read_timeout_s
                if not packet.size:
                    continue
                self._captured_s = opening.clock()
                if not self._has_stamps and packet.time_base:
                    # The demuxer counts pictures there, at a rate that it makes up.
                    packet.pts = packet.dts = round(self._captured_s / packet.time_base)
                if opening.sink is not None:
                    opening.sink.add(packet, self._packet_time_s(packet), opening.connection)
                yield packet
                if is_late:
                    raise failure(Reason.TIMEOUT, self._address, "nothing within the time limit")
                asked_s = time.monotonic()
        except (av.FFmpegError, OSError, IndexError) as error:
            # IndexError: PyAV does not know a stream that appears midway.
            raise failure_of(error, self._address) from error

    def _packet_time_s(self, packet: Packet) -> float:
        stamp = packet.pts if self._has_stamps else None
        return self._clock.placed_s(self._seconds(stamp), self._captured_s)

    def _decoded(self, packet: Packet) -> list[av.VideoFrame] | None:
        try:
            pictures: list[av.VideoFrame] = self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            self._opening.lost_packets(1)
            return None
        self._captured_s = self._opening.clock()
        return pictures

    def _seconds(self, stamp: int | None) -> float | None:
        base = self._stream.time_base
        return None if stamp is None or base is None else float(stamp * base)

    def _converter_for(self, picture: DecodedFrame) -> Converter:
        kept = self._converter
        if kept is None or kept[:2] != (picture.size_wh, picture.aspect):
            display, _ = display_of(self._container, self._stream, picture.frame, picture.aspect)
            kept = self._converter = (picture.size_wh, picture.aspect, Converter(display))
        return kept[2]


def _open(camera: CameraConfig, source: SourceConfig) -> InputContainer:
    options = {"probesize": str(source.probe_bytes), "analyzeduration": str(source.analyse_us)}
    kind = None
    if camera.url is None:
        kind = _USB_FORMAT
    else:
        options["protocol_whitelist"] = _PROTOCOLS
        if camera.url.startswith("rtsp"):
            options["rtsp_transport"] = camera.transport
        if camera.verify_certificate:
            options["tls_verify"] = "1"
    return av.open(
        address_of(camera),
        format=kind,
        container_options=options,
        timeout=(source.open_timeout_s, source.read_timeout_s),
        metadata_errors="replace",
    )


class FileSource:
    """A file in place of a camera, at its own speed or as fast as it goes.

    Its frames and their times are those of offline analysis (``VideoReader``). Packets come from
    a second reading of the file, in step with the frames. Raises as ``open_source``.
    """

    def __init__(self, camera: CameraConfig, opening: Opening) -> None:
        if camera.path is None:
            raise ValueError(f"{camera.name}: expected a camera with a path, got none")
        self._path, self._opening = camera.path, opening
        self._is_paced = camera.speed == "real"
        try:
            self._reader = VideoReader(camera.path, sample_fps=camera.fps)
        except VideoError as error:
            reason = Reason.BAD_DATA if camera.path.is_file() else Reason.NOT_FOUND
            raise SourceError(reason, redacted(str(error))) from error
        self._times = self._packet_times()

    @property
    def period_s(self) -> float:
        """Nominal time between frames."""
        fps = self._reader.info.fps
        return 1 / fps if fps else _DEFAULT_PERIOD_S

    def frames(self) -> Iterator[CapturedFrame]:
        """Yield the frames of the file, each when its time has come."""
        opening, codec = self._opening, self._reader.info.codec
        ahead_s, start_s = float("-inf"), opening.clock()
        for frame in self._reader:
            while ahead_s <= frame.time_s and (time_s := next(self._times, None)) is not None:
                ahead_s = time_s
            if self._is_paced and opening.stop.wait(
                max(start_s + frame.time_s - opening.clock(), 0)
            ):
                return
            yield CapturedFrame(frame, opening.clock(), codec)
        opening.lost_packets(self._reader.account.damaged)

    def close(self) -> None:
        """Close the file."""
        self._times.close()
        self._reader.close()

    def _packet_times(self) -> Generator[float, None, None]:
        """Hand on the file's packets and yield the time of each."""
        sink = self._opening.sink
        if sink is None:
            return
        with av.open(str(self._path), metadata_errors="replace") as container:
            stream = choose_stream(container, self._path).stream
            if stream.time_base is None:
                return
            sink.begin(stream, self._opening.connection)
            start = stream.start_time or 0
            try:
                for packet in container.demux(stream):
                    if packet.size and packet.pts is not None:
                        time_s = float((packet.pts - start) * stream.time_base)
                        sink.add(packet, time_s, self._opening.connection)
                        yield time_s
            except av.FFmpegError:
                return  # damage is in the reader's account
