"""Read a video packet by packet: every frame with its time, and an account of the rest."""

from collections import Counter
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from av.container import InputContainer
from av.video.stream import VideoStream

from recognizer.checks import MAX_THREADS, check_number, check_whole
from recognizer.types import Frame, FrameAccount
from recognizer.video.array_image import ArrayImage
from recognizer.video.container import (
    BARE_FORMATS,
    MPEG_FORMATS,
    VideoError,
    VideoInfo,
    cut_off,
    read_index,
)
from recognizer.video.decoder import EDIT_LIST, Decoder, Tally
from recognizer.video.deinterlace import DecodedFrame, Deinterlacer
from recognizer.video.display import is_plausible
from recognizer.video.encryption import encrypted
from recognizer.video.hdr import NAMES as HDR_NAMES
from recognizer.video.image import Converter, DecodedImage, is_matrix_known
from recognizer.video.streams import display_of, frame_rate
from recognizer.video.timing import PresentationClock, frames_in_gaps, on_grid

__all__ = ["ArrayImage", "VideoError", "VideoInfo", "VideoReader"]

_FALLBACK_PERIOD_S = 1 / 25
_WRAP_33_BITS = 2**33
# A file's length is that of its longest stream, rounded to that stream's packets.
_SLACK_PERIODS_STREAM = 0.75
_SLACK_PERIODS_FILE = 1.5
_PROBE_SIZE_WH = (16, 16)


