"""Packets of a camera to a fragmented mp4, without decoding or encoding them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from recognizer.video.container import reason_of
from recognizer.video.streams import frame_rate

_DEFAULT_PERIOD_S = 1 / 25
# A fragmented mp4 is playable up to where its writing stopped.
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@dataclass(frozen=True, slots=True)
class StoredPacket:
    """A packet as it came from the camera.

    Attributes:
        data: its bytes.
        pts: when it is shown, in units of the stream.
        dts: when it is decoded, in such units.
        is_key: decoding can start here.
        time_s: when it is shown, on the clock of the camera's frames.

    """

    data: bytes
    pts: int
    dts: int
    is_key: bool
    time_s: float


@dataclass(frozen=True, eq=False, slots=True)
class StreamCopy:
    """What is needed of a stream to copy its packets once its connection is closed.

    Attributes:
        time_base: seconds per timestamp unit.
        period: nominal time between frames in such units.
        template: codec and header, None where mp4 cannot hold them.
        problem: why it cannot.

    """

    time_base: Fraction
    period: int
    template: VideoStream | None
    problem: str = ""

    @property
    def period_s(self) -> float:
        """Nominal time between frames in seconds."""
        return float(self.period * self.time_base)


def copy_stream(stream: VideoStream) -> StreamCopy:
    """Return a copy of a stream's header that outlives its container."""
    base, rate = stream.time_base or Fraction(1, 90_000), frame_rate(stream)
    period = max(round((float(1 / rate) if rate else _DEFAULT_PERIOD_S) / base), 1)
    # A container that is never written only holds the copied header.
    holder = av.open(io.BytesIO(), "w", format="mp4")
    try:
        template = _add(holder, stream)
    except (av.FFmpegError, ValueError) as error:
        return StreamCopy(base, period, None, reason_of(error))
    return StreamCopy(base, period, template)


def clip_bytes(stream: StreamCopy, packets: Sequence[StoredPacket]) -> memoryview:
    """Return an mp4 with the packets, whose time starts at 0.

    It is made in memory: FFmpeg does not report a full disk while it writes fragments.

    Args:
        stream: has a template.
        packets: in decoding order, the first a key frame.

    Raises:
        av.FFmpegError: mp4 cannot hold these packets.
        ValueError: a stream without template, or no packet.

    """
    if stream.template is None or not packets:
        raise ValueError(f"expected packets and a template, got {len(packets)}; {stream.problem}")
    start = min(packet.dts for packet in packets)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options=_FRAGMENTED) as output:
        target = _add(output, stream.template)
        dts = -1
        for stored in packets:
            dts = max(stored.dts - start, dts + 1)
            packet: av.Packet[Stream] = av.Packet(stored.data)
            packet.time_base = stream.time_base
            packet.dts, packet.pts = dts, max(stored.pts - start, dts)
            packet.duration, packet.is_keyframe = stream.period, stored.is_key
            packet.stream = target
            output.mux(packet)
    return file.getbuffer()


def _add(output: OutputContainer, stream: VideoStream) -> VideoStream:
    added: VideoStream = output.add_stream_from_template(stream)
    return added
