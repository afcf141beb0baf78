"""The last seconds of a camera's own packets, and clips copied from them without re-encoding."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import av
from av.video.stream import VideoStream

from recognizer.config.live import EvidenceConfig
from recognizer.live.clip_writer import StoredPacket, StreamCopy, clip_bytes, copy_stream
from recognizer.live.sources import Packet
from recognizer.storage.artifacts import atomic_path
from recognizer.video.container import reason_of

_MIB = 1 << 20
_JUMP_S = 10.0
_MAX_UNPLACED = 64


class EvidenceError(RuntimeError):
    """No clip can be made; the message says why."""


@dataclass(frozen=True, slots=True)
class EvidenceClip:
    """A clip that was written.

    Attributes:
        path: the mp4.
        start_s: time of its first packet, on the clock of the camera's frames.
        end_s: time at which its last packet ends.
        pre_roll_s: video ahead of the event's start; negative where the event began before it.
        size_bytes: of the file.
        is_cut: the limit on seconds or bytes ended it early.

    """

    path: Path
    start_s: float
    end_s: float
    pre_roll_s: float
    size_bytes: int
    is_cut: bool


@dataclass(eq=False, slots=True)
class _Run:
    """A stretch whose timestamps go on without a break, within one connection."""

    stream: StreamCopy
    last_dts: int | None = None
    unplaced: list[tuple[bytes, bool]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Group:
    """A key frame and all that depends on it."""

    run: _Run
    start_s: float
    end_s: float
    packets: list[StoredPacket] = field(default_factory=list)
    size: int = 0


class EvidenceRing:
    """Keep the packets of one camera; satisfies ``recognizer.live.sources.PacketSink``.

    It reaches back to the key frame at or before ``keep_s``, and while an event is open
    (``keep_from``) to the one at or before ``before_s`` ahead of it; at most ``max_s`` and
    ``max_mib``, the oldest leave first. Threads may call every method.

    Args:
        camera: the camera's name.
        config: how much is kept.

    """

    def __init__(self, camera: str, config: EvidenceConfig) -> None:
        self._camera, self._config = camera, config
        self._lock = threading.Lock()
        self._groups: deque[_Group] = deque()
        self._run: _Run | None = None
        self._connection = 0
        self._bytes = 0
        self._from_s: float | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the packets that are kept."""
        return self._bytes

    def keep_from(self, start_s: float | None) -> None:
        """Keep what an event needs that began at ``start_s``; None: no event is open."""
        with self._lock:
            self._from_s = start_s

    def begin(self, stream: VideoStream, connection: int) -> None:
        """Start a connection; what is kept of the one before stays, apart from it."""
        run = _Run(copy_stream(stream))
        with self._lock:
            self._connection, self._run = connection, run

    def add(self, packet: Packet, time_s: float, connection: int) -> None:
        """Take a packet that is shown at ``time_s``; those of old connections are left out."""
        data, key = bytes(packet), bool(packet.is_keyframe)
        with self._lock:
            run = self._run
            if run is None or connection != self._connection:
                return
            pts = packet.pts if packet.pts is not None else packet.dts
            if pts is None:
                if len(run.unplaced) < _MAX_UNPLACED:
                    run.unplaced.append((data, key))
                return
            dts = packet.dts if packet.dts is not None else pts
            run = self._run = self._continued(run, dts)
            self._place_waiting(run, dts, time_s)
            self._append(run, StoredPacket(data, pts, dts, key, time_s))
            self._trim(time_s)

    def clip(self, start_s: float, end_s: float, path: Path, root: Path) -> EvidenceClip:
        """Write the video around an event to a fragmented mp4.

        From the key frame at or before ``before_s`` ahead of ``start_s`` to ``after_s`` behind
        ``end_s``, as far as it is there, never across a loss of the camera.

        Args:
            start_s: the event's start, on the clock of the camera's frames.
            end_s: its end.
            path: the mp4 to make; appears there complete or not at all.
            root: folder whose scratch folder takes it while it is written.

        Raises:
            EvidenceError: no video of that time is kept, or mp4 cannot hold its codec.
            OSError: the file cannot be written (disk full, not permitted); names the path.
            ValueError: an end before the start.

        """
        if not start_s <= end_s:
            raise ValueError(f"end_s: expected {start_s} or later, got {end_s}")
        config = self._config
        first_s, last_s = start_s - config.before_s, end_s + config.after_s
        with self._lock:
            groups = self._best(first_s, last_s)
            packets = [packet for group in groups for packet in group.packets]
        where = f"camera {self._camera}: expected video from {first_s:.1f} to {last_s:.1f} s"
        if not packets:
            raise EvidenceError(f"{where}, none of that time is kept")
        stream = groups[0].run.stream
        if stream.template is None:
            raise EvidenceError(f"{where} that mp4 can hold: {stream.problem}; set it to H.264")
        chosen, is_cut = _limited(packets, stream, last_s, config)
        try:
            data = clip_bytes(stream, chosen)
        except av.FFmpegError as error:
            raise EvidenceError(f"{where} that mp4 can hold: {reason_of(error)}") from error
        with atomic_path(path, root) as scratch:
            _write(scratch, data, path)
        shown_s = _shown_s(stream, chosen)
        return EvidenceClip(path, *shown_s, start_s - shown_s[0], len(data), is_cut)

    # --- what is kept ----------------------------------------------------------------

    @staticmethod
    def _continued(run: _Run, dts: int) -> _Run:
        """Return the run that a packet belongs to: a new one where the timestamps jump."""
        if run.last_dts is None or 0 <= dts - run.last_dts <= _JUMP_S / run.stream.time_base:
            return run
        return _Run(run.stream)

    def _place_waiting(self, run: _Run, dts: int, time_s: float) -> None:
        """Give packets without timestamps the time just before the first that has one."""
        number, stream = len(run.unplaced), run.stream
        for index, (data, key) in enumerate(run.unplaced):
            periods = number - index
            stamp = dts - periods * stream.period
            at_s = time_s - periods * stream.period_s
            self._append(run, StoredPacket(data, stamp, stamp, key, at_s))
        run.unplaced.clear()

    def _append(self, run: _Run, packet: StoredPacket) -> None:
        run.last_dts = packet.dts
        if packet.is_key:
            self._groups.append(_Group(run, packet.time_s, packet.time_s))
        elif not self._groups or self._groups[-1].run is not run:
            return  # nothing can be shown before the first key frame
        group = self._groups[-1]
        group.packets.append(packet)
        group.end_s = max(group.end_s, packet.time_s)
        group.size += len(packet.data)
        self._bytes += len(packet.data)

    def _trim(self, now_s: float) -> None:
        config = self._config
        oldest_s = now_s - config.keep_s
        if self._from_s is not None:
            oldest_s = min(oldest_s, self._from_s - config.before_s)
        oldest_s = max(oldest_s, now_s - config.max_s)
        while len(self._groups) > 1 and self._groups[1].start_s <= oldest_s:
            self._drop()
        while self._groups and self._bytes > config.max_mib * _MIB:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= self._groups.popleft().size

    # --- what a clip takes -----------------------------------------------------------

    def _best(self, first_s: float, last_s: float) -> list[_Group]:
        """Return the groups of the run that shows most of a time."""
        groups = list(self._groups)
        splits = [i + 1 for i, (a, b) in enumerate(pairwise(groups)) if a.run is not b.run]
        runs = [groups[a:b] for a, b in pairwise([0, *splits, len(groups)])]
        best = max(runs, key=lambda run: _overlap_s(run, first_s, last_s), default=[])
        if _overlap_s(best, first_s, last_s) < 0:
            return []
        start = max((i for i, g in enumerate(best) if g.start_s <= first_s), default=0)
        return [group for group in best[start:] if group.start_s <= last_s]


