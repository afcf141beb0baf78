"""Files of events: clips of skeletons on black or of the camera's own video, and poses.

A camera's tracked people are kept for some seconds. When an event has ended and the seconds after
it have come, or the camera is gone, a thread of its own writes its files: the engine never waits
for a disk.
"""

import contextlib
import logging
import queue
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np

from recognizer.config.live import EvidenceConfig
from recognizer.draw import draw_people
from recognizer.live.events import LiveEvent
from recognizer.live.evidence import EvidenceError, EvidenceRing
from recognizer.live.pose_ring import PoseRing
from recognizer.storage.artifacts import SCRATCH_FOLDER, atomic_path
from recognizer.types import Poses, PoseSequence
from recognizer.video.writer import VideoWriter

logger = logging.getLogger(__name__)

Clips = Literal["skeletons", "pixels", "none"]
_LONGEST_SIDE = 960  # pixels of a clip of skeletons
_STOP_S = 4.0


CLIP, POSES = ".mp4", ".npz"
"""Suffixes of the files of an event."""
_WHAT = {CLIP: "clip", POSES: "poses"}


def event_file(folder: Path, camera: str, event_id: str, suffix: str = CLIP) -> Path:
    """Return where a file of an event goes."""
    return folder / camera / f"{event_id}{suffix}"


def find_event_file(folder: Path, event_id: str, suffix: str = CLIP) -> Path | None:
    """Return a file of an event of any camera; None: there is none."""
    if not event_id.isalnum():  # ids are hexadecimal: anything else could lead elsewhere
        return None
    return next((path for path in folder.glob(f"*/{event_id}{suffix}") if path.is_file()), None)


def files_by_event(folder: Path) -> dict[str, list[tuple[Path, int]]]:
    """Return the files of all events in a folder of clips, with their sizes in bytes."""
    found: dict[str, list[tuple[Path, int]]] = {}
    for path in folder.glob("*/*"):
        if path.parent.name == SCRATCH_FOLDER:
            continue
        with contextlib.suppress(OSError):  # removed meanwhile
            about = path.lstat()
            if stat.S_ISREG(about.st_mode):
                found.setdefault(path.stem, []).append((path, about.st_size))
    return found


Write: TypeAlias = Callable[[Path, Path], None]
"""Writes a file to a path; the second is the folder whose scratch folder takes it meanwhile. Raises
EvidenceError where no video is kept, OSError where the file cannot be written."""


class ClipSource(Protocol):
    """Gives what happened around an event.

    Attributes:
        suffix: of its files.

    """

    suffix: str

    def cut(self, event: LiveEvent, end_s: float) -> Write:
        """Return what writes it up to some time after ``end_s``, from another thread and later."""

    def restart(self) -> None:
        """Forget what was before: the camera's tracks start anew."""


class SkeletonClips:
    """The tracked people as a ``ClipSource`` of skeletons on black.

    Args:
        ring: keeps them.
        config: seconds around an event, and a clip's longest duration.

    """

    suffix = CLIP

    def __init__(self, ring: PoseRing, config: EvidenceConfig) -> None:
        self._ring, self._config = ring, config

    def cut(self, event: LiveEvent, end_s: float) -> Write:
        """Return what writes skeletons, from ``before_s`` ahead of an event to ``after_s`` behind.

        The frames are taken now: later ones may push them out.
        """
        first_s, last_s = span_around(event.start_s, end_s, self._config)
        return partial(_write_skeletons, self._ring.between(first_s, last_s), first_s, last_s)

    def restart(self) -> None:
        """Forget the frames before."""
        self._ring.restart()


def span_around(start_s: float, end_s: float, config: EvidenceConfig) -> tuple[float, float]:
    """Return first and last second of the files of an event; of a long one its beginning."""
    first_s = start_s - config.before_s
    return first_s, min(end_s + config.after_s, first_s + config.max_s)


def _write_skeletons(
    parts: Sequence[PoseSequence], first_s: float, last_s: float, path: Path, root: Path
) -> None:
    frames = list(_frames(parts))
    if not frames:
        raise EvidenceError(f"expected poses from {first_s:.1f} to {last_s:.1f} s, found none")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, root) as scratch:
        _draw(frames, parts[0].size_wh, scratch)


def _frames(parts: Iterable[PoseSequence]) -> Iterator[tuple[float, Poses]]:
    for part in parts:
        yield from zip(part.time_s.tolist(), part.frames(), strict=True)


def _draw(frames: list[tuple[float, Poses]], size_wh: tuple[int, int], path: Path) -> None:
    scale = min(1.0, _LONGEST_SIDE / max(size_wh))
    width, height = (max(2, round(side * scale)) for side in size_wh)
    times = np.array([time_s for time_s, _ in frames])
    period_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.1
    with VideoWriter(path, (width, height), 1 / max(period_s, 1e-3)) as writer:
        for time_s, poses in frames:
            small = replace(poses, keypoints=poses.keypoints * scale, boxes=poses.boxes * scale)
            writer.write(draw_people(np.zeros((height, width, 3), np.uint8), small), time_s)


