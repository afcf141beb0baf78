"""One camera: opened, read, lost and opened again, for ever."""

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.clock import FramePeriod, RateGate
from recognizer.live.errors import Reason, SourceError, failure, redacted
from recognizer.live.gaps import GapDetector
from recognizer.live.retry import delay_s, failures_after
from recognizer.live.slot import FrameSlot
from recognizer.live.sources import (
    CapturedFrame,
    Opening,
    PacketSink,
    address_of,
    open_source,
)
from recognizer.live.values import CameraError, CameraState, CameraStatus, DropCause, LiveFrame
from recognizer.types import Image

_RATE_OVER_S = 5.0
_MAX_TIMES = 600
_DIED = "an error in its reader, which has ended"


@dataclass(eq=False, slots=True)
class _Reader:
    """A thread that reads, and what it has done; given up readers are forgotten."""

    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    active_s: float | None = None  # when it last opened or gave a frame; None: it waits
    first_s: float | None = None
    last_s: float | None = None
    period: FramePeriod = field(default_factory=lambda: FramePeriod(0.0))

    @property
    def streamed_s(self) -> float:
        if self.first_s is None or self.last_s is None:
            return 0.0
        return self.last_s - self.first_s


class Camera:
    """Read one camera in a thread of its own and put its frames into a slot.

    A lost camera is opened again by the retry plan. ``tick`` has to be called several times a
    second: it reports gaps, and gives up a reader that gives no frames, whose thread may hang
    inside a library; another takes its place.

    Args:
        config: which camera.
        source: how it is read.
        slot: takes frames and gaps; of a file, it must have no ``max_age_s``.
        sink: takes the packets, None: not needed.
        clock: the monotonic clock.
        chance: random numbers from 0 to 1 for the waits.

    """

    def __init__(
        self,
        config: CameraConfig,
        source: SourceConfig,
        slot: FrameSlot,
        *,
        sink: PacketSink | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.config, self._source, self.slot, self._sink = config, source, slot, sink
        self._clock, self._chance = clock, chance
        self._is_live = config.path is None
        self._lock = threading.RLock()
        self._reader: _Reader | None = None
        self._threads: list[threading.Thread] = []
        self._gaps = GapDetector(config.name, source.gap_s if self._is_live else None)
        self._times: deque[float] = deque(maxlen=_MAX_TIMES)
        self._reconnects: Counter[Reason] = Counter()
        self._failures = self._connection = self._frames = 0
        self._state = CameraState.OFF
        self._last: CapturedFrame | None = None
        self._last_error: CameraError | None = None

    # --- from outside ----------------------------------------------------------------

    def start(self) -> None:
        """Start to read; a camera that is not enabled only closes its slot."""
        with self._lock:
            if self._reader is not None or not self.config.enabled:
                if not self.config.enabled:
                    self.slot.close()
                return
            self._gaps.begin(self._clock())
            self._start_reader(0.0)

    def stop(self) -> None:
        """Stop to read, without waiting for it (``join``); what waits in the slot stays there."""
        with self._lock:
            reader, self._reader = self._reader, None
            self._state = CameraState.OFF
            if reader is not None:
                reader.stop.set()
            self.slot.close()

    def join(self, timeout_s: float) -> bool:
        """Wait until no reader of this camera runs; False: one still does."""
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(end_s - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def tick(self) -> None:
        """Report a gap that has become one, and give up a reader that stalls."""
        with self._lock:
            reader, now_s = self._reader, self._clock()
            if reader is None:
                return
            is_dead = reader.thread is not None and not reader.thread.is_alive()
            if not self._is_live:
                if is_dead:
                    self._last_error = CameraError(Reason.OTHER, f"{self.config.path}: {_DIED}")
                    self._finish(Reason.OTHER, CameraState.FAILED)
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            gap = self._gaps.tick(now_s)
            if gap is not None:
                self.slot.put(gap)
            if is_dead:
                self._replace(reader, Reason.OTHER, _DIED)
            elif reader.active_s is not None:
                patience_s = self._patience_s(reader)
                if now_s - reader.active_s > patience_s:
                    self._replace(reader, Reason.STALLED, f"no frame for {patience_s:.1f} s")

    def status(self) -> CameraStatus:
        """Return a snapshot of what the camera does."""
        with self._lock:
            now_s, last = self._clock(), self._last
            return CameraStatus(
                name=self.config.name,
                address=redacted(address_of(self.config)),
                state=self._state,
                fps=_rate(self._times, now_s),
                size_wh=None if last is None else last.frame.image.size_wh,
                codec=None if last is None else last.codec,
                frames=self._frames,
                drops=self.slot.drops(),
                reconnects=dict(self._reconnects),
                connection=self._connection,
                last_frame_age_s=None if last is None else now_s - last.captured_s,
                last_error=self._last_error,
                abandoned=self._abandoned(),
            )

    def last_image(self) -> Image | None:
        """Return the picture of the last frame; None: there was none."""
        with self._lock:
            return None if self._last is None else self._last.frame.image

    # --- the watchdog ----------------------------------------------------------------

    def _patience_s(self, reader: _Reader) -> float:
        stall_s = max(self._source.stall_s, self._source.stall_periods * reader.period.seconds)
        if reader.first_s is None:  # opening, looking at the stream, waiting for a key frame
            return stall_s + 2 * self._source.open_timeout_s
        return stall_s

    def _replace(self, reader: _Reader, reason: Reason, came: str) -> None:
        reader.stop.set()
        error = failure(reason, address_of(self.config), came)
        self._start_reader(self._lost(reader, error))

    def _abandoned(self) -> int:
        """Return how many readers still run that are no longer this camera's."""
        current = None if self._reader is None else self._reader.thread
        return sum(thread.is_alive() and thread is not current for thread in self._threads)

    def _start_reader(self, wait_s: float) -> None:
        reader = _Reader()
        name = f"camera {self.config.name}"
        reader.thread = threading.Thread(
            target=self._run, args=(reader, wait_s), name=name, daemon=True
        )
        self._reader = reader
        self._threads.append(reader.thread)
        reader.thread.start()

    # --- the reader's thread ---------------------------------------------------------

    def _run(self, reader: _Reader, wait_s: float) -> None:
        while not reader.stop.wait(wait_s):
            wait_s = self._source.retry.final_s
            if self._abandoned() >= self._source.max_abandoned:
                continue  # libraries hang at this camera: no more threads for it
            try:
                self._read(reader)
            except SourceError as error:
                with self._lock:
                    if self._reader is not reader:
                        return
                    wait_s = self._lost(reader, error)
                    if not self._is_live:
                        self._finish(error.reason, CameraState.FAILED)
                        return
                continue
            with self._lock:
                if self._reader is reader and not reader.stop.is_set():
                    self._finish(Reason.ENDED, CameraState.ENDED)
            return

    def _read(self, reader: _Reader) -> None:
        connection = self._connect(reader)
        opening = Opening(
            connection,
            reader.stop,
            partial(self.slot.count, DropCause.DECODE),
            self._sink,
            self._clock,
        )
        source = open_source(self.config, self._source, opening)
        try:
            reader.period = FramePeriod(source.period_s)
            gate = RateGate(self.config.fps, reader.period.seconds)
            before = -1
            for captured in source.frames():
                self._count_skipped(captured.frame.index - before - 1)
                before = captured.frame.index
                if not self._take(reader, captured, gate, connection):
                    return
        finally:
            source.close()

    def _connect(self, reader: _Reader) -> int:
        with self._lock:
            reader.first_s = reader.last_s = None
            reader.active_s = self._clock()
            if self._reader is reader:
                self._connection += 1
                self._state = CameraState.CONNECTING
            return self._connection

    def _count_skipped(self, number: int) -> None:
        if number > 0:  # a file's reader chooses frames itself
            self.slot.count(DropCause.RATE, number)

    def _take(
        self, reader: _Reader, captured: CapturedFrame, gate: RateGate, connection: int
    ) -> bool:
        """Hand a frame on; False: this reader is no longer the camera's."""
        with self._lock:
            if self._reader is not reader:
                return False
            reader.active_s = reader.last_s = captured.captured_s
            if reader.first_s is None:
                reader.first_s = captured.captured_s
            self._state = CameraState.STREAMING
            if self._gaps.is_straggler(captured.frame.time_s, captured.captured_s):
                self.slot.count(DropCause.STALE)
                return True
            reader.period.add(captured.frame.time_s)
            period_s = max(reader.period.seconds, 1 / self.config.fps)
            self.slot.report_gaps(self._gaps.expect(period_s))
            for gap in self._gaps.frame(captured.frame.time_s, captured.form):
                self.slot.put(gap)
            if self._is_live and not gate.passes(captured.frame.time_s):
                self.slot.count(DropCause.RATE)
                return True
            frame = replace(captured.frame, index=self._frames)
            self._last = captured
            self._frames += 1
            self._times.append(captured.captured_s)
            item = LiveFrame(self.config.name, frame, captured.captured_s, connection)
            if self._is_live:
                self.slot.put(item)
                return True
        return self.slot.put_waiting(item, reader.stop)

    def _lost(self, reader: _Reader, error: SourceError) -> float:
        """Note a loss and return how long to wait."""
        retry = self._source.retry
        self._failures = failures_after(retry, self._failures, reader.streamed_s)
        self._reconnects[error.reason] += 1
        self._last_error = CameraError(error.reason, str(error))
        self._state = CameraState.WAITING
        reader.active_s = None
        self._gaps.lost(error.reason)
        return delay_s(retry, self._failures, error.reason, self._chance())

    def _finish(self, reason: Reason, state: CameraState) -> None:
        """End a file."""
        self.slot.put(self._gaps.end(reason))
        self._state = state
        self._reader = None
        self.slot.close()


def _rate(times: Iterable[float], now_s: float) -> float:
    """Return the frames per second of the last seconds."""
    recent = [time_s for time_s in times if now_s - time_s <= _RATE_OVER_S]
    return (len(recent) - 1) / max(now_s - recent[0], 1e-3) if len(recent) > 1 else 0.0
