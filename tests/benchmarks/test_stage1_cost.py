import time

import numpy as np

from benchmarks.stage1_cost import cost
from recognizer.types import Poses
from recognizer.video.writer import VideoWriter

FRAMES, FPS = 12, 10
BUSY_S = 0.02


class Model:
    """Sees one large person after working for a while; remembers its batches."""

    def __init__(self):
        self.batches = []

    def for_video(self):
        return self

    def __call__(self, images, times_s):
        self.batches.append(len(images))
        until = time.process_time() + BUSY_S
        while time.process_time() < until:
            pass
        box = np.array([[20, 20, 140, 220]], np.float32)
        person = Poses.untracked(
            np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32), box,
            np.ones(1, np.float32),
        )  # fmt: skip
        return [person] * len(images)


def test_counts_frames_and_the_time_of_movement_apart(tmp_path):
    noise = np.random.default_rng(0)
    with VideoWriter(tmp_path / "noise.mp4", (320, 240), FPS) as writer:
        for i in range(FRAMES):
            writer.write(noise.integers(0, 256, (240, 320, 3), dtype=np.uint8), i / FPS)
    model = Model()
    seconds, movement, frames = cost(tmp_path / "noise.mp4", model, 8)
    assert (model.batches, frames) == ([8, 4], FRAMES)
    assert movement > 0
    assert seconds - movement >= BUSY_S * len(model.batches)
