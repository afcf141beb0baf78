"""Files read as streams at once: a decoding thread each, one network, a tracker each.

Every stream decodes as fast as it is served (its file again from the start when it ends), so the
frames per second are the most that this machine serves, and the lag, from decoded frame to its
tracked people, is that of a server under full load.
"""

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import numpy as np

from recognizer.config.schema import Config
from recognizer.config.types import PoseKind
from recognizer.pose.estimator import build_pose_model
from recognizer.pose.settings import pose_settings
from recognizer.runs.stage_folders import pose_model_files
from recognizer.tracking.tracker import Tracker
from recognizer.types import Frame
from recognizer.video.reader import VideoReader

WAITING_PER_STREAM = 2  # decoded frames that may wait for the network
POLL_S = 0.05


@dataclass(frozen=True)
class _Decoded:
    """A frame of one stream; ``again``: the first of a file that begins once more."""

    stream: int
    frame: Frame
    since: float
    again: bool


def serve(
    config: Config,
    videos: Sequence[Path],
    streams: int,
    *,
    seconds: float,
    warm_up: float,
    gpu: int | None = None,
) -> dict[str, Any]:
    """Return what this machine does for so many streams at once.

    Args:
        config: the network, the tracker and ``annotation.batch_size``, the most frames of a call.
        videos: files, taken in turn.
        streams: how many are read at once.
        seconds: time that is counted.
        warm_up: time before that.
        gpu: which decodes; None: the CPU, a thread for each stream.

    Returns:
        ``frames`` counted, ``frames_per_s`` of all, ``real_time_streams`` (how many
        streams of the files' own rate that is), ``p50_lag_ms``, ``p99_lag_ms``, ``people`` per
        frame, ``mean_batch``.

    Raises:
        VideoError, ModelError, ConfigError: a file or network that cannot be used.

    """
    files = pose_model_files(config)
    settings = pose_settings(config, files)
    model = build_pose_model(settings, files)
    tracking = config.tracking.for_kind(cast(PoseKind, settings.kind))  # no auto is left
    waiting: queue.Queue[_Decoded | BaseException] = queue.Queue(WAITING_PER_STREAM * streams)
    stop = threading.Event()
    readers = [
        threading.Thread(
            target=_read, args=(videos[i % len(videos)], i, gpu, waiting, stop), daemon=True
        )
        for i in range(streams)
    ]
    for reader in readers:
        reader.start()
    try:
        trackers = [Tracker(tracking) for _ in range(streams)]
        _run(model, trackers, waiting, config.annotation.batch_size, warm_up)
        begin = time.perf_counter()
        counts = _run(model, trackers, waiting, config.annotation.batch_size, seconds)
        took = time.perf_counter() - begin
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    return _figures(counts, took, _rate(videos))


def _read(
    video: Path, stream: int, gpu: int | None, waiting: "queue.Queue[Any]", stop: Any
) -> None:
    """Decode a file again and again until ``stop``; an error goes into the queue."""
    try:
        for _ in repeat(None):
            with VideoReader(video, gpu=gpu) as reader:
                for number, frame in enumerate(reader):
                    item = _Decoded(stream, frame, time.perf_counter(), number == 0)
                    if not _put(waiting, item, stop):
                        return
    except (ValueError, OSError) as error:
        _put(waiting, error, stop)


def _put(waiting: "queue.Queue[Any]", item: Any, stop: Any) -> bool:
    while not stop.is_set():
        try:
            waiting.put(item, timeout=POLL_S)
        except queue.Full:
            continue
        return True
    return False


@dataclass
class _Counts:
    lags: list[float]
    calls: int = 0
    people: int = 0


def _run(
    model: Any, trackers: Sequence[Tracker], waiting: Any, most: int, seconds: float
) -> _Counts:
    """Estimate poses and track for so many seconds, at least one call."""
    counts = _Counts([])
    until = time.perf_counter() + seconds
    while not counts.calls or time.perf_counter() < until:
        batch = _batch(waiting, most)
        found = model([item.frame.image for item in batch])
        for item, poses in zip(batch, found, strict=True):
            tracker = trackers[item.stream]
            if item.again:
                tracker.reset()
            counts.people += len(tracker.update(poses, item.frame.time_s))
            counts.lags.append(time.perf_counter() - item.since)
        counts.calls += 1
    return counts


def _batch(waiting: Any, most: int) -> list[_Decoded]:
    """Return what waits, at least one frame and at most so many."""
    items = [waiting.get()]
    while len(items) < most:
        try:
            items.append(waiting.get_nowait())
        except queue.Empty:
            break
    for item in items:
        if isinstance(item, BaseException):
            raise item
    return items


def _rate(videos: Sequence[Path]) -> float:
    """Return the frames per second of the files, on average."""
    rates = []
    for video in videos:
        with VideoReader(video) as reader:
            rates.append(reader.info.fps or 25.0)
    return float(np.mean(rates))


def _figures(counts: _Counts, took: float, rate: float) -> dict[str, Any]:
    p50, p99 = np.quantile(counts.lags, (0.5, 0.99)) * 1e3
    frames = len(counts.lags)
    return {
        "frames": frames,
        "frames_per_s": frames / took,
        "real_time_streams": frames / took / rate,
        "p50_lag_ms": float(p50),
        "p99_lag_ms": float(p99),
        "people": counts.people / frames,
        "mean_batch": frames / counts.calls,
    }
