"""Read a video packet by packet: every frame with its time, and an account of the rest."""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from recognizer.types import Frame, FrameAccount
from recognizer.video.container import (
    MPEG_FORMATS,
    VideoError,
    VideoInfo,
    announced_duration,
    cut_off,
    frame_rate,
    open_container,
    read_index,
    reason_of,
    video_stream,
)
from recognizer.video.image import ArrayImage, Converter, DecodedImage, Orientation, orientation_of
from recognizer.video.timing import PresentationClock, frames_in_gaps, on_grid

__all__ = ["ArrayImage", "VideoError", "VideoInfo", "VideoReader"]

_MAX_DEMUX_ERRORS = 100
_FALLBACK_PERIOD_S = 1 / 25
_WRAP_33_BITS = 2**33
# A file's length is that of its longest stream, rounded to that stream's packets.
_SLACK_PERIODS_OWN = 0.75
_SLACK_PERIODS_FILE = 1.5
_PROBE_SIZE_WH = (16, 16)
_VP8_SHOW = 0x10
EDIT_LIST = "outside the edit list"
HIDDEN = "never shown"


@dataclass(slots=True)
class _Tally:
    """What has come so far; becomes a ``FrameAccount``."""

    packets: int = 0
    discarded: int = 0
    hidden: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    end_s: float = 0.0
    pictures: int = 0
    usable: int = 0
    delivered: int = 0
    corrupt: int = 0
    absent: int = 0
    ended_early: bool = False
    skipped: Counter[str] = field(default_factory=Counter)
    other_sizes: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def restart(self) -> None:
        """Forget what the packets said, not what was made of the pictures."""
        self.packets, self.discarded, self.hidden, self.end_s = 0, 0, 0, 0.0
        self.errors.clear()

    def all_came(self, pictures: int) -> bool:
        """Tell whether every packet that should give a picture gave one, without an error."""
        return not self.errors and pictures >= self.packets - self.discarded - self.hidden

    def account(self) -> FrameAccount:
        """Return the account of what has come so far."""
        skipped = (
            self.skipped
            + self.other_sizes
            + Counter({EDIT_LIST: self.discarded, HIDDEN: self.hidden})
        )
        done = self.delivered + skipped.total()
        container_frames = max(self.packets + self.absent, done)
        errors = [f"{reason} ({n} times)" for reason, n in sorted(self.errors.items())]
        return FrameAccount(
            container_frames=container_frames,
            decoded=self.delivered,
            corrupt=self.corrupt,
            damaged=container_frames - done,
            skipped=dict(sorted(skipped.items())),
            ended_early=self.ended_early,
            notes=(*errors, *self.notes),
        )


