"""From a file's packets to pictures in presentation order, and what became of the packets."""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from recognizer.types import FrameAccount
from recognizer.video import nvdec
from recognizer.video.container import BARE_FORMATS, announced_duration, open_container, reason_of
from recognizer.video.deinterlace import DecodedFrame
from recognizer.video.fields import FieldPairs
from recognizer.video.streams import choose_stream, frame_rate, pixel_aspect

Packet: TypeAlias = "av.Packet[Stream]"

_MAX_DEMUX_ERRORS = 100
_VP8_SHOW = 0x10
_NO_PRESENTATION_TIMES = {"avi", "asf"}
_MAYBE_NO_PRESENTATION_TIMES = {"mxf"}  # where its index does not say how to reorder
EDIT_LIST = "outside the edit list"
HIDDEN = "never shown"


@dataclass(slots=True)
class Tally:
    """What has come so far; becomes a ``FrameAccount``."""

    packets: int = 0
    discarded: int = 0
    hidden: int = 0
    second_fields: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    end_s: float = 0.0
    pictures: int = 0
    usable: int = 0
    delivered: int = 0
    corrupt: int = 0
    absent: int = 0
    ended_early: bool = False
    is_complete: bool = False
    skipped: Counter[str] = field(default_factory=Counter)
    other_sizes: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def restart(self) -> None:
        """Drop the counts of packets, not those of pictures."""
        self.packets, self.discarded, self.hidden, self.end_s = 0, 0, 0, 0.0
        self.second_fields = 0
        self.errors.clear()

    def all_came(self, pictures: int) -> bool:
        """Tell whether every packet that should give a picture gave one, without an error."""
        expected = self.packets - self.second_fields - self.discarded - self.hidden
        return not self.errors and pictures >= expected

    def account(self) -> FrameAccount:
        """Return the account of what was handed on so far; of the whole file once complete."""
        skipped = (
            self.skipped
            + self.other_sizes
            + Counter({EDIT_LIST: self.discarded, HIDDEN: self.hidden})
        )
        done = self.delivered + skipped.total()
        # Before the end the decoder holds packets whose pictures are still to come.
        stored = self.packets - self.second_fields + self.absent if self.is_complete else 0
        container_frames = max(stored, done)
        errors = [f"{reason} ({n} times)" for reason, n in sorted(self.errors.items())]
        return FrameAccount(
            container_frames=container_frames,
            decoded=self.delivered,
            corrupt=self.corrupt,
            damaged=container_frames - done,
            skipped=dict(sorted(skipped.items())),
            ended_early=self.ended_early,
            notes=(*errors, *self.notes),
            facts=tuple(self.facts),
        )


