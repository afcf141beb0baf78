import time

import numpy as np
import pytest

import benchmarks.stage1_cost as stage1_cost
from benchmarks.stage1_cost import cost
from recognizer.types import Poses
from recognizer.video.writer import VideoWriter
from tests.benchmarks.one_line import refusal

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
            np.zeros((1, 17, 2), np.float32),
            np.zeros((1, 17), np.float32),
            box,
            np.ones(1, np.float32),
        )
        return [person] * len(images)


def write_noise(path):
    noise = np.random.default_rng(0)
    with VideoWriter(path, (320, 240), FPS) as writer:
        for i in range(FRAMES):
            writer.write(noise.integers(0, 256, (240, 320, 3), dtype=np.uint8), i / FPS)


def test_counts_frames_and_the_time_of_movement_apart(tmp_path):
    write_noise(tmp_path / "noise.mp4")
    model = Model()
    seconds, movement, frames = cost(tmp_path / "noise.mp4", model, 8)
    assert (model.batches, frames) == ([8, 4], FRAMES)
    assert movement > 0
    assert seconds - movement >= BUSY_S * len(model.batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "0"], "--clips: expected a whole number of at least 1, got '0'"),
        (["--clips=-3"], "--clips: expected a whole number of at least 1, got '-3'"),
        (["--rounds", "0"], "--rounds: expected a whole number of at least 1, got '0'"),
        (["--input", "{videos}/good/noise.mp4"], "--input: expected a folder, found none at"),
        (["--input", "{videos}/absent"], "--input: expected a folder, found none at"),
        (["--input", "{videos}/empty"], "expected videos (.mp4) below"),
        (["--input", "{videos}/damaged"], "damaged/a.mp4"),
        (["--input", "{videos}/good", "--set", "nope=1"], "nope: unknown key"),
    ],
)
def test_bad_arguments_are_refused_before_the_work(
    arguments, message, tmp_path, monkeypatch, capsys
):
    for name in ("empty", "damaged", "good"):
        (tmp_path / name).mkdir()
    write_noise(tmp_path / "good" / "noise.mp4")
    (tmp_path / "damaged" / "a.mp4").write_bytes(b"no video")
    monkeypatch.setattr(stage1_cost, "cost", lambda *_: pytest.fail("measured"))
    given = [text.format(videos=tmp_path) for text in arguments]
    assert message in refusal(monkeypatch, capsys, stage1_cost.main, given)
