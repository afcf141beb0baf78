"""Cameras and a null network for the benchmarks of live detection.

The null network gives recorded poses of real people: everything behind the pose network has its
usual work, and the network itself costs nothing.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import av
import cv2
import numpy as np

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.analysis import SharedPose
from recognizer.live.engine import CameraState, Engine, Recorder
from recognizer.live.fleet import CameraFleet
from recognizer.live.values import CameraStatus, LiveFrame
from recognizer.pose.estimator import PoseModel
from recognizer.types import Poses
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter

_TIME_BASE = Fraction(1, 90_000)


def write_clip(parts: Iterable[tuple[Path, float]], path: Path, fps: float) -> None:
    """Write clips one after the other into one file, in the first one's picture size.

    Args:
        parts: each clip with the seconds that it lasts here; a shorter one begins again.
        path: of the file.
        fps: frames per second of the file, at most those of the clips.

    """
    pictures = []
    for clip, seconds in parts:
        with VideoReader(clip, sample_fps=fps) as reader:
            own = [frame.image.bgr() for frame in reader]
        pictures += [own[i % len(own)] for i in range(round(seconds * fps))]
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, (width, height), fps) as writer:
        for number, picture in enumerate(pictures):
            fitted = cv2.resize(picture, (width, height)).astype(np.uint8, copy=False)
            writer.write(fitted, number / fps)


def repeat_clip(clip: Path, path: Path, times: int) -> None:
    """Write a clip several times into one file, without encoding it again."""
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mp4") as output:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        if stream.time_base is None or stream.average_rate is None:
            raise ValueError(f"{clip}: expected a video with a constant rate")
        frame = round(1 / stream.average_rate / stream.time_base)
        copy = output.add_stream_from_template(stream)
        starts = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        for turn in range(times):
            for packet, (pts, dts) in zip(packets, starts, strict=True):
                offset = turn * len(packets) * frame
                packet.pts, packet.dts = pts + offset, dts + offset
                packet.stream, packet.time_base = copy, stream.time_base
                output.mux_one(packet)


def record_poses(model: PoseModel, clip: Path, fps: float) -> list[Poses]:
    """Return the people of a clip's frames, as a network finds them."""
    with VideoReader(clip, sample_fps=fps) as reader:
        return [model([frame.image])[0] for frame in reader]


class NullPose(SharedPose):
    """Gives recorded poses, from their first frame on for every camera and after every gap.

    Args:
        model: the network that they come from, which is not run.
        recorded: people of successive frames; the first follow the last again.

    """

    def __init__(self, model: PoseModel, recorded: Sequence[Poses]) -> None:
        super().__init__(model)
        self._recorded = recorded
        self.frames = Counter[str]()
        self._starts = Counter[str]()

    def __call__(self, frames: Sequence[LiveFrame]) -> list[Poses]:
        """Return the recorded people of the next frame of each camera."""
        found = []
        for live in frames:
            number = self.frames[live.camera] - self._starts[live.camera]
            self.frames[live.camera] += 1
            found.append(self._recorded[number % len(self._recorded)])
        return found

    def forget(self, camera: str) -> None:
        """Begin with the first frame again."""
        self._starts[camera] = self.frames[camera]


def late_drops(camera: CameraStatus) -> int:
    """Return the frames of a camera that were read and came too late for the network."""
    return sum(number for cause, number in camera.drops.items() if cause in ("queue_full", "stale"))


@contextmanager
def running(
    cameras: Sequence[CameraConfig],
    pose: SharedPose,
    states: Mapping[str, CameraState],
    recorder: Recorder,
) -> Iterator[CameraFleet]:
    """Read cameras and analyse their frames in a thread of its own."""
    fleet, stop = CameraFleet(cameras, SourceConfig()), threading.Event()
    engine = threading.Thread(
        target=Engine(fleet.gatherer, pose, states, recorder).run, args=(stop,)
    )
    fleet.start()
    engine.start()
    try:
        yield fleet
    finally:
        stop.set()
        engine.join()
        fleet.stop()


def serve_rtsp(folder: Path, port: Connection) -> None:
    """Play a folder's clips by RTSP until the process is ended; for a process of its own."""
    from tests.live.cameras import rtsp_camera

    with rtsp_camera(folder) as number:
        port.send(number)
        threading.Event().wait()
