"""Clips of skeletons: of short and long events, across a change of the picture's size."""

import time

import av
import numpy as np
import pytest

from recognizer.config.live import EvidenceConfig
from recognizer.live import clips as module
from recognizer.live.clips import (
    CLIP,
    CameraClips,
    ClipWriter,
    SkeletonClips,
    event_file,
    files_by_event,
    find_event_file,
)
from recognizer.live.pose_ring import PoseRing
from recognizer.types import Poses, PoseSequenceBuilder
from tests.live.test_recording import event


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let a busy machine write the clips."""
    monkeypatch.setattr(module, "_STOP_S", 60.0)


CONFIG = EvidenceConfig(before_s=2.0, after_s=2.0, keep_s=4.0, max_s=10.0)


def part(start_s, seconds, size_wh=(320, 180), fps=5.0):
    builder = PoseSequenceBuilder()
    for i in range(round(seconds * fps)):
        points = np.full((1, 17, 2), 60.0 + i, np.float32)
        points += 3 * np.arange(17, dtype=np.float32)[None, :, None]
        box = np.array([[50, 50, 130, 130]], np.float32)
        scores = np.ones((1, 17), np.float32)
        builder.append(
            Poses.untracked(points, scores, box, np.ones(1, np.float32)), start_s + i / fps
        )
    return builder.build(size_wh)


def run(folder, events, seconds, parts=()):
    """Feed a camera's seconds and the states of its events; write the clips."""
    ring, writer = PoseRing(CONFIG.max_s + CONFIG.after_s), ClipWriter(folder)
    writer.start()
    clips = CameraClips([SkeletonClips(ring, CONFIG)], writer, CONFIG)
    for second in range(seconds):
        ring.add(dict(parts).get(second) or part(second, 1.0))
        for at, state in events:
            if at == second:
                clips.event(state)
        clips.at(second + 1.0)
    clips.flush()
    writer.stop()


def seconds_of(path):
    with av.open(str(path)) as container:
        frames = [float(frame.time) for frame in container.decode(video=0)]
    return frames[-1] - frames[0] + 0.2


def test_a_clip_reaches_from_before_an_event_to_after_it(tmp_path):
    run(tmp_path, [(5, event(4)), (7, event(4, "end", 1))], 15)
    path = event_file(tmp_path, "door", event(4).event_id)
    assert seconds_of(path) == pytest.approx(2 + 2 + 2, abs=0.5)  # it lasts 2 s
    assert find_event_file(tmp_path, event(4).event_id) == path
    assert find_event_file(tmp_path, "../x") is None
    assert find_event_file(tmp_path, "0" * 32) is None


def test_of_a_long_event_the_beginning_is_kept(tmp_path):
    run(tmp_path, [(5, event(4)), (90, event(4, "end", 1))], 100)
    path = event_file(tmp_path, "door", event(4).event_id)
    assert seconds_of(path) == pytest.approx(CONFIG.max_s, abs=0.5)


def test_a_change_of_size_ends_a_clip(tmp_path):
    run(tmp_path, [(5, event(4)), (6, event(4, "end", 1))], 10, [(6, part(6, 1.0, (640, 360)))])
    with av.open(str(event_file(tmp_path, "door", event(4).event_id))) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (320, 180)


def test_a_clip_that_fails_costs_no_other(tmp_path, caplog):
    late = [(1, event(0)), (2, event(0, "end", 1)), (8, event(8)), (9, event(8, "end", 1))]
    (tmp_path / "door").write_text("in the way")
    run(tmp_path, late[:2], 6)
    assert "no clip" in caplog.text
    (tmp_path / "door").unlink()
    run(tmp_path, late, 14)
    assert find_event_file(tmp_path, event(8).event_id) is not None


def test_without_room_no_clip_is_written_until_there_is_some(tmp_path, caplog):
    free = [5 << 20]
    writer = ClipWriter(tmp_path, 10 << 20, lambda folder: free[0])
    written = []

    def write(path, root):
        written.append(path.stem)
        if len(written) == 1:
            free[0] = 5 << 20

    for number in range(2):
        writer.put(event(number), CLIP, write)
    writer.start()
    until_s = time.monotonic() + 20
    while "no clips" not in caplog.text:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert writer.is_paused
    writer.stop()
    assert not written
    assert caplog.text.count("live.min_free_mib") == 1
    free[0] = 11 << 20
    assert not writer.is_paused
    again = ClipWriter(tmp_path, 10 << 20, lambda folder: free[0])
    for number in (2, 3):
        again.put(event(number), CLIP, write)
    again.start()
    again.stop()
    assert written == [event(2).event_id]  # its clip has filled the disk


def test_the_files_of_events_are_found_with_their_sizes(tmp_path):
    for name, data in (("door/a.mp4", b"12"), ("door/a.npz", b"3"), (".scratch/b.mp4", b"4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert {
        name: sum(size for _, size in own) for name, own in files_by_event(tmp_path).items()
    } == {"a": 3}
