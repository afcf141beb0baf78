"""Made records of poses, their comparable content, and damaged copies of their bytes."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from recognizer.storage.artifacts import ArtifactError, read_poses
from recognizer.types import Poses, PoseSequence, PoseSequenceBuilder


def sequence(frames: int = 20, seed: int = 0) -> PoseSequence:
    rng = np.random.default_rng(seed)
    builder = PoseSequenceBuilder()
    for t in range(frames):
        n = t % 3
        poses = Poses.untracked(
            rng.uniform(0, 640, (n, 17, 2)).astype(np.float32),
            rng.random((n, 17)).astype(np.float32),
            rng.uniform(0, 640, (n, 4)).astype(np.float32),
            rng.random(n).astype(np.float32),
        )
        builder.append(poses, t / 30, corrupt=t == 7)
    return builder.build((640, 360))


def flat(record: tuple[PoseSequence, dict[str, Any], dict[str, Any]]) -> tuple[Any, ...]:
    """Return everything of a record as comparable bytes."""
    seq, extra, meta = record
    arrays = {
        "keypoints": seq.poses.keypoints,
        "keypoint_scores": seq.poses.keypoint_scores,
        "boxes": seq.poses.boxes,
        "box_scores": seq.poses.box_scores,
        "track_ids": seq.poses.track_ids,
        "offsets": seq.frame_offsets,
        "time_s": seq.time_s,
        "corrupt": seq.corrupt,
        **extra,
    }
    parts = [(k, v.dtype.str, v.shape, v.tobytes()) for k, v in sorted(arrays.items())]
    return (*parts, seq.size_wh, json.dumps(meta, sort_keys=True))


def damaged_copies(data: bytes, count: int) -> list[bytes]:
    """Return truncated copies and copies with 1 to 50 flipped bits; half hit the zip's lists."""
    chance = random.Random(20240501)
    directory = data.find(b"PK\x01\x02")
    copies = []
    for i in range(count):
        copy = bytearray(data)
        if i % 8 == 0:
            copy = copy[: chance.randrange(len(data))]
        else:
            low = directory if i % 2 else 0
            for _ in range(1 if i % 3 else chance.randint(1, 50)):
                copy[chance.randrange(low, len(copy))] ^= 1 << chance.randrange(8)
        copies.append(bytes(copy))
    return copies


def outcome(path: Path) -> Any:
    try:
        return flat(read_poses(path))
    except ArtifactError as error:
        return "refused" if str(path) in str(error) else f"unnamed: {error}"