class VideoReader:
    """Iterate over the frames of a video file, in presentation order, once.

    Reading does not stop at damage: a packet that cannot be decoded is counted, a frame that
    the decoder flags is handed on with ``corrupt=True``, and ``account`` tells at the end
    what became of everything. ``Frame.index`` counts all frames that came out of the
    decoder, those that are left out included. ``Frame.time_s`` is explained at
    ``recognizer.video.timing.PresentationClock``; it never falls.

    Args:
        path: a regular file.
        sample_fps: keep only the frames nearest to a grid of so many points per second.
        threads: threads of the decoder.

    Raises:
        VideoError: nothing can be read; the message says why and what to do.
        ValueError: sample_fps or threads out of range.

    """

    def __init__(self, path: Path, *, sample_fps: float | None = None, threads: int = 1) -> None:
        if sample_fps is not None and not 0 < sample_fps < float("inf"):
            raise ValueError(f"sample_fps: expected a number above 0 or None, got {sample_fps}")
        if threads < 1:
            raise ValueError(f"threads: expected 1 or more, got {threads}")
        self.path = path
        self._sample_fps = sample_fps
        self._tally = _Tally()
        self._threads = threads
        self._container = open_container(path)
        try:
            self._open_stream(threads)
            self._decoded = self._decode()
            self._begin(next(self._decoded, None))
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self, threads: int) -> None:
        self._stream = video_stream(self._container, self.path)
        self._announced = announced_duration(self._container, self._stream)
        codec = self._stream.codec_context
        codec.thread_count = threads
        # Frame threads would delay the only timestamps that AVI has.
        codec.thread_type = "NONE" if threads == 1 else "SLICE" if self._is_avi else "AUTO"

    @property
    def _is_avi(self) -> bool:
        return bool(self._container.format.name == "avi")

    def _begin(self, first: av.VideoFrame | None) -> None:
        if first is None:
            errors = "; ".join(self._tally.account().notes) or "no packet"
            raise VideoError(
                f"{self.path}: expected a video, got {self._tally.packets} packets of which none "
                f"can be decoded: {errors}; copy it again or leave it out"
            )
        orientation = orientation_of(first)
        if orientation is None:
            angle = -first.rotation % 360
            self._tally.notes.append(f"not turned: {angle} degrees is no multiple of 90")
        self._converter = Converter(orientation or Orientation())
        picture = DecodedImage(first, self._converter)
        self.size_wh = picture.size_wh
        self.info = self._describe(first)
        try:
            picture.bgr(_PROBE_SIZE_WH)
        except ValueError as error:
            raise VideoError(f"{self.path}: {error}; convert the video to H.264") from error
        self._clock = self._make_clock()
        self._frames = self._select(first)

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        rate = frame_rate(self._stream)
        return VideoInfo(
            codec=self._stream.codec_context.codec.canonical_name,
            pix_fmt=first.format.name,
            coded_size_wh=(first.width, first.height),
            rotation_deg=self._converter.orientation.rotation_deg,
            fps=float(rate) if rate else None,
            container=self._container.format.name,
            duration_s=self._announced.seconds,
        )

    def _make_clock(self) -> PresentationClock:
        is_mpeg = self._container.format.name in MPEG_FORMATS
        start = self._stream.start_time
        if self._is_avi and start is not None:
            delay_s = self._stream.codec_context.reorder_depth * self._period_s
            start += round(delay_s / self._stream.time_base)
        return PresentationClock(
            self._stream.time_base, start, self._period_s, _WRAP_33_BITS if is_mpeg else None
        )

    @property
    def _period_s(self) -> float:
        return 1 / self.info.fps if self.info.fps else _FALLBACK_PERIOD_S

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; ``account`` keeps what was counted until then."""
        self._frames.close()
        self._decoded.close()
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Return the reader itself: a video is read once."""
        return self

    def __next__(self) -> Frame:
        """Return the next frame."""
        return next(self._frames)

    @property
    def account(self) -> FrameAccount:
        """What became of the frames so far; complete once the iteration has ended."""
        return self._tally.account()

    # --- from packets to frames ------------------------------------------------------

    def _packets(self) -> Iterator[Any]:
        errors = 0
        while errors < _MAX_DEMUX_ERRORS:
            try:
                # All streams are read, so that the end of the longest can be compared with
                # the length that the container announces.
                for packet in self._container.demux():
                    self._note_end(packet)
                    if packet.stream_index == self._stream.index:
                        yield packet
                return
            except av.FFmpegError as error:
                errors += 1
                self._tally.errors[f"container: {reason_of(error)}"] += 1
            except IndexError:
                # PyAV's end mark for a stream that appeared midway; everything was read.
                self._tally.errors["container: further streams appear midway, not read"] += 1
                return

    def _note_end(self, packet: Any) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or packet.is_discard or not packet.time_base:
            return
        if self._announced.own and packet.stream_index != self._stream.index:
            return
        # A stream's own duration counts from its start, a file's from zero.
        start = packet.stream.start_time if packet.stream.duration is not None else 0
        ticks = stamp - (start or 0) + (packet.duration or 0)
        self._tally.end_s = max(self._tally.end_s, float(ticks * packet.time_base))

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        """Yield all pictures; start again with one thread where threads would lose some.

        After an error, a decoder with frame threads drops intact frames that other threads
        were working on, at the end even without saying so. Those already yielded are the
        same, and are not yielded again.
        """
        done = 0
        for frame in self._pictures():
            if self._threads > 1 and (frame.is_corrupt or self._tally.errors):
                break
            done += 1
            yield frame
        else:
            if self._threads == 1 or self._tally.all_came(done):
                return
        self._container.close()
        self._container = open_container(self.path)
        self._open_stream(1)
        self._tally.restart()
        yield from islice(self._pictures(), done, None)

    def _pictures(self) -> Iterator[av.VideoFrame]:
        codec = self._stream.codec_context
        is_vp8 = codec.codec.canonical_name == "vp8"
        for packet in self._packets():
            if not packet.size:
                continue  # the demuxer's own end mark, or "repeat the last picture" in AVI
            self._tally.packets += 1
            self._tally.discarded += bool(packet.is_discard)
            # A VP8 picture without the show bit is only there to predict others from.
            self._tally.hidden += is_vp8 and not memoryview(packet)[0] & _VP8_SHOW
            yield from self._decoded_from(codec, packet)
        yield from self._decoded_from(codec, None)

    def _decoded_from(self, codec: Any, packet: Any) -> list[av.VideoFrame]:
        try:
            frames: list[av.VideoFrame] = codec.decode(packet)
        except av.FFmpegError as error:
            self._tally.errors[f"decoder: {reason_of(error)}"] += 1
            return []
        return frames

    # --- from frames to what is handed on --------------------------------------------

    def _select(self, first: av.VideoFrame) -> Generator[Frame, None, None]:
        frames = self._timed(first)
        if self._sample_fps is None:
            kept = frames
        else:
            kept = on_grid(((frame.time_s, frame) for frame in frames), self._sample_fps)
        for frame in kept:
            self._tally.delivered += 1
            self._tally.corrupt += frame.corrupt
            yield frame
        self._finish()

    def _timed(self, first: av.VideoFrame) -> Iterator[Frame]:
        current: av.VideoFrame | None = first
        while current is not None:
            following = next(self._decoded, None)
            time_s = self._clock.time_s(
                self._stamp(current), self._stamp(following) if following else None
            )
            index = self._tally.pictures
            self._tally.pictures += 1
            if (current.width, current.height) == self.info.coded_size_wh:
                self._tally.usable += 1
                image = DecodedImage(current, self._converter)
                yield Frame(image, index, time_s, bool(current.is_corrupt))
            else:
                self._tally.other_sizes[f"size {current.width}x{current.height}"] += 1
            current = following

    def _stamp(self, frame: av.VideoFrame) -> int | None:
        # AVI holds no presentation times; what ffmpeg makes up as pts is in decoding order.
        stamp: int | None = frame.dts if self._is_avi or frame.pts is None else frame.pts
        return stamp

    # --- at the end ------------------------------------------------------------------

    def _finish(self) -> None:
        tally, clock = self._tally, self._clock
        if self._sample_fps is not None:
            tally.skipped["sample_fps"] = tally.usable - tally.delivered
        for size, count in sorted(tally.other_sizes.items()):
            first = "x".join(map(str, self.info.coded_size_wh))
            tally.notes.append(f"left out {count} frames of {size}: the first is {first}")
        self._compare_with_announced()
        times = [
            (clock.outliers, "contradicted by its neighbours, replaced"),
            (clock.falls, "went back, continued one frame period later"),
            # The last frames of an AVI with B-frames never have one.
            (0 if self._is_avi else clock.guessed, "missing, taken from the frame rate"),
        ]
        tally.notes += [f"timestamp {what} ({n} times)" for n, what in times if n]

    def _compare_with_announced(self) -> None:
        tally, container, stream = self._tally, self._container, self._stream
        index = read_index(container, stream)
        if index.frames is not None:
            # If the edit list is not all that left some out, the duration below tells.
            tally.skipped[EDIT_LIST] += index.unlisted
            missing = max(index.frames - tally.packets, 0)
            tally.absent = missing + index.unlisted
            if missing:
                self._note_early_end(f"{index.frames} frames", str(tally.packets))
                return
        if not index.full:
            tally.notes += cut_off(self.path, container.format.name)
            lost = frames_in_gaps(self._clock.gaps) - max(tally.packets - tally.pictures, 0)
            if lost > 0:
                tally.notes.append(f"gaps in a regular stream: about {lost} frames are missing")
        if not index.full or tally.skipped[EDIT_LIST]:
            self._compare_durations()

    def _compare_durations(self) -> None:
        announced_s, came_s = self._announced.seconds, self._tally.end_s
        slack = _SLACK_PERIODS_OWN if self._announced.own else _SLACK_PERIODS_FILE
        if announced_s is not None and came_s < announced_s - slack * self._period_s:
            self._note_early_end(f"{announced_s:.2f} s", f"{came_s:.2f} s")

    def _note_early_end(self, announced: str, came: str) -> None:
        self._tally.ended_early = True
        self._tally.notes.append(f"ended early: {announced} announced, {came} in the file")