class PixelRing:
    """The camera's own packets as a ``ClipSource``."""

    suffix = CLIP

    def __init__(self, ring: EvidenceRing) -> None:
        self._ring = ring

    def cut(self, event: LiveEvent, end_s: float) -> Write:
        """Return what writes the camera's video around an event, as ``EvidenceRing.clip`` does."""
        return partial(self._write, event.start_s, end_s)

    def restart(self) -> None:
        """Keep the packets: their times tell them apart."""

    def _write(self, start_s: float, end_s: float, path: Path, root: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._ring.clip(start_s, end_s, path, root)


@dataclass(frozen=True, slots=True)
class _Job:
    event: LiveEvent
    suffix: str
    write: Write


class ClipWriter:
    """Write the files of events in a thread of its own.

    Args:
        folder: where they go.
        min_free_bytes: none is written while its disk has less room.
        free_bytes: gives the room on a folder's disk.

    """

    def __init__(
        self,
        folder: Path,
        min_free_bytes: int = 0,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._folder, self._min_free, self._free_bytes = folder, min_free_bytes, free_bytes
        self._was_paused = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, until_s: float | None = None) -> None:
        """Write what waits, and end the thread.

        Args:
            until_s: when it has to be over, on the monotonic clock; None: in some seconds.

        """
        self._jobs.put(None)
        timeout_s = _STOP_S if until_s is None else max(0.0, until_s - time.monotonic())
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error("%d files of events are not written", max(self._jobs.qsize() - 1, 1))

    @property
    def is_paused(self) -> bool:
        """Whether the disk has too little room for clips now, or cannot be asked."""
        try:
            return self._min_free > 0 and self._free_bytes(self._folder) < self._min_free
        except OSError:
            return True

    def put(self, event: LiveEvent, suffix: str, write: Write) -> None:
        """Let a file of an event be written."""
        self._jobs.put(_Job(event, suffix, write))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            event = job.event
            if self._lacks_room():
                continue
            path = event_file(self._folder, event.camera, event.event_id, job.suffix)
            try:
                job.write(path, self._folder)
            except (OSError, ValueError, RuntimeError) as error:  # the next file may succeed
                logger.error("event %s: no %s: %s", event.event_id, _WHAT[job.suffix], error)

    def _lacks_room(self) -> bool:
        """Return whether files are left out, and log where that changes."""
        before, self._was_paused = self._was_paused, self.is_paused
        if self._was_paused and not before:
            logger.error(
                "%s: its disk has less room than live.min_free_mib (%d MiB): no clips and "
                "poses of events are written until there is more; events are. Free space on it",
                self._folder,
                self._min_free >> 20,
            )
        elif before and not self._was_paused:
            logger.info("%s: its disk has room again, clips and poses are written", self._folder)
        return self._was_paused


class CameraClips:
    """Decide when the files of each event of a camera can be written.

    That is some seconds after its end; of an event that is longer than a clip may be, as soon as
    the clip is full.

    Args:
        sources: give what is written: a clip, poses.
        writer: writes it.
        config: seconds around an event, and a clip's longest duration.
        keep_from: told when the oldest open event began; None: there is none.

    """

    def __init__(
        self,
        sources: Sequence[ClipSource],
        writer: ClipWriter,
        config: EvidenceConfig,
        keep_from: Callable[[float | None], None] = lambda start_s: None,
    ) -> None:
        self._sources, self._writer, self._config = sources, writer, config
        self._keep_from = keep_from
        self._open: dict[str, LiveEvent] = {}
        self._waiting: list[LiveEvent] = []
        self._full: set[str] = set()  # open events whose clip is written already

    def event(self, event: LiveEvent) -> None:
        """Take a state of an event."""
        if event.state == "end":
            self._open.pop(event.event_id, None)
            if event.event_id in self._full:
                self._full.remove(event.event_id)
            else:
                self._waiting.append(event)
        else:
            self._open[event.event_id] = event
        self._notify()

    def at(self, time_s: float) -> None:
        """Write the clips whose seconds after the event have come by now."""
        after_s = self._config.after_s
        self._write([one for one in self._waiting if one.end_s + after_s <= time_s])
        full_s = self._config.max_s - self._config.before_s
        for event in list(self._open.values()):
            if event.event_id not in self._full and event.start_s + full_s <= time_s:
                self._full.add(event.event_id)
                self._put(event, time_s)

    def flush(self) -> None:
        """Write all clips that wait: nothing more comes."""
        self._write(list(self._waiting))

    def restart(self) -> None:
        """Write all clips that wait, and forget the time before: tracks start anew."""
        self.flush()
        for source in self._sources:
            source.restart()

    def _put(self, event: LiveEvent, end_s: float) -> None:
        for source in self._sources:
            self._writer.put(event, source.suffix, source.cut(event, end_s))

    def _write(self, ready: list[LiveEvent]) -> None:
        for event in ready:
            self._waiting.remove(event)
            self._put(event, event.end_s)
        if ready:
            self._notify()

    def _notify(self) -> None:
        open_events = (one for one in self._open.values() if one.event_id not in self._full)
        starts = [one.start_s for one in (*open_events, *self._waiting)]
        self._keep_from(min(starts, default=None))
