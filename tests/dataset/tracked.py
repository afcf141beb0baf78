"""Tracked people with known positions, as stage 2 leaves them, for the tests of stage 3."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.runs.manifest import Manifest, Outcome, result_path, write_manifest
from recognizer.storage.artifacts import write_poses
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder

SIZE_WH = (320, 240)
STANDING = np.array(
    [
        (0, -50),
        (2, -52),
        (-2, -52),
        (4, -50),
        (-4, -50),
        (10, -40),
        (-10, -40),
        (14, -25),
        (-14, -25),
        (15, -10),
        (-15, -10),
        (7, -5),
        (-7, -5),
        (8, 20),
        (-8, 20),
        (8, 45),
        (-8, 45),
    ],
    np.float32,
)


def person(track_id: int, t: float, speed: float = 20.0, filled: bool = False) -> Poses:
    """Return one row: a person who stands at a place that tells id and time."""
    centre = np.array([60 + 50 * track_id + speed * t, 120], np.float32)
    keypoints = (STANDING + centre)[None].astype(np.float32)
    scores = np.full((1, 17), 0.0 if filled else 0.8, np.float32)
    low, high = keypoints[0].min(0), keypoints[0].max(0)
    boxes = np.concatenate([low, high])[None].astype(np.float32)
    box_scores = np.full(1, 0.0 if filled else 0.9, np.float32)
    return Poses(keypoints, scores, boxes, box_scores, np.array([track_id], np.int64))


def sequence(
    seconds: float = 2.0,
    fps: float = 10.0,
    people: int = 2,
    present: Callable[[int, float], bool] | None = None,
    filled: Callable[[int, float], bool] | None = None,
) -> PoseSequence:
    """Return a video in which ``present(track_id, t)`` tells who is there, in id order."""
    present = present or (lambda track_id, t: True)
    filled = filled or (lambda track_id, t: False)
    builder = PoseSequenceBuilder()
    for frame in range(round(seconds * fps)):
        t = frame / fps
        rows = [
            person(i, t, filled=filled(i, t), speed=20.0 / (i + 1))
            for i in range(people)
            if present(i, t)
        ]
        builder.append(Poses.concatenate(rows), t)
    return builder.build(SIZE_WH)


def write_stage2(
    folder: Path,
    videos: Mapping[str, PoseSequence | Outcome],
    settings: dict[str, Any] | None = None,
    hashes: Mapping[str, Sequence[int]] | None = None,
    first: int = 0,
) -> Path:
    """Write a finished stage 2: ``videos`` maps a path to a PoseSequence or an Outcome.

    ``hashes`` maps a path to the hashes of its pictures, one every 0.25 s; none of the others.
    ``first``: number from which the videos' content is told apart.
    """
    outcomes = []
    for number, (video, value) in enumerate(sorted(videos.items()), first):
        if isinstance(value, Outcome):
            outcomes.append(value)
            continue
        meta = {
            "video": video,
            "source": {"sha256": f"{number:064x}", "size_bytes": 1},
            "frame_account": {"decoded": len(value)},
        }
        assert isinstance(value, PoseSequence)
        extra: dict[str, NDArray[Any]] = {}
        if hashes and video in hashes:
            values = np.array(hashes[video], np.uint64)
            extra = {"hash_time_s": np.arange(len(values)) / 4, "hashes": values}
        write_poses(result_path(folder, video, ".npz"), folder, value, meta, extra)
        outcomes.append(Outcome(video, "done", frames=len(value)))
    settings = settings or {"stage1": {"models": {"pose": {"file": "x.onnx", "sha256": "00"}}}}
    write_manifest(folder, Manifest("stage2", settings, tuple(outcomes)))
    return folder