def _overlap_s(groups: Sequence[_Group], first_s: float, last_s: float) -> float:
    if not groups:
        return -1.0
    return min(groups[-1].end_s, last_s) - max(groups[0].start_s, first_s)


def _limited(
    packets: Sequence[StoredPacket], stream: StreamCopy, last_s: float, config: EvidenceConfig
) -> tuple[list[StoredPacket], bool]:
    """Return the packets up to a time and within the limits, and whether a limit ended them."""
    most_s = packets[0].time_s + config.max_s - stream.period_s
    chosen: list[StoredPacket] = []
    size = 0
    for packet in packets:
        # Pictures that come before it are shown after it, until their turn in decoding order.
        decode_s = packet.time_s - float((packet.pts - packet.dts) * stream.time_base)
        if decode_s > last_s:
            return chosen, False
        size += len(packet.data)
        if packet.time_s > most_s or size > config.max_mib * _MIB:
            return chosen, True
        chosen.append(packet)
    return chosen, False


def _shown_s(stream: StreamCopy, packets: Sequence[StoredPacket]) -> tuple[float, float]:
    """Return when the first packet is shown and the last ends, placed by the newest one.

    The first packets of a connection come in a burst, so that their own times are too late.
    """
    newest = packets[-1]
    shown = [packet.pts - newest.pts for packet in packets]
    first_s = newest.time_s + float(shown[0] * stream.time_base)
    return first_s, newest.time_s + float((max(shown) + stream.period) * stream.time_base)


def _write(scratch: Path, data: memoryview, path: Path) -> None:
    try:
        scratch.write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the clip: {error.strerror}", str(path)) from error