class Decoder:
    """Open a file and decode its video stream.

    Args:
        path: a regular file.
        threads: of the CPU's decoder.
        tally: counts packets and pictures.
        gpu: number of the NVIDIA GPU that decodes (``nvdec``); None: the CPU.

    Attributes:
        stream: the stream that is read.
        not_read: a sentence for every other video stream.

    Raises:
        VideoError: nothing can be read; the message says why and what to do.

    """

    def __init__(self, path: Path, threads: int, tally: Tally, gpu: int | None = None) -> None:
        threads = threads if gpu is None else 1  # the GPU decodes, one after the other
        self._path, self._threads, self._tally = path, threads, tally
        if gpu is not None:
            nvdec.check_nvdec(gpu)
        self._hwaccel = None if gpu is None else nvdec.accelerator(gpu)
        self.container = open_container(path, self._hwaccel)
        try:
            self._open_stream(threads)
        except BaseException:
            self.container.close()
            raise

    def _open_stream(self, threads: int) -> None:
        choice = choose_stream(self.container, self._path)
        self.stream, self.not_read = choice.stream, choice.not_read
        self.announced = announced_duration(self.container, self.stream)
        self._in_order = threads == 1
        codec = self.stream.codec_context
        if self._hwaccel is not None:
            nvdec.check_codec(codec, self._path)
        codec.thread_count = threads
        name = self.container.format.name
        self.decoding_times = name in _NO_PRESENTATION_TIMES
        self._made_up = name in BARE_FORMATS
        # Frame threads would delay the only timestamps that AVI has.
        ordered = self.decoding_times or name in _MAYBE_NO_PRESENTATION_TIMES
        codec.thread_type = "NONE" if threads == 1 else "SLICE" if ordered else "AUTO"
        self._delays: set[int] = set()
        self._next_stamp = 0
        self._aspect = pixel_aspect(self.container, self.stream)
        self._aspect_before, self._aspect_from = self._aspect, 0

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def pictures(self) -> Generator[DecodedFrame, None, None]:
        """Yield all pictures; start again with one thread where threads would lose some.

        After an error, a decoder with frame threads drops intact frames that other threads
        were working on, at the end even without saying so. Those already yielded are the
        same, and are not yielded again. Threads also hide where the shape of pixels changes.
        """
        done, aspect = 0, self._aspect
        for picture in self._pictures():
            changed = done and picture.aspect != aspect
            if self._threads > 1 and (picture.corrupt or self._tally.errors or changed):
                break
            aspect = picture.aspect
            done += 1
            yield picture
        else:
            if self._threads == 1 or self._tally.all_came(done):
                return
        self.container.close()
        self.container = open_container(self._path, self._hwaccel)
        self._open_stream(1)
        self._tally.restart()
        yield from islice(self._pictures(), done, None)

    def _packets(self) -> Iterator[Packet]:
        errors = 0
        while errors < _MAX_DEMUX_ERRORS:
            try:
                # All streams are read, so that the end of the longest can be compared with
                # the length that the container announces.
                for packet in self.container.demux():
                    self._note_end(packet)
                    if packet.stream_index == self.stream.index:
                        yield packet
                return
            except av.FFmpegError as error:
                errors += 1
                self._tally.errors[f"container: {reason_of(error)}"] += 1
            except IndexError:
                # PyAV's end mark for a stream that appeared midway; everything was read.
                self._tally.errors["container: further streams appear midway, not read"] += 1
                return

    def _note_end(self, packet: Packet) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or packet.is_discard or not packet.time_base:
            return
        if self.announced.of_stream and packet.stream_index != self.stream.index:
            return
        # A stream's own duration counts from its start, a file's from zero.
        from_zero = self.announced.from_zero or packet.stream.duration is None
        start = 0 if from_zero else packet.stream.start_time or 0
        end_s = float((stamp - start + (packet.duration or 0)) * packet.time_base)
        if not packet.duration:
            end_s += _usual_duration_s(packet.stream)
        self._tally.end_s = max(self._tally.end_s, end_s)

    def _pictures(self) -> Iterator[DecodedFrame]:
        codec, tally, pairs = self.stream.codec_context, self._tally, FieldPairs()
        is_vp8 = codec.codec.canonical_name == "vp8"
        for packet in self._packets():
            if not packet.size:
                continue  # the demuxer's own end mark, or "repeat the last picture" in AVI
            tally.packets += 1
            tally.discarded += bool(packet.is_discard)
            # A VP8 picture without the show bit is only there to predict others from.
            tally.hidden += is_vp8 and not memoryview(packet)[0] & _VP8_SHOW
            if packet.has_sidedata("encryption_info"):
                tally.errors["decoder: encrypted, and no key for it"] += 1
                continue
            pairs.add_packet(packet.pts)
            self._note_delay(packet)
            frames = self._decoded_from(codec, packet)
            self._note_aspect(packet)
            for frame in frames:
                pairs.add_picture(frame)
                yield self._picture(frame)
        for frame in self._decoded_from(codec, None):
            pairs.add_picture(frame)
            yield self._picture(frame)
        if not tally.errors:  # else a packet without a picture is rather a lost one
            tally.second_fields = pairs.second_fields

    def _decoded_from(
        self, codec: VideoCodecContext, packet: "Packet | None"
    ) -> list[av.VideoFrame]:
        try:
            frames: list[av.VideoFrame] = codec.decode(packet)
        except av.FFmpegError as error:
            self._tally.errors[f"decoder: {reason_of(error)}"] += 1
            return []
        return frames

    def _note_aspect(self, packet: Packet) -> None:
        """Keep the pixel aspect, and the time from which a new one holds.

        Only a key frame changes it; what is shown before that comes out of the decoder later.
        """
        aspect = pixel_aspect(self.container, self.stream)
        if aspect != self._aspect:
            self._aspect_before, self._aspect = self._aspect, aspect
            stamp = packet.dts if self.decoding_times or packet.pts is None else packet.pts
            self._aspect_from = stamp or 0

    def _note_delay(self, packet: Packet) -> None:
        """Learn from the packets before the first picture whether an MXF holds their order.

        Each packet of a codec that reorders pictures is delayed by its own time, unless the
        container only counted them.
        """
        is_mxf = self.container.format.name in _MAYBE_NO_PRESENTATION_TIMES
        pts, dts = packet.pts, packet.dts
        if is_mxf and not self._tally.pictures and pts is not None and dts is not None:
            self._delays.add(pts - dts)
            reorders = self.stream.codec_context.reorder_depth > 0
            self.decoding_times = reorders and len(self._delays) == 1

    def _stamp(self, frame: av.VideoFrame) -> int | None:
        if self._made_up:
            return self._counted_stamp(frame)
        # AVI holds no presentation times; what ffmpeg makes up as pts is in decoding order.
        return frame.dts if self.decoding_times or frame.pts is None else frame.pts

    def _counted_stamp(self, frame: av.VideoFrame) -> int | None:
        """Return the time of a bare stream's picture: MPEG says how long each is shown."""
        if self.container.format.name != "mpegvideo" or not frame.duration:
            return None
        stamp = self._next_stamp
        self._next_stamp += frame.duration
        return stamp

    def _picture(self, frame: av.VideoFrame) -> DecodedFrame:
        stamp = self._stamp(frame)
        # With threads the decoder's aspect is of the returned picture, not of the last packet.
        old = self._in_order and stamp is not None and stamp < self._aspect_from
        aspect: Fraction = self._aspect_before if old else self._aspect
        return DecodedFrame(frame, stamp, bool(frame.is_corrupt), aspect)


def _usual_duration_s(stream: Any) -> float:
    """Return how long a packet lasts that does not say so; 0 where nothing is known."""
    codec = stream.codec_context
    if codec is None:
        return 0.0
    if stream.type == "audio":
        return codec.frame_size / codec.sample_rate if codec.sample_rate else 0.0
    rate = frame_rate(stream) if stream.type == "video" else None
    return float(1 / rate) if rate else 0.0