class VideoReader:
    """Iterate over the frames of a video file, in presentation order, once.

    Pictures are those that a player shows: cropped as the file asks, in square pixels, turned
    and made whole where they are interlaced; HDR becomes BT.709. ``size_wh`` is their size.

    Reading does not stop at damage: a packet that cannot be decoded is counted, a frame that
    the decoder flags is handed on with ``corrupt=True``, and ``account`` holds at the end
    what became of everything. ``Frame.index`` counts all frames that came out of the
    decoder, those that are left out included. ``Frame.time_s`` is explained at
    ``recognizer.video.timing.PresentationClock``; it never falls.

    Args:
        path: a regular file.
        sample_fps: keep only the frames nearest to a grid of so many points per second.
        threads: threads of the decoder, 1 to 256.
        gpu: number of the NVIDIA GPU whose decoder is used; None: the CPU decodes.

    Raises:
        VideoError: nothing can be read, or no GPU decodes here; the message says why and what to
            do.
        ValueError: sample_fps or threads (1 to 256) out of range; at iteration, a reader that is
            closed.

    """

    def __init__(
        self,
        path: str | Path,
        *,
        sample_fps: float | None = None,
        threads: int = 1,
        gpu: int | None = None,
    ) -> None:
        if sample_fps is not None:
            check_number("sample_fps", sample_fps)
            if not 0 < sample_fps < float("inf"):
                raise ValueError(f"sample_fps: expected a number above 0 or None, got {sample_fps}")
        check_whole("threads", threads, 1, MAX_THREADS)
        self.path = path = Path(path)
        self._sample_fps = sample_fps
        self._is_closed = False
        self._tally = Tally()
        self._scaled: Counter[str] = Counter()
        self._decoder = Decoder(path, threads, self._tally, gpu)
        self._deinterlacer = Deinterlacer()
        try:
            self._pictures = self._deinterlacer(self._decoder.pictures())
            self._begin(next(self._pictures, None))
        except BaseException:
            self._decoder.close()
            raise

    @property
    def _is_bare(self) -> bool:
        return self._container.format.name in BARE_FORMATS

    @property
    def _container(self) -> InputContainer:
        return self._decoder.container

    @property
    def _stream(self) -> VideoStream:
        return self._decoder.stream

    def _begin(self, first: DecodedFrame | None) -> None:
        if first is None:
            raise VideoError(f"{self.path}: expected a video, got {self._why_nothing()}")
        self._first = (first.size_wh, first.aspect)
        display, notes = display_of(self._container, self._stream, first.frame, first.aspect)
        self._tally.notes += notes
        if not is_matrix_known(first.frame):
            number = int(first.frame.colorspace)
            self._tally.notes.append(f"colours are wrong: matrix {number} is read as BT.601")
        self._tally.facts += self._decoder.not_read
        self._converter = Converter(display)
        self.size_wh = display.size_wh
        self.info = self._describe(first)
        try:
            DecodedImage(first.frame, self._converter).bgr(_PROBE_SIZE_WH)
        except ValueError as error:
            raise VideoError(f"{self.path}: {error}; convert the video to H.264") from error
        self._clock = self._make_clock()
        self._frames = self._select(first)

    def _why_nothing(self) -> str:
        if how := encrypted(self.path, self._container.format.name):
            return f"one that is {how}"
        errors = "; ".join(self._tally.account().notes) or "no packet"
        if self._stream.codec_context.is_hwaccel:
            errors += "; where the CPU decodes it, set annotation.decoder: cpu"
        return (
            f"{self._tally.packets} packets of which none can be decoded: {errors}; "
            "copy it again or leave it out"
        )

    def _describe(self, first: DecodedFrame) -> VideoInfo:
        rate, display = frame_rate(self._stream), self._converter.display
        crop = display.crop
        return VideoInfo(
            codec=self._stream.codec_context.codec.canonical_name,
            pix_fmt=first.frame.format.name,
            coded_size_wh=first.size_wh,
            rotation_deg=display.orientation.rotation_deg,
            fps=float(rate) if rate else None,
            container=self._container.format.name,
            duration_s=self._decoder.announced.seconds,
            pixel_aspect=_ratio(display.aspect),
            crop_ltrb=(crop.left, crop.top, crop.right, crop.bottom),
            transfer=HDR_NAMES.get(int(first.frame.color_trc)),
        )

    def _make_clock(self) -> PresentationClock:
        is_mpeg = self._container.format.name in MPEG_FORMATS
        start = self._stream.start_time
        time_base = cast(Fraction, self._stream.time_base)  # frames came, so there is one
        if self._decoder.decoding_times and start is not None:
            delay_s = self._stream.codec_context.reorder_depth * self._period_s
            start += round(delay_s / time_base)
        return PresentationClock(
            time_base, start, self._period_s, _WRAP_33_BITS if is_mpeg else None
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
        self._is_closed = True
        self._frames.close()
        self._pictures.close()
        self._decoder.close()

    def __iter__(self) -> Iterator[Frame]:
        """Return the reader itself: a video is read once, after its end no frame follows.

        Raises:
            ValueError: the reader is closed.

        """
        self._require_open()
        return self

    def __next__(self) -> Frame:
        """Return the next frame; raises ValueError where the reader is closed."""
        self._require_open()
        return next(self._frames)

    def _require_open(self) -> None:
        if self._is_closed:
            raise ValueError(f"{self.path}: expected an open reader, the reader is closed")

    @property
    def account(self) -> FrameAccount:
        """What became of the frames that were read so far.

        Frames that are damaged or missing, and an early end, are known once the iteration ends.
        """
        return self._tally.account()

    # --- from frames to what is handed on --------------------------------------------

    def _select(self, first: DecodedFrame) -> Generator[Frame, None, None]:
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

    def _timed(self, first: DecodedFrame) -> Iterator[Frame]:
        current: DecodedFrame | None = first
        while current is not None:
            following = next(self._pictures, None)
            time_s = self._clock.time_s(current.stamp, following.stamp if following else None)
            index = self._tally.pictures
            self._tally.pictures += 1
            if self._is_usable(current):
                self._tally.usable += 1
                image = DecodedImage(current.frame, self._converter)
                yield Frame(image, index, time_s, current.corrupt)
            current = following

    def _is_usable(self, picture: DecodedFrame) -> bool:
        """Tell whether a picture shows what the first shows, and count those that differ."""
        size_wh, aspect = picture.size_wh, picture.aspect
        if (size_wh, aspect) == self._first:
            return True
        name = f"size {_form(size_wh, aspect, self._first[1])}"
        if is_plausible(size_wh, aspect) and self._converter.display.is_alike(size_wh, aspect):
            self._scaled[name] += 1
            return True
        self._tally.other_sizes[name] += 1
        return False

    # --- at the end ------------------------------------------------------------------

    def _finish(self) -> None:
        tally = self._tally
        tally.is_complete = True
        if self._sample_fps is not None:
            tally.skipped["sample_fps"] = tally.usable - tally.delivered
        first = _form(*self._first, Fraction(1))
        for size, count in sorted(tally.other_sizes.items()):
            tally.notes.append(f"left out {count} frames of {size}: the first is {first}")
        for size, count in sorted(self._scaled.items()):
            tally.facts.append(f"{count} frames of {size} scaled to the first, {first}")
        if self._deinterlacer.interlaced:
            tally.facts.append(f"{self._deinterlacer.interlaced} interlaced frames, deinterlaced")
        tally.notes += [f"{why} ({n} times)" for why, n in self._deinterlacer.problems.items()]
        self._compare_with_announced()
        if tally.errors or tally.ended_early:
            how = encrypted(self.path, self._container.format.name)
            tally.notes += [f"part of it is {how}"] if how else []
        tally.notes += self._time_problems()

    def _time_problems(self) -> list[str]:
        clock, tally = self._clock, self._tally
        none_at_all = clock.guessed == tally.pictures and not self._decoder.decoding_times
        if self._is_bare or none_at_all:
            rate = f"{1 / self._period_s:.5g} frames per second"
            tally.facts.append(f"times are computed from {rate}: the stream holds none")
        if self._is_bare:
            tally.facts.append("a bare stream has no length: a cut at its end may go unnoticed")
        # The last frames of an AVI with B-frames never have one.
        expected = self._is_bare or none_at_all or self._decoder.decoding_times
        times = [
            (clock.outliers, "contradicted by its neighbours, replaced"),
            (clock.falls, "went back, continued one frame period later"),
            (clock.repeated, "that of the frame before, taken from the frame rate"),
            (0 if expected else clock.guessed, "missing, taken from the frame rate"),
        ]
        return [f"timestamp {what} ({n} times)" for n, what in times if n]

    def _compare_with_announced(self) -> None:
        tally, container, stream = self._tally, self._container, self._stream
        index = read_index(container, stream)
        if index.frames is not None:
            # Where more than the edit list left some out, the duration below shows it.
            tally.skipped[EDIT_LIST] += index.unlisted
            missing = max(index.frames - tally.packets, 0)
            tally.absent = missing + index.unlisted
            if missing:
                self._note_early_end(f"{index.frames} frames", str(tally.packets))
                return
        if not index.full:
            tally.notes += cut_off(self.path, container.format.name)
            self._count_gaps()
        if not index.full or tally.skipped[EDIT_LIST]:
            self._compare_durations()

    def _count_gaps(self) -> None:
        tally, clock = self._tally, self._clock
        if self._is_bare:
            return  # its times are made up, so that they show nothing of what is missing
        lost = frames_in_gaps(clock.gaps, clock.in_runs)
        if slower := frames_in_gaps(clock.gaps) - lost:
            tally.facts.append(f"variable frame rate: {slower} frames fewer than at a constant one")
        lost -= max(tally.packets - tally.second_fields - tally.pictures, 0)
        if lost > 0:
            tally.notes.append(f"gaps in a regular stream: about {lost} frames are missing")

    def _compare_durations(self) -> None:
        announced = self._decoder.announced
        announced_s, came_s = announced.seconds, self._tally.end_s
        slack = _SLACK_PERIODS_STREAM if announced.of_stream else _SLACK_PERIODS_FILE
        if announced_s is not None and came_s < announced_s - slack * self._period_s:
            self._note_early_end(f"{announced_s:.2f} s", f"{came_s:.2f} s")

    def _note_early_end(self, announced: str, came: str) -> None:
        self._tally.ended_early = True
        self._tally.notes.append(f"ended early: {announced} announced, {came} in the file")


def _form(size_wh: tuple[int, int], aspect: Fraction, usual: Fraction) -> str:
    size = f"{size_wh[0]}x{size_wh[1]}"
    return size if aspect == usual else f"{size}, pixels {_ratio(aspect)}"


def _ratio(aspect: Fraction) -> str:
    return f"{aspect.numerator}:{aspect.denominator}"
